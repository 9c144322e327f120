"""The contract of executors: the same small search by each of them, and by one that is not part of hpo."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import CatalogueRules
from hpo.errors import HpoError, StudyError
from hpo.search.callbacks import NullCallback, SearchCallback
from hpo.search.config import SearchOptions
from hpo.search.executors.base import Executor, SearchJob
from hpo.search.executors.factory import EXECUTORS
from hpo.search.executors.processes import ProcessExecutor
from hpo.search.search import Outcome, search
from hpo.search.worker import run_worker
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import Study, open_study
from hpo.study.trial_queue import TrialCounts
from hpo.study.trial_record import TrialRecord
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport

SPACE = """
include: default
parameters:
  backbone: test_resnet
  image_size: 64
  epochs: {epochs}
  patience: {epochs}
weights: {{test_resnet: random}}
recipes: null
"""


class FuturesExecutor:
    """Workers in a pool of `concurrent.futures`: as a cluster's would be, they are asked to stop by a file they see."""

    def __init__(self, job: SearchJob) -> None:
        self._job, self._stop = job, job.options.paths.state_dir / "stop"
        self._pool = ProcessPoolExecutor(job.options.workers, multiprocessing.get_context("spawn"))
        self._workers: list[Future[None]] = []

    def start(self) -> None:
        options = replace(self._job.options, timeout_seconds=self._job.seconds_left(), workers=1)
        for _ in range(self._job.options.workers):
            self._workers.append(self._pool.submit(run_worker, options, NullCallback(), self._stop.exists))

    @property
    def n_alive(self) -> int:
        return sum(not worker.done() for worker in self._workers)

    def supervise(self) -> bool:
        if self.n_alive:
            time.sleep(0.1)
            return True
        for worker in self._workers:
            if isinstance(error := worker.exception(), HpoError):
                raise StudyError(f"A worker of this search has failed: {error}")
        return False

    def stop(self) -> None:
        self._stop.touch()
        self._pool.shutdown()


class Recorder(NullCallback):
    """Remembers the events of a search; ``on_running`` is called when a trial is seen to run."""

    def __init__(self, on_running: Callable[[], None] = lambda: None) -> None:
        self.prepared_for: list[tuple[int, int]] = []
        self.ended: list[int] = []
        self.n_started = self.n_epochs = 0
        self.alive: list[int] = []
        self._on_running = on_running

    def prepared(self, data: object, finished: int, budget: int) -> None:
        self.prepared_for.append((finished, budget))

    def trial_started(self, number: int, config: object) -> None:
        self.n_started += 1

    def epoch(self, report: EpochReport) -> None:
        self.n_epochs += 1
        self._on_running()

    def trial_ended(self, trial: TrialRecord, counts: TrialCounts, best: TrialRecord | None) -> None:
        self.ended.append(trial.number)
        assert best is not None

    def workers(self, alive: int, counts: TrialCounts) -> None:
        self.alive.append(alive)
        if counts.running:
            self._on_running()


@pytest.fixture(autouse=True)
def third_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXECUTORS, "futures", FuturesExecutor)


