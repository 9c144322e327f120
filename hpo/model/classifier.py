"""The deployed network: poster pixels → backbone → chosen feature columns → head → logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpo.model.backbones import Backbone, choose_columns
from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters


class Classifier(nn.Module):
    """A backbone and the head trained on some of its features: uint8 (B, H, W, 3) → logits (B, L)."""

    columns: Tensor

    def __init__(self, backbone: Backbone, head: Head, chosen: Hyperparameters) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.register_buffer("columns", torch.from_numpy(choose_columns(backbone, chosen)), persistent=False)
        self.eval()

    @classmethod
    def untrained(cls, backbone: Backbone, n_labels: int, chosen: Hyperparameters) -> Classifier:
        """Build the architecture that ``chosen`` describes on ``backbone``, to receive weights."""
        n_features = len(choose_columns(backbone, chosen))
        return cls(backbone, Head(n_features, n_labels, chosen), chosen)

    def forward(self, images: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 → (B, L) logits."""
        logits: Tensor = self.head(self.backbone(images)[:, self.columns])
        return logits
