"""A study's artifacts in MLflow: where they lie, their sizes, and deletion.

MLflow itself deletes no file: a version or a run that is deleted leaves its artifacts behind. So they are deleted here,
by way of the artifact store, be it a folder or behind a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpo.tracking.environment  # noqa: F401 - before mlflow

# isort: split

from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from hpo.tracking.client import asking
from hpo.tracking.registry import TRIAL_TAG
from hpo.tracking.runs import KIND_TAG, STUDY_TAG, Tracking
from hpo.trial.trial import TrialResult

_OUR_TAGS = "hpo."
_PARENT_TAG = "mlflow.parentRunId"
_NO_STAGE = ("None", "", None)
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "ENDPOINT_NOT_FOUND")


@dataclass(frozen=True)
class StoredRun:
    """A run of a study, deleted ones included."""

    run_id: str
    uri: str  # of its artifacts
    trial: int | None  # None: the study's own
    deleted: bool
    ended_ms: int | None  # since 1970; None while it runs


@dataclass(frozen=True)
class StoredVersion:
    """A version of any registered model."""

    model: str
    version: int
    run_id: str
    source: str
    model_id: str | None
    created_ms: int
    tags: dict[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    by_hand: bool = False  # a tag that is not ours, a stage, or a text that was changed after it was made

    @property
    def trial(self) -> int | None:
        """The trial that it was made of; None where no search made it."""
        number = self.tags.get(TRIAL_TAG, "")
        return int(number) if number.isdecimal() else None


@dataclass(frozen=True)
class StoredModel:
    """One of MLflow's own LoggedModels."""

    model_id: str
    uri: str
    created_ms: int


