"""Deployed networks: posters → backbones → head → logits, for one classifier or a weighted mean of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hpo.data.decoding import Fit
from hpo.model.backbones.backbone import Backbone, choose_columns
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head


class Classifier(nn.Module):
    """One backbone, or several fused, and the head on some of their features."""

    def __init__(self, backbones: Sequence[Backbone], head: Head, config: TrialConfig) -> None:
        super().__init__()
        self.backbones, self.head, self.config = nn.ModuleList(backbones), head, config
        self.averages_flips = config.flip == "average"
        self._columns = [torch.from_numpy(choose_columns(backbone, config)) for backbone in backbones]
        self.eval()

    @classmethod
    def untrained(cls, backbones: Sequence[Backbone], n_labels: int, config: TrialConfig) -> Classifier:
        """Build the architecture that ``config`` describes on ``backbones``, to receive weights."""
        return cls(backbones, build_head(backbones, n_labels, config), config)

    def forward(self, *images: Tensor) -> Tensor:
        """One uint8 (B, H, W, 3) for each backbone, at its own size → (B, L) logits.

        With ``flip: average`` the logits are the mean over the posters and their mirror images.
        """
        logits = self._logits(images)
        if self.averages_flips:
            logits = (logits + self._logits([image.flip(2) for image in images])) / 2
        return logits

    def _logits(self, images: Sequence[Tensor]) -> Tensor:
        features, maps = [], []
        for backbone, columns, image in zip(self.backbones, self._columns, images, strict=True):
            represented: Any = backbone
            vector, deepest = represented.represent(image)
            features.append(vector[:, columns.to(vector.device)])
            maps.append(deepest)
        logits: Tensor = self.head(torch.cat(features, 1), maps)
        return logits


def build_head(backbones: Sequence[Backbone], n_labels: int, config: TrialConfig) -> Head:
    """Return an untrained head of the width that the chosen features of ``backbones`` have together."""
    n_features = sum(len(choose_columns(backbone, config)) for backbone in backbones)
    return Head(n_features, n_labels, config, [backbone.layout.map_channels for backbone in backbones])


# Several classifiers as one network: poster pixels → the logit of their weighted mean probability.
#
# Members that look through equal backbones (the same weights, the same framing of the poster) share one forward pass,
# so that eight heads on one frozen backbone cost little more than one of them.

_SMALLEST = 1e-7  # probabilities are kept so far from 0 and 1 that float32 has a logit of them

Seen: TypeAlias = list[tuple[Tensor, Tensor]]  # features and deepest map of each backbone


@dataclass(frozen=True)
class EnsemblePart:
    """What one member is, besides the weights of its head."""

    weight: float  # of its probabilities; all of them sum to 1
    config: TrialConfig
    inputs: tuple[int, ...]  # which of the ensemble's backbones it looks through
    averages_flips: bool  # over the poster and its mirror image


class Ensemble(nn.Module):
    """Heads over shared backbones, whose probabilities are averaged."""

    def __init__(self, backbones: Sequence[Backbone], heads: Sequence[Head], parts: Sequence[EnsemblePart]) -> None:
        super().__init__()
        self.backbones, self.heads, self.parts = nn.ModuleList(backbones), nn.ModuleList(heads), tuple(parts)
        self._columns = [
            [torch.from_numpy(choose_columns(backbones[at], part.config)) for at in part.inputs] for part in self.parts
        ]
        self.eval()

    @classmethod
    def of(cls, members: Sequence[tuple[Classifier, float]], flip_average: bool = False) -> Ensemble:
        """Put classifiers together by their weights, which are made to sum to 1; equal backbones become one.

        With ``flip_average`` all of them look at every poster mirrored as well.
        """
        backbones: dict[tuple[str, Fit], Backbone] = {}
        parts = []
        total = sum(weight for _, weight in members)
        for classifier, weight in members:
            keys = [(backbone.fingerprint(), classifier.config.fit) for backbone in _backbones_of(classifier)]
            for key, backbone in zip(keys, _backbones_of(classifier), strict=True):
                backbones.setdefault(key, backbone)
            inputs = tuple(list(backbones).index(key) for key in keys)
            flips = flip_average or classifier.averages_flips
            parts.append(EnsemblePart(weight / total, classifier.config, inputs, flips))
        return cls(list(backbones.values()), [classifier.head for classifier, _ in members], parts)

    @classmethod
    def untrained(cls, backbones: Sequence[Backbone], n_labels: int, parts: Sequence[EnsemblePart]) -> Ensemble:
        """Build the architecture that ``parts`` describe on ``backbones``, to receive weights."""
        heads = [build_head([backbones[at] for at in part.inputs], n_labels, part.config) for part in parts]
        return cls(backbones, heads, parts)

    def members(self) -> list[tuple[Classifier, float]]:
        """Return each member on its own, with its weight."""
        backbones: list[Any] = list(self.backbones)
        heads: list[Any] = list(self.heads)
        return [
            (Classifier([backbones[at] for at in part.inputs], head, part.config), part.weight)
            for part, head in zip(self.parts, heads, strict=True)
        ]

    def forward(self, *images: Tensor) -> Tensor:
        """One uint8 (B, H, W, 3) for each backbone, at its own size → (B, L) logits of the mean probability."""
        plain = self._see(images)
        mirrored: Seen = []
        if any(part.averages_flips for part in self.parts):
            mirrored = self._see([image.flip(2) for image in images])
        mean = torch.stack([self._probabilities(at, plain, mirrored) for at in range(len(self.parts))]).sum(0)
        kept = mean.clamp(_SMALLEST, 1 - _SMALLEST)
        return torch.log(kept) - torch.log1p(-kept)

    def _see(self, images: Sequence[Tensor]) -> Seen:
        backbones: list[Any] = list(self.backbones)
        return [backbone.represent(image) for backbone, image in zip(backbones, images, strict=True)]

    def _probabilities(self, at: int, plain: Seen, mirrored: Seen) -> Tensor:
        """Return the weighted probabilities (B, L) of one member."""
        logits = self._logits(at, plain)
        if self.parts[at].averages_flips:
            logits = (logits + self._logits(at, mirrored)) / 2
        return self.parts[at].weight * torch.sigmoid(logits)

    def _logits(self, at: int, seen: Seen) -> Tensor:
        mine = [seen[one] for one in self.parts[at].inputs]
        features = [
            vector[:, columns.to(vector.device)] for (vector, _), columns in zip(mine, self._columns[at], strict=True)
        ]
        logits: Tensor = self.heads[at](torch.cat(features, 1), [deepest for _, deepest in mine])
        return logits


Network: TypeAlias = Classifier | Ensemble


def inputs_of(network: Network) -> list[tuple[Backbone, Fit]]:
    """Return what a network looks at posters through: its backbones, and how a poster becomes the square of each."""
    if isinstance(network, Classifier):
        return [(backbone, network.config.fit) for backbone in _backbones_of(network)]
    fits = {at: part.config.fit for part in network.parts for at in part.inputs}
    backbones: list[Any] = list(network.backbones)
    return [(backbone, fits[at]) for at, backbone in enumerate(backbones)]


def _backbones_of(classifier: Classifier) -> list[Backbone]:
    return [backbone for backbone in classifier.backbones if isinstance(backbone, Backbone)]
