"""Worker processes of a search on this machine, each with its share of cores and its own GPU.

They are new processes (spawned, not forked: PyTorch's threads do not survive a fork) that take claims from the study
like workers on any other machine. The search itself only looks on: it starts anew who was killed, and when it ends, or
dies, they end after the epoch in hand.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hpo.errors import HpoError, StudyError, UsageError
from hpo.escaping import shortened
from hpo.runtime.progress import Progress, n_cores
from hpo.search.config import SearchOptions

if TYPE_CHECKING:
    from hpo.model.config import TrialConfig
    from hpo.trial.trial import EpochReport

_SPAWN = multiprocessing.get_context("spawn")
_GIBIBYTES_A_WORKER = 2.5  # PyTorch, MLflow and the features of some thousand posters
_MOST_WORKERS_A_CORE = 16  # beyond which they only wait for each other
_MOST_DEATHS = 5  # in a row, with no worker that lived longer than
_SHORT_LIFE_SECONDS = 2.0
_STOP_SECONDS = 60.0  # for the batch in hand; then it is killed, and its trial is found lost

WorkerTask = Callable[[SearchOptions, Any, int], None]  # options, a watch, the search's process id


def parse_workers(text: str) -> int:
    """Read ``--workers``: a number, or ``auto`` for as many as cores, memory and GPUs are good for."""
    if text == "auto":
        return max(1, len(visible_gpus()) or min(n_cores(), int(_free_gibibytes() / _GIBIBYTES_A_WORKER)))
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise UsageError(f"--workers expects a number from 1 on, or auto, got {shortened(text)!r}.")
    most = _MOST_WORKERS_A_CORE * n_cores()
    if int(text) > most:
        raise UsageError(
            f"--workers expects at most {most} here ({_MOST_WORKERS_A_CORE} for each core), got {text}: "
            "type --workers auto."
        )
    return int(text)


def n_gpus() -> int:
    """Return how many GPUs PyTorch can use."""
    import torch  # late: hpo doctor asks for cores before it needs PyTorch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def visible_gpus() -> list[str]:
    """Name the GPUs that this process may use, as its own CUDA_VISIBLE_DEVICES does; the others are not ours to take.

    CUDA ignores what follows an entry that is no GPU. Of several MIG instances it shows a process the first alone.
    """
    n_visible, inherited = n_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")
    if inherited is None or not n_visible:
        return [str(at) for at in range(n_visible)]
    names = [name.strip() for name in inherited.split(",")]
    instances = [name for name in names if name.startswith("MIG-")]
    return instances or names[:n_visible]


def _free_gibibytes() -> float:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return float("inf")
    [available] = [line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(available.split()[1]) / 2**20


class WorkerPool:
    """The workers of one search; entered, they work, and left, they stop."""

    def __init__(self, options: SearchOptions, deadline: float, work: WorkerTask) -> None:
        self._options, self._deadline, self._work = options, deadline, work
        self._share = max(1, n_cores() // options.workers)
        self._processes: list[SpawnProcess] = []
        self._started: dict[int, float] = {}  # by place in the list
        self._deaths = 0  # in a row, of workers that did not live long

    def __enter__(self) -> WorkerPool:
        self._processes = [self._start(at) for at in range(self._options.workers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if process.is_alive():
                process.terminate()  # SIGTERM: it stops after the epoch in hand and gives its trial back
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    @property
    def alive(self) -> int:
        """How many workers live."""
        return sum(process.is_alive() for process in self._processes)

    def supervise(self) -> bool:
        """Start anew the workers that were killed; return whether any works. Raises StudyError where none can.

        One that ended by itself has said why, or has found nothing left to do, and is not started again.
        """
        for at, process in enumerate(self._processes):
            if process.exitcode is not None and process.exitcode < 0:
                self._count_death(at, -process.exitcode)
                self._processes[at] = self._start(at)
        if not self.alive and any(process.exitcode for process in self._processes):
            raise StudyError("Every worker of this search has failed, as said above: fix that and type it again.")
        return self.alive > 0

    def _count_death(self, at: int, number: int) -> None:
        lived = time.monotonic() - self._started[at]
        self._deaths = self._deaths + 1 if lived < _SHORT_LIFE_SECONDS else 0
        if self._deaths >= _MOST_DEATHS:
            raise StudyError(
                f"Expected workers to live, and {self._deaths} in a row were killed by {signal.Signals(number).name} "
                "at once: where memory ran out, use fewer --workers."
            )

    def _start(self, at: int) -> SpawnProcess:
        options = replace(self._options, timeout_seconds=self._left(), workers=1)
        process = _SPAWN.Process(target=_work, args=(self._work, options, at, os.getpid(), self._share))
        with _environment(self._settings(at)), _without_ctrl_c():
            process.start()
        self._started[at] = time.monotonic()
        return process

    def _left(self) -> float | None:
        left = self._deadline - time.monotonic()
        return None if left == float("inf") else max(0.001, left)

    def _settings(self, at: int) -> dict[str, str]:
        """Threads are counted when libraries load, so a worker's share is in its environment from the beginning."""
        gpus = visible_gpus()
        gpu = {"CUDA_VISIBLE_DEVICES": gpus[at % len(gpus)]} if gpus else {}
        return {**gpu, "OMP_NUM_THREADS": str(self._share), "MKL_NUM_THREADS": str(self._share)}


def _work(work: WorkerTask, options: SearchOptions, at: int, parent_pid: int, n_threads: int) -> None:
    """What a worker's process runs."""
    import torch

    os.setpgrp()  # Ctrl-C reaches the search alone, which then asks its workers to stop, once
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that was meant for the search, while this process began
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    torch.set_num_threads(n_threads)
    try:
        work(options, _Quiet(at), parent_pid)
    except HpoError as error:
        print(f"hpo: worker {at + 1}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Let processes that are started inside be deaf to Ctrl-C while they import; ours waits until the end."""
    resource_tracker.ensure_running()  # whose own start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


class _Quiet:
    """A worker's watch: the search shows the progress of all, so only notices are said."""

    def __init__(self, at: int) -> None:
        self._at = at

    def notice(self, text: str) -> None:
        print(f"worker {self._at + 1}: {text}", file=sys.stderr)  # noqa: T201

    @contextmanager
    def phase(self, what: str, total: int) -> Iterator[Progress]:
        yield lambda _: None

    def prepared(self, *_: object) -> None:
        pass

    def trial_started(self, number: int, config: TrialConfig) -> None:
        pass

    def epoch(self, report: EpochReport) -> None:
        pass

    def trial_ended(self, *_: object) -> None:
        pass

    def workers(self, *_: object) -> None:
        pass
