"""Many processes that begin one study in the same moment: one parent run, on every kind of database and server."""

from __future__ import annotations

import multiprocessing
import os
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Barrier

import pytest
from mlflow import MlflowClient

from hpo.data.images import Progress
from hpo.search.logbook import Logbook, Synced
from hpo.search.mlflow_connection import impatient
from hpo.search.parent_run import open_parent_run
from hpo.search.places import Places
from hpo.search.record import TrialRecord
from hpo.search.running_trial import RunningTrial
from hpo.search.space.space import load_space
from hpo.search.study import open_study
from hpo.search.sync import sync
from hpo.search.tracking import open_tracking

PROCESSES, ROUNDS = 8, 10
DATA = {"data": {"csv": "movies.csv"}, "fingerprints": {"labels": "ab12"}, "metric": "f1_macro", "synthetic": True}
_barrier: Barrier


def take(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def begin(folder: Path, storage: str, uri: str, study_name: str) -> str:
    """What every search does at its beginning, once all others are there."""
    _barrier.wait()
    study = open_study(storage, study_name, folder / "locks", 0, create=True)
    study.bind({"data set": "d"}, DATA)
    tracking = open_tracking(uri, folder / "artifacts")
    return open_parent_run(study, tracking, {"splits": [{"label": "Drama", "train": 7}]})


def all_begin(folder: Path, storage: str, uri: str, rounds: int = ROUNDS) -> None:
    """Let eight processes begin one study, round after round, and look at what there is then."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(PROCESSES, take, (spawn.Barrier(PROCESSES),)) as pool:
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
        tracking.log_trial(opened[trial.number], TrialRecord.of(trial))
        twin = tracking.start_trial(first, trial.number, "#", {}, {})
        tracking.log_trial(twin, TrialRecord.of(trial))
        study.note_run(trial.number, twin)

    logbook = Logbook(study, tracking, first, tmp_path / "spool", pytest.fail)
    assert logbook.sync() == Synced(removed=2, united=3)
    assert logbook.sync().nothing
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
    places = Places(f"sqlite:///{tmp_path}/optuna.db", tracking.uri, tmp_path, tmp_path / "cache")
    assert sync(study, tracking, places, no_phase, pytest.fail).closed
    client = MlflowClient(tracking.uri, tracking.uri)
    assert client.get_run(parent).info.status == "KILLED"  # none of one trial has finished
    assert not sync(study, tracking, places, no_phase, pytest.fail).closed


def no_phase(*_: object) -> AbstractContextManager[Progress]:
    raise AssertionError("nothing takes time here")


def test_a15_a_server_that_is_gone_is_given_up_within_seconds() -> None:
    """MLflow's own settings are seven retries, each twice as late as the one before: four minutes."""
    retries = int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    pauses = float(os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"])
    assert sum(pauses * 2**at for at in range(retries)) <= 10
    with impatient():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) == retries
