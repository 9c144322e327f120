"""The trial queue: claims within an exact budget, heartbeats, and stale trials.

Optuna counts ``n_trials`` per process and leaves the trials of a killed one RUNNING for ever. Here a trial is claimed
under a lock in the database: only where finished and running ones are fewer than the budget, and only after the lost
ones were found. So with any number of workers, kills and resumes, a study ends with exactly its budget.

A worker holds a lock file while it lives, which the operating system releases when it dies: on one machine a lost trial
is recognised at once and never mistaken for one that is still running. From another machine one sees the heartbeat, a
number on the trial that its worker raises every few seconds. Each worker judges by its own clock how long that number
has stood still, and begins again when the database was away, since no worker could raise it then: no clocks are
compared.

A lost trial is failed, and its parameters are queued again with their history. One that was lost again and again takes
its workers with it, so at some point it stays failed.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from hpo.study.storage import Held, RetryingStorage, StorageError

# How often the same parameters may be lost, or fail for a reason of their own (memory that another process had, say),
# before they stay failed; stopped by a person they may be for ever.
_MOST = {"lost": 10, "failed": 2}
HEARTBEAT_SECONDS = 10.0
_SILENCE_SECONDS = 60.0  # after which a worker on another machine is dead
_clock = time.monotonic
_KEPT = ("recipe", "warm_start", "proposal")  # what a retry inherits


@dataclass(frozen=True)
class TrialCounts:
    """How many trials of a study are in which state."""

    complete: int
    pruned: int
    failed: int  # and were not queued again
    running: int
    waiting: int
    retried: int = 0  # attempts that were lost, stopped or failed, and whose parameters were queued again

    @property
    def finished(self) -> int:
        """Trials that count towards the budget."""
        return self.complete + self.pruned

    @classmethod
    def of(cls, trials: list[FrozenTrial]) -> TrialCounts:
        """Count trials by state."""
        states = Counter(trial.state for trial in trials)
        retried = _retried(trials)
        ended = [trial for trial in trials if trial.state == TrialState.FAIL]
        failed = sum(trial.number not in retried and not _left_nothing(trial) for trial in ended)
        return cls(
            states[TrialState.COMPLETE],
            states[TrialState.PRUNED],
            failed,
            states[TrialState.RUNNING],
            states[TrialState.WAITING],
            len(ended) - failed,
        )


@dataclass(frozen=True)
class QueuedTrial:
    """A trial that waits to be run: the parameters that are decided, and what is noted with it."""

    params: Mapping[str, Any]
    attributes: Mapping[str, Any]  # JSON


class TrialQueue:
    """The trials of one study, as one worker sees them. Methods raise what the storage raises."""

    def __init__(self, study: optuna.Study, storage: RetryingStorage, locks: Path) -> None:
        self._study, self._storage, self._locks = study, storage, locks
        self._host = socket.gethostname()
        self.worker = f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._heard: dict[int, tuple[Any, float, int]] = {}  # trial → its heartbeat, since when, outages before

    def trials(self) -> list[FrozenTrial]:
        """Return every trial, in order of number."""
        return self._study.get_trials(deepcopy=False)

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Be a living worker inside."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock_of(self.worker)):
            yield
        self._lock_of(self.worker).unlink(missing_ok=True)

    def claim(
        self, budget: Callable[[], int], propose: Callable[[], QueuedTrial | None] = lambda: None
    ) -> optuna.Trial | None:
        """Return a trial to run, a waiting one first; None where all of the budget is finished or in other hands.

        The budget is asked for under the lock: it may just have been changed, or moved to another version of the study.
        So is ``propose``, where no trial waits: what it returns is the next trial, and the sampler chooses the rest.
        """
        with self._locked() as held:
            trials = self.trials()
            counts = TrialCounts.of(self.trials() if self._requeue_stale(trials) else trials)
            if counts.finished + counts.running >= budget():
                return None
            proposed = None if counts.waiting else propose()
            if proposed is not None:
                self._study.enqueue_trial(dict(proposed.params), user_attrs=dict(proposed.attributes))
            trial = self._study.ask()
            # Another worker that got the lock after a restart of the server may already have failed it as lost.
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                trial.set_user_attr("worker", self.worker)
                if held():
                    return trial
        # The server was restarted while we held its lock, and another worker may have counted without this one.
        self.release(trial.number, "the database was restarted")
        return None

    @contextmanager
    def heartbeat(self, trial: optuna.Trial) -> Iterator[None]:
        """Give a sign of life every few seconds inside."""
        done = threading.Event()
        thread = threading.Thread(target=self._beat, args=(trial._trial_id, done), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _beat(self, trial_id: int, done: threading.Event) -> None:
        n_beats = 0
        while not done.wait(HEARTBEAT_SECONDS):
            n_beats += 1
            try:
                self._storage.set_trial_user_attr(trial_id, "heartbeat", n_beats)
            except optuna.exceptions.UpdateFinishedTrialError:
                return  # taken for dead, or ended in this moment: its worker finds out when it ends the trial
            except StorageError:
                return  # away for longer than patience lasts: the worker itself will say so
            finally:
                self._storage.remove_session()

    def release(self, number: int, why: str) -> None:
        """End a trial that was stopped, and queue its parameters again."""
        self._requeue_own(number, "stopped", why)

    def retry(self, number: int, why: str) -> None:
        """Queue the parameters of a trial that failed by itself again, unless it has done so before."""
        self._requeue_own(number, "failed", why)

    def requeue_stale(self) -> list[int]:
        """Fail the trials of dead workers, queue their parameters again, and return their numbers."""
        with self._locked():
            return self._requeue_stale(self.trials())

    def is_dead(self, worker: str) -> bool:
        """Whether a worker of this machine is known to be dead: it left its lock file, and the system let it go."""
        lock = self._lock_of(worker)
        return worker.startswith(f"{self._host}-") and lock.exists() and _can_be_had(lock)

    def _requeue_stale(self, trials: list[FrozenTrial]) -> list[int]:
        retried = _retried(trials)
        lost = [trial for trial in trials if trial.state == TrialState.RUNNING and self._is_lost(trial)]
        # One that was killed between failing a lost trial and queueing it again left it here.
        forgotten = [
            trial
            for trial in trials
            if trial.state == TrialState.FAIL and "lost" in trial.user_attrs and trial.number not in retried
        ]
        for trial in (*lost, *forgotten):
            self._requeue(trial, "lost", trial.user_attrs.get("lost", "its worker died"))
        for worker in {str(trial.user_attrs["worker"]) for trial in trials if "worker" in trial.user_attrs}:
            if self.is_dead(worker):  # and all that it left was found above
                self._lock_of(worker).unlink(missing_ok=True)
        return [trial.number for trial in lost]

    def _requeue_own(self, number: int, how: str, why: str) -> None:
        """Queue the parameters of a trial of this worker again, unless others took it for dead and have done so."""
        with self._locked():
            trials = self.trials()
            if number not in _retried(trials):
                self._requeue(trials[number], how, why)

    def _requeue(self, trial: FrozenTrial, how: str, why: str) -> None:
        if trial.state == TrialState.RUNNING:
            self._storage.set_trial_user_attr(trial._trial_id, "lost", why)
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if _has_nothing(trial):  # died before it had chosen: nothing that another one could take over
                return
        history = [*trial.user_attrs.get("history", []), {"trial": trial.number, "how": how, "why": why}]
        if _left_nothing(trial) or sum(entry["how"] == how for entry in history) >= _MOST.get(how, sys.maxsize):
            return
        params = {**_fixed(trial), **trial.params}
        kept = {key: trial.user_attrs[key] for key in _KEPT if key in trial.user_attrs}
        self._study.enqueue_trial(params, user_attrs={**kept, "retry_of": trial.number, "history": history})

    def _is_lost(self, trial: FrozenTrial) -> bool:
        worker = trial.user_attrs.get("worker")
        if worker is None:
            return True  # claimed under the lock that we hold now, by one who did not live to write its name
        if worker == self.worker:
            return False
        lock = self._lock_of(worker)
        if worker.startswith(f"{self._host}-") and lock.exists():
            return _can_be_had(lock)
        return self._is_silent(trial)

    def _is_silent(self, trial: FrozenTrial) -> bool:
        """Whether the trial's heartbeat has stood still for too long while the database could be reached."""
        heartbeat, now = trial.user_attrs.get("heartbeat"), _clock()
        known = self._heard.get(trial.number)
        if known is None or (known[0], known[2]) != (heartbeat, self._storage.outages):
            self._heard[trial.number] = heartbeat, now, self._storage.outages
            return False
        return now - known[1] > _SILENCE_SECONDS

    def _locked(self) -> AbstractContextManager[Held]:
        return self._storage.locked(f"claims of {self._study._study_id}")

    def _lock_of(self, worker: str) -> Path:
        return self._locks / f"{worker}.lock"


def _left_nothing(trial: FrozenTrial) -> bool:
    """Whether a lost trial died before it had chosen anything that another one could take over."""
    return "lost" in trial.user_attrs and _has_nothing(trial)


def _has_nothing(trial: FrozenTrial) -> bool:
    return not trial.params and not _fixed(trial)


def _fixed(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial was queued with."""
    return dict(trial.system_attrs.get("fixed_params", {}))


def _retried(trials: list[FrozenTrial]) -> set[int]:
    return {trial.user_attrs["retry_of"] for trial in trials if "retry_of" in trial.user_attrs}


def _can_be_had(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return True
    except (Timeout, PermissionError):  # another user's lock is not ours to judge
        return False
