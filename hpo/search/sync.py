"""``hpo sync``: MLflow says again what Optuna's record says, whatever was lost, killed or away in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpo.data.images import Phase
from hpo.errors import DataError, StudyError
from hpo.search.coronation import Coronation
from hpo.search.logbook import Logbook, Synced
from hpo.search.places import Places
from hpo.search.study import Study
from hpo.search.tracking import Tracking
from hpo.search.workshop import Workshop


@dataclass(frozen=True)
class SyncReport:
    """What was done to make MLflow agree with a study."""

    runs: Synced
    requeued: tuple[int, ...]  # trials of dead workers, which wait again
    champion: int | None  # the trial that has the alias


def sync(study: Study, tracking: Tracking, places: Places, phase: Phase, notice: Callable[[str], None]) -> SyncReport:
    """Mend trials, runs and the champion of ``study``. Safe at any time, also twice, also while others search.

    Raises TrackingError where MLflow cannot be reached.
    """
    requeued = study.requeue_lost()
    parent = tracking.find_study_run(study.name)
    if parent is None:
        parent = tracking.study_run(study.name, study.memory, {"hpo.metric": study.metric}, {}, {}, study.attributes)
        tracking.finish_study(parent, "RUNNING" if study.counts().running else "FINISHED", {})
    logbook = Logbook(study, tracking, parent, places.spool(study.name), notice)
    runs = logbook.sync()
    leader = study.leader()
    champion = tracking.registry.champion(study.name)
    if leader is not None and (champion is None or champion.trial_number != leader.number):
        _crown(study, tracking, places, phase, notice)
        champion = tracking.registry.champion(study.name)
    if champion is not None:
        study.note_crowned({"version": champion.version, "run_id": champion.run_id})
    logbook.attempt(logbook.report)
    return SyncReport(runs, tuple(requeued), None if champion is None else champion.trial_number)


def _crown(study: Study, tracking: Tracking, places: Places, phase: Phase, notice: Callable[[str], None]) -> None:
    """Train the leader again, to the same result, and register it."""
    try:
        workshop = Workshop.reopen(study, tracking, places, phase)
    except (DataError, StudyError) as error:
        notice(f"{error} So its leader cannot be trained again, and the champion stays as it is.")
        return
    Coronation(workshop).settle()
