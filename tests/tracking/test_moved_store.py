"""A local MLflow store that is moved or copied names the files beside it, and never those of the original."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient

from hpo.tracking.moved_store import FOLDER_TAG, moved_from
from hpo.tracking.runs import Tracking, open_tracking


@pytest.fixture
def project(made_at_once, tmp_path: Path) -> Path:
    """A folder with a store, a run with a file and a version of it."""
    folder = tmp_path / "a project" / "mlruns"
    folder.mkdir(parents=True)
    shutil.copy(made_at_once[0] / "mlflow.db", folder)
    tracking = opened(folder)
    keep(tracking, "one")
    return folder


def opened(folder: Path) -> Tracking:
    return open_tracking(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")


def keep(tracking: Tracking, text: str) -> str:
    parent = tracking.study_run("s", {}, {}, {}, {})
    run_id = tracking.start_trial(parent, 0, "#0", {}, {})
    client = MlflowClient(tracking.uri, tracking.uri)
    client.log_text(run_id, text, "kept.txt")
    if not client.search_registered_models():
        client.create_registered_model("s")
    client.create_model_version("s", f"{client.get_run(run_id).info.artifact_uri}/model", run_id)
    return run_id


def addresses(folder: Path) -> set[str]:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        return {
            row[0]
            for table, column in (
                ("runs", "artifact_uri"),
                ("experiments", "artifact_location"),
                ("model_versions", "source"),
                ("model_versions", "storage_location"),
            )
            for row in connection.execute(f"SELECT {column} FROM {table}")
        }


def files(folder: Path) -> dict[str, bytes]:
    return {f"{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.txt")}


def strangers(folder: Path) -> set[str]:
    """The addresses that are not below a folder; MLflow's own experiment 0 came with the copied database."""
    below = f"{folder.as_uri()}/"
    return {address for address in addresses(folder) if not address.startswith(below) and not address.endswith("/0")}


def forget_folder(folder: Path) -> None:
    """As a store of an older hpo, which noted no folder."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM experiment_tags WHERE key = ?", [FOLDER_TAG])


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("with_files", [True, False])
def test_f5_a_store_that_is_moved_follows_its_folder_once(project, tmp_path, caplog, older, with_files):
    if older:
        forget_folder(project)
    if not with_files:
        shutil.rmtree(project / "artifacts")
    moved = tmp_path / "elsewhere #1" / "mlruns"
    moved.parent.mkdir()
    project.rename(moved)
    caplog.clear()
    tracking = opened(moved)
    assert [f"from {project} to {moved}" in message for message in caplog.messages] == [True]
    assert strangers(moved) == set()
    run_id = keep(tracking, "two")
    assert (moved / "artifacts" / run_id / "artifacts" / "kept.txt").read_text() == "two"
    assert not project.exists()
    caplog.clear()
    opened(moved)
    assert caplog.messages == []


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("with_files", [True, False])
def test_a21_a_copy_neither_writes_to_the_original_nor_deletes_from_it(project, tmp_path, older, with_files):
    if older:
        forget_folder(project)
    copy = tmp_path / "copy" / "mlruns"
    shutil.copytree(project, copy)
    if not with_files:
        shutil.rmtree(copy / "artifacts")
    before = files(project)
    keep(opened(copy), "two")
    assert strangers(copy) == set()
    assert files(project) == before
    opened(project)
    assert strangers(project) == set()


def test_f5_artifacts_outside_of_the_databases_folder_follow_when_both_moved(made_at_once, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "db").mkdir(parents=True)
    uri = f"sqlite:///{old}/db/mlflow.db"
    open_tracking(uri, old / "mlruns" / "artifacts")
    (old / "mlruns" / "artifacts").mkdir(parents=True)
    old.rename(new)
    tracking = open_tracking(f"sqlite:///{new}/db/mlflow.db", new / "mlruns" / "artifacts")
    run_id = keep(tracking, "one")
    assert (new / "mlruns" / "artifacts" / run_id / "artifacts" / "kept.txt").exists()
    assert not old.exists()


def test_a_database_that_is_moved_alone_keeps_its_files_and_a_second_name_of_a_folder_is_no_move(project, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(project)
    opened(link)
    assert strangers(project) == set()
    alone = tmp_path / "alone"
    alone.mkdir()
    opened(project)
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    (project / "mlflow.db").rename(alone / "mlflow.db")
    opened(alone)
    kept = {address for address in addresses(alone) if not address.endswith("/0")}
    assert all(address.startswith(f"{project.as_uri()}/artifacts") for address in kept)


def test_f5_the_doctor_says_that_a_store_was_moved_and_changes_nothing(project, tmp_path):
    moved = project.with_name("moved")
    project.rename(moved)
    before = addresses(moved)
    engine = sqlalchemy.create_engine(f"sqlite:///{moved}/mlflow.db")
    with engine.connect() as connection:
        assert moved_from(connection, moved / "mlflow.db") == project
    engine.dispose()
    assert addresses(moved) == before
