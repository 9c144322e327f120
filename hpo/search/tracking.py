"""Runs, metrics and registered versions: the one door to MLflow of a search.

One study is one parent run, one trial is one child run. A trial's state stands in the tag ``hpo.state`` and,
for whoever reads only that, in its run's status: complete FINISHED, pruned KILLED, failed FAILED. Everything
goes through an MlflowClient with explicit run ids, so there is no ambient run.

A trial's epochs are kept back until it ends, since one ``log_batch`` of 120 metrics costs no more than three
metrics one by one; the price is a trial that shows no curves while it runs. A registered version is a bundle
as a pyfunc (``registered_model.py``) among the artifacts of its trial's run.
"""
# ruff: noqa: E402

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from posixpath import normpath
from typing import Any

for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    "MLFLOW_UV_AUTO_DETECT": "false",  # or a model takes the uv.lock of whatever folder one stands in
}.items():
    os.environ.setdefault(_name, _value)  # MLflow reads some of them while it is imported

import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import TrackingError

for _name in ("mlflow", "alembic"):  # their notices would tear a progress bar apart
    logging.getLogger(_name).setLevel(logging.WARNING)

EXPERIMENT = "hpo"
CHAMPION = "champion"
KIND_TAG, STUDY_TAG, TRIAL_TAG, STATE_TAG = "hpo.kind", "hpo.study", "hpo.trial", "hpo.state"
VALUE_TAG, REASON_TAG, PRUNED_TAG = "hpo.value", "hpo.reason", "hpo.pruned_at_epoch"
STATUS_OF_STATE = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}

_NOTE_TAG, _PARENT_TAG, _TABLES_TAG = "mlflow.note.content", "mlflow.parentRunId", "mlflow.loggedArtifacts"
_MODEL, _BUNDLE = "model", "model/artifacts/bundle"  # a version among its run's artifacts
_METRICS_A_BATCH, _OTHERS_A_BATCH = 800, 100  # MLflow takes 100 params, 100 tags and 1,000 of all at once
_MAX_PARAM, _MAX_TAG, _MAX_DESCRIPTION, _MAX_KEY = 6000, 8000, 5000, 250  # characters
_FIRST_CONTACT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "4"}
_CURES = {
    "is locked": "let the other process that writes to it finish, then type the command again",
    "not a database": "name another file with --tracking-uri sqlite:////absolute/path/mlflow.db",
    "locate revision": "it is Optuna's or a newer MLflow's, so name another database with --tracking-uri",
    "out-of-date": "run mlflow db upgrade on it, or name another database with --tracking-uri",
    "No module": "install that driver with pip, then type the command again",
    "no answer": "start that server, or leave --tracking-uri and MLFLOW_TRACKING_URI out to use ./mlruns",
    "model name": "choose another name with --study",
}
_CURE = "mend that, or choose another place with --tracking-uri sqlite:////absolute/path/mlflow.db"
_NOISE = {
    r"^(\(?[\w.]+[:)] )+": "",  # RESOURCE_DOES_NOT_EXIST: or (sqlite3.OperationalError)
    r"^API request to .* failed with exception.*": "no answer",
    r"^API request to .* failed with (error code \d+).*": r"it answers with \1",
}

Table = Sequence[Mapping[str, Any]]  # rows


@dataclass(frozen=True)
class Champion:
    """The registered version that has the alias ``champion``."""

    version: int
    run_id: str
    trial_number: int
    value: float
    tags: dict[str, str]


def open_tracking(uri: str, artifact_root: Path | None) -> Tracking:
    """Connect to MLflow at ``uri`` (a database or a server) and find or create the experiment ``hpo``.

    ``artifact_root`` is where a new experiment in a database keeps its files; a server has its own place.
    Raises TrackingError for a file store, a deleted experiment, and within seconds where nobody answers.
    """
    _refuse_file_store(uri)
    over_http = uri.startswith(("http://", "https://"))
    location = None if over_http or artifact_root is None else artifact_root.resolve().as_uri()
    with _asking(uri, "be opened"), _impatient():
        if not over_http:
            _prepare_database(sqlalchemy.make_url(uri), location)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        return Tracking(client, uri, _experiment_id(client, uri, location))


