"""What a search is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo.data.options import DataOptions
from hpo.search.folds import FoldModel
from hpo.search.objective import Objective
from hpo.search.places import Places
from hpo.search.space.space import SearchSpace


@dataclass(frozen=True)
class SearchOptions:
    """Everything that ``hpo search`` is told."""

    data: DataOptions
    space: SearchSpace
    study: str
    objective: Objective
    trials: int  # finished ones, of the whole study
    timeout_seconds: float | None
    places: Places
    space_file: Path | None = None  # where it was read from; None: one that ships
    adds_trials: bool = False  # so many more than have finished
    workers: int = 1  # processes on this machine
    n_folds: int | None = 1  # 1: trials are judged on val; more: on train and val, out of fold; None: what suits
    fold_model: FoldModel = "average"
    confirm: bool = True  # run the top trials again on fresh seeds before one of them is crowned
    sampler: str = "tpe"
    pruner: str | None = None  # the one that suits: median, with folds a signed-rank test
    warm_start: str | None = None  # a study in the same storage whose best trials are tried first
    skip_unavailable: bool = False  # leave out backbones whose weights cannot be had, instead of refusing to begin
    system_metrics: bool = False  # cores, memory, disk and network of the machine on every run
    profile: Path | None = None  # a timeline of what every process does, for a trace viewer
    synthetic: bool = False  # the built-in sample: said wherever its numbers stand

    @property
    def metric(self) -> str:
        """What is maximised."""
        return self.objective.metric

    @property
    def seed(self) -> int:
        """Of the split, the sampler and the training."""
        return self.data.seed