class ArtifactFiles:
    """The runs, versions and files of one MLflow. Every method raises TrackingError."""

    def __init__(self, tracking: Tracking) -> None:
        self._uri, self._experiment_id = tracking.uri, tracking.experiment_id
        self._client = MlflowClient(tracking.uri, tracking.uri)

    def runs(self, study_name: str) -> list[StoredRun]:
        """Return the runs of a study and of its trials, deleted ones included."""
        with asking(self._uri, f"look through the runs of study {study_name!r}"):
            studies = self._search_runs(f"tags.`{KIND_TAG}` = 'study'")
            parents = [run for run in studies if run.data.tags.get(STUDY_TAG) == study_name]
            found = {run.info.run_id: run for run in parents}
            for parent in parents:
                children = self._search_runs(f"tags.`{_PARENT_TAG}` = '{parent.info.run_id}'")
                found |= {run.info.run_id: run for run in children}
        return [_stored(run) for run in found.values()]

    def versions(self, model_name: str) -> list[StoredVersion]:
        """Return the versions of all registered models, with the aliases of those of ``model_name``."""
        with asking(self._uri, "look through the registered versions"):
            aliases = self._aliases(model_name)
            found: list[ModelVersion] = []
            token = None
            while True:
                page = self._client.search_model_versions(page_token=token)
                found += page
                token = page.token
                if not token:
                    break
        return [_version(each, aliases.get(int(each.version), ()) if each.name == model_name else ()) for each in found]

    def logged_models(self, run_ids: set[str]) -> list[StoredModel]:
        """Return the LoggedModels that one of these runs has made; none where this MLflow knows no such thing."""
        search = getattr(self._client, "search_logged_models", None)
        found: list[StoredModel] = []
        token = None
        with asking(self._uri, "look through its logged models"):
            while search is not None:
                page = search([self._experiment_id], page_token=token)
                found += [_logged(model) for model in page if model.source_run_id in run_ids]
                token = page.token
                if not token:
                    break
        return found

    def names(self, uri: str, path: str = "") -> dict[str, bool]:
        """Return what lies at ``path`` among the artifacts at ``uri``, and whether each is a folder."""
        with asking(self._uri, f"list {path or 'the artifacts'} of {uri}"):
            listed = get_artifact_repository(uri, tracking_uri=self._uri).list_artifacts(path or None)
            return {file.path: bool(file.is_dir) for file in listed}

    def sizes(self, uri: str, path: str = "") -> dict[str, int]:
        """Return the bytes of every file below ``path``."""
        with asking(self._uri, f"measure {path or 'the artifacts'} of {uri}"):
            return dict(_walk(get_artifact_repository(uri, tracking_uri=self._uri), path))

    def delete(self, uri: str, path: str) -> None:
        """Delete a file or a folder among the artifacts at ``uri``; one that is not there is no mistake."""
        if not path.strip("/"):
            raise ValueError("the path of what is to be deleted is empty")  # would be all that lies at uri
        with asking(self._uri, f"delete {path} of {uri}"):
            get_artifact_repository(uri, tracking_uri=self._uri).delete_artifacts(path)

    def delete_version(self, model_name: str, version: int) -> bool:
        """Delete a version unless another process gave it an alias in this moment; say whether it is gone."""
        with asking(self._uri, f"delete version {version} of {model_name!r}"):
            if version in self._aliases(model_name):
                return False
            try:
                self._client.delete_model_version(model_name, str(version))
            except MlflowException as error:
                if error.error_code not in _GONE:
                    raise  # otherwise another process has just deleted it
        return True

    def delete_logged_model(self, model_id: str) -> None:
        """Delete a LoggedModel; its files stay until they are deleted."""
        with asking(self._uri, f"delete the logged model {model_id}"):
            self._client.delete_logged_model(model_id)

    def _aliases(self, model_name: str) -> dict[int, tuple[str, ...]]:
        """The aliases of each version that has one."""
        try:
            listed = self._client.get_registered_model(model_name).aliases
        except MlflowException as error:
            if error.error_code in _GONE:
                return {}  # nothing was registered yet
            raise
        by_version: dict[int, tuple[str, ...]] = {}
        for alias, version in listed.items():
            by_version[int(version)] = (*by_version.get(int(version), ()), alias)
        return by_version

    def _search_runs(self, condition: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs([self._experiment_id], condition, ViewType.ALL, page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _walk(repository: Any, path: str) -> Iterator[tuple[str, int]]:
    for file in repository.list_artifacts(path or None):
        if file.is_dir:
            yield from _walk(repository, file.path)
        else:
            yield file.path, int(file.file_size or 0)


def _stored(run: Run) -> StoredRun:
    number = run.data.tags.get(TRIAL_TAG, "")
    return StoredRun(
        str(run.info.run_id),
        str(run.info.artifact_uri),
        int(number) if number.isdecimal() else None,
        run.info.lifecycle_stage == "deleted",
        None if not run.info.end_time else int(run.info.end_time),
    )


def _version(found: ModelVersion, aliases: tuple[str, ...]) -> StoredVersion:
    created_ms = int(found.creation_timestamp)
    by_hand = (
        any(not tag.startswith(_OUR_TAGS) for tag in found.tags)
        or found.current_stage not in _NO_STAGE
        or int(found.last_updated_timestamp or created_ms) != created_ms
    )
    return StoredVersion(
        str(found.name),
        int(found.version),
        str(found.run_id or ""),
        str(found.source or ""),
        found.model_id or None,
        created_ms,
        dict(found.tags),
        aliases,
        by_hand,
    )


def _logged(model: Any) -> StoredModel:
    return StoredModel(str(model.model_id), str(model.artifact_location), int(model.creation_timestamp))


# The networks of trials, which are artifacts of their runs where training them again would take minutes. A head on
# cached features is trained again in seconds, to the same result; its network is not kept. Where a version was
# registered of the run, its bundle is the same network, and `garbage_collection.py` keeps one of the two.

BUNDLE = "network"
VERSION_BUNDLE = "model/artifacts/bundle"  # where a registered version has it (registry.py)
_LONG_SECONDS = 60.0  # of training, from which the network is kept


def is_worth_keeping(result: TrialResult) -> bool:
    """Say whether a trial's network takes so long to train that it is kept."""
    return result.seconds["training"] + result.seconds.get("finetuning", 0.0) > _LONG_SECONDS


def download_network(tracking: Tracking, run_id: str, out: Path) -> Path | None:
    """Copy the bundle of a trial's network into ``out``, be it the run's or that of a version; None without one."""
    for path in (BUNDLE, VERSION_BUNDLE):
        kept = tracking.download(run_id, path, out)
        if kept is not None:
            return kept
    return None
