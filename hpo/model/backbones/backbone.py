"""Backbones: a timm network with weights that maps posters to pooled features and its deepest map.

The features of a poster are one vector: the backbone's own final vector, then statistics of its deepest stages (see
``feature_layout``). The last layers of an ImageNet network are about ImageNet's objects; the stages before them show
genres apart better (f1_macro +0.02 on movie posters, see ``benchmarks/LOG.md``). All of it costs one forward pass, so
all of it is kept and a trial chooses (``features``, ``pooling``).

The network is timm's (``architectures``), its weights come from wherever ``weights`` finds them, and pixels are
prepared as timm's own configuration of the model says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from hpo.data.decoding import Fit, Framing
from hpo.model.backbones.architectures import (
    DEEPEST_STAGES,
    STATISTICS,
    Architecture,
    FeatureLayout,
    check_image_size,
    check_known,
    default_image_size,
    find_architecture,
    fused_names,
    pool,
    run,
)
from hpo.model.backbones.weights import check_weights, load_network
from hpo.model.config import TrialConfig

__all__ = [
    "DEEPEST_STAGES", "STATISTICS", "Backbone", "FeatureLayout", "build_backbone", "check_image_size", "check_known",
    "check_weights", "choose_columns", "default_image_size", "fused_names", "load_backbone",
]  # fmt: skip

# The WD taggers were trained on OpenCV's order of channels, which their configuration does not say.
_BLUE_FIRST = "hf-hub:SmilingWolf/wd-"
_NATIVE_FITS: dict[str, Fit] = {"squash": "squash", "border": "pad"}  # timm's crop_mode; the others crop the centre


class Backbone(nn.Module):
    """A frozen timm network: posters uint8 (B, H, W, 3) → pooled features float32 (B, layout.width).

    A frozen network stays in evaluation mode whatever mode is asked for: in training mode, every pass over posters
    would move the statistics of its BatchNorms. A tail sets ``frozen`` to False in its own copy.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, architecture: Architecture, network: nn.Module, image_size: int, source: str) -> None:
        super().__init__()
        self.architecture, self.image_size, self.source, self.frozen = architecture, image_size, source, True
        self.network = network.requires_grad_(False)
        self.eval()
        self._inputs: dict[str, Any] = resolve_data_config({}, pretrained_cfg=dict(architecture.config))
        self.register_buffer("mean", self._levels("mean"), persistent=False)
        self.register_buffer("deviation", self._levels("std"), persistent=False)
        self.layout = FeatureLayout(*architecture.widths(self.network, image_size))

    def _levels(self, key: str) -> Tensor:
        return 255 * torch.tensor(self._inputs[key]).view(1, 3, 1, 1)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; a frozen backbone stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    @property
    def name(self) -> str:
        """As a search space has it."""
        return self.architecture.name

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 → (B, layout.width) float32."""
        return self.represent(images)[0]

    def represent(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H, W, 3) uint8 → features (B, layout.width) and the deepest map (B, layout.map_channels, H', W')."""
        final, stages = self.run(self.normalise(images))
        return self.pool(final, stages), stages[-1]

    def normalise(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 → (B, 3, H, W), with the mean and deviation that the network was trained on."""
        in_order = images.flip(3) if self.name.startswith(_BLUE_FIRST) else images
        pixels = in_order.permute(0, 3, 1, 2).to(next(self.network.parameters()).dtype)
        return (pixels - self.mean) / self.deviation

    def run(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Normalised pixels (B, 3, H, W) → the final vector (B, F) and the deepest stages' maps (B, C, H', W')."""
        return run(self.network, pixels)

    def pool(self, final: Tensor, stages: Sequence[Tensor]) -> Tensor:
        """The final vector (B, F) and the deepest stages' maps → the feature vector, float32 (B, layout.width)."""
        return pool(final, stages)

    def framing(self, fit: Fit = "squash") -> Framing:
        """Return how a poster becomes this network's input; ``native`` becomes what timm's configuration says."""
        interpolation = self._inputs["interpolation"]
        if fit != "native":
            return Framing(self.image_size, fit, interpolation)
        share, native = float(self._inputs["crop_pct"]), _NATIVE_FITS.get(self._inputs["crop_mode"])
        if native or share == 1:  # a margin that a few squashing models cut off as well is left on
            return Framing(self.image_size, native or "crop", interpolation)
        return Framing(self.image_size, "native", interpolation, share)

    def preprocessing(self, fit: Fit = "squash") -> dict[str, Any]:
        """Return how a poster becomes this network's input, for a bundle's reader."""
        framing = self.framing(fit)
        on_hub = self.architecture.registered != self.name
        return {
            "image_size": framing.size_px,
            "fit": framing.fit,
            "interpolation": framing.interpolation,
            "crop_share": framing.crop_share,
            "mean": [round(float(value), 6) for value in self._inputs["mean"]],
            "std": [round(float(value), 6) for value in self._inputs["std"]],
            "channel_order": "BGR" if self.name.startswith(_BLUE_FIRST) else "RGB",
            "architecture": self.architecture.registered,
            "arguments": dict(self.architecture.arguments) if on_hub else {},
        }

    def fingerprint(self) -> str:
        """Return a hex digest of weights, normalisation and layout: what cached features are keyed by."""
        made_of = [self.image_size, self._inputs["mean"], self._inputs["std"], self.layout.stages, STATISTICS]
        digest = blake2b(json.dumps([*made_of, self.layout.final]).encode(), digest_size=12)
        for key, tensor in sorted(self.network.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_backbone(name: str, image_size: int, weights: str = "auto") -> Backbone:
    """Build the timm model ``name`` for square posters of ``image_size`` px, with its weights.

    ``weights``: ``auto`` (the package if there is one, else the hub), ``hub``, ``random`` (a fixed seed; for tests), or
    the path of a file (``.safetensors``, ``.pth``, ``.bin``) or of a folder that holds one. Raises BackboneError when
    the model is unknown, its weights cannot be had or do not fit, or it cannot take posters of that size.
    """
    architecture = find_architecture(name)
    network, source = load_network(architecture, image_size, weights)
    return Backbone(architecture, network, image_size, source)


def build_backbone(name: str, image_size: int, recorded: Mapping[str, Any] | None = None) -> Backbone:
    """Build the architecture alone, to receive weights from a bundle, which has ``recorded`` its preprocessing."""
    architecture = find_architecture(name, recorded)
    return Backbone(architecture, architecture.build(image_size), image_size, "bundle")


def choose_columns(backbone: Backbone, config: TrialConfig) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the feature columns that a trial trains on."""
    return backbone.layout.columns(config.features, config.pooling)
