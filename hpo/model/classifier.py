"""The deployed network: poster pixels → backbones → chosen feature columns → head → logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpo.model.backbones import Backbone, choose_columns
from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters


class Classifier(nn.Module):
    """One backbone, or several fused, and the head on some of their features."""

    def __init__(self, backbones: Sequence[Backbone], head: Head, chosen: Hyperparameters) -> None:
        super().__init__()
        self.backbones, self.head, self.chosen = nn.ModuleList(backbones), head, chosen
        self.averages_flips = chosen.flip == "average"
        self._columns = [torch.from_numpy(choose_columns(backbone, chosen)) for backbone in backbones]
        self.eval()

    @classmethod
    def untrained(cls, backbones: Sequence[Backbone], n_labels: int, chosen: Hyperparameters) -> Classifier:
        """Build the architecture that ``chosen`` describes on ``backbones``, to receive weights."""
        return cls(backbones, build_head(backbones, n_labels, chosen), chosen)

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


def build_head(backbones: Sequence[Backbone], n_labels: int, chosen: Hyperparameters) -> Head:
    """Return an untrained head of the width that the chosen features of ``backbones`` have together."""
    n_features = sum(len(choose_columns(backbone, chosen)) for backbone in backbones)
    return Head(n_features, n_labels, chosen, [backbone.layout.map_channels for backbone in backbones])
