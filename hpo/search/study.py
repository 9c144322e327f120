"""The study: the one door to Optuna. Storage, sampler, pruner, an exact budget, and what a killed process left.

Optuna counts ``n_trials`` per process and leaves the trials of a killed one RUNNING for ever. Here the budget is the
study's: trials that finished (complete or pruned) count towards it, whoever ran them; a trial that was lost is failed
and its parameters are queued again. A worker holds a lock file while it lives, which the operating system lets go
when it dies, so a lost trial is recognised at once and never mistaken for one that is still running.
"""

from __future__ import annotations

import os
import socket
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import StudyError
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.space.space import SearchSpace

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

STARTUP_TRIALS = 10  # random before TPE has something to model, and never pruned
_PRUNER_WARMUP_EPOCHS = 3
_MAX_FAILURES_IN_A_ROW = 3
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Objective = Callable[["RunningTrial"], float]


@dataclass(frozen=True)
class Counts:
    """How many trials of a study are in which state."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def finished(self) -> int:
        """Trials that count towards the budget."""
        return self.complete + self.pruned


class RunningTrial:
    """One trial as an objective sees it."""

    def __init__(self, trial: optuna.Trial, space: SearchSpace) -> None:
        self._trial, self._space = trial, space
        self.number = trial.number
        self.recipe: str | None = trial.user_attrs.get("recipe")

    def choose(self) -> Hyperparameters:
        """Sample the space."""
        return self._space.sample(self._trial)

    def report(self, value: float, step: int, epoch: int) -> None:
        """Tell the pruner; raises ``Pruned`` when this trial is clearly behind. A recipe is never pruned.

        ``step`` is what trials are compared at: the same for equal epochs of the same phase.
        """
        self._trial.report(value, step)
        if self.recipe is None and self._trial.should_prune():
            raise Pruned(epoch)

    def note(self, **attributes: Any) -> None:
        """Keep JSON values with the trial."""
        for key, value in attributes.items():
            self._trial.set_user_attr(key, value)


class Pruned(optuna.TrialPruned):
    """The study stopped a trial after ``epoch``."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"behind the median after epoch {epoch}")
        self.epoch = epoch


class OutOfTime(Exception):
    """The next trial would not finish in the time that is left."""


class Study:
    """A study in its storage, bound to one set of posters, one space and one metric."""

    def __init__(self, study: optuna.Study, locks: Path) -> None:
        self._study, self._locks = study, locks
        self._worker = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._current = -1  # the trial in hand

    @property
    def name(self) -> str:
        """The study's name."""
        return self._study.study_name

    @property
    def metric(self) -> str:
        """The metric that is maximised."""
        return str(self._study.user_attrs["metric"])

    @property
    def budget(self) -> int:
        """How many finished trials were last asked for."""
        return int(self._study.user_attrs.get("budget", 0))

    @property
    def attributes(self) -> dict[str, Any]:
        """Everything that the study remembers of itself."""
        return dict(self._study.user_attrs)

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, in order of number."""
        return self._study.get_trials(deepcopy=False)

    def counts(self) -> Counts:
        """Count the trials by state."""
        states = Counter(trial.state for trial in self.trials())
        return Counts(
            states[TrialState.COMPLETE],
            states[TrialState.PRUNED],
            states[TrialState.FAIL],
            states[TrialState.RUNNING],
            states[TrialState.WAITING],
        )

    def best(self) -> FrozenTrial | None:
        """Return the complete trial of the highest value (the earliest of equals), or None."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)

    def bind(self, identity: Mapping[str, str], more: Mapping[str, Any]) -> None:
        """Bind a new study to what it is about; refuse to go on with another data set, split, space or metric."""
        known = self._study.user_attrs.get("identity")
        if known is None:
            for key, value in more.items():
                self._study.set_user_attr(key, value)
            self._study.set_user_attr("identity", dict(identity))
            return
        changed = [what for what in identity if identity[what] != known.get(what)]
        if changed:
            raise StudyError(
                f"Study {self.name!r} exists with other {' and '.join(changed)} than asked for now: "
                f"choose a new name with --study, or repeat the options that it was begun with."
            )

    def enqueue_recipes(self, space: SearchSpace) -> None:
        """Queue the space's recipes, once in a study's life."""
        for name in space.recipes:
            self._study.enqueue_trial(space.recipe(name), user_attrs={"recipe": name}, skip_if_exists=True)

    def run(
        self, budget: int, space: SearchSpace, objective: Objective, keep_going: Callable[[], bool]
    ) -> Iterator[FrozenTrial]:
        """Run trials until ``budget`` of them have finished or ``keep_going`` says no, and yield each as it ends.

        Failed trials are yielded too and do not count. Raises what a trial raised once three have failed in a row:
        something is wrong that more trials will not mend.
        """
        self._study.set_user_attr("budget", budget)
        failures_in_a_row = 0
        with self._alive():
            self.requeue_lost()
            while self.counts().finished < budget and keep_going():
                error = self._run_one(space, objective)
                failures_in_a_row = failures_in_a_row + 1 if error else 0
                if error and failures_in_a_row == _MAX_FAILURES_IN_A_ROW:
                    raise error
                yield self.trials()[self._current]

    def _run_one(self, space: SearchSpace, objective: Objective) -> Exception | None:
        def attempt(trial: optuna.Trial) -> float:
            self._current = trial.number
            trial.set_user_attr("worker", self._worker)
            return objective(RunningTrial(trial, space))

        self._current = -1
        try:
            self._study.optimize(attempt, n_trials=1)
        except (KeyboardInterrupt, OutOfTime):
            if self._current >= 0:
                self._requeue(self.trials()[self._current])
            raise
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError):
            raise
        except Exception as error:
            return error
        return None

    def requeue_lost(self) -> list[int]:
        """Fail the trials of dead workers, queue their parameters again, and return their numbers."""
        lost = [trial for trial in self.trials() if trial.state == TrialState.RUNNING and self._is_lost(trial)]
        for trial in lost:
            self._requeue(trial)
        return [trial.number for trial in lost]

    def _is_lost(self, trial: FrozenTrial) -> bool:
        """A trial is lost when the lock of its worker can be had."""
        worker = trial.user_attrs.get("worker")
        if worker == self._worker:
            return False
        if worker is None:
            return True  # killed between asking for parameters and the first word about itself
        try:
            with FileLock(self._locks / f"{worker}.lock", timeout=0):
                return True
        except Timeout:
            return False

    def _requeue(self, trial: FrozenTrial) -> None:
        storage = self._study._storage
        if trial.state == TrialState.RUNNING:
            storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        attributes = {key: trial.user_attrs[key] for key in ("recipe",) if key in trial.user_attrs}
        self._study.enqueue_trial(trial.params, user_attrs={**attributes, "retry_of": trial.number})

    def _alive(self) -> FileLock:
        self._locks.mkdir(parents=True, exist_ok=True)
        return FileLock(self._locks / f"{self._worker}.lock")


