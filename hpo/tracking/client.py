"""Connect to MLflow, translate its errors, and fit values to its limits.

MLflow asks again for minutes where no server answers. Here first contact fails within seconds, at the price that a
server which is just starting is called absent; later a server that is gone costs a few seconds, and one that accepts
connections without answering a minute and a half, since what could not be written then is written later (`mirror.py`).
Environment variables of MLflow that a user has set are left as they are.
"""

from __future__ import annotations

import hpo.tracking.environment  # noqa: F401 - before mlflow

# isort: split

import itertools
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from posixpath import normpath
from typing import Any

import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import TrackingError
from hpo.runtime.masking import masked, without_secrets
from hpo.tracking.moved_store import follow_folder

# Our values as MLflow's entities, within its limits: keys, lengths, numbers, and how many a request takes.
#
# What does not fit is cut or renamed rather than refused, since a trial of an hour must not fail over a label's name;
# the price is that two labels which differ in odd characters only share a metric.

MAX_DESCRIPTION = 5000  # characters, of a registered version

_TABLES_TAG = "mlflow.loggedArtifacts"
_METRICS_A_BATCH, _OTHERS_A_BATCH = 800, 100  # MLflow takes 100 params, 100 tags and 1,000 of all at once
MAX_TAG = 8000  # characters
_MAX_PARAM, _MAX_KEY, _MAX_DIGEST = 6000, 250, 36  # characters

LoggedTable = Sequence[Mapping[str, Any]]  # rows


def log_batches(
    client: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log everything in as few requests as MLflow's limits allow."""
    listed_params = [Param(key, value) for key, value in (params or {}).items()]
    listed_tags = [RunTag(key, value) for key, value in as_tags(tags or {}).items()]
    n_others = math.ceil(max(len(listed_params), len(listed_tags)) / _OTHERS_A_BATCH)
    for batch in range(max(math.ceil(len(metrics) / _METRICS_A_BATCH), n_others)):
        few = slice(batch * _OTHERS_A_BATCH, (batch + 1) * _OTHERS_A_BATCH)
        many = slice(batch * _METRICS_A_BATCH, (batch + 1) * _METRICS_A_BATCH)
        client.log_batch(run_id, metrics[many], listed_params[few], listed_tags[few])


def log_tables(client: MlflowClient, run_id: str, tables: Mapping[str, LoggedTable]) -> dict[str, str]:
    """Write each table as MLflow's ``log_table`` does, but without appending to what an earlier search wrote.

    Returns the tag by which the UI knows them.
    """
    for name, rows in tables.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[_jsonable(row.get(column)) for column in columns] for row in rows]
        client.log_dict(run_id, {"columns": columns, "data": data}, f"{name}.json")
    listed = [{"path": f"{name}.json", "type": "table"} for name in tables]
    return {_TABLES_TAG: json.dumps(listed)} if listed else {}


def _jsonable(cell: Any) -> Any:
    """JSON, as browsers read it, has no NaN."""
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def as_metrics(values: Mapping[str, float], step: int, at_ms: int | None = None) -> list[Metric]:
    """Return metrics of ``step``, stamped now, or at a time since 1970: equal stamps are one entry, written twice.

    Infinity becomes NaN: MLflow stores it as 1.8e308, which flattens every chart it is on.
    """
    now = int(time.time() * 1000) if at_ms is None else at_ms
    finite = {key: float(value) if math.isfinite(value) else math.nan for key, value in values.items()}
    return [Metric(_key(key), value, now, step) for key, value in finite.items()]


def as_params(values: Mapping[str, Any]) -> dict[str, str]:
    """Return params as text; a mapping among them becomes one param an entry, such as ``rules.top_labels``."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= as_params({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[_key(key)] = cut(str(value), _MAX_PARAM)
    return flat


@dataclass(frozen=True)
class StudyPosters:
    """The posters of a study: where they are, and digests of labels, images and split."""

    csv: str
    images: str
    fingerprints: Mapping[str, str]


def as_dataset(posters: StudyPosters) -> DatasetInput:
    """Return the posters of a study for MLflow. The digest is that of ids and labels; the others are in the profile."""
    csv, fingerprints = posters.csv, posters.fingerprints
    columns = [{"type": "binary", "name": "poster", "required": True}]
    columns += [{"type": "string", "name": "labels", "required": True}]
    dataset = Dataset(
        name=PurePath(csv).stem,
        digest=str(fingerprints["labels"])[:_MAX_DIGEST],
        source_type="local",
        source=json.dumps({"uri": csv}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({**fingerprints, "images_folder": posters.images}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def as_tags(values: Mapping[str, str]) -> dict[str, str]:
    """Return tags that MLflow takes."""
    return {_key(key): cut(str(value), MAX_TAG) for key, value in values.items()}


def _key(name: str) -> str:
    """A key as MLflow takes it: letters, digits and ``/_-. :``, a normal relative path. Labels are freer."""
    return normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("./")[:_MAX_KEY].rstrip("/") or "_"


def cut(text: str, longest: int) -> str:
    """Cut a text that is too long for MLflow, at the end of a line where there is one."""
    if len(text) <= longest:
        return text
    kept = text[: longest - 2]
    return (kept[: kept.rindex("\n") + 1] if "\n" in kept else kept) + "…"


# MLflow's own patience is four minutes where a server is gone, in which a trial would stand still.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
_FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
os.environ.update({key: value for key, value in _PATIENCE.items() if key not in os.environ})  # MLflow asks it each time
_FIXES = {
    "is locked": "let the other process that writes to it finish, then type the command again",
    "not a database": "name another file with --tracking-uri sqlite:////absolute/path/mlflow.db",
    "locate revision": "it is Optuna's or a newer MLflow's, so name another database with --tracking-uri",
    "out-of-date": "run mlflow db upgrade on it, or name another database with --tracking-uri",
    "No module": "install that driver with pip, then type the command again",
    "no answer": "start that server, or leave --tracking-uri and MLFLOW_TRACKING_URI out to use ./mlruns",
    "model name": "choose another name with --study",
    "'active' state": "it was deleted, so bring it back with mlflow experiments restore",
}
_FIX = "fix that, or choose another place with --tracking-uri sqlite:////absolute/path/mlflow.db"
_NOISE = {
    r"^(\(?[\w.]+[:)] )+": "",  # RESOURCE_DOES_NOT_EXIST: or (sqlite3.OperationalError)
    r"^API request to .* failed with exception.*": "no answer",
    r"^API request to .* failed with (error code \d+).*": r"it answers with \1",
}


def connect(uri: str, artifact_root: Path | None, experiment: str) -> tuple[MlflowClient, str]:
    """Return a client of the MLflow at ``uri``, and the id of ``experiment``, which is created if need be.

    Where that was deleted, another takes its place: ``experiment 2``, and so on. ``artifact_root`` is where a new
    experiment in a database keeps its files; a server has its own place. Raises TrackingError for a file store, and
    within seconds where no server answers.
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
    """Turn what MLflow, its database or the disk refuses into one sentence with a fix."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, ModuleNotFoundError, OSError) as error:
        reason = without_secrets(_reason(error), uri)
        usual = "free some space there or make it writable" if isinstance(error, OSError) else _FIX
        fix = next((fix for sign, fix in _FIXES.items() if sign in reason), usual)
        raise TrackingError(f"MLflow at {masked(uri)} could not {what} ({reason}): {fix}.") from error


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
