"""Garbage collection of a study's files: inventory, plan, delete.

Versions are deleted under the lock under which a champion is promoted, and before their files, so that none ever points
at nothing. What may go, and why, stands beside the plan below.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hpo.errors import HpoError, StudyError, TrackingError
from hpo.runtime.commands import command
from hpo.runtime.progress import ProgressFactory
from hpo.selection.context import StudyContext
from hpo.selection.ensemble import member_trials
from hpo.settings import Paths
from hpo.study.storage import DATABASE_ERRORS
from hpo.study.study import Study
from hpo.tracking.artifacts import BUNDLE, VERSION_BUNDLE, ArtifactFiles, StoredModel, StoredRun, StoredVersion
from hpo.tracking.registry import AVERAGE_FOLDER, AVERAGE_TAG, REASON_TAG
from hpo.tracking.runs import STUDY_TAG, Tracking

# What of a study's files may go, so that its disk stays small: planned from an inventory alone.
#
# Weights stay for the trials that may still be asked for: the best few, the leader and the members of the ensemble.
# Probabilities always stay, since ensembles and comparisons are made of them. What goes:
#
#     version        one that led while a search ran, "to be confirmed", and was overtaken, or an average of trials that
#                    is neither champion nor challenger; with its files
#     version files  of a version that was deleted, by whomever, or whose registration was killed
#     bundle         the network of a trial that is not asked for, or that a version of the same run holds as well
#     deleted run    the artifacts of a run that was deleted in MLflow, once its trial has another one
#     logged model   one of MLflow's own that a run of the study made and no version needs
#     spool          files that waited for MLflow and were taken
#
# A version is never touched while it has any alias, while a version of any model refers to its run or to itself, or
# once a person has touched it: a tag that does not begin with ``hpo.``, a stage, or a text that was changed. Nor is one
# whose confirmed numbers were announced. What may be in use is left alone for an hour, and while trials run
# all versions are, because each may be the next that is loaded.

GRACE_SECONDS = 3600.0

_PROVISIONAL = "to be confirmed"  # how a reason of `champion.py` ends while nothing was confirmed
MODEL = "model"  # a version's folder among its run's artifacts

FileKind = Literal["version", "version files", "bundle", "deleted run", "logged model", "spool"]


@dataclass(frozen=True)
class Item:
    """Something that goes, with everything that it takes to let it go."""

    kind: FileKind
    name: str
    why: str
    n_bytes: int
    uri: str = ""  # of the artifacts
    paths: tuple[str, ...] = ()  # among them
    version: StoredVersion | None = None
    model_id: str | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class DeletionPlan:
    """What goes, and what was left alone that might go another time."""

    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()
    spared: tuple[Item, ...] = ()  # for now, as it may be in use

    @property
    def n_bytes(self) -> int:
        """What that frees."""
        return sum(item.n_bytes for item in self.items)


@dataclass(frozen=True)
class Spooled:
    """The files of a trial that wait for MLflow, by their path in its run."""

    trial: int
    folder: Path
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Facts:
    """All that decides what may go."""

    study: str
    now_ms: int
    runs: tuple[StoredRun, ...] = ()
    versions: tuple[StoredVersion, ...] = ()  # of every registered model
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # run → what may go of its files → bytes
    run_of_trial: Mapping[int, str] = field(default_factory=dict)  # as the study has noted it
    complete: frozenset[int] = frozenset()
    ended: frozenset[int] = frozenset()  # complete, pruned or failed
    n_running: int = 0
    logged_models: tuple[tuple[StoredModel, Mapping[str, int]], ...] = ()  # and the bytes of their files
    spooled: tuple[Spooled, ...] = ()


@dataclass(frozen=True)
class Rules:
    """What stays."""

    kept: frozenset[int] | None  # trials whose weights stay; None: unknown, so all do
    grace_seconds: float = GRACE_SECONDS
    at_once: frozenset[int] = frozenset()  # trials whose weights are not referenced yet: they need no grace

    def spares(self, since_ms: int, now_ms: int, trial: int | None = None) -> bool:
        """Say whether something is too young to go."""
        return trial not in self.at_once and self.grace_seconds > 0 and now_ms - since_ms < 1000 * self.grace_seconds


_Found = tuple[Item, bool]  # and whether it is spared for now


def plan(facts: Facts, rules: Rules) -> DeletionPlan:
    """Decide what goes. Nothing but the arguments matters, and nothing is changed."""
    found = [*_versions(facts, rules), *_averages(facts, rules)]
    gone = [item.version for item, spared in found if not spared]
    staying = [version for version in facts.versions if version not in gone]
    found += _version_files(facts, rules)
    found += _bundles(facts, rules, staying)
    found += _deleted_runs(facts, rules, staying)
    found += _logged_models(facts, rules, staying)
    found += _spool(facts, rules)
    notes = []
    if facts.n_running:
        notes.append(
            f"Versions are left alone while trials run, and {facts.n_running} do; if no search is at work any more, "
            "hpo sync finds the trials of dead workers."
        )
    if n_spared := sum(spared for _, spared in found):
        notes.append(
            f"Of the last hour {n_spared} more are left alone, as they may be in use: --now frees them as well."
        )
    going, later = ([item for item, spared in found if spared == wanted] for wanted in (False, True))
    return DeletionPlan(tuple(going), tuple(notes), tuple(later))


def _versions(facts: Facts, rules: Rules) -> Iterator[_Found]:
    runs = {run.run_id: run for run in facts.runs}
    for version in facts.versions:
        run = runs.get(version.run_id)
        if run is None or not _may_go(version, run, facts, rules):
            continue
        n_bytes = sum(_below(facts.sizes.get(run.run_id, {}), MODEL).values())
        why = f"trial {version.trial} led for a while and is not among those that are kept"
        item = Item("version", f"version {version.version}", why, n_bytes, run.uri, (MODEL,), version)
        yield item, rules.spares(_delete_ms(version, facts), facts.now_ms, version.trial)


def _averages(facts: Facts, rules: Rules) -> Iterator[_Found]:
    """Averages of trials that are no longer champion or challenger: each is made again of the same trials."""
    runs = {run.run_id: run for run in facts.runs}
    for version in facts.versions:
        run, folder = runs.get(version.run_id), version.source.rpartition("/")[2]
        ours = version.model == facts.study and AVERAGE_TAG in version.tags and not version.by_hand
        named = f"models:/{version.model}/{version.version}"
        if run is None or not ours or version.aliases or facts.n_running:
            continue
        if any(other.source in (named, version.source) for other in facts.versions if other is not version):
            continue
        n_bytes = sum(_below(facts.sizes.get(run.run_id, {}), folder).values())
        why = "an average of trials that another model overtook"
        item = Item("version", f"version {version.version}", why, n_bytes, run.uri, (folder,), version)
        yield item, rules.spares(_delete_ms(version, facts), facts.now_ms)


def _may_go(version: StoredVersion, run: StoredRun, facts: Facts, rules: Rules) -> bool:
    """Whether a version was made by this study's search, was overtaken, and is neither needed nor edited."""
    if facts.n_running or rules.kept is None or version.model != facts.study or version.trial is None:
        return False
    ours = version.tags.get(STUDY_TAG) == facts.study and version.tags.get(REASON_TAG, "").endswith(_PROVISIONAL)
    if not ours or version.aliases or version.by_hand or _is_kept(version.trial, run.run_id, facts, rules):
        return False
    named = f"models:/{version.model}/{version.version}"
    others = [other for other in facts.versions if other is not version]
    return not any(_needs(other, run) or other.source == named for other in others)