def _refuse_file_store(uri: str) -> None:
    if "://" not in uri or uri.startswith("file:"):
        raise TrackingError(
            f"Expected a database or a server as tracking URI, got {uri!r}, a folder of files, which MLflow "
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


def _create_sqlite(file: Path, location: str | None) -> None:
    """Let the schema appear whole: MLflow takes seconds for it, and a kill or a second process spoils it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if file.exists() and file.stat().st_size > 0:
            return
        staging = file.with_name(f".{file.name}-being-made")
        shutil.rmtree(staging, ignore_errors=True)  # what a kill left
        staging.mkdir()
        made = staging / file.name
        store = SqlAlchemyStore(f"sqlite:///{made}", location or file.parent.resolve().as_uri())
        store.engine.dispose()
        made.replace(file)
        shutil.rmtree(staging)


def _experiment_id(client: MlflowClient, uri: str, location: str | None) -> str:
    experiment = client.get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        try:
            return str(client.create_experiment(EXPERIMENT, artifact_location=location))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = client.get_experiment_by_name(EXPERIMENT)  # another process was faster
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"The MLflow experiment {EXPERIMENT!r} at {_shown(uri)} was deleted: bring it back with "
            f"MLFLOW_TRACKING_URI={_shown(uri)} mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}, then type the command again."
        )
    return str(experiment.experiment_id)


class Tracking:
    """The experiment ``hpo`` and the model registry of one MLflow. Every method raises TrackingError."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.uri, self.experiment_id = uri, experiment_id
        self._client = client
        self._study_names: dict[str, str] = {}  # by parent run id

    def study_run(
        self,
        study_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        note_markdown: str,
        tables: Mapping[str, Table],
    ) -> str:
        """Return the id of the study's parent run, running from now on; a resumed study gets its old one.

        Params are logged once, since MLflow lets none change; tags, note and tables are brought up to date.
        """
        with _asking(self.uri, f"open the run of study {study_name!r}"):
            run = self._parent_run(study_name) or self._create_parent_run(study_name)
            run_id = str(run.info.run_id)
            self._client.update_run(run_id, status="RUNNING")
            new = {key: value for key, value in _params(params).items() if key not in run.data.params}
            all_tags = {**tags, _NOTE_TAG: note_markdown, **_log_tables(self._client, run_id, tables)}
            _log(self._client, run_id, params=new, tags=all_tags)
        return run_id

    def find_study_run(self, study_name: str) -> str | None:
        """Return the id of the study's parent run, or None where this MLflow has none."""
        with _asking(self.uri, f"look for the run of study {study_name!r}"):
            run = self._parent_run(study_name)
        return None if run is None else str(run.info.run_id)

    def finish_study(self, run_id: str, status: str, note_markdown: str, metrics: Mapping[str, float]) -> None:
        """Close the parent run as FINISHED, KILLED or FAILED, with a last note and the study's metrics."""
        with _asking(self.uri, "close the run of the study"):
            _log(self._client, run_id, metrics=_metrics(metrics, step=0), tags={_NOTE_TAG: note_markdown})
            self._client.set_terminated(run_id, status)

    def start_trial(
        self, parent_run_id: str, number: int, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> TrialRun:
        """Open the child run of trial ``number``, named after it and its backbone and image size."""
        with _asking(self.uri, f"open the run of trial {number}"):
            named = {
                _PARENT_TAG: parent_run_id,
                STUDY_TAG: self._study_name(parent_run_id),
                KIND_TAG: "trial",
                TRIAL_TAG: str(number),
                STATE_TAG: "running",
            }
            chosen = _params(params)
            run = self._client.create_run(
                self.experiment_id, tags=_tags({**tags, **named}), run_name=_run_name(number, chosen)
            )
            _log(self._client, run.info.run_id, params=chosen)
        return TrialRun(self._client, self.uri, str(run.info.run_id), number)

    def close_stale(self, parent_run_id: str, states: Mapping[int, str]) -> None:
        """Give every child run the state that its trial really ended with: ``states`` by trial number.

        States are complete, pruned or failed; the runs of trials that are not named stay as they are. A
        killed search leaves runs that seem to go on, or that ended before Optuna knew of it.
        """
        with _asking(self.uri, "close the runs that a killed search left"):
            for run in self._trial_runs(parent_run_id):
                state = states.get(int(run.data.tags[TRIAL_TAG]))
                shown = (run.data.tags.get(STATE_TAG), run.info.status)
                if state is not None and shown != (state, STATUS_OF_STATE[state]):
                    self._client.set_tag(run.info.run_id, STATE_TAG, state)
                    self._client.set_terminated(run.info.run_id, STATUS_OF_STATE[state])

    def register(
        self,
        model_name: str,
        run_id: str,
        trial_number: int,
        bundle: Path,
        tags: Mapping[str, str],
        description: str,
    ) -> int:
        """Make ``bundle`` a version of ``model_name`` with the alias ``champion``, and return the version.

        ``tags`` must hold ``hpo.value``, the trial's value. A run is registered once: after a kill between
        the version and its alias, the version is found again.
        """
        with _asking(self.uri, f"register trial {trial_number} as {model_name!r}"):
            version = self._version_of(model_name, run_id)
            if version is None:
                self._upload_model(run_id, bundle)
                all_tags = {**tags, TRIAL_TAG: str(trial_number)}
                version = self._create_version(model_name, run_id, all_tags, description)
            self._client.set_registered_model_alias(model_name, CHAMPION, str(version))
        return version

    def champion(self, model_name: str) -> Champion | None:
        """Return the champion, or None before there is one."""
        with _asking(self.uri, f"say which version of {model_name!r} is the champion"):
            try:
                version = self._client.get_model_version_by_alias(model_name, CHAMPION)
            except MlflowException as error:
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None  # no such model, or no version of it has the alias
                raise
        if TRIAL_TAG not in version.tags or VALUE_TAG not in version.tags:
            raise TrackingError(
                f"Expected the champion of the registered model {model_name!r} to come from a search, got "
                f"version {version.version} without the tags of one: choose another name with --study."
            )
        return Champion(
            int(version.version),
            version.run_id,
            int(version.tags[TRIAL_TAG]),
            float(version.tags[VALUE_TAG]),
            dict(version.tags),
        )

    def download_bundle(self, model_name: str, out: Path) -> None:
        """Copy the champion's bundle to the folder ``out``, whole or not at all, in place of an older one."""
        from hpo.bundle.bundle import replace_folder  # late: hpo status has no use for torch

        champion = self.champion(model_name)
        if champion is None:
            raise TrackingError(
                f"Expected a champion of {model_name!r} at {_shown(self.uri)}, got none: run hpo search "
                "until a trial is complete."
            )
        with _asking(self.uri, f"copy the champion of {model_name!r} to {out}"):
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".champion-") as temporary:
                staged = self._client.download_artifacts(champion.run_id, _BUNDLE, temporary)
                replace_folder(Path(staged), out)

    def _parent_run(self, study_name: str) -> Run | None:
        """The oldest, if two processes made one. MLflow's filters cannot quote every name: compare here."""
        runs = self._search(f"tags.`{KIND_TAG}` = 'study'")
        mine = [run for run in runs if run.data.tags[STUDY_TAG] == study_name]
        return min(mine, key=lambda run: (run.info.start_time, run.info.run_id), default=None)

    def _create_parent_run(self, study_name: str) -> Run:
        tags = _tags({KIND_TAG: "study", STUDY_TAG: study_name})
        created = self._client.create_run(self.experiment_id, tags=tags, run_name=study_name)
        oldest = self._parent_run(study_name) or created
        if oldest.info.run_id != created.info.run_id:  # another process made one in the same moment
            self._client.delete_run(created.info.run_id)
        return oldest

    def _study_name(self, parent_run_id: str) -> str:
        if parent_run_id not in self._study_names:
            self._study_names[parent_run_id] = self._client.get_run(parent_run_id).data.tags[STUDY_TAG]
        return self._study_names[parent_run_id]

    def _trial_runs(self, parent_run_id: str) -> list[Run]:
        found = self._search(f"tags.`{_PARENT_TAG}` = '{parent_run_id}'")
        return [run for run in found if TRIAL_TAG in run.data.tags]

    def _search(self, condition: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self.experiment_id], condition, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _version_of(self, model_name: str, run_id: str) -> int | None:
        versions = self._client.search_model_versions(f"run_id = '{run_id}'")
        return next((int(version.version) for version in versions if version.name == model_name), None)

    def _upload_model(self, run_id: str, bundle: Path) -> None:
        from hpo.search.registered_model import save  # late, for the same reason

        with tempfile.TemporaryDirectory() as temporary:
            save(bundle, Path(temporary) / _MODEL)
            self._client.log_artifacts(run_id, f"{temporary}/{_MODEL}", _MODEL)

    def _create_version(self, model_name: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
        try:
            self._client.create_registered_model(model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{_MODEL}"
        described = _cut(description, _MAX_DESCRIPTION)
        version = self._client.create_model_version(
            model_name, source, run_id, _tags(tags), description=described, await_creation_for=0
        )
        return int(version.version)


class TrialRun:
    """The child run of one trial: ``epoch`` remembers, each way to end writes it, or raises TrackingError."""

    def __init__(self, client: MlflowClient, uri: str, run_id: str, number: int) -> None:
        self.run_id = run_id
        self._client, self._uri, self._number = client, uri, number
        self._metrics: list[Metric] = []
        self._last_epoch = 0

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Remember the ``metrics`` of an epoch, counted from 1."""
        self._metrics += _metrics(metrics, step=epoch)
        self._last_epoch = epoch

    def complete(self, metrics: Mapping[str, float], tables: Mapping[str, Table] | None = None) -> None:
        """End the run as complete; ``metrics`` of the whole trial win over an epoch's of the same name."""
        self._metrics += _metrics(metrics, step=self._last_epoch + 1)
        self._end("complete", {}, tables or {})

    def prune(self, epoch: int, reason: str) -> None:
        """End the run as pruned after ``epoch``."""
        self._end("pruned", {PRUNED_TAG: str(epoch), REASON_TAG: reason}, {})

    def fail(self, reason: str) -> None:
        """End the run as failed."""
        self._end("failed", {REASON_TAG: reason}, {})

    def _end(self, state: str, tags: Mapping[str, str], tables: Mapping[str, Table]) -> None:
        with _asking(self._uri, f"close the run of trial {self._number}"):
            listed = _log_tables(self._client, self.run_id, tables)
            _log(self._client, self.run_id, self._metrics, tags={**tags, **listed, STATE_TAG: state})
            self._client.set_terminated(self.run_id, STATUS_OF_STATE[state])


def _log(
    client: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log everything in as few requests as MLflow's limits allow."""
    listed_params = [Param(key, value) for key, value in (params or {}).items()]
    listed_tags = [RunTag(key, value) for key, value in _tags(tags or {}).items()]
    n_others = math.ceil(max(len(listed_params), len(listed_tags)) / _OTHERS_A_BATCH)
    for batch in range(max(math.ceil(len(metrics) / _METRICS_A_BATCH), n_others)):
        few = slice(batch * _OTHERS_A_BATCH, (batch + 1) * _OTHERS_A_BATCH)
        many = slice(batch * _METRICS_A_BATCH, (batch + 1) * _METRICS_A_BATCH)
        client.log_batch(run_id, metrics[many], listed_params[few], listed_tags[few])


def _log_tables(client: MlflowClient, run_id: str, tables: Mapping[str, Table]) -> dict[str, str]:
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


def _metrics(values: Mapping[str, float], step: int) -> list[Metric]:
    """Infinity becomes NaN: MLflow stores it as 1.8e308, which flattens every chart it is on."""
    now = int(time.time() * 1000)
    finite = {key: float(value) if math.isfinite(value) else math.nan for key, value in values.items()}
    return [Metric(_key(key), value, now, step) for key, value in finite.items()]


def _params(values: Mapping[str, Any]) -> dict[str, str]:
    """Params as text; a mapping among them becomes one param an entry, such as ``rules.top_labels``."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _params({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[_key(key)] = _cut(str(value), _MAX_PARAM)
    return flat


def _tags(values: Mapping[str, str]) -> dict[str, str]:
    return {_key(key): _cut(str(value), _MAX_TAG) for key, value in values.items()}


def _key(name: str) -> str:
    """A key as MLflow takes it: letters, digits and ``/_-. :``, a normal relative path. Labels are freer."""
    return normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("./")[:_MAX_KEY].rstrip("/") or "_"


def _cut(text: str, longest: int) -> str:
    """Cut a text that is too long for MLflow, at the end of a line where there is one."""
    if len(text) <= longest:
        return text
    kept = text[: longest - 2]
    return (kept[: kept.rindex("\n") + 1] if "\n" in kept else kept) + "…"


def _run_name(number: int, params: Mapping[str, str]) -> str:
    chosen = [params[key] for key in ("backbone", "image_size") if key in params]
    return " ".join([f"#{number}", " · ".join(chosen)]).strip()


@contextmanager
def _asking(uri: str, what: str) -> Iterator[None]:
    """Turn what MLflow, its database or the disk refuses into one sentence with a cure."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, ModuleNotFoundError, OSError) as error:
        reason = _reason(error)
        usual = "free some space there or make it writable" if isinstance(error, OSError) else _CURE
        cure = next((cure for sign, cure in _CURES.items() if sign in reason), usual)
        raise TrackingError(f"MLflow at {_shown(uri)} could not {what} ({reason}): {cure}.") from error


def _reason(error: Exception) -> str:
    """The first sentence of an error, without codes, SQL and what the HTTP library says about itself."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    sentence = text.strip().partition("\n")[0].partition(". ")[0]
    for noise, instead in _NOISE.items():
        sentence = re.sub(noise, instead, sentence)
    return _cut(sentence.rstrip(". "), 200)


def _shown(uri: str) -> str:
    """The URI without its password."""
    return re.sub(r"(?<=://)[^/@]+@", "", uri)


@contextmanager
def _impatient() -> Iterator[None]:
    """Make first contact fail within seconds; later, a server that restarts is worth MLflow's patience."""
    added = {key: value for key, value in _FIRST_CONTACT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)
