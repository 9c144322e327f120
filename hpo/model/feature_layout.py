"""Where each part of a pooled feature vector lies, and how a stage's map becomes its part.

The vector holds the backbone's own final vector, then for each of its deepest stages every statistic over the positions
of that stage's map. One pass gives all of it, so all of it is cached and a trial only chooses columns.

The generalised mean (GeM) lies between the average (p = 1) and the maximum (p → ∞): Radenović, Tolias & Chum 2018,
"Fine-tuning CNN Image Retrieval with No Human Annotation", equation 3, with the p = 3 that they start from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

STATISTICS = ("avg", "max", "gem")
DEEPEST_STAGES = 4
_STAGES_OF = {"final": 0, "last_stage": 1, "last_two_stages": 2, "all_stages": DEEPEST_STAGES}
_STATISTICS_OF = {"attention": ("avg",), "avg+max": ("avg", "max")}  # the head adds the attention itself
_GEM_SMALLEST = 1e-6  # negative activations count as this: a cube root has no slope at zero


@dataclass(frozen=True)
class FeatureLayout:
    """The parts of a feature vector: final | stage × statistic, from the shallowest stage kept."""

    final: int
    stages: tuple[int, ...]  # channels of each stage kept

    @property
    def width(self) -> int:
        """Length of the whole vector."""
        return self.final + len(STATISTICS) * sum(self.stages)

    @property
    def map_channels(self) -> int:
        """Channels of the deepest stage's map."""
        return self.stages[-1]

    def columns(self, features: str, pooling: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the columns that ``features`` and ``pooling`` choose (see Hyperparameters)."""
        wanted = [] if features not in ("final", "stages_and_final") else [np.arange(self.final)]
        statistics = _STATISTICS_OF.get(pooling, (pooling,))
        first_stage = len(self.stages) - _STAGES_OF.get(features, DEEPEST_STAGES)
        start = self.final
        for stage, channels in enumerate(self.stages):
            for statistic in STATISTICS:
                if stage >= first_stage and statistic in statistics:
                    wanted.append(np.arange(start, start + channels))
                start += channels
        return np.concatenate(wanted)


def pool(final: Tensor, stages: Sequence[Tensor]) -> Tensor:
    """``final`` (B, F) and the stages' maps (B, C, H, W) → the feature vector, float32 (B, layout.width)."""
    return torch.cat([final.float(), *(statistic for stage in stages for statistic in _statistics(stage))], dim=1)


def _statistics(stage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    stage = stage.float()  # a cube leaves half precision's range
    return stage.mean((2, 3)), stage.amax((2, 3)), _generalised_mean(stage)  # (B, C) each, as in STATISTICS


def _generalised_mean(stage: Tensor) -> Tensor:
    positive = stage.clamp_min(_GEM_SMALLEST)
    return (positive * positive * positive).mean((2, 3)) ** (1 / 3)
