"""The head: pooled features of a frozen backbone → logits, one per label.

Features are standardised first (mean and deviation of the training posters, stored with the weights), so that one
range of learning rates and weight decays fits every backbone, depth and pooling.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from hpo.model.hyperparameters import Hyperparameters

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
_NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_SMALLEST_DEVIATION = 1e-3  # a feature that hardly moves is not blown up into noise


class Standardise(nn.Module):
    """Shift and scale each feature by the statistics of the training posters."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("deviation", torch.ones(n_features))

    def fit(self, features: Tensor) -> None:
        """Take the statistics of ``features`` (N, D)."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0, correction=0).clamp_min(_SMALLEST_DEVIATION))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) → (B, D)."""
        return (features - self.mean) / self.deviation


class Head(nn.Module):
    """Standardise → ``hidden_layers`` × (dense, norm, activation, dropout) → output layer."""

    def __init__(self, n_features: int, n_labels: int, chosen: Hyperparameters) -> None:
        super().__init__()
        self.standardise = Standardise(n_features)
        widths = [n_features] + [chosen.width] * chosen.hidden_layers
        layers: list[nn.Module] = [nn.Dropout(chosen.input_dropout)]
        for before, after in pairwise(widths):
            layers += _hidden_layer(before, after, chosen)
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(widths[-1], n_labels)

    def fit_statistics(self, features: Tensor, targets: Tensor) -> None:
        """Standardise by the training ``features`` (N, D), and start the output at the labels' frequencies.

        Starting there (Lin et al. 2017, section 4.1) spares the first epochs from unlearning 0.5 for rare labels.
        """
        self.standardise.fit(features)
        with torch.no_grad():
            frequencies = (targets.sum(0) + 0.5) / (len(targets) + 1)
            self.output.bias.copy_(torch.logit(frequencies))

    def forward(self, features: Tensor) -> Tensor:
        """(B, D) features → (B, L) logits."""
        return self.classify(self.standardise(features))

    def classify(self, standardised: Tensor) -> Tensor:
        """(B, D) standardised features → (B, L) logits: training standardises once, not once an epoch."""
        logits: Tensor = self.output(self.hidden(standardised))
        return logits


def _hidden_layer(before: int, after: int, chosen: Hyperparameters) -> list[nn.Module]:
    norm = [] if chosen.norm == "none" else [_NORMS[chosen.norm](after)]
    return [nn.Linear(before, after), *norm, _ACTIVATIONS[chosen.activation](), nn.Dropout(chosen.dropout)]
