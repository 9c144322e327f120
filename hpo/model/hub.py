"""Whether pretrained weights can be had from the network, asked in seconds.

The hub's own client retries silently for most of a minute when nobody answers. So a connection is tried first, with a
deadline, to the host that the weights really come from (the Hugging Face hub, or GitHub for a few old models), unless
they were downloaded before. ``HF_HUB_OFFLINE`` rules out downloads from anywhere.
"""

from __future__ import annotations

import os
import socket
import textwrap
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from hpo.errors import BackboneError

HUB_PREFIX = "hf-hub:"
_DEADLINE_SECONDS = 3.0
_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository on the hub


@dataclass(frozen=True)
class Download:
    """A file that a backbone needs from the network."""

    backbone: str
    address: str  # of the host, or of the file itself
    is_cached: bool

    def check(self) -> None:
        """Raise BackboneError unless it was downloaded before or its host answers."""
        if not (self.is_cached or answers(self.address)):
            why = "which HF_HUB_OFFLINE rules out" if _is_told_offline() else "which does not answer"
            raise self._unavailable(why)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Download inside, or only look into the cache. Raises BackboneError when it cannot be had."""
        self.check()
        try:
            with _from_cache_only(not answers(self.address)):
                yield
        except (OSError, RuntimeError) as error:
            raise self._unavailable(f"which failed ({textwrap.shorten(str(error), 160)})") from error

    def _unavailable(self, why: str) -> BackboneError:
        host = urllib.parse.urlsplit(self.address).hostname
        return BackboneError(
            f"Expected the pretrained weights of {self.backbone} from {host}, {why}, and they were not downloaded "
            "before: go online once, name a weights file or folder under 'weights:' in the search space, or use the "
            "packaged backbones (tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2)."
        )


def weights_download(backbone: str, config: Mapping[str, Any]) -> Download:
    """Return what timm downloads by ``config``, its pretrained_cfg. Raises BackboneError where there are no weights."""
    if config.get("hf_hub_id"):
        files = [config["hf_hub_filename"]] if config.get("hf_hub_filename") else _WEIGHTS_FILES
        return _from_hub(backbone, config["hf_hub_id"], files)
    if config.get("url"):
        address = str(config["url"])
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urllib.parse.urlsplit(address).path).name
        return Download(backbone, address, file.is_file())
    raise BackboneError(
        f"Expected a backbone with pretrained weights, got {backbone}, for which timm knows none: name a weights file "
        "or folder under 'weights:' in the search space, or choose another backbone."
    )


@cache  # every trial asks for the size of its backbone
def load_hub_config(name: str) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return timm's pretrained_cfg, architecture and its arguments of ``hf-hub:owner/name``. Raises BackboneError."""
    from timm.models import load_model_config_from_hf

    repository = name.removeprefix(HUB_PREFIX)
    with _from_hub(name, repository, ["config.json"]).running():
        config, architecture, arguments = load_model_config_from_hf(repository)
    return config, str(architecture), arguments or {}


def _from_hub(backbone: str, repository: str, files: Sequence[str]) -> Download:
    from huggingface_hub import try_to_load_from_cache

    identity, _, revision = repository.partition("@")
    cached = (try_to_load_from_cache(identity, file, revision=revision or None) for file in files)
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return Download(backbone, address, any(isinstance(path, str) for path in cached))


def answers(address: str) -> bool:
    """Say whether the host of ``address``, or the proxy in front of it, takes a connection within three seconds."""
    if _is_told_offline():
        return False
    host = urllib.parse.urlsplit(address)
    proxy = urllib.request.getproxies().get(host.scheme)
    if proxy and not urllib.request.proxy_bypass(str(host.hostname)):
        host = urllib.parse.urlsplit(proxy)
    return _takes_connections(str(host.hostname), host.port or (80 if host.scheme == "http" else 443))


@cache  # a space of many backbones asks once
def _takes_connections(host: str, port: int) -> bool:
    connected = threading.Event()

    def connect() -> None:
        with suppress(OSError), socket.create_connection((host, port), _DEADLINE_SECONDS):
            connected.set()

    attempt = threading.Thread(target=connect, daemon=True)  # the search for a name knows no deadline of its own
    attempt.start()
    attempt.join(_DEADLINE_SECONDS)
    return connected.is_set()


def _is_told_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")


@contextmanager
def _from_cache_only(cache_only: bool) -> Iterator[None]:
    """Keep the hub's client from asking for a newer version inside, which takes it long to give up."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or cache_only
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
