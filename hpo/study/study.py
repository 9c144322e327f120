"""The study: Optuna's record, its attributes, and the loop that runs trials.

What a study remembers, its best trials, and the loop that runs new ones.

The budget is the study's: trials that finished (complete or pruned) count towards it, by any worker. Who may run the
next one, and what becomes of those that were lost, is in ``trial_queue.py``.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import DISK_ERRORS, BackboneError, HpoError, StudyError
from hpo.runtime import profiling as timeline
from hpo.runtime.masking import without_secrets
from hpo.space.load import SearchSpace
from hpo.study import migration as versions
from hpo.study.attributes import (
    SPACE,
    ChampionRecord,
    ChampionRef,
    ExportedScores,
    StudyAttributes,
    attributes_of,
    begun_with,
    differences,
    setup_of,
    write,
    write_begun,
)
from hpo.study.migration import enqueue_warm_start
from hpo.study.predictions import DatabasePredictions, PredictionStore, create_table
from hpo.study.pruners import RecentTrialsPruner, build_pruner
from hpo.study.running_trial import OutOfTime, RunningTrial
from hpo.study.samplers import build_sampler
from hpo.study.snapshot import StudySnapshot, snapshot
from hpo.study.storage import Held, RetryingStorage, StorageError, no_such_study, open_storage
from hpo.study.trial_queue import QueuedTrial, TrialCounts, TrialQueue
from hpo.study.trial_record import TrialRecord, fresh_values, leader, ranked, run_again
from hpo.trial.setup import StudySetup
from hpo.trial.trial import Pruned

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

_MAX_FAILURES_IN_A_ROW = 3
_POLL_SECONDS = 0.5
_MIN_TRIALS = 8  # of different values, before it is said what they depend on

TrialFunction = Callable[[RunningTrial], float]


class Study:
    """A study in its storage, bound to one set of posters, one space and one metric."""

    def __init__(self, study: optuna.Study, storage: RetryingStorage, locks: Path) -> None:
        self._study, self._storage, self._locks = study, storage, locks
        self._queue = TrialQueue(study, storage, locks)
        self._finished: dict[int, TrialRecord] = {}  # those that were read already: they do not change any more

    @property
    def name(self) -> str:
        """The study's name, whichever of its versions this is."""
        return versions.base_name(self._study.study_name)

    @property
    def metric(self) -> str:
        """The metric that is maximised. Raises StudyError."""
        metric = self.attributes.metric
        if metric is None:
            raise self._not_begun()
        return metric

    @property
    def seed(self) -> int:
        """Of the split, the sampler and the training. Raises StudyError."""
        seed = self.attributes.seed
        return self.setup.seed if seed is None else seed

    @property
    def budget(self) -> int:
        """How many finished trials were last asked for."""
        return self.attributes.budget

    @property
    def attributes(self) -> StudyAttributes:
        """Everything that the study remembers of itself, as far as it was written. Raises StudyError."""
        return attributes_of(self.name, self._study.user_attrs)

    @property
    def setup(self) -> StudySetup:
        """What the study was begun with. Raises StudyError where that is incomplete."""
        self.check_begun()
        return setup_of(self.name, self._study.user_attrs)

    @property
    def space(self) -> SearchSpace:
        """The space as it was when the study was last begun or continued. Raises StudyError."""
        self.check_begun()
        return versions.read_space(self.attributes.space_document or {})

    @property
    def memory(self) -> dict[str, Any]:
        """The same in JSON, as it was written, complete or not."""
        return begun_with(self._study.user_attrs)

    @property
    def predictions(self) -> PredictionStore:
        """What each trial predicted for the posters that it was evaluated on."""
        return self._predictions(self._study)

    def _predictions(self, study: optuna.Study) -> DatabasePredictions:
        return DatabasePredictions(self._storage, study._study_id)

    def check_begun(self) -> None:
        """Raise StudyError for a study that no search has bound to posters and a space: yet, or at all."""
        if self.attributes.metric is None:
            raise self._not_begun()

    def _not_begun(self) -> StudyError:
        return StudyError(
            f"Expected study {self.name!r} to have been begun by hpo search, got one that another program made, or "
            "whose search is still starting or was stopped before it began: wait for that search, or type it again."
        )

    def trials(self) -> list[TrialRecord]:
        """Return every trial, in order of number."""
        return [self._record(trial) for trial in self._study.get_trials(deepcopy=False)]

    def _record(self, trial: FrozenTrial) -> TrialRecord:
        known = self._finished.get(trial.number)
        if known is None:
            known = TrialRecord.of(trial)
            if known.is_finished:
                self._finished[trial.number] = known
        return known

    def trial(self, number: int) -> TrialRecord | None:
        """Return the trial of that number, or None."""
        trials = self.trials()
        return trials[number] if 0 <= number < len(trials) else None

    def counts(self) -> TrialCounts:
        """Count the trials by state."""
        return TrialCounts.of(self._study.get_trials(deepcopy=False))

    def run_id(self, trial: TrialRecord) -> str | None:
        """Return the MLflow run of a trial: the one that it noted, or that was written for it later."""
        return self.attributes.late_runs.get(str(trial.number), trial.run_id)

    def note_run(self, number: int, run_id: str) -> None:
        """Remember the run that was written for a trial after it had ended."""
        write(self._study, late_runs={**self.attributes.late_runs, str(number): run_id})

    def best(self) -> TrialRecord | None:
        """Return the complete trial of the highest value (the earliest of equals), or None."""
        return next(iter(self.top(1)), None)

    def top(self, n: int | None) -> list[TrialRecord]:
        """Return the ``n`` complete trials of the highest values, or all of them, best first."""
        return ranked(self.trials())[:n]

    def leader(self) -> TrialRecord | None:
        """Return the trial that should be champion, by the mean over fresh seeds where trials were run again."""
        return leader(self.trials(), self._confirmed())

    def importances(self) -> dict[str, float]:
        """Return the share of each parameter that all complete trials have in what makes trials good, largest first.

        That is PED-ANOVA (Watanabe et al. 2023); none for fewer than eight different values.
        """
        values = {trial.value for trial in self.top(None)}
        if len(values) < _MIN_TRIALS:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that few trials have some value: everybody sees how many
            return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))

    def snapshot(self) -> StudySnapshot:
        """Return how the study stands, without reading all that was noted with every trial."""
        light = self._storage.retry(lambda: snapshot(self._storage.engine, self._study._study_id))
        # Only of failed trials does it matter what was noted: whether they left anything to be run again.
        known = [self._read(trial) if trial.state == TrialState.FAIL else trial for trial in light]
        trials = [TrialRecord.of(trial) for trial in known]
        best, first = next(iter(ranked(trials)), None), leader(trials, self._confirmed())
        fresh = [] if first is None else fresh_values(first, run_again(trials, self._confirmed()))
        wanted = {trial.number for trial in (best, first) if trial is not None}
        whole = {trial.number: TrialRecord.of(self._read(trial)) for trial in known if trial.number in wanted}
        return StudySnapshot(
            trials, TrialCounts.of(known), best and whole[best.number], first and whole[first.number], fresh
        )

    def _read(self, trial: FrozenTrial | optuna.Trial) -> FrozenTrial:
        return self._storage.get_trial(trial._trial_id)

    def living_workers(self, trials: Iterable[TrialRecord]) -> set[str]:
        """Return the workers that run one of ``trials``, without those that are known to be dead."""
        workers = {str(trial.worker) for trial in trials if trial.state == "running"}
        return {worker for worker in workers if not self._queue.is_dead(worker)}

    def champion_ref(self) -> ChampionRef | None:
        """Return the version that was last given the alias ``champion``."""
        champion = self.champion()
        return None if champion is None else {"version": champion["version"], "run_id": champion["run_id"]}

    def champion(self) -> ChampionRecord | None:
        """Return the same with the reason, and with the interval of what it claims."""
        return cast("ChampionRecord | None", self.attributes.champion)

    def champion_trials(self) -> frozenset[int]:
        """Return the trials that the champion is made of: the members of an average, or the study's leader."""
        champion, leader = self.champion(), self.leader()
        if champion is not None and "trials" in champion:
            return frozenset(champion["trials"])
        return frozenset() if leader is None else frozenset({leader.number})

    def set_champion(self, champion: ChampionRecord) -> None:
        """Remember which version has the alias, for `hpo status`, also while MLflow is away."""
        known = self.champion()
        if known is not None and known["version"] == champion["version"]:
            champion = {**known, **champion}
        if champion != known:
            write(self._study, champion=champion)

    def exported(self) -> ExportedScores | None:
        """Return what the champion claimed that was exported last."""
        return cast("ExportedScores | None", self.attributes.exported)

    def note_exported(self, claimed: ExportedScores) -> None:
        """Remember what an exported champion claims. A database that refuses costs this and not the export."""
        if claimed != self.exported():
            with suppress(StorageError):
                write(self._study, exported=claimed)

    def note_posters(self, markdown: str) -> None:
        """Remember what a report says of the posters."""
        write(self._study, posters_note=markdown)

    def note_time(self, sentence: str) -> None:
        """Remember where the time of the last profiled search went."""
        write(self._study, time_spent=sentence)

    def note_drawn(self, drawn_of: Mapping[str, Any]) -> None:
        """Remember of what the study's figures were drawn."""
        write(self._study, drawn=dict(drawn_of))

    def is_drawn(self, drawn_of: Mapping[str, Any]) -> bool:
        """Say whether the study's figures show just that."""
        return self.attributes.drawn == drawn_of

    def confirm(self, trial: TrialRecord, seed: int, value: float) -> None:
        """Remember what a complete trial's recipe is worth on a fresh seed."""
        recorded = self._confirmed()
        recorded.setdefault(str(trial.number), {})[str(seed)] = value
        write(self._study, confirmed=recorded)

    def is_confirmed(self, trial: TrialRecord, seed: int) -> bool:
        """Say whether a trial was run on that seed."""
        return str(seed) in self._confirmed().get(str(trial.number), {})

    def run_again(self) -> list[tuple[TrialRecord, list[float]]]:
        """Return the trials that were run on fresh seeds and their values there, best mean first."""
        return run_again(self.trials(), self._confirmed())

    def _confirmed(self) -> dict[str, dict[str, float]]:
        return self.attributes.confirmed

    def bind(self, identity: Mapping[str, str], more: Mapping[str, Any]) -> str | None:
        """Bind a new study to what it is about; refuse to continue with another data set, split, space or metric.

        Where only the space has changed and all trials lie in the new one (``more`` holds it, as ``versions`` writes
        it), a new version of the study takes over, and what is returned says so. Raises StudyError.
        """
        with self.locked("identity"):  # as many processes may begin a study at once
            return self._bind(identity, more)

    def _bind(self, identity: Mapping[str, str], more: Mapping[str, Any]) -> str | None:
        known = self.attributes.identity
        if known is None:
            self._predictions(self._study).clear()
            write_begun(self._study, more, identity)
            return None
        changed = [what for what in identity if identity[what] != known.get(what)]
        if not changed and SPACE in more:  # which a study of an older hpo does not know yet
            write(self._study, space_document=more[SPACE])
        if not changed:
            return None
        if changed == ["search space"] and SPACE in more and self.attributes.space_document is not None:
            return self._move_on(identity, more)
        raise StudyError(
            f"Study {self.name!r} exists with other {' and '.join(changed)} than asked for now"
            f"{differences(self.memory, more, changed)}: "
            f"choose a new name with --study, or repeat the options that it was begun with."
        )

    def _move_on(self, identity: Mapping[str, str], more: Mapping[str, Any]) -> str | None:
        """Continue in the next version: one that another process has made meanwhile, or else one that is made now."""
        self.requeue_lost()
        with self.locked("claims"):  # no worker begins a trial of the old version meanwhile
            latest, notice = versions.latest_version(self._storage, self.name), None
            if latest == self._study.study_name:
                latest, notice = versions.migrate(self._study, identity, more, self._carry_predictions)
        before = self._study
        self._study = optuna.load_study(
            study_name=latest, storage=self._storage, sampler=before.sampler, pruner=before.pruner
        )
        self._queue = TrialQueue(self._study, self._storage, self._locks)
        self._finished.clear()
        return notice or self._bind(identity, more)

    def _carry_predictions(self, version: optuna.Study) -> None:
        self._predictions(version).copy_from(self._predictions(self._study))

    def check_latest(self) -> None:
        """Raise StudyError where another search has moved the study on to a later version."""
        versions.check_latest(self._study)

    def enqueue_recipes(self, space: SearchSpace) -> None:
        """Queue the recipes of ``space``, once in a study's life; where it has stages, a plan proposes them."""
        with self.locked("queue"):  # as many machines may begin a study at once
            for name in () if space.stages else space.recipes:
                self._study.enqueue_trial(space.recipe(name), user_attrs={"recipe": name}, skip_if_exists=True)

    def warm_start(self, source: Study, space: SearchSpace) -> None:
        """Queue the best trials of another study that lie in ``space``, once in this one's life. Raises StudyError."""
        if source.name == self.name:
            raise StudyError(f"Expected another study than {self.name!r} itself for --warm-start: name one.")
        with self.locked("queue"):
            started = self.attributes.warm_started
            if source.name not in started:
                enqueue_warm_start(self._study, source.name, source.top(None), space)
                write(self._study, warm_started=[*started, source.name])

    def take_code(self, code: str, notice: Callable[[str], None]) -> None:
        """Continue with this code; refuse it while other workers run trials with another one. Raises StudyError."""
        known = self.attributes.code
        if known == code:
            return
        if known is not None:
            self._queue.requeue_stale()
            if self.counts().running:
                raise StudyError(
                    f"Study {self.name!r} is being searched by workers with other code, hpo {known}, and this is hpo "
                    f"{code}: install theirs here, or let them finish first."
                )
            notice(f"Study {self.name!r} was begun with other code, hpo {known}; it continues with hpo {code}.")
        write(self._study, code=code)

    def run(
        self,
        space: SearchSpace,
        objective: TrialFunction,
        keep_going: Callable[[], bool],
        notice: Callable[[str], None] = lambda _: None,
        propose: Callable[[Sequence[TrialRecord]], QueuedTrial | None] = lambda _: None,
    ) -> Iterator[TrialRecord]:
        """Run trials until the study's budget has finished or ``keep_going`` says no, and yield each as it ends.

        ``propose`` returns the next trial after those that there are, as far as it is not left to the sampler.
        Where all that is left is in the hands of other workers, wait for them, since one may die. Failed trials are
        yielded too and do not count. Raises what a trial raised once three have failed in a row: something is wrong
        that more trials will not fix. A trial whose backbone cannot be used does not count among these as long as the
        space has another backbone; ``notice`` receives the reason once.
        """
        failures_in_a_row = 0
        left_out: set[str] = set()
        with self._queue.alive():
            while keep_going() and self.counts().finished < self.budget:
                with timeline.stage("Optuna"):
                    trial = self._queue.claim(lambda: self.budget, lambda: propose(self.trials()))
                if trial is None:
                    with timeline.stage("waiting for others"):
                        time.sleep(_POLL_SECONDS)
                    continue
                error = self._run_one(trial, space, objective)
                if isinstance(error, BackboneError) and _has_others(space, trial, left_out, error, notice):
                    yield TrialRecord.of(self._read(trial))
                    continue
                failures_in_a_row = failures_in_a_row + 1 if error else 0
                if error and failures_in_a_row == _MAX_FAILURES_IN_A_ROW:
                    raise error
                yield TrialRecord.of(self._read(trial))

    def _run_one(self, trial: optuna.Trial, space: SearchSpace, objective: TrialFunction) -> Exception | None:
        """Run a claimed trial and record how it ended; return what it raised where that was its own fault."""
        with self._queue.heartbeat(trial):
            try:
                value = objective(RunningTrial(trial, space))
            except (KeyboardInterrupt, OutOfTime) as stop:
                self._queue.release(trial.number, str(stop) or "interrupted")
                raise
            except StorageError:
                raise
            except optuna.exceptions.UpdateFinishedTrialError:
                return None  # it stood still, was taken for dead, and is another worker's now
            except Pruned:
                self._end(trial, None, TrialState.PRUNED)
            except Exception as error:
                if _is_circumstance(error):  # which no trial is to be blamed for, and the next one would meet as well
                    self._queue.release(trial.number, f"{type(error).__name__}: {error}")
                    raise
                self._fail(trial, error)
                return error
            else:
                self._end(trial, value, TrialState.COMPLETE)
        return None

    def _end(self, trial: optuna.Trial, value: float | None, state: TrialState) -> None:
        """Record how a trial ended; one that was taken for dead meanwhile is another worker's now."""
        with timeline.stage("Optuna"):
            self._study.tell(trial, value, state, skip_if_finished=True)

    def _fail(self, trial: optuna.Trial, error: Exception) -> None:
        """Fail a trial. What we refuse in a sentence of our own would be refused again; anything else may be chance."""
        why = without_secrets(f"{type(error).__name__}: {error}")
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr("error", why)
        self._end(trial, None, TrialState.FAIL)
        if not isinstance(error, HpoError):
            self._queue.retry(trial.number, why)

    def requeue_lost(self) -> list[int]:
        """Fail the trials of dead workers, queue their parameters again, and return their numbers."""
        return self._queue.requeue_stale()

    def set_budget(self, trials: int, *, more: bool = False) -> int:
        """Ask for so many finished trials in all, or for so many more than now; return how many in all.

        As many as have finished, or fewer, ask for nothing: the budget stays what it was.
        """
        with self.locked("budget"):
            finished = self.counts().finished
            budget = trials + (finished if more else 0)
            if budget <= finished and budget < self.budget:
                return self.budget
            write(self._study, budget=budget)
            return budget

    def locked(self, what: str) -> AbstractContextManager[Held]:
        """Hold a lock that all workers of this study respect."""
        return self._storage.locked(f"{what} of {self._study._study_id}")


