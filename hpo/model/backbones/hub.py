"""Check that pretrained weights can be downloaded, before a search begins.

The hub's own client retries silently for most of a minute when no host answers. So a connection is tried first, with a
deadline, to the host that the weights really come from (the Hugging Face hub, or GitHub for a few old models), unless
they were downloaded before. Then one HEAD request for the weights file, with the user's token, finds out whether the
repository exists, is open to this user, and holds weights. ``HF_HUB_OFFLINE`` rules out downloads from anywhere.
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
_DEADLINE_SECONDS = 3.0  # for a connection
_ANSWER_SECONDS = 10.0  # to one request
_GO_ONLINE = "go online once"
_WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # of a repository on the hub


@dataclass(frozen=True)
class Download:
    """A file that a backbone needs from the network."""

    backbone: str
    address: str  # of the host, or of the file itself
    is_cached: bool
    repository: str = ""  # on the hub, owner/name or owner/name@revision
    files: Sequence[str] = ()  # of that repository, one of which is needed

    def check(self) -> None:
        """Raise BackboneError unless it was downloaded before or can be downloaded now."""
        if self.is_cached:
            return
        if _is_set_offline():
            raise self._unavailable("which HF_HUB_OFFLINE rules out", _GO_ONLINE)
        if not answers(self.address):
            raise self._unavailable("which does not answer", _GO_ONLINE)
        try:
            self._ask()
        except Exception as error:  # HTTP clients raise errors of their own, which are no OSError
            raise self._unavailable(*self._reason(error)) from error

    def _ask(self) -> None:
        """Send one HEAD request for the file. Raises what the client raises where it cannot be downloaded."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError

        if not self.repository:
            request = urllib.request.Request(self.address, method="HEAD")
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):
                return
        identity, _, revision = self.repository.partition("@")
        for file in self.files:
            address = hf_hub_url(identity, file, revision=revision or None, endpoint=self.address)
            with suppress(EntryNotFoundError):
                get_hf_file_metadata(address, timeout=_ANSWER_SECONDS)
                return
        raise FileNotFoundError(f"its repository {self.repository} holds no {' or '.join(self.files)}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Download inside, or only look into the cache. Raises BackboneError when it cannot be had, or does not fit."""
        self.check()
        try:
            with _from_cache_only(not answers(self.address)):
                yield
        except BackboneError:
            raise
        except Exception as error:  # what reads a stranger's file raises anything
            if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
                raise self._unavailable(*self._reason(error)) from error
            raise BackboneError(
                f"Expected weights of {self.backbone} from {self._host} that fit its network, got a file that does not "
                f"({textwrap.shorten(str(error) or repr(error), 160)}): choose another backbone in the search space, "
                "or name a weights file under 'weights:' there."
            ) from error

    def _reason(self, error: Exception) -> tuple[str, str]:
        """Say why a download cannot be had, and what to do about it."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

        page = f"{self.address.rstrip('/')}/{self.repository.partition('@')[0]}"
        if isinstance(error, GatedRepoError):
            return f"whose repository {self.repository} is gated", f"accept its licence at {page} and set HF_TOKEN"
        if isinstance(error, RevisionNotFoundError):
            return f"whose repository {self.repository} has no such revision", "correct its name in the search space"
        if isinstance(error, RepositoryNotFoundError) or _status(error) in (401, 403):
            reader = "this token" if _has_token() else "a reader without a token"
            why = f"which shows no repository {self.repository} to {reader}"
            return why, "correct its name in the search space, set HF_TOKEN to a token that may read it"
        return f"which failed ({textwrap.shorten(str(error) or repr(error), 160)})", _GO_ONLINE

    @property
    def _host(self) -> str | None:
        return urllib.parse.urlsplit(self.address).hostname

    def _unavailable(self, why: str, fix: str) -> BackboneError:
        return BackboneError(
            f"Expected the pretrained weights of {self.backbone} from {self._host}, {why}, and they were not "
            f"downloaded before: {fix}, name a weights file or folder under 'weights:' in the search space, or use "
            "the packaged backbones (tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2)."
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
        try:
            config, architecture, arguments = load_model_config_from_hf(repository)
            channels, *_ = config["input_size"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, OSError):  # as the client's own are, too
                raise
            raise BackboneError(
                f"Expected a repository of a timm model, got {name}, whose config.json is of something else (no "
                f"{textwrap.shorten(str(error), 80)}): choose another backbone in the search space."
            ) from error
    if channels != len("RGB"):
        raise BackboneError(
            f"Expected a backbone that takes images of 3 channels, got {name}, which takes {channels}: choose another "
            "one in the search space."
        )
    return config, str(architecture), arguments or {}


def _from_hub(backbone: str, repository: str, files: Sequence[str]) -> Download:
    from huggingface_hub import try_to_load_from_cache

    identity, _, revision = repository.partition("@")
    cached = (try_to_load_from_cache(identity, file, revision=revision or None) for file in files)
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    return Download(backbone, address, any(isinstance(path, str) for path in cached), repository, tuple(files))


def answers(address: str) -> bool:
    """Say whether the host of ``address``, or the proxy in front of it, takes a connection within three seconds."""
    if _is_set_offline():
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


def _status(error: Exception) -> int | None:
    """Return the HTTP status of what a client raised, if it has one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _is_set_offline() -> bool:
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
