"""What an epoch of training gave, and what is kept of it for a training that may be stopped and go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from torch import nn

from hpo.data.shards import Array
from hpo.model.averaging import StateDict
from hpo.model.training_state import TrainingState


@dataclass(frozen=True, eq=False)
class EpochResult:
    """What one epoch gave."""

    epoch: int  # from 1, in its phase
    train_loss: float
    val_probabilities: Array  # (N_val, L), of ``evaluated``
    learning_rate: float
    seconds: float
    evaluated: nn.Module  # the network, or the moving average of its weights, in evaluation mode
    micro_batch: int  # posters at once; less than the batch where memory ran out
    predict_val: Callable[[], Array]  # predicts again, after other weights were put into ``evaluated``
    weights: Callable[[], StateDict]  # a copy of those of ``evaluated`` after this epoch
    state: Callable[[], TrainingState]  # what it takes to go on from here, until the next epoch begins


class EpochFigures(BaseModel):
    """What is told of an epoch, but for its probabilities."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train_loss: float
    learning_rate: float
    seconds: float
    micro_batch: int


@dataclass(frozen=True, eq=False)
class Past:
    """The E epochs of a phase that were trained before it was stopped, and the state after the last of them."""

    state: TrainingState
    figures: tuple[EpochFigures, ...]  # (E,)
    probabilities: Array  # (E, N_val, L)
    weights: Mapping[int, StateDict]  # by epoch, of those that may still be the phase's outcome

    @property
    def seconds(self) -> float:
        """How long these epochs took."""
        return sum(figures.seconds for figures in self.figures)
