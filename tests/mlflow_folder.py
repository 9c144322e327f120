from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.tracking.runs import open_tracking


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="session")
def made_at_once(tmp_path_factory):
    """A new database that two searches open in the same moment; MLflow's own way of making one breaks at that."""
    folder = tmp_path_factory.mktemp("mlflow")
    with ThreadPoolExecutor() as pool:
        opened = list(pool.map(lambda _: open_tracking(sqlite(folder), folder / "artifacts"), range(2)))
    return folder, opened


@pytest.fixture
def folder(made_at_once, tmp_path):
    """A copy of the database: its schema takes MLflow seconds."""
    shutil.copy(made_at_once[0] / "mlflow.db", tmp_path)
    return tmp_path


@pytest.fixture
def tracking(folder):
    return open_tracking(sqlite(folder), folder / "artifacts")


@pytest.fixture
def client(folder):
    return MlflowClient(sqlite(folder), sqlite(folder))