def _has_others(
    space: SearchSpace, trial: optuna.Trial, left_out: set[str], error: Exception, notice: Callable[[str], None]
) -> bool:
    """Add the backbone of a refused trial to those ``left_out``; say whether the space has one that is not."""
    backbone = str(trial.params.get("backbone", space.fixed.get("backbone")))
    is_new = backbone not in left_out
    left_out.add(backbone)
    has_others = not left_out.issuperset(space.backbone_choices)
    if is_new and has_others:
        notice(f"Left out {backbone} for the rest of this search: {error}")
    return has_others


def open_study(
    storage_url: str,
    name: str,
    locks: Path,
    seed: int,
    *,
    create: bool,
    n_folds: int = 1,
    sampler: str = "tpe",
    pruner: str | None = None,
) -> Study:
    """Open the latest version of a study, or begin it when ``create``.

    ``sampler`` and ``pruner`` are names (``samplers.py``, ``pruners.py``); without a pruner the one that suits
    ``n_folds``. Raises StudyError when the study is not there, a name is none or the storage is unusable.
    """
    samples, prunes = build_sampler(sampler, seed), RecentTrialsPruner(build_pruner(pruner, n_folds))
    try:
        with open_storage(storage_url) as storage:
            version = versions.latest_version(storage, name)
            if create:
                versions.check_name(name)
                optuna.create_study(storage=storage, study_name=version, direction="maximize", load_if_exists=True)
            study = optuna.load_study(storage=storage, study_name=version, sampler=samples, pruner=prunes)
            create_table(storage)
    except KeyError as error:
        raise no_such_study(storage_url, name) from error
    return Study(study, storage, locks)


def _is_circumstance(error: BaseException | None) -> bool:
    """Whether a disk is behind an error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            return True
        error = error.__cause__
    return False
