"""MLflow runs of a study: create, log, find, and unite duplicates.

One study is one parent run, one trial is one child run. A trial's state stands in the tag ``hpo.state`` and,
for readers of the status alone, in its run's status: complete FINISHED, pruned KILLED, failed FAILED. Everything
goes through an MlflowClient with explicit run ids, so there is no ambient run.

A trial's metrics are written when it has ended, since one ``log_batch`` of 120 metrics costs no more than three
metrics one by one; the price is a trial that shows no curves while it runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hpo.tracking.environment  # noqa: F401 - before mlflow

# isort: split

from mlflow import MlflowClient
from mlflow.entities import Run

from hpo.runtime.masking import masked
from hpo.tracking.client import (
    MAX_TAG,
    LoggedTable,
    StudyPosters,
    as_dataset,
    as_metrics,
    as_params,
    as_tags,
    asking,
    connect,
    cut,
    impatient,
    log_batches,
    log_tables,
    without_artifact_proxy,
)
from hpo.tracking.registry import TRIAL_TAG, Registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hpo.tracking.trial_run import TrialRun

EXPERIMENT = "hpo"
KIND_TAG, STUDY_TAG, STATE_TAG = "hpo.kind", "hpo.study", "hpo.state"
STATUS_OF_STATE = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}

_NOTE_TAG, _PARENT_TAG, _NAME_TAG = "mlflow.note.content", "mlflow.parentRunId", "mlflow.runName"
_VIEW_TAG = "mlflow.sharedViewState."
_SAMPLE_SECONDS = 2  # between looks at the machine


@dataclass(frozen=True)
class LoggedRun:
    """The run of a trial as it stands in MLflow."""

    run_id: str
    state: str  # running, complete, pruned or failed
    has_ended: bool  # with the status of that state


def open_tracking(uri: str, artifact_root: Path | None) -> Tracking:
    """Connect to MLflow at ``uri`` (a database or a server) and find or create the experiment ``hpo``.

    Where that one was deleted, it is ``hpo 2``, and so on. ``artifact_root`` is where a new experiment in a
    database keeps its files; a server has its own place. Raises TrackingError for a file store, and within seconds
    where no server answers.
    """
    client, experiment_id = connect(uri, artifact_root, EXPERIMENT)
    return Tracking(client, uri, experiment_id)


class Tracking:
    """The experiment ``hpo`` of one MLflow, and its model ``registry``. Every method raises TrackingError."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.uri, self.experiment_id = uri, experiment_id
        self._client = client
        self.registry = Registry(client, uri)
        self._study_names: dict[str, str] = {}  # by parent run id

    def notices(self) -> list[str]:
        """Say what is unusual about the place where runs and their files are kept."""
        with asking(self.uri, "say where it keeps runs"):
            here = self._client.get_experiment(self.experiment_id)
            first = self._client.get_experiment_by_name(EXPERIMENT)
        notices = [without_artifact_proxy(self.uri, str(here.artifact_location))]
        if here.name != EXPERIMENT:
            notices.append(
                f"The MLflow experiment {EXPERIMENT!r} was deleted, so runs are kept in {here.name!r}; to continue in "
                "the "
                f"old one, stop, and type MLFLOW_TRACKING_URI={masked(self.uri)} mlflow experiments "
                f"restore --experiment-id {first.experiment_id}."
            )
        return [notice for notice in notices if notice is not None]

    def study_run(
        self,
        study_name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        tables: Mapping[str, LoggedTable],
        files: Mapping[str, Sequence[Path]],
        posters: StudyPosters | None = None,
    ) -> str:
        """Return the id of the study's parent run, running from now on; a resumed study gets its old one.

        Params are logged once, since MLflow lets none change; tags, tables and files (by the folder among the
        artifacts) are brought up to date. ``posters`` become its dataset. MLflow has no way to
        do any of this only where it is not done yet, so the caller holds the study's lock (``study_run.py``).
        """
        with asking(self.uri, f"open the run of study {study_name!r}"):
            run = self._parent_run(study_name) or self._create_parent_run(study_name)
            run_id = str(run.info.run_id)
            self._log_posters(run, posters)
            self._client.update_run(run_id, status="RUNNING")
            new = {key: value for key, value in as_params(params).items() if key not in run.data.params}
            log_batches(self._client, run_id, params=new, tags=tags)
            self.tabulate(run_id, tables)
            for folder, paths in files.items():
                for path in paths:
                    self._client.log_artifact(run_id, str(path), artifact_path=folder)
        return run_id

    def check_answers(self) -> None:
        """Raise TrackingError, within seconds, where MLflow does not answer."""
        with asking(self.uri, "answer"), impatient():
            self._client.get_experiment(self.experiment_id)

    def study_is_open(self, run_id: str) -> bool:
        """Say whether a parent run has the status of one that is being searched."""
        with asking(self.uri, "look at the run of the study"):
            return str(self._client.get_run(run_id).info.status) == "RUNNING"

    def unite(self, study_name: str, parent_run_id: str) -> tuple[str, int]:
        """Put the trials of a study under one parent run; return its id, and how many runs were moved or deleted.

        Searches of an older hpo that began one study in the same moment left several parents, and a parent that was
        deleted leaves its trials without one. The oldest parent stays, as ``find_study_run`` finds it.
        """
        with asking(self.uri, f"unite the runs of study {study_name!r}"):
            parents = self._parent_runs(study_name)
            parent = str(parents[0].info.run_id) if parents else parent_run_id
            strays = [run for run in self._trial_runs_of(study_name) if run.data.tags.get(_PARENT_TAG) != parent]
            for run in strays:
                self._client.set_tag(run.info.run_id, _PARENT_TAG, parent)
            for run in parents[1:]:
                self._client.delete_run(run.info.run_id)
        return parent, len(strays) + len(parents[1:])

    def find_study_run(self, study_name: str) -> str | None:
        """Return the id of the study's parent run, or None where this MLflow has none."""
        with asking(self.uri, f"look for the run of study {study_name!r}"):
            run = self._parent_run(study_name)
        return None if run is None else str(run.info.run_id)

    def finish_study(self, run_id: str, status: str, metrics: Mapping[str, float]) -> None:
        """Close the parent run as FINISHED, KILLED or FAILED, with the study's metrics."""
        with asking(self.uri, "close the run of the study"):
            log_batches(self._client, run_id, metrics=as_metrics(metrics, step=0))
            self._client.set_terminated(run_id, status)

    def note(self, run_id: str, markdown: str) -> None:
        """Write the description that heads a run."""
        with asking(self.uri, f"describe run {run_id}"):
            self._client.set_tag(run_id, _NOTE_TAG, cut(markdown, MAX_TAG))

    def start_trial(
        self,
        parent_run_id: str,
        number: int,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        posters: StudyPosters | None = None,
    ) -> str:
        """Open the child run of trial ``number`` and return its id; ``posters`` as of its study."""
        with asking(self.uri, f"open the run of trial {number}"):
            named = {
                _PARENT_TAG: parent_run_id,
                STUDY_TAG: self._study_name(parent_run_id),
                KIND_TAG: "trial",
                TRIAL_TAG: str(number),
                STATE_TAG: "running",
            }
            run = self._client.create_run(self.experiment_id, tags=as_tags({**tags, **named}), run_name=name)
            log_batches(self._client, run.info.run_id, params=as_params(params))
            self._log_posters(run, posters)
        return str(run.info.run_id)

    def log_trial(self, run_id: str, record: TrialRun) -> None:
        """Write everything that is known of a trial that has ended, and end its run; twice does no harm."""
        with asking(self.uri, f"write the run of trial {record.number}"):
            stamp = record.ended_ms
            metrics = [
                metric
                for key, points in record.curve.items()
                for epoch, value in points
                for metric in as_metrics({key: value}, epoch, stamp)
            ]
            last = max((points[-1][0] for points in record.curve.values() if points), default=0)
            metrics += as_metrics(record.metrics, last + 1, stamp)
            tags = {**record.tags, _NAME_TAG: record.name, STATE_TAG: record.state}
            log_batches(self._client, run_id, metrics, tags=tags)
            self._client.set_terminated(run_id, STATUS_OF_STATE[record.state], record.ended_ms)

    @contextmanager
    def watching(self, run_id: str) -> Iterator[None]:
        """Log ``system/`` metrics of this machine with a run every few seconds inside; MLflow does it in a thread."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(run_id, sampling_interval=_SAMPLE_SECONDS, tracking_uri=self.uri)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def keep(self, run_id: str, folder: Path) -> None:
        """Keep the files of ``folder`` among the artifacts of a run, under their names."""
        with asking(self.uri, f"keep the files of run {run_id}"):
            self._client.log_artifacts(run_id, str(folder))

    def trial_runs(self, parent_run_id: str) -> dict[int, list[LoggedRun]]:
        """Return the child runs of a study by the number of their trial, the oldest first."""
        with asking(self.uri, "look through the runs of the study"):
            found = list(self._search(f"tags.`{_PARENT_TAG}` = '{parent_run_id}'"))
        by_number: dict[int, list[LoggedRun]] = {}
        for run in sorted(found, key=lambda run: (run.info.start_time, run.info.run_id)):
            if TRIAL_TAG in run.data.tags:
                state = run.data.tags.get(STATE_TAG, "")
                logged = LoggedRun(str(run.info.run_id), state, run.info.status == STATUS_OF_STATE.get(state))
                by_number.setdefault(int(run.data.tags[TRIAL_TAG]), []).append(logged)
        return by_number

    def delete_run(self, run_id: str) -> None:
        """Delete a run, as MLflow does: it can be restored."""
        with asking(self.uri, f"delete run {run_id}"):
            self._client.delete_run(run_id)

    def share_view(self, key: str, view: Mapping[str, Any]) -> str:
        """Keep a view of the experiment's runs where MLflow's *Share* button keeps one, and return its key."""
        with asking(self.uri, "keep a view of the runs"):
            self._client.set_experiment_tag(self.experiment_id, f"{_VIEW_TAG}{key}", json.dumps(view))
        return key

    def tabulate(self, run_id: str, tables: Mapping[str, LoggedTable]) -> None:
        """Keep tables among a run's artifacts, in place of those that were there."""
        with asking(self.uri, f"keep the tables of run {run_id}"):
            log_batches(self._client, run_id, tags=log_tables(self._client, run_id, tables))

    def show(self, run_id: str, figures: Mapping[str, Figure]) -> None:
        """Keep figures among a run's artifacts, by the name of their file."""
        with asking(self.uri, f"keep the figures of run {run_id}"):
            for name, figure in figures.items():
                self._client.log_figure(run_id, figure, f"figures/{name}.png")

    def download(self, run_id: str, path: str, out: Path) -> Path | None:
        """Copy the file or folder at ``path`` among a run's artifacts into ``out``; None where the run has none."""
        with asking(self.uri, f"copy {path} of run {run_id}"):
            parent = path.rpartition("/")[0]
            if path not in (file.path for file in self._client.list_artifacts(run_id, parent or None)):
                return None
            folder = out / run_id
            folder.mkdir(exist_ok=True)
            return Path(self._client.download_artifacts(run_id, path, str(folder)))

    def _parent_run(self, study_name: str) -> Run | None:
        return next(iter(self._parent_runs(study_name)), None)

    def _parent_runs(self, study_name: str) -> list[Run]:
        """The oldest first. MLflow's filters cannot quote every name: compare here."""
        runs = self._search(f"tags.`{KIND_TAG}` = 'study'")
        mine = [run for run in runs if run.data.tags.get(STUDY_TAG) == study_name]
        return sorted(mine, key=lambda run: (run.info.start_time, run.info.run_id))

    def _trial_runs_of(self, study_name: str) -> list[Run]:
        """The runs of a study's trials, whatever their parent. An experiment may hold thousands of other studies'."""
        mine = f" and tags.`{STUDY_TAG}` = '{study_name}'" if study_name.replace(" ", "").isalnum() else ""
        runs = self._search(f"tags.`{KIND_TAG}` = 'trial'{mine}")
        return [run for run in runs if run.data.tags.get(STUDY_TAG) == study_name]

    def _create_parent_run(self, study_name: str) -> Run:
        tags = as_tags({KIND_TAG: "study", STUDY_TAG: study_name})
        return self._client.create_run(self.experiment_id, tags=tags, run_name=study_name)

    def _study_name(self, parent_run_id: str) -> str:
        if parent_run_id not in self._study_names:
            self._study_names[parent_run_id] = self._client.get_run(parent_run_id).data.tags[STUDY_TAG]
        return self._study_names[parent_run_id]

    def _log_posters(self, run: Run, posters: StudyPosters | None) -> None:
        if posters is not None and not (run.inputs and run.inputs.dataset_inputs):
            self._client.log_inputs(run.info.run_id, [as_dataset(posters)])

    def _search(self, condition: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self.experiment_id], condition, page_token=token)
            yield from page
            token = page.token
            if not token:
                return
