"""Options of a search, and the study identity derived from them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from hpo.data.dataset import PreparedData, SavedSplit
from hpo.selection.study_config import StudyConfig
from hpo.trial.setup import StudySetup


@dataclass(frozen=True, kw_only=True)
class SearchOptions(StudyConfig):
    """Everything that ``hpo search`` is given: the study, and what this search does for it."""

    trials: int  # finished ones, of the whole study
    timeout_seconds: float | None
    space_file: Path | None = None  # where it was read from; None: one that ships
    adds_trials: bool = False  # so many more than have finished
    executor: str | None = None  # a name of `executors/factory.py`; None: by the number of workers
    workers: int = 1
    confirm: bool = True  # run the top trials again on fresh seeds before one of them is promoted
    warm_start: str | None = None  # a study in the same storage whose best trials are tried first
    skip_unavailable: bool = False  # leave out backbones whose weights cannot be had, instead of refusing to begin
    system_metrics: bool = False  # cores, memory, disk and network of the machine on every run
    profile: Path | None = None  # a timeline of what every process does, for a trace viewer
    synthetic: bool = False  # the built-in sample: said wherever its numbers appear

    def deadline(self) -> float:
        """Return the time after which no trial starts if the search starts now, by ``time.monotonic``; may be inf."""
        return time.monotonic() + (self.timeout_seconds or float("inf"))


# What a study is bound to, and what it remembers for the commands that come after the search.


def study_identity(options: SearchOptions, data: PreparedData) -> dict[str, str]:
    """Return what may not change while a study lives, by the words in which a refusal names it."""
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
    return options.setup(data, options.n_folds or 1).model_copy(
        update={
            "data": posters,
            "confirm": options.confirm,
            "space_file": None if options.space_file is None else str(options.space_file),
            "synthetic": options.synthetic,
        }
    )
