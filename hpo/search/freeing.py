"""Letting go of what a study's files no longer need to hold: facts gathered, a plan made of them, and carried out.

Versions are deleted under the lock under which a champion is crowned, and before their files, so that none ever points
at nothing. What may go, and why, is in ``retention.py``.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from hpo.data.images import Phase
from hpo.errors import HpoError, StudyError, TrackingError
from hpo.search.artifact_files import ArtifactFiles, StoredRun
from hpo.search.ensemble import member_trials
from hpo.search.places import Places
from hpo.search.pool import BUNDLE, POOL
from hpo.search.retention import GRACE_SECONDS, MODEL, Facts, Item, Plan, Rules, Spooled, plan
from hpo.search.study import Study
from hpo.search.tracking import Tracking
from hpo.search.workshop import Workshop

KEEP = 5  # best trials, whose weights stay

Members = Callable[[], Collection[int]]


def free(
    study: Study,
    tracking: Tracking,
    spool: Path,
    members: Members,
    *,
    keep: int = KEEP,
    grace_seconds: float = GRACE_SECONDS,
    at_once: Collection[int] = (),
    dry_run: bool = False,
    with_logged_models: bool = True,
) -> Plan:
    """Let go of what no longer is of use, and return what that was; with ``dry_run`` only say what it would be.

    ``members`` returns the trials of the ensemble, and is asked only where it matters; where it raises an HpoError,
    versions and bundles are left alone, since one of them may be needed. Raises TrackingError where MLflow cannot be
    reached or refuses, StudyError where the study's database does; what was deleted until then stays deleted, and
    nothing is left half deleted that the next time would not find.
    """
    files = ArtifactFiles(tracking)
    rules = Rules(_best(study, keep), grace_seconds, frozenset(at_once))
    with _asking_the_study(study), nullcontext(lambda: True) if dry_run else study.locked("champion") as held:
        facts = _gather(study, files, spool, with_logged_models)
        planned = _plan(facts, rules, members)
        if dry_run:
            return planned
        freed = tuple(item for item in planned.items if _let_go(item, files, held))
    return replace(planned, items=freed)


def free_after_search(workshop: Workshop, spool: Path, finished_before: Collection[int], keep: int = KEEP) -> Plan:
    """Let go of what a search leaves that nobody needs, at its very end: after the champion was settled.

    ``spool`` is ``places.spool(study.name)``. ``finished_before`` holds the numbers of the trials that had ended when
    this search began: weights of later ones go at once, since nobody was told of them; what is older has an hour. While
    other workers of the study still run trials its versions are left alone. Choosing the ensemble takes a second or
    two, and only where there is something to let go. MLflow's own LoggedModels are left to ``hpo gc``.

    Raises nothing but TrackingError and StudyError.
    """
    study = workshop.study
    with _asking_the_study(study):
        mine = frozenset(trial.number for trial in study.trials()) - frozenset(finished_before)
    return free(
        study,
        workshop.tracking,
        spool,
        lambda: _members(workshop),
        keep=keep,
        at_once=mine,
        with_logged_models=False,
    )


def collect_garbage(
    study: Study,
    tracking: Tracking,
    places: Places,
    phase: Phase,
    *,
    keep: int = KEEP,
    now: bool = False,
    dry_run: bool = False,
) -> Plan:
    """Do what ``hpo gc`` does; ``now`` spares nothing for whoever may be reading it. Raises as ``free`` does."""

    def members() -> Collection[int]:
        return _members(Workshop.reopen(study, tracking, places, phase))

    if not dry_run:
        with _asking_the_study(study):
            study.requeue_lost()  # trials of dead workers do not run
    grace_seconds = 0.0 if now else GRACE_SECONDS
    return free(
        study, tracking, places.spool(study.name), members, keep=keep, grace_seconds=grace_seconds, dry_run=dry_run
    )


def _members(workshop: Workshop) -> frozenset[int]:
    try:
        return frozenset(trial.number for trial in member_trials(workshop))
    except StudyError:
        return frozenset()  # no trial kept its probabilities: there is no ensemble


def _best(study: Study, keep: int) -> frozenset[int]:
    """The best trials, and the leader, which is not always among them once trials were confirmed."""
    with _asking_the_study(study):
        leader = study.leader()
        best = [*study.top(keep), *([] if leader is None else [leader])]
    return frozenset(trial.number for trial in best)


def _plan(facts: Facts, rules: Rules, members: Members) -> Plan:
    """Plan without the ensemble first: to choose one takes the posters, and mostly nothing depends on it."""
    without = plan(facts, rules)
    if not any(item.kind in ("version", "version files", "bundle") for item in (*without.items, *without.spared)):
        return without
    try:
        chosen = frozenset(members())
    except TrackingError:
        raise
    except (HpoError, KeyError, ValueError) as error:  # also a trial of before, whose parameters nobody reads any more
        careful = plan(facts, replace(rules, kept=None))
        why = (
            f"{error}" if isinstance(error, HpoError) else f"A trial cannot be read ({type(error).__name__}: {error})."
        )
        note = f"{why} So nobody can tell which trials the ensemble needs: versions and bundles are left alone."
        return replace(careful, notes=(*careful.notes, note))
    return plan(facts, replace(rules, kept=(rules.kept or frozenset()) | chosen))


def _gather(study: Study, files: ArtifactFiles, spool: Path, with_logged_models: bool) -> Facts:
    now_ms = int(1000 * time.time())
    trials = study.trials()
    runs = files.runs(study.name)
    run_ids = {run.run_id for run in runs}
    noted = {trial.number: run_id for trial in trials if (run_id := study.run_id(trial)) in run_ids and run_id}
    spooled = tuple(_waiting(spool))
    waited_for = {noted[waiting.trial] for waiting in spooled if waiting.trial in noted}
    models = files.logged_models(run_ids) if with_logged_models else []
    return Facts(
        study.name,
        now_ms,
        tuple(runs),
        tuple(files.versions(study.name)),
        {run.run_id: _sizes(run, files, run.deleted or run.run_id in waited_for) for run in runs},
        noted,
        frozenset(trial.number for trial in trials if trial.state == TrialState.COMPLETE),
        frozenset(trial.number for trial in trials if trial.state.is_finished()),
        study.counts().running,
        tuple((model, files.sizes(model.uri)) for model in models),
        spooled,
    )


def _sizes(run: StoredRun, files: ArtifactFiles, everything: bool) -> dict[str, int]:
    """Measure what may go of a run's files, in as few questions as possible: over HTTP each takes a while."""
    if everything:
        return files.sizes(run.uri)
    if run.trial is None:
        return {}
    there = files.names(run.uri)
    sizes = files.sizes(run.uri, MODEL) if there.get(MODEL) else {}
    return sizes | (files.sizes(run.uri, BUNDLE) if there.get(POOL) and BUNDLE in files.names(run.uri, POOL) else {})


def _waiting(spool: Path) -> Iterator[Spooled]:
    for folder in sorted(spool.iterdir()) if spool.is_dir() else ():
        sizes = {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }
        if folder.name.isdecimal() and sizes:
            yield Spooled(int(folder.name), folder, sizes)


def _let_go(item: Item, files: ArtifactFiles, held: Callable[[], bool]) -> bool:
    """Let go of one thing, and say whether it is gone."""
    if item.version is not None:
        if not held():
            raise StudyError("The study's database was restarted while versions were deleted: type hpo gc again.")
        if not files.delete_version(item.version.model, item.version.version):
            return False
    if item.model_id is not None:
        files.delete_logged_model(item.model_id)
    for path in item.paths:
        files.delete(item.uri, path)
    if item.folder is not None:
        shutil.rmtree(item.folder, ignore_errors=True)
    return True


@contextmanager
def _asking_the_study(study: Study) -> Iterator[None]:
    """Turn what the study's database or the disk refuses into one sentence."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError, OSError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StudyError(
            f"What study {study.name!r} could let go of cannot be told ({reason}): check --storage, then type hpo gc."
        ) from error