def _delete_ms(version: StoredVersion, facts: Facts) -> int:
    """When the next version took the alias from it: until then it was what everybody loads."""
    later = [other for other in facts.versions if other.model == version.model and other.version > version.version]
    return min(later, key=lambda other: other.version, default=version).created_ms


def _version_files(facts: Facts, rules: Rules) -> Iterator[_Found]:
    """Files of a version that is gone."""
    for run in facts.runs:
        sizes = _below(facts.sizes.get(run.run_id, {}), MODEL)
        needed = facts.n_running or rules.kept is None or _is_kept(run.trial, run.run_id, facts, rules)
        if (
            not sizes
            or run.ended_ms is None
            or run.deleted
            or needed
            or any(_needs(version, run) for version in facts.versions)
        ):
            continue
        item = Item("version files", _name(run), "no version needs them", sum(sizes.values()), run.uri, (MODEL,))
        yield item, rules.spares(run.ended_ms, facts.now_ms, run.trial)


def _bundles(facts: Facts, rules: Rules, staying: list[StoredVersion]) -> Iterator[_Found]:
    for run in facts.runs:
        mine = run.trial in facts.complete and facts.run_of_trial.get(run.trial or 0) == run.run_id
        sizes = facts.sizes.get(run.run_id, {})
        bundle = _below(sizes, BUNDLE)
        if not mine or not bundle or run.ended_ms is None or run.deleted:
            continue
        twins = [v for v in staying if v.model == facts.study and v.run_id == run.run_id and v.trial == run.trial]
        if twins and _below(sizes, VERSION_BUNDLE):
            why = f"version {twins[0].version} holds the same network"
        elif rules.kept is None or _is_kept(run.trial, run.run_id, facts, rules):
            continue
        else:
            why = f"trial {run.trial} is not among those that are kept"
        item = Item("bundle", f"trial {run.trial}", why, sum(bundle.values()), run.uri, (BUNDLE,))
        yield item, rules.spares(run.ended_ms, facts.now_ms, run.trial)


