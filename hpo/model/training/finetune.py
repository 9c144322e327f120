"""Fine-tuned network: head and unfrozen stages, trained from cached activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hpo.model.backbones.backbone import Backbone, choose_columns
from hpo.model.backbones.freeze_points import FreezePoint, NamedParameters, Tail
from hpo.model.classifier import Classifier
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head


class FineTuned(nn.Module):
    """Cached features (B, D) and, for each backbone, activations at its freeze point → logits (B, L).

    The columns that unfrozen stages decide are computed again; the others are the cached ones.
    """

    decides: Tensor

    def __init__(
        self,
        backbones: Sequence[Backbone],
        points: Sequence[FreezePoint | None],
        head: Head,
        config: TrialConfig,
    ) -> None:
        super().__init__()
        rate = config.stochastic_depth
        self.tails = nn.ModuleList(Tail(b, p, stochastic_depth=rate) for b, p in zip(backbones, points, strict=True))
        self.head, self._frozen, self._chosen = head, list(backbones), config
        self._columns = [torch.from_numpy(choose_columns(backbone, config)) for backbone in backbones]
        decided = [tail.decides[columns] for tail, columns in zip(self._tails(), self._columns, strict=True)]
        self.register_buffer("decides", torch.cat(decided), persistent=False)

    def _tails(self) -> list[Tail]:
        return [tail for tail in self.tails if isinstance(tail, Tail)]

    def train(self, mode: bool = True) -> FineTuned:
        """Set the mode, and keep BatchNorm's statistics where ``batch_norm`` is frozen."""
        super().train(mode)
        if self._chosen.batch_norm == "frozen":
            for tail in self._tails():
                tail.freeze_batch_norm()
        return self

    def forward(self, features: Tensor, *activations: Tensor) -> Tensor:
        """Raw features (B, D) and activations (B, ...) of each backbone → logits (B, L)."""
        computed, maps = [], []
        for tail, columns, of_backbone in zip(self.tails, self._columns, activations, strict=True):
            vector, deepest = tail(of_backbone)
            computed.append(vector[:, columns.to(vector.device)])
            maps.append(deepest)
        logits: Tensor = self.head(torch.where(self.decides, torch.cat(computed, 1), features), maps)
        return logits

    @property
    def image_sizes(self) -> list[int]:
        """The side of each backbone's posters, in px."""
        return [backbone.image_size for backbone in self._frozen]

    def stages(self) -> list[NamedParameters]:
        """Return the unfrozen parameters by stage, from shallow to deep; fused backbones share the numbering."""
        by_tail = [tail.stages for tail in self._tails()]
        deepest = max(len(stages) for stages in by_tail)
        shared: list[NamedParameters] = [[] for _ in range(deepest)]
        for stages in by_tail:
            for depth, parameters in enumerate(stages, start=deepest - len(stages)):
                shared[depth] += parameters
        return shared

    def classifier(self) -> Classifier:
        """Return the deployable network: the whole backbones with what was trained here."""
        tuned = [tail.tuned(backbone) for tail, backbone in zip(self._tails(), self._frozen, strict=True)]
        return Classifier(tuned, self.head, self._chosen)


class HeadAlone(nn.Module):
    """Phase one: a head on features that are standardised already, once and not once an epoch."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head

    def forward(self, standardised: Tensor, *maps: Tensor) -> Tensor:
        """Standardised features (B, D) and, for heads that need them, maps (B, C, H, W) → logits (B, L)."""
        return self.head.classify(standardised, maps)


def compiled(network: nn.Module, config: TrialConfig) -> Any:
    """Return ``network`` as it is called in training."""
    return torch.compile(network, dynamic=True) if config.compile else network
