"""The MLflow model registry: versions of a study's model and the alias `champion`.

A registered version is a bundle as a pyfunc (``pyfunc.py``) among the artifacts of its trial's run, or, for an average
of trials, of the study's run.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import hpo.tracking.environment  # noqa: F401 - before mlflow

# isort: split

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from hpo.bundle.description import DESCRIPTION_FILE, WEIGHTS_FILE, file_hash, replace_folder
from hpo.errors import TrackingError
from hpo.runtime.commands import command
from hpo.runtime.masking import masked
from hpo.study.trial_record import title_of
from hpo.tracking.client import MAX_DESCRIPTION, as_tags, asking, cut

CHAMPION, CHALLENGER = "champion", "challenger"
TRIAL_TAG, AVERAGE_TAG, VALUE_TAG, REASON_TAG = "hpo.trial", "hpo.average", "hpo.value", "hpo.reason"
_DIGEST_TAG = "hpo.bundle"  # SHA-256 of its description and weights

_MODEL = "model"  # a trial's version among its run's artifacts
AVERAGE_FOLDER = "average-"  # how the name of an average's folder begins, among the artifacts of the study's run
_BUNDLE = "artifacts/bundle"  # below either


@dataclass(frozen=True)
class Version:
    """A registered version that a search made: of one trial, or of an average of several."""

    version: int
    run_id: str
    weights: dict[int, float]  # trial → its weight; of one trial 1
    value: float
    tags: dict[str, str]

    @property
    def trial_number(self) -> int | None:
        """The trial that it was made of; None for an average."""
        return None if self.is_average else next(iter(self.weights))

    @property
    def is_average(self) -> bool:
        """Whether it averages several trials."""
        return len(self.weights) > 1

    @property
    def title(self) -> str:
        """What it was made of, in words."""
        return title_of(self.weights)

    @property
    def folder(self) -> str:
        """Where it is among the artifacts of its run."""
        return _folder_of(self.weights)


def _folder_of(weights: Mapping[int, float]) -> str:
    if len(weights) == 1:
        return _MODEL
    return f"{AVERAGE_FOLDER}{hashlib.sha256(_written(weights).encode()).hexdigest()[:12]}"


def _written(weights: Mapping[int, float]) -> str:
    return json.dumps({str(trial): round(weight, 6) for trial, weight in weights.items()})


class Registry:
    """The registered models of the MLflow at ``uri``. Every method raises TrackingError."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        self._client, self.uri = client, uri

    def register(
        self,
        model_name: str,
        run_id: str,
        weights: Mapping[int, float],
        bundle: Path,
        tags: Mapping[str, str],
        description: str,
        reason: str,
    ) -> int:
        """Make ``bundle`` a version of ``model_name`` with the alias ``champion``, and return the version.

        The version that had it becomes the ``challenger``: the next best, to fall back on or to compare with.
        ``weights`` names the trials that it is made of; the run of an average is the study's. ``tags`` must hold
        ``hpo.value``, the value; ``reason`` is why it takes the alias. The same trials are registered once: a version
        that was made before, or whose alias a kill prevented, is found again, and its files are written again where
        they cannot be read or are not those that were registered.
        """
        folder = _folder_of(weights)
        with asking(self.uri, f"register {title_of(weights)} as {model_name!r}"):
            version = self._version_of(model_name, run_id, folder)
            if version is None:
                self._upload_model(run_id, bundle, folder)
                version = self._create_version(model_name, run_id, folder, {**tags, **_made_of(weights)}, description)
                self._note_digest(model_name, version, bundle)
            elif not self.is_whole(self.version(model_name, "", str(version))):
                self._upload_model(run_id, bundle, folder)
                self._note_digest(model_name, version, bundle)
            self._client.set_model_version_tag(model_name, str(version), REASON_TAG, reason)
            before = self._aliased(model_name, CHAMPION)
            self._client.set_registered_model_alias(model_name, CHAMPION, str(version))
            if before is not None and int(before.version) != version:
                self._client.set_registered_model_alias(model_name, CHALLENGER, str(before.version))
        return version

    def explain(self, model_name: str, version: int, reason: str) -> None:
        """Say on a version why it has the alias."""
        with asking(self.uri, f"say why version {version} of {model_name!r} is the champion"):
            self._client.set_model_version_tag(model_name, str(version), REASON_TAG, cut(reason, MAX_DESCRIPTION))

    def champion(self, model_name: str) -> Version | None:
        """Return the champion, or None before there is one."""
        with asking(self.uri, f"say which version of {model_name!r} is the champion"):
            version = self._aliased(model_name, CHAMPION)
        return None if version is None else _from_a_search(model_name, version)

    def version(self, model_name: str, alias: str, version: str) -> Version:
        """Return the version with that alias, or of that number."""
        with asking(self.uri, f"find version {alias or version} of {model_name!r}"):
            found = (
                self._client.get_model_version_by_alias(model_name, alias)
                if alias
                else self._client.get_model_version(model_name, version)
            )
        return _from_a_search(model_name, found)

    def download_version(self, model_name: str, alias: str, version: str, out: Path) -> Path:
        """Copy the bundle of a version into the folder ``out``, and return where it is."""
        return self._download(model_name, self.version(model_name, alias, version), out)

    def is_whole(self, version: Version) -> bool:
        """Say whether the files of a version can be read and are those that were registered."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                with asking(self.uri, f"read version {version.version}"):
                    found = self._client.download_artifacts(version.run_id, f"{version.folder}/{_BUNDLE}", folder)
            except TrackingError:
                return False
            return _is_registered(Path(found), version)

    def _download(self, model_name: str, version: Version, out: Path) -> Path:
        with asking(self.uri, f"copy version {version.version} of {model_name!r}"):
            found = Path(self._client.download_artifacts(version.run_id, f"{version.folder}/{_BUNDLE}", str(out)))
        if not _is_registered(found, version):
            raise TrackingError(
                f"Expected the files of version {version.version} of {model_name!r} as they were registered, got "
                f"others at {masked(self.uri)} (run {version.run_id}): type "
                f"{command('sync', study=model_name)} to train it again."
            )
        return found

    def version_of_trial(self, model_name: str, run_id: str) -> Version | None:
        """Return the version that was registered of a trial's run, or None."""
        with asking(self.uri, f"find the version of run {run_id}"):
            version = self._version_of(model_name, run_id, _MODEL)
        return None if version is None else self.version(model_name, "", str(version))

    def download_bundle(self, model_name: str, out: Path, version: Version | None = None) -> None:
        """Copy a version's bundle, or the champion's, to the folder ``out``, whole or not at all."""
        champion = self.champion(model_name) if version is None else version
        if champion is None:
            raise TrackingError(
                f"Expected a champion of {model_name!r} at {masked(self.uri)}, got none: run hpo search "
                "until a trial is complete."
            )
        with asking(self.uri, f"copy version {champion.version} of {model_name!r} to {out}"):
            out.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".champion-") as temporary:
                replace_folder(self._download(model_name, champion, Path(temporary)), out)

    def _aliased(self, model_name: str, alias: str) -> ModelVersion | None:
        try:
            return self._client.get_model_version_by_alias(model_name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None  # no such model, or no version of it has the alias
            raise

    def _version_of(self, model_name: str, run_id: str, folder: str) -> int | None:
        versions = self._client.search_model_versions(f"run_id = '{run_id}'")
        ours = (one for one in versions if one.name == model_name and str(one.source).endswith(f"/{folder}"))
        return next((int(version.version) for version in ours), None)

    def _note_digest(self, model_name: str, version: int, bundle: Path) -> None:
        self._client.set_model_version_tag(model_name, str(version), _DIGEST_TAG, _digest(bundle))

    def _upload_model(self, run_id: str, bundle: Path, folder: str) -> None:
        from hpo.tracking.pyfunc import save  # late: it imports PyTorch, which most commands do without

        with tempfile.TemporaryDirectory() as temporary:
            save(bundle, Path(temporary) / folder)
            self._client.log_artifacts(run_id, f"{temporary}/{folder}", folder)

    def _create_version(
        self, model_name: str, run_id: str, folder: str, tags: Mapping[str, str], description: str
    ) -> int:
        try:
            self._client.create_registered_model(model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{folder}"
        described = cut(description, MAX_DESCRIPTION)
        version = self._client.create_model_version(
            model_name, source, run_id, as_tags(tags), description=described, await_creation_for=0
        )
        return int(version.version)


def _is_registered(bundle: Path, version: Version) -> bool:
    """Whether a bundle is the one that was registered; a version of an older hpo only says what its weights are."""
    try:
        if _DIGEST_TAG in version.tags:
            return _digest(bundle) == version.tags[_DIGEST_TAG]
        described = json.loads((bundle / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        return bool(file_hash(bundle / WEIGHTS_FILE) == described["fingerprints"]["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _digest(bundle: Path) -> str:
    files = (bundle / name for name in (DESCRIPTION_FILE, WEIGHTS_FILE))
    return hashlib.sha256("".join(file_hash(file) for file in files if file.is_file()).encode()).hexdigest()


def _made_of(weights: Mapping[int, float]) -> dict[str, str]:
    """Return the tag that says which trials a version is made of."""
    if len(weights) == 1:
        return {TRIAL_TAG: str(next(iter(weights)))}
    return {AVERAGE_TAG: _written(weights)}


def _weights_of(tags: Mapping[str, str]) -> dict[int, float] | None:
    """Return what ``_made_of`` wrote, None where it is not there."""
    if TRIAL_TAG in tags:
        return {int(tags[TRIAL_TAG]): 1.0}
    if AVERAGE_TAG not in tags:
        return None
    return {int(trial): float(weight) for trial, weight in json.loads(tags[AVERAGE_TAG]).items()}


def _from_a_search(model_name: str, version: ModelVersion) -> Version:
    weights = _weights_of(version.tags)
    if weights is None or VALUE_TAG not in version.tags:
        raise TrackingError(
            f"Expected version {version.version} of the registered model {model_name!r} to come from a search, got "
            "one without the tags of one: choose another name with --study."
        )
    return Version(
        int(version.version),
        version.run_id,
        weights,
        float(version.tags[VALUE_TAG]),
        dict(version.tags),
    )
