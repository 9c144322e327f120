"""Options of a search, and the study identity derived from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpo.data.dataset import DataOptions, PreparedData, SavedSplit
from hpo.settings import Places
from hpo.space.load import SearchSpace
from hpo.study.pruners import BY_EPOCH
from hpo.trial.cross_validation import FoldModel
from hpo.trial.objective import Objective
from hpo.trial.setup import StudySetup

MANY_POSTERS = 20_000  # of train and val, from which a validation part is enough to choose by


_FOLDS = 5


def default_folds(n_posters: int, finetunes: bool, pruner: str | None = None) -> int:
    """Return in how many folds trials are judged by default: five, unless posters are many or fine-tuned on.

    A tenth of the posters is too little to choose trials, thresholds and ensembles by, and the mean of five networks is
    better than one: on 618 posters of others, five folds gained 0.013 for the champion and 0.012 for the ensemble, at
    some three times the time of a search (`benchmarks/LOG.md`). Fine-tuning five times takes hours, and a ``pruner``
    that compares epochs has none to compare where trials report folds.
    """
    return _FOLDS if n_posters < MANY_POSTERS and not finetunes and pruner not in BY_EPOCH else 1


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
    confirm: bool = True  # run the top trials again on fresh seeds before one of them is promoted
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


# What a study is bound to, and what it remembers for the commands that come after the search.


def identity(options: SearchOptions, data: PreparedData) -> dict[str, str]:
    """Return, by the words in which a refusal names it, what may not change while a study lives."""
    fingerprints = data.fingerprints
    return {
        "data set": fingerprints["labels"] + fingerprints["images"],
        "split": fingerprints["split"],
        "search space": options.space.fingerprint,
        "metric": options.metric,
        "objective": f"{options.objective.kind} at {options.objective.strategy} thresholds",
        "folds": "1" if options.n_folds == 1 else f"{options.n_folds} {options.fold_model}",
    }


def study_setup(options: SearchOptions, data: PreparedData, saved: SavedSplit) -> StudySetup:
    """Return what a study is begun with, which later commands (export, leaderboard) need to know.

    A split that was given is remembered by its copy, since the user's own file may change.
    """
    given = options.data.split_file is not None
    posters = options.data.model_copy(update={"split_file": saved.file}) if given else options.data
    return StudySetup(
        metric=options.metric,
        objective=options.objective.kind,
        thresholds=options.objective.strategy,
        folds=options.n_folds or 1,  # a search has decided by now
        fold_model=options.fold_model,
        confirm=options.confirm,
        sampler=options.sampler,
        pruner=options.pruner,
        space=options.space.name,
        space_file=None if options.space_file is None else str(options.space_file),
        weights=dict(options.space.weights),
        data=posters,
        seed=options.seed,
        synthetic=options.synthetic,
        backbones=options.space.backbones,
        fingerprints=data.fingerprints,
    )
