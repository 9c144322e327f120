"""`hpo sync`: rewrite MLflow from Optuna's record and restore the champion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpo.errors import DataError, StudyError
from hpo.runtime.progress import ProgressFactory
from hpo.selection.champion import ChampionSelector, is_ahead
from hpo.selection.context import StudyContext
from hpo.selection.study_run import close_parent_run, open_parent_run
from hpo.settings import Paths
from hpo.study.study import Study
from hpo.tracking.mirror import MlflowMirror, Synced
from hpo.tracking.runs import Tracking


@dataclass(frozen=True)
class SyncReport:
    """What was done to make MLflow agree with a study."""

    runs: Synced
    requeued: tuple[int, ...]  # trials of dead workers, which wait again
    champion: str | None  # what has the alias: "trial 8", "the average of trials 8 and 21"
    made_again: bool = False  # the champion: another trial had the alias, or its files could not be read
    closed: bool = False  # the study's run, which had the status of one that is being searched

    @property
    def nothing(self) -> bool:
        """Whether all agreed already."""
        return self.runs.nothing and not (self.requeued or self.made_again or self.closed)


def sync(
    study: Study, tracking: Tracking, paths: Paths, phase: ProgressFactory, notice: Callable[[str], None]
) -> SyncReport:
    """Repair trials, runs and the champion of ``study``. Safe at any time, also twice, also while others search.

    Raises TrackingError where MLflow cannot be reached.
    """
    requeued = study.requeue_lost()
    parent = tracking.find_study_run(study.name) or open_parent_run(study, tracking)
    mirror = MlflowMirror(study, tracking, parent, paths.spool(study.name), notice)
    runs = mirror.sync()
    leader = study.leader()
    champion = tracking.registry.champion(study.name)
    made_again = False
    if leader is not None and (
        champion is None
        or not (champion.trial_number == leader.number or is_ahead(champion, leader))
        or not tracking.registry.is_whole(champion)
    ):
        made_again = _promote(study, tracking, paths, phase, notice)
        champion = tracking.registry.champion(study.name)
    if champion is not None:
        study.set_champion({"version": champion.version, "run_id": champion.run_id})
    closed = mirror.attempt(mirror.report) and _close(study, tracking, mirror.parent_run_id)
    return SyncReport(runs, tuple(requeued), None if champion is None else champion.title, made_again, closed)


def _close(study: Study, tracking: Tracking, parent: str) -> bool:
    """End the study's run where no trial runs and MLflow was away when its search ended; say whether that was so."""
    if study.counts().running or not tracking.study_is_open(parent):
        return False
    close_parent_run(study, tracking, parent, interrupted=True)
    return True


def _promote(
    study: Study, tracking: Tracking, paths: Paths, phase: ProgressFactory, notice: Callable[[str], None]
) -> bool:
    """Train the leader again, to the same result, and register it; say whether that could be done."""
    try:
        context = StudyContext.reopen(study, tracking, paths, phase)
    except (DataError, StudyError) as error:
        notice(f"{error} So its leader cannot be trained again, and the champion stays as it is.")
        return False
    ChampionSelector(context).settle()
    return True
