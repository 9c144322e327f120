"""Whatever a registry refuses, a search finishes: its trials are in Optuna, its runs in MLflow, its best on disk."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.tracking.client import without_artifact_proxy
from hpo.tracking.runs import open_tracking
from tests.test_end_to_end import CommandLine
from tests.test_many_workers import SPACE


def name_of_somebody_else(uri: str, folder: Path) -> str:
    """A registered model of the study's name that no search has made, with the alias."""
    client = MlflowClient(uri, uri)
    client.create_registered_model("s")
    client.create_model_version("s", str(folder), await_creation_for=0)
    client.set_registered_model_alias("s", "champion", "1")
    return "to come from a search"


def read_only_registry(uri: str, folder: Path) -> str:
    """A database that takes runs and no versions."""
    with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as connection:
        connection.execute(
            "CREATE TRIGGER no_versions BEFORE INSERT ON model_versions BEGIN SELECT RAISE(ABORT, 'read-only'); END"
        )
        connection.commit()
    return "could not register trial"


@pytest.mark.parametrize("spoil", [name_of_somebody_else, read_only_registry])
def test_a_search_finishes_whatever_the_registry_says(tmp_path, spoil):
    hpo = CommandLine(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    hpo.here("data", "sample", "drawn", "--posters", "150")
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    open_tracking(uri, tmp_path / "mlruns" / "artifacts")
    refusal = spoil(uri, tmp_path)
    given = ("--data", "drawn/anime.csv", "--images", "drawn/images", "--space", "space.yaml", "--study", "s")
    done = hpo.run("search", *given, "--labels", "4", "--folds", "1", "--trials", "3", "--no-confirm")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert said.count(refusal) == 1, said
    assert "The search continues; hpo export-best --study s trains its best trial again." in said
    status = hpo.status("s")
    assert status["trials"]["complete"] + status["trials"]["pruned"] == 3
    runs = MlflowClient(uri, uri).search_runs(["1"], "tags.`hpo.kind` = 'trial'")
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    assert len(runs) == 3

    assert "trained again" in hpo.here("export-best", "--study", "s", "--out", "best")
    claim = json.loads((tmp_path / "best" / "bundle.json").read_text())["metrics"]["val"]["f1_macro"]
    assert claim == pytest.approx(status["best"]["value"])


@pytest.mark.parametrize(("uri", "location", "told"), [
    ("http://here:5000", "mlflow-artifacts:/1", False),
    ("http://user:secret@here:5000", "file:///srv/artifacts/1", True),
    ("http://here:5000", "/srv/artifacts/1", True),
    ("https://here", "s3://bucket/1", False),
    ("sqlite:///mlflow.db", "file:///srv/artifacts/1", False),
])  # fmt: skip
def test_a_server_without_the_artifact_proxy(uri, location, told):
    notice = without_artifact_proxy(uri, location)
    assert (notice is not None) == told
    if notice is not None:
        assert "--serve-artifacts" in notice
        assert "secret" not in notice


def test_a_search_whose_experiment_was_deleted_goes_on_in_another(tmp_path):
    hpo = CommandLine(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    hpo.here("data", "sample", "drawn", "--posters", "150")
    given = ("--data", "drawn/anime.csv", "--images", "drawn/images", "--space", "space.yaml", "--study", "s")
    search = ("search", *given, "--labels", "4", "--folds", "1", "--no-confirm", "--trials")
    hpo.here(*search, "1")
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    client = MlflowClient(uri, uri)
    client.delete_experiment("1")
    done = hpo.run(*search, "3")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert said.count("restore --experiment-id 1") == 1, said
    runs = client.search_runs([client.get_experiment_by_name("hpo 2").experiment_id], "tags.`hpo.kind` = 'trial'")
    assert sorted(run.data.tags["hpo.trial"] for run in runs) == ["0", "1", "2"]
    assert "trained again" not in hpo.here("export-best", "--study", "s", "--out", "best")
    assert "nothing to do" in hpo.here("sync", "--study", "s")


def test_a_champion_whose_trial_the_study_does_not_know_is_exported_without_its_claim(tmp_path):
    hpo = CommandLine(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    hpo.here("data", "sample", "drawn", "--posters", "150")
    given = ("--data", "drawn/anime.csv", "--images", "drawn/images", "--space", "space.yaml", "--study", "s")
    hpo.here("search", *given, "--labels", "4", "--folds", "1", "--no-confirm", "--trials", "1")
    uri = f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    MlflowClient(uri, uri).set_model_version_tag("s", "1", "hpo.trial", "40")  # as after a study's database was lost
    assert "trial 40" in hpo.here("export-best", "--study", "s", "--out", "best")
    metrics = json.loads((tmp_path / "best" / "bundle.json").read_text())["metrics"]
    assert "cross_validation" not in metrics
    assert metrics["claim"]["from"] == "test"
