"""Optuna's record and MLflow's runs, both real, and every way in which they can come apart."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import Study, open_study
from hpo.tracking.mirror import MlflowMirror, Synced
from hpo.tracking.runs import STATUS_OF_STATE, Tracking, open_tracking
from hpo.trial.trial import Pruned


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    open_tracking(f"sqlite:///{folder}/mlflow.db", None)
    return folder / "mlflow.db"


@dataclass
class House:
    """A study with its MLflow."""

    folder: Path
    study: Study
    tracking: Tracking
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.parent = self.tracking.study_run("s", {}, {}, {}, {})
        self.mirror = MlflowMirror(self.study, self.tracking, self.parent, self.folder / "spool", self.said.append)

    def run(self, n_trials: int) -> None:
        """Trial 1 is pruned, trial 2 fails and is tried again; every trial leaves a file."""

        def objective(trial: RunningTrial) -> float:
            config = trial.choose().model_dump()
            trial.note(chosen=config)
            self.mirror.begin(trial, config)
            if trial.number == 1:
                trial.note(pruned_after="epoch 2", reason="behind")
                raise Pruned("epoch 2")
            if trial.number == 2:
                raise ValueError("bad luck")
            trial.note(metrics={"val/f1_macro": 0.4}, curve={"train/loss": [(1, 0.5)]})
            (self.mirror.spooled(trial.number) / "probabilities").write_text("0.5")
            return 0.4

        self.study.set_budget(n_trials)
        for trial in self.study.run(load_space(Path("default")), objective, lambda: True):
            self.mirror.end(trial)

    def client(self) -> MlflowClient:
        return MlflowClient(self.tracking.uri, self.tracking.uri)

    def agree(self) -> bool:
        """Whether each trial has one run, of its state, its metrics and its file."""
        found = self.tracking.trial_runs(self.parent)
        for trial in self.study.trials():
            [run] = found.pop(trial.number)
            logged, state = self.client().get_run(run.run_id), trial.state
            assert run.run_id == self.study.run_id(trial)
            assert (run.state, logged.info.status) == (state, STATUS_OF_STATE[state])
            assert (logged.data.metrics.get("val/f1_macro") == 0.4) == (state == "complete")
            files = [file.path for file in self.client().list_artifacts(run.run_id)]
            assert files == (["probabilities"] if state == "complete" else [])
        return not found and not [path for path in (self.folder / "spool").rglob("*") if path.is_file()]


@pytest.fixture
def house(tmp_path, empty_mlflow) -> House:
    shutil.copy(empty_mlflow, tmp_path)
    study = open_study(f"sqlite:///{tmp_path}/optuna.db", "s", tmp_path / "locks", 0, create=True)
    study.bind({}, {"metric": "f1_macro"})
    return House(tmp_path, study, open_tracking(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"))


def test_runs_follow_their_trials(house):
    house.run(4)
    assert house.agree()
    assert house.mirror.sync().nothing
    assert house.said == []
    retry = house.study.trials()[3]
    run = house.client().get_run(house.study.run_id(retry))
    assert run.data.tags["hpo.history"] == "#2 failed: ValueError: bad luck"


def test_what_kills_leave_is_mended_once(house):
    house.run(4)
    runs = {number: run.run_id for number, [run] in house.tracking.trial_runs(house.parent).items()}
    client = house.client()
    client.delete_run(runs[0])  # never written
    client.set_tag(runs[1], "hpo.state", "running")  # killed before its end
    client.update_run(runs[1], "RUNNING")
    client.set_terminated(runs[2], "FINISHED")  # with another state than its trial
    house.tracking.start_trial(house.parent, 3, "#3", {}, {})  # opened by a worker that was killed before it said so
    (house.mirror.spooled(0) / "probabilities").write_text("0.5")
    assert house.mirror.sync() == Synced(created=1, reconciled=2, removed=1, uploaded=1)
    assert house.agree()
    assert house.mirror.sync().nothing
    again = open_study(f"sqlite:///{house.folder}/optuna.db", "s", house.folder / "locks", 0, create=False)
    assert again.run_id(again.trials()[0]) != runs[0]


def test_a_study_goes_on_while_mlflow_refuses(house, monkeypatch):
    monkeypatch.setattr("hpo.tracking.mirror._AWAY_SECONDS", 0.0)
    rename(house.folder, "runs", "runs_elsewhere")
    house.run(4)
    assert house.study.counts().finished == 4
    assert len(house.said) == 1
    assert "hpo sync --study s writes what is missing" in house.said[0]
    rename(house.folder, "runs_elsewhere", "runs")
    assert house.mirror.sync() == Synced(created=5, uploaded=3)
    assert house.agree()


def test_f11_a_database_of_mlflow_that_refuses_is_one_sentence_without_a_traceback(house, capfd):
    rename(house.folder, "runs", "runs_elsewhere")
    house.run(1)
    assert len(house.said) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a15_a_server_that_is_back_when_the_search_ends_is_asked_again_at_once(house):
    rename(house.folder, "runs", "runs_elsewhere")
    house.run(4)
    rename(house.folder, "runs_elsewhere", "runs")
    assert house.mirror.sync() == Synced(created=5, uploaded=3)
    assert house.agree()


def test_a_study_goes_on_where_its_experiment_is_deleted(house, monkeypatch):
    monkeypatch.setattr("hpo.tracking.mirror._AWAY_SECONDS", 0.0)
    client = house.client()
    client.delete_experiment(house.tracking.experiment_id)
    house.run(4)
    assert house.study.counts().finished == 4
    assert len(house.said) == 1
    assert "mlflow experiments restore" in house.said[0]
    assert "The search continues" in house.said[0]
    client.restore_experiment(house.tracking.experiment_id)
    assert house.mirror.sync().created == 5
    assert house.agree()


def rename(folder: Path, table: str, name: str) -> None:
    """Take a table away from MLflow, or give it back."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        connection.execute("PRAGMA legacy_alter_table = ON")
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")