def _deleted_runs(facts: Facts, rules: Rules, staying: list[StoredVersion]) -> Iterator[_Found]:
    noted = set(facts.run_of_trial.values())
    for run in facts.runs:
        sizes = facts.sizes.get(run.run_id, {})
        if not run.deleted or run.run_id in noted or any(_needs(version, run) for version in staying):
            continue
        if any(_needs(version, run) for version in facts.versions):  # which goes, with its own files
            sizes = {path: n_bytes for path, n_bytes in sizes.items() if path.partition("/")[0] != MODEL}
        if sizes:
            paths = tuple(dict.fromkeys(path.partition("/")[0] for path in sizes))
            item = Item("deleted run", _name(run), "its run is deleted", sum(sizes.values()), run.uri, paths)
            yield item, rules.spares(run.ended_ms or 0, facts.now_ms)


def _logged_models(facts: Facts, rules: Rules, staying: list[StoredVersion]) -> Iterator[_Found]:
    for model, sizes in facts.logged_models:
        if any(model.model_id == version.model_id or model.model_id in version.source for version in staying):
            continue
        paths = tuple(dict.fromkeys(path.partition("/")[0] for path in sizes))
        n_bytes = sum(sizes.values())
        item = Item(
            "logged model", model.model_id, "no version needs it", n_bytes, model.uri, paths, None, model.model_id
        )
        yield item, rules.spares(model.created_ms, facts.now_ms)


def _spool(facts: Facts, rules: Rules) -> Iterator[_Found]:
    ended = {run.run_id: run.ended_ms for run in facts.runs if not run.deleted}
    for waiting in facts.spooled:
        run_id = facts.run_of_trial.get(waiting.trial)
        ended_ms = ended.get(run_id or "")
        if run_id is None or ended_ms is None or waiting.trial not in facts.ended:
            continue
        taken = facts.sizes.get(run_id, {})
        if all(taken.get(path) == n_bytes for path, n_bytes in waiting.sizes.items()):
            n_bytes, why = sum(waiting.sizes.values()), "its run has them"
            item = Item("spool", f"trial {waiting.trial}", why, n_bytes, folder=waiting.folder)
            yield item, rules.spares(ended_ms, facts.now_ms)


def _is_kept(trial: int | None, run_id: str, facts: Facts, rules: Rules) -> bool:
    kept = rules.kept or frozenset()
    return trial in kept or any(facts.run_of_trial.get(number) == run_id for number in kept)


def _needs(version: StoredVersion, run: StoredRun) -> bool:
    """A version that was made by hand may name a run's files without naming the run."""
    return version.run_id == run.run_id or run.run_id in version.source


def _below(sizes: Mapping[str, int], folder: str) -> dict[str, int]:
    return {path: n_bytes for path, n_bytes in sizes.items() if path.startswith(f"{folder}/")}


