"""First contact with MLflow, and what it refuses as one sentence with a cure.

MLflow asks again for minutes where no server answers. Here first contact fails within seconds, at the price that a
server which is just starting is called absent; later a server that is gone costs a few seconds, and one that accepts
connections without answering a minute and a half, since what could not be written then is written later (`logbook.py`).
Environment variables of MLflow that a user has set are left as they are.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hpo.search.mlflow_settings  # noqa: F401 - before mlflow

# isort: split

import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import TrackingError
from hpo.masking import masked, without_secrets
from hpo.search.mlflow_entities import cut
from hpo.search.moved_store import follow_folder

# MLflow's own patience is four minutes where a server is gone, in which a trial would stand still.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
os.environ.update({key: value for key, value in _PATIENCE.items() if key not in os.environ})  # MLflow asks it each time
_CURES = {
    "is locked": "let the other process that writes to it finish, then type the command again",
    "not a database": "name another file with --tracking-uri sqlite:////absolute/path/mlflow.db",
    "locate revision": "it is Optuna's or a newer MLflow's, so name another database with --tracking-uri",
    "out-of-date": "run mlflow db upgrade on it, or name another database with --tracking-uri",
    "No module": "install that driver with pip, then type the command again",
    "no answer": "start that server, or leave --tracking-uri and MLFLOW_TRACKING_URI out to use ./mlruns",
    "model name": "choose another name with --study",
    "'active' state": "it was deleted, so bring it back with mlflow experiments restore",
}
_CURE = "mend that, or choose another place with --tracking-uri sqlite:////absolute/path/mlflow.db"
_NOISE = {
    r"^(\(?[\w.]+[:)] )+": "",  # RESOURCE_DOES_NOT_EXIST: or (sqlite3.OperationalError)
    r"^API request to .* failed with exception.*": "no answer",
    r"^API request to .* failed with (error code \d+).*": r"it answers with \1",
}


def connect(uri: str, artifact_root: Path | None, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client of the MLflow at ``uri``, and the id of ``experiment``, which is created if need be.

    Where that was deleted, another takes its place: ``experiment 2``, and so on. ``artifact_root`` is where a new
    experiment in a database keeps its files; a server has its own place. Raises TrackingError for a file store, and
    within seconds where nobody answers.
    """
    _refuse_file_store(uri)
    over_http = uri.startswith(("http://", "https://"))
    location = None if over_http or artifact_root is None else artifact_root.resolve().as_uri()
    with asking(uri, "be opened"), impatient():
        if not over_http:
            _prepare_database(sqlalchemy.make_url(uri), location)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment_id = _experiment_id(client, experiment, location)
        if not over_http:
            _follow_folder(sqlalchemy.make_url(uri), experiment_id)
        return client, experiment_id


def without_artifact_proxy(uri: str, location: str) -> str | None:
    """Say where a server hands out a place for files that only its own machine can see; None where it takes files."""
    if not uri.startswith(("http://", "https://")) or not location.startswith(("file:", "/")):
        return None
    return (
        f"Expected the MLflow server at {masked(uri)} to take files, got an experiment that keeps them in "
        f"{location}, a folder of one machine: start it with mlflow server --serve-artifacts and a new experiment, or "
        "run searches on that machine only."
    )


def _refuse_file_store(uri: str) -> None:
    if "://" not in uri or uri.startswith("file:"):
        raise TrackingError(
            f"Expected a database or a server as tracking URI, got {masked(uri)!r}, a folder of files, which MLflow "
            "refuses: use --tracking-uri sqlite:///mlruns/mlflow.db."
        )


def _prepare_database(url: sqlalchemy.URL, location: str | None) -> None:
    """Fail at once where MLflow would retry for two minutes; let people read while a search writes (WAL)."""
    is_sqlite = url.get_backend_name() == "sqlite"
    if is_sqlite and url.database:
        _create_sqlite(Path(url.database), location)
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        if is_sqlite:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    engine.dispose()


def _follow_folder(url: sqlalchemy.URL, experiment_id: str) -> None:
    if url.get_backend_name() == "sqlite" and Path(url.database or "").is_file():
        engine = sqlalchemy.create_engine(url)
        follow_folder(engine, experiment_id)
        engine.dispose()


def _create_sqlite(file: Path, location: str | None) -> None:
    """Let the schema appear whole: MLflow takes seconds for it, and a kill or a second process spoils it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{file}.lock")
    lock.touch()  # raises where no file can be made, in which case FileLock would try without end
    with FileLock(lock):
        if file.exists() and file.stat().st_size > 0:
            return
        staging = file.with_name(f".{file.name}-being-made")
        shutil.rmtree(staging, ignore_errors=True)  # what a kill left
        staging.mkdir()
        made = staging / file.name
        store = SqlAlchemyStore(
            sqlalchemy.URL.create("sqlite", database=str(made)).render_as_string(),
            location or file.parent.resolve().as_uri(),
        )
        store.engine.dispose()
        made.replace(file)
        shutil.rmtree(staging)


def _experiment_id(client: MlflowClient, name: str, location: str | None) -> str:
    """Find or create the first of ``name``, ``name 2``, ... that was not deleted: a deleted one keeps its name."""
    for number in itertools.count(1):
        this = name if number == 1 else f"{name} {number}"
        experiment = client.get_experiment_by_name(this)
        if experiment is None:
            try:
                return str(client.create_experiment(this, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(this)  # another process was faster
        if experiment.lifecycle_stage != "deleted":
            return str(experiment.experiment_id)
    raise AssertionError("names do not run out")


@contextmanager
def asking(uri: str, what: str) -> Iterator[None]:
    """Turn what MLflow, its database or the disk refuses into one sentence with a cure."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, ModuleNotFoundError, OSError) as error:
        reason = without_secrets(_reason(error), uri)
        usual = "free some space there or make it writable" if isinstance(error, OSError) else _CURE
        cure = next((cure for sign, cure in _CURES.items() if sign in reason), usual)
        raise TrackingError(f"MLflow at {masked(uri)} could not {what} ({reason}): {cure}.") from error


def _reason(error: Exception) -> str:
    """The first sentence of an error, without codes, SQL and what the HTTP library says about itself."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    sentence = text.strip().partition("\n")[0].partition(". ")[0]
    for noise, instead in _NOISE.items():
        sentence = re.sub(noise, instead, sentence)
    return cut(sentence.rstrip(". "), 200)


@contextmanager
def impatient() -> Iterator[None]:
    """Let a server that does not answer be given up within seconds inside."""
    ours = {key: os.environ[key] for key, value in _PATIENCE.items() if os.environ.get(key) == value}
    os.environ.update({key: value for key, value in _FIRST_CONTACT.items() if key in ours})
    try:
        yield
    finally:
        os.environ.update(ours)