@pytest.fixture(params=["inline", "processes"])
def options(request: pytest.FixtureRequest, tmp_path: Path, drawn) -> SearchOptions:
    """A search of three trials by that executor, with two workers where it can have more than one."""
    with (tmp_path / "p.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "genres"))
        for i, row in enumerate(drawn.targets):
            rows.writerow((f"{i:02}", ", ".join(np.array(drawn.label_names)[row])))
    sizes = {"val_size": 15, "test_size": 15, "seed": 0, "grouping": "none"}
    return SearchOptions(
        data=DataOptions(csv=tmp_path / "p.csv", images=drawn.folder, rules=CatalogueRules(top_labels=3), **sizes),
        space=space_of(tmp_path, epochs=2),
        study="s",
        objective=Objective("f1_macro"),
        trials=3,
        timeout_seconds=None,
        paths=Paths(f"sqlite:///{tmp_path}/o.db", f"sqlite:///{tmp_path}/m.db", tmp_path, tmp_path / "cache"),
        confirm=False,
        executor=request.param,
        workers=1 if request.param == "inline" else 2,
    )


def space_of(folder: Path, epochs: int):
    (folder / "space.yaml").write_text(SPACE.format(epochs=epochs))
    return load_space(folder / "space.yaml")


def opened(options: SearchOptions) -> Study:
    return open_study(options.paths.storage, "s", options.paths.locks, seed=0, create=False)


@pytest.mark.parametrize("options", ["inline", "processes", "futures"], indirect=True)
def test_a_search_reaches_exactly_its_budget_and_reports_what_happens(options: SearchOptions) -> None:
    recorder = Recorder()
    outcome: Outcome = search(options, recorder)
    trials = outcome.study.trials()
    assert not outcome.interrupted
    assert (outcome.study.counts().finished, outcome.study.counts().running) == (3, 0)
    assert recorder.prepared_for == [(0, 3)]
    assert sorted(recorder.ended) == [trial.number for trial in trials if trial.is_finished]
    if options.executor == "inline":  # where its own process reports every epoch
        assert (recorder.n_started, recorder.alive) == (3, [])
        assert recorder.n_epochs >= 3
    else:
        assert (recorder.n_started, recorder.n_epochs) == (0, 0)
        assert set(recorder.alive) <= {0, 1, 2}
        assert recorder.alive
    assert not list(options.paths.locks.glob("*.lock"))  # every worker has signed off


def test_a_stop_ends_the_search_after_the_current_epoch(options: SearchOptions, tmp_path: Path) -> None:
    asked: list[bool] = []

    def stop_once() -> None:
        if not asked:
            asked.append(True)
            os.kill(os.getpid(), signal.SIGTERM)

    many = replace(options, space=space_of(tmp_path, epochs=100), trials=1000)
    recorder = Recorder(stop_once)
    outcome = search(many, recorder)
    counts = outcome.study.counts()
    assert outcome.interrupted
    assert counts.running == 0  # none is left behind
    assert counts.finished < 1000
    released = [trial for trial in outcome.study.trials() if trial.lost]
    assert all(trial.lost == "interrupted" for trial in released)  # by its worker, not found lost
    if options.executor == "inline":
        assert recorder.n_epochs == 1
        assert [trial.number for trial in released] == [0]


def test_an_error_in_the_worker_is_one_sentence(
    options: SearchOptions, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = EXECUTORS[options.executor or ""]

    def losing(job: SearchJob) -> Executor:
        def refuse():
            raise StudyError("The worker has no study.")
            yield

        lost = replace(job.options, study="another", trials=1)  # no search has begun this one
        return executor(replace(job, options=lost, run_here=refuse))

    monkeypatch.setitem(EXECUTORS, options.executor or "", losing)
    with pytest.raises(StudyError) as error:
        search(options, NullCallback())
    assert len(str(error.value).splitlines()) == 1
    said = f"{error.value} {capfd.readouterr().err}"
    assert ("no study" if options.executor == "inline" else "Expected the run of study 'another'") in said
    assert "Traceback" not in said


@pytest.mark.parametrize("options", ["processes"], indirect=True)
def test_a_killed_worker_is_replaced_and_its_trial_run_again(options: SearchOptions, tmp_path: Path) -> None:
    study = open_study(options.paths.storage, "s", options.paths.locks, seed=0, create=True)
    study.set_budget(1)
    executor = ProcessExecutor(SearchJob(replace(options, workers=1), float("inf"), lambda: iter(())), run_and_wait)
    executor.start()
    pid_file = tmp_path / "pid"
    while not pid_file.exists():
        assert executor.supervise()
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    while executor.supervise():
        pass
    executor.stop()
    killed, again = study.trials()
    assert (killed.state, again.state) == ("failed", "complete")
    assert killed.lost == "its worker died"
    assert again.retry_of == killed.number
    assert again.params == killed.params


def run_and_wait(options: SearchOptions, callback: SearchCallback, should_stop: Callable[[], bool]) -> None:
    """A worker whose first trial lasts until it is killed, and whose second one completes."""
    pid_file = options.paths.state_dir / "pid"

    def objective(trial: RunningTrial) -> float:
        trial.choose()
        if not pid_file.exists():
            (draft := pid_file.with_suffix(".draft")).write_text(f"{os.getpid()}")
            draft.rename(pid_file)
            signal.pause()
        return 0.5

    for _ in opened(options).run(options.space, objective, lambda: not should_stop()):
        pass