def _name(run: StoredRun) -> str:
    return "the study's run" if run.trial is None else f"trial {run.trial}"


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
) -> DeletionPlan:
    """Delete what is no longer of use, and return what that was; with ``dry_run`` only say what it would be.

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
        freed = tuple(item for item in planned.items if _delete(item, files, held))
    return replace(planned, items=freed)


def free_after_search(
    context: StudyContext, spool: Path, finished_before: Collection[int], keep: int = KEEP
) -> DeletionPlan:
    """Delete what a search leaves that is not needed, at its very end: after the champion was settled.

    ``spool`` is ``paths.spool(study.name)``. ``finished_before`` holds the numbers of the trials that had ended when
    this search began: weights of later ones go at once, since they were never announced; what is older has an hour.
    While other workers of the study still run trials its versions are left alone. Choosing the ensemble takes a second
    or two, and only where there is something to delete. MLflow's own LoggedModels are left to ``hpo gc``.

    Raises nothing but TrackingError and StudyError.
    """
    study = context.study
    with _asking_the_study(study):
        mine = frozenset(trial.number for trial in study.trials()) - frozenset(finished_before)
    return free(
        study,
        context.tracking,
        spool,
        lambda: _members(context),
        keep=keep,
        at_once=mine,
        with_logged_models=False,
    )


def collect_garbage(
    study: Study,
    tracking: Tracking,
    paths: Paths,
    phase: ProgressFactory,
    *,
    keep: int = KEEP,
    now: bool = False,
    dry_run: bool = False,
) -> DeletionPlan:
    """Do what ``hpo gc`` does; ``now`` spares nothing that may be in use. Raises as ``free`` does."""

    def members() -> Collection[int]:
        return _members(StudyContext.reopen(study, tracking, paths, phase))

    if not dry_run:
        with _asking_the_study(study):
            study.requeue_lost()  # trials of dead workers do not run
    grace_seconds = 0.0 if now else GRACE_SECONDS
    return free(
        study, tracking, paths.spool(study.name), members, keep=keep, grace_seconds=grace_seconds, dry_run=dry_run
    )


def _members(context: StudyContext) -> frozenset[int]:
    try:
        return frozenset(trial.number for trial in member_trials(context))
    except StudyError:
        return frozenset()  # no trial kept its probabilities: there is no ensemble


def _best(study: Study, keep: int) -> frozenset[int]:
    """The best trials, and the leader, which is not always among them once trials were confirmed."""
    with _asking_the_study(study):
        leader = study.leader()
        best = [*study.top(keep), *([] if leader is None else [leader])]
    return frozenset(trial.number for trial in best)


def _plan(facts: Facts, rules: Rules, members: Members) -> DeletionPlan:
    """Plan without the ensemble first: to choose one takes the posters, and mostly nothing depends on it."""
    without = plan(facts, rules)
    if not any(item.kind in ("version", "version files", "bundle") for item in (*without.items, *without.spared)):
        return without
    try:
        config = frozenset(members())
    except TrackingError:
        raise
    except (
        HpoError,
        KeyError,
        ValueError,
    ) as error:  # also a trial of before, whose parameters cannot be read any more
        careful = plan(facts, replace(rules, kept=None))
        why = (
            f"{error}" if isinstance(error, HpoError) else f"A trial cannot be read ({type(error).__name__}: {error})."
        )
        note = f"{why} So it is unknown which trials the ensemble needs: versions and bundles are left alone."
        return replace(careful, notes=(*careful.notes, note))
    return plan(facts, replace(rules, kept=(rules.kept or frozenset()) | config))


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
        frozenset(trial.number for trial in trials if trial.state == "complete"),
        frozenset(trial.number for trial in trials if trial.is_finished),
        study.counts().running,
        tuple((model, files.sizes(model.uri)) for model in models),
        spooled,
    )


def _sizes(run: StoredRun, files: ArtifactFiles, everything: bool) -> dict[str, int]:
    """Measure what may go of a run's files, in as few questions as possible: over HTTP each takes a while."""
    if everything:
        return files.sizes(run.uri)
    there = files.names(run.uri)
    if run.trial is None:
        averages = (folder for folder in there if folder.startswith(AVERAGE_FOLDER))
        return {path: n_bytes for folder in averages for path, n_bytes in files.sizes(run.uri, folder).items()}
    sizes = files.sizes(run.uri, MODEL) if there.get(MODEL) else {}
    return sizes | (files.sizes(run.uri, BUNDLE) if there.get(BUNDLE) else {})


def _waiting(spool: Path) -> Iterator[Spooled]:
    for folder in sorted(spool.iterdir()) if spool.is_dir() else ():
        sizes = {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()
        }
        if folder.name.isdecimal() and sizes:
            yield Spooled(int(folder.name), folder, sizes)


def _delete(item: Item, files: ArtifactFiles, held: Callable[[], bool]) -> bool:
    """Delete one thing, and say whether it is gone."""
    if item.version is not None:
        if not held():
            raise StudyError(
                f"The study's database was restarted while versions were deleted: type {command('gc')} again."
            )
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
    except (*DATABASE_ERRORS, OSError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StudyError(
            f"What study {study.name!r} could delete is unknown ({reason}): check --storage, then type "
            f"{command('gc', study=study.name)}."
        ) from error