def open_study(storage_url: str, name: str, locks: Path, seed: int, *, create: bool) -> Study:
    """Open a study, or begin it when ``create``. Raises StudyError when it is not there or its storage is unusable."""
    pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=_PRUNER_WARMUP_EPOCHS)
    try:
        with _storage(storage_url) as storage:
            if create:
                study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    direction="maximize",
                    pruner=pruner,
                    load_if_exists=True,
                )
            else:
                study = optuna.load_study(storage=storage, study_name=name, pruner=pruner)
    except KeyError as error:
        raise StudyError(_no_such_study(storage_url, name)) from error
    # A resumed study must not draw the random trials of its beginning a second time.
    sampler_seed = seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(
        seed=sampler_seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True
    )
    return Study(study, locks)


def study_names(storage_url: str) -> list[str]:
    """Return the names of the studies in a storage. Raises StudyError when it is unusable."""
    with _storage(storage_url) as storage:
        return list(optuna.get_all_study_names(storage=storage))


def latest_study_name(storage_url: str) -> str:
    """Return the study that was begun last. Raises StudyError when there is none."""
    with _storage(storage_url) as storage:
        summaries = optuna.get_all_study_summaries(storage=storage)
    if not summaries:
        raise StudyError(f"There is no study in {_without_password(storage_url)} yet: begin one with hpo search.")
    return str(max(summaries, key=lambda summary: summary._study_id).study_name)


def _no_such_study(storage_url: str, name: str) -> str:
    known = study_names(storage_url)
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    return f"Expected a study called {name!r}, but {there}: choose one with --study, or begin one with hpo search."


@contextmanager
def _storage(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """Open a storage, and turn what its database, its driver or the disk refuses into one sentence."""
    try:
        yield _open_storage(url)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, OSError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise StudyError(
            f"Expected a database for studies at {_without_password(url)}, which cannot be used ({reason}): "
            "check --storage."
        ) from error


def _open_storage(url: str) -> optuna.storages.RDBStorage:
    if not url.startswith("sqlite"):
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    file = Path(url.partition("///")[2])
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):  # two processes that create the tables of one database at once break both
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
    _write_ahead(storage)
    return storage


def _write_ahead(storage: optuna.storages.RDBStorage) -> None:
    """WAL with synchronous=NORMAL: six times as fast as sqlite's default, and a kill -9 loses nothing."""

    @event.listens_for(storage.engine, "connect")
    def _set_pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"
