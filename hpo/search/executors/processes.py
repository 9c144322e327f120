"""Run the workers of a search as processes of this machine, each with its share of cores and its own GPU.

They are spawned, not forked: PyTorch's threads do not survive a fork. The parent only supervises: it restarts killed
workers. When it exits, or dies, workers stop after the current epoch.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess

import psutil

from hpo.errors import HpoError, StudyError, UsageError
from hpo.escaping import shortened
from hpo.runtime import profiling as timeline
from hpo.runtime.progress import n_cores
from hpo.search.callbacks import NullCallback, SearchCallback
from hpo.search.config import SearchOptions
from hpo.search.executors.base import SearchJob
from hpo.search.worker import run_worker

_SPAWN = multiprocessing.get_context("spawn")
_GIBIBYTES_A_WORKER = 2.5  # PyTorch, MLflow and the features of some thousand posters
_MOST_WORKERS_A_CORE = 16  # beyond which they only wait for each other
_MOST_DEATHS = 5  # in a row, with no worker that lived longer than
_SHORT_LIFE_SECONDS = 2.0
_STOP_SECONDS = 60.0  # for the current batch or epoch; then a worker is killed, and its trial is found lost
_POLL_SECONDS = 0.5

RunWorker = Callable[[SearchOptions, SearchCallback, Callable[[], bool]], None]


def parse_workers(text: str) -> int:
    """Read ``--workers``: a number, or ``auto`` for as many as cores, memory and GPUs are good for."""
    if text == "auto":
        free_gibibytes = psutil.virtual_memory().available / 2**30
        return max(1, len(visible_gpus()) or min(n_cores(), int(free_gibibytes / _GIBIBYTES_A_WORKER)))
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


class ProcessExecutor:
    """Worker processes, which end with the process that started them."""

    def __init__(self, job: SearchJob, run: RunWorker = run_worker) -> None:
        self._job, self._run = job, run
        self._n_threads = max(1, n_cores() // job.options.workers)
        self._processes: list[SpawnProcess] = []
        self._started: dict[int, float] = {}  # by index of the worker
        self._deaths = 0  # in a row, of workers that did not live long
        self._stage = ExitStack()

    def start(self) -> None:
        """Start the workers."""
        self._stage.enter_context(timeline.stage(timeline.SUPERVISING))
        for i in range(self._job.options.workers):
            self._processes.append(self._spawn(i))

    @property
    def n_alive(self) -> int:
        """How many workers are alive."""
        return sum(process.is_alive() for process in self._processes)

    def supervise(self) -> bool:
        """Restart killed workers, wait half a second, return whether any worker is alive. Raises StudyError.

        A worker that ended by itself has printed why, or has found nothing left to do, and is not restarted.
        """
        for i, process in enumerate(self._processes):
            if process.exitcode is not None and process.exitcode < 0:
                self._count_death(i, -process.exitcode)
                self._processes[i] = self._spawn(i)
        if not self.n_alive:
            if any(process.exitcode for process in self._processes):
                raise StudyError("Every worker of this search has failed, as said above: fix that and type it again.")
            return False
        time.sleep(_POLL_SECONDS)
        return True

    def stop(self) -> None:
        """Send SIGTERM to the workers: they stop after the current epoch and release their trials. Then SIGKILL."""
        for process in self._processes:
            if process.is_alive():
                process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        self._stage.close()

    def _count_death(self, i: int, number: int) -> None:
        lived = time.monotonic() - self._started[i]
        self._deaths = self._deaths + 1 if lived < _SHORT_LIFE_SECONDS else 0
        if self._deaths >= _MOST_DEATHS:
            raise StudyError(
                f"Expected workers to live, and {self._deaths} in a row were killed by {signal.Signals(number).name} "
                "at once: where memory ran out, use fewer --workers."
            )

    def _spawn(self, i: int) -> SpawnProcess:
        options = replace(self._job.options, timeout_seconds=self._job.seconds_left(), workers=1)
        process = _SPAWN.Process(target=_main, args=(self._run, options, i, os.getpid(), self._n_threads))
        with _environment(self._settings(i)), _without_ctrl_c():
            process.start()
        self._started[i] = time.monotonic()
        return process

    def _settings(self, i: int) -> dict[str, str]:
        """Threads are counted when libraries load, so a worker's share is in its environment from the beginning."""
        gpus = visible_gpus()
        gpu = {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}
        return {**gpu, "OMP_NUM_THREADS": str(self._n_threads), "MKL_NUM_THREADS": str(self._n_threads)}


def _main(run: RunWorker, options: SearchOptions, i: int, parent_pid: int, n_threads: int) -> None:
    """What a worker's process runs."""
    import torch

    os.setpgrp()  # Ctrl-C reaches the search alone, which then asks its workers to stop, once
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that was meant for the search, while this process began
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    torch.set_num_threads(n_threads)
    try:
        run(options, _WorkerCallback(i), lambda: os.getppid() != parent_pid)
    except HpoError as error:
        print(f"hpo: worker {i + 1}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


class _WorkerCallback(NullCallback):
    """Print a worker's notices; the search shows the progress of all workers."""

    def __init__(self, i: int) -> None:
        self._i = i

    def notice(self, text: str) -> None:
        print(f"worker {self._i + 1}: {text}", file=sys.stderr)  # noqa: T201


@contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Block Ctrl-C in processes that are started inside until they have imported; here it waits until the end."""
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
