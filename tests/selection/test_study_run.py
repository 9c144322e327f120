"""Many processes that begin one study in the same moment: one parent run, on every kind of database and server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Barrier

import pytest
from mlflow import MlflowClient

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import CatalogueRules
from hpo.runtime.progress import ProgressFn
from hpo.selection.study_run import open_parent_run
from hpo.selection.sync import sync
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import open_study
from hpo.tracking.client import impatient
from hpo.tracking.mirror import MlflowMirror, Synced
from hpo.tracking.runs import open_tracking
from hpo.tracking.trial_run import TrialRun
from tests.forked import forking_context
from tests.postgres import Postgres, free_port
from tests.test_many_workers import wait_until_it_answers

PROCESSES, ROUNDS = 8, 10
ROUNDS_OF_SERVERS = 3  # a round asks a server a hundred times
OPTIONS = DataOptions(
    csv=Path("movies.csv"), images=Path("images"), rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=0
)
DATA = {
    "data": OPTIONS.model_dump(mode="json"),
    "fingerprints": {"labels": "ab12"},
    "metric": "f1_macro",
    "synthetic": True,
    "space": "default",
    "weights": {},
    "seed": 0,
}
_barrier: Barrier


def take(barrier: Barrier) -> None:
    """Begin a process: it waits for a server for as long as a busy machine takes."""
    global _barrier
    _barrier = barrier
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "600"


def begin(folder: Path, storage: str, uri: str, study_name: str) -> str:
    """What every search does at its beginning, once all others are there."""
    _barrier.wait()
    study = open_study(storage, study_name, folder / "locks", 0, create=True)
    study.bind({"data set": "d"}, DATA)
    tracking = open_tracking(uri, folder / "artifacts")
    return open_parent_run(study, tracking, {"splits": [{"label": "Drama", "train": 7}]})


def all_begin(folder: Path, storage: str, uri: str, rounds: int = ROUNDS) -> None:
    """Let eight processes begin one study, round after round, and look at what there is then."""
    context = forking_context()  # imports once, in place of eight times
    with context.Pool(PROCESSES, take, (context.Barrier(PROCESSES),)) as pool:
        for at in range(rounds):
            runs = pool.starmap(begin, [(folder, storage, uri, f"s{at}")] * PROCESSES, chunksize=1)
            assert len(set(runs)) == 1
    client = MlflowClient(uri, uri)
    found = client.search_runs([open_tracking(uri, folder / "artifacts").experiment_id], "tags.`hpo.kind` = 'study'")
    assert sorted(run.data.tags["hpo.study"] for run in found) == sorted(f"s{at}" for at in range(rounds))
    for run in found:
        assert run.data.params["metric"] == "f1_macro"
        assert run.data.tags["hpo.metric"] == "f1_macro"
        assert "mlflow.note.content" in run.data.tags
        assert len(run.inputs.dataset_inputs) == 1


def test_a1_eight_processes_begin_one_study_on_sqlite(tmp_path: Path) -> None:
    """The databases themselves are made in the first round."""
    all_begin(tmp_path, f"sqlite:///{tmp_path}/optuna.db", f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def server(tmp_path: Path, made_at_once) -> Iterator[str]:
    """An MLflow server with two processes, which may ask its database at once."""
    shutil.copy(made_at_once[0] / "mlflow.db", tmp_path / "served.db")
    address = f"http://127.0.0.1:{(port := free_port())}"
    words = ["--host", "127.0.0.1", "--port", f"{port}", "--workers", "2"]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path}/served.db", "--artifacts-destination", f"{tmp_path}/served"]
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words],
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until_it_answers(address)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a1_a12_eight_processes_begin_one_study_on_postgresql_and_an_mlflow_server(
    tmp_path: Path, postgres: Postgres, server: str
) -> None:
    all_begin(tmp_path, postgres.create_database("optuna_of_eight"), server, ROUNDS_OF_SERVERS)


def test_a12_two_parents_and_trials_written_twice_are_united(tmp_path: Path) -> None:
    """What four searches of an older hpo left; the run that its worker opened stays."""
    study = open_study(f"sqlite:///{tmp_path}/optuna.db", "it's s", tmp_path / "locks", 0, create=True)
    study.bind({"data set": "d"}, DATA)
    study.set_budget(2)
    tracking = open_tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    client = MlflowClient(tracking.uri, tracking.uri)
    first = open_parent_run(study, tracking)
    tags = client.get_run(first).data.tags
    second = client.create_run(tracking.experiment_id, tags=tags, run_name="it's s").info.run_id
    opened = []

    def objective(trial: RunningTrial) -> float:
        trial.note(chosen={})
        opened.append(tracking.start_trial(second, trial.number, "#", {}, {}))
        trial.note(run_id=opened[-1])
        return 0.5

    for trial in study.run(load_space(Path("default")), objective, lambda: True):
        tracking.log_trial(opened[trial.number], TrialRun.of(trial))
        twin = tracking.start_trial(first, trial.number, "#", {}, {})
        tracking.log_trial(twin, TrialRun.of(trial))
        study.note_run(trial.number, twin)

    mirror = MlflowMirror(study, tracking, first, tmp_path / "spool", pytest.fail)
    assert mirror.sync() == Synced(removed=2, united=3)
    assert mirror.sync().nothing
    assert {number: [run.run_id for run in runs] for number, runs in tracking.trial_runs(first).items()} == {
        number: [run_id] for number, run_id in enumerate(opened)
    }
    assert [study.run_id(trial) for trial in study.trials()] == opened
    assert client.get_run(second).info.lifecycle_stage == "deleted"


def test_a15_sync_closes_the_run_of_a_search_that_ended_while_mlflow_was_away(tmp_path: Path) -> None:
    study = open_study(f"sqlite:///{tmp_path}/optuna.db", "s", tmp_path / "locks", 0, create=True)
    study.bind({"data set": "d"}, DATA)
    study.set_budget(1)
    tracking = open_tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")
    parent = open_parent_run(study, tracking)
    paths = Paths(f"sqlite:///{tmp_path}/optuna.db", tracking.uri, tmp_path, tmp_path / "cache")
    assert sync(study, tracking, paths, no_phase, pytest.fail).closed
    client = MlflowClient(tracking.uri, tracking.uri)
    assert client.get_run(parent).info.status == "KILLED"  # none of one trial has finished
    assert not sync(study, tracking, paths, no_phase, pytest.fail).closed


def no_phase(*_: object) -> AbstractContextManager[ProgressFn]:
    raise AssertionError("nothing takes time here")


def test_a15_a_server_that_is_gone_is_given_up_within_seconds() -> None:
    """MLflow's own settings are seven retries, each twice as late as the one before: four minutes."""
    retries = int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    pauses = float(os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"])
    assert sum(pauses * 2**at for at in range(retries)) <= 10
    with impatient():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == retries
