"""A bundle: the folder in which a finished classifier travels. JSON and safetensors, no pickle.

    bundle.json          labels, thresholds, backbone, preprocessing, hyperparameters, metrics, fingerprints, versions
    model.safetensors    every weight and buffer of the classifier
    README.md            the model card

The classifier is one network, or an ensemble of several under shared backbones; both are used alike.

A bundle knows nothing of studies or MLflow; a registered model is a bundle with a few lines around it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, ValidationInfo, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hpo.bundle.older_formats import read_description, rename_tensors
from hpo.bundle.preprocessing import Preprocessing
from hpo.data.catalogue.rules import CatalogueRules
from hpo.errors import BundleError, HpoError
from hpo.model.backbones import Backbone, build_backbone
from hpo.model.classifier import Classifier
from hpo.model.ensemble import Ensemble, Network, Part, inputs_of
from hpo.model.hyperparameters import FUSE, Hyperparameters

FORMAT_VERSION = 3
DESCRIPTION_FILE = "bundle.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
_VERSIONED = ("hpo", "torch", "timm", "numpy", "pillow")


class Member(BaseModel):
    """One of the classifiers of an ensemble."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(gt=0, le=1)  # of its probabilities
    inputs: tuple[NonNegativeInt, ...] = Field(min_length=1)  # which of the description's backbones it looks through
    averages_flips: bool  # over the poster and its mirror image
    params: Hyperparameters


class Description(BaseModel):
    """What ``bundle.json`` holds. Where a default is given, older bundles do not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    label_names: tuple[str, ...]  # (L,)
    thresholds: tuple[float, ...]  # (L,), predicted when probability >= threshold
    threshold_strategy: str
    min_labels: NonNegativeInt = 0  # every poster is given its likeliest labels up to so many, whatever the thresholds
    backbone: str  # a+b where there are two, fused or in one ensemble
    backbone_weights: tuple[str, ...]  # where those of each came from
    preprocessing: tuple[Preprocessing, ...]  # for each
    params: Hyperparameters  # of an ensemble's heaviest member
    members: tuple[Member, ...] = ()  # of an ensemble, heaviest first
    metrics: dict[str, Any]
    data: CatalogueRules  # how the CSV was cleaned, so that another one is cleaned alike
    fingerprints: dict[str, str]
    versions: dict[str, str]

    @field_validator("thresholds")
    @classmethod
    def _one_a_label(cls, thresholds: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        n_labels = len(info.data.get("label_names", thresholds))
        if len(thresholds) != n_labels:
            raise ValueError(f"expected one for each of {n_labels} labels, got {len(thresholds)}")
        return thresholds

    @field_validator("backbone_weights", "preprocessing")
    @classmethod
    def _one_a_backbone(cls, entries: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        names = _names(info.data.get("backbone", ""))
        if len(entries) != len(names):
            raise ValueError(f"expected one for each of {len(names)} backbones, got {len(entries)}")
        return entries

    @field_validator("members")
    @classmethod
    def _see_what_is_there(cls, members: tuple[Member, ...], info: ValidationInfo) -> tuple[Member, ...]:
        n_backbones = len(_names(info.data.get("backbone", "")))
        unknown = [at for member in members for at in member.inputs if at >= n_backbones]
        if unknown:
            raise ValueError(f"expected inputs below {n_backbones}, the number of backbones, got {unknown[0]}")
        return members

    @property
    def backbones(self) -> tuple[str, ...]:
        """The networks that posters are looked at through; one name comes twice where two members have tuned it."""
        return _names(self.backbone)


def _names(backbone: str) -> tuple[str, ...]:
    return tuple(backbone.split(FUSE))


def made_of(network: Network) -> dict[str, Any]:
    """Return what a Description says of the network itself."""
    inputs = inputs_of(network)
    members: tuple[Member, ...] = ()
    chosen = network.chosen if isinstance(network, Classifier) else network.parts[0].chosen
    if isinstance(network, Ensemble):
        members = tuple(
            Member(
                weight=min(1.0, part.weight),
                inputs=part.inputs,
                averages_flips=part.averages_flips,
                params=part.chosen,
            )
            for part in network.parts
        )
    return {
        "backbone": "+".join(backbone.name for backbone, _ in inputs),
        "backbone_weights": tuple(backbone.source for backbone, _ in inputs),
        "preprocessing": tuple(Preprocessing.of(backbone, fit) for backbone, fit in inputs),
        "params": chosen,
        "members": members,
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that a bundle's numbers depend on."""
    return {name: metadata.version(name).split("+")[0] for name in _VERSIONED}


def save_bundle(folder: Path, description: Description, classifier: Network, card: str) -> None:
    """Write a bundle to ``folder``, which appears whole or not at all. Raises BundleError when the disk refuses."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as temporary:
            staged = Path(temporary) / "bundle"
            staged.mkdir()
            weights = {key: tensor.contiguous() for key, tensor in classifier.state_dict().items()}
            save_file(weights, staged / WEIGHTS_FILE)
            write_description(staged, description)
            (staged / CARD_FILE).write_text(card, encoding="utf-8")
            replace_folder(staged, folder)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"The bundle could not be written to {folder} ({getattr(error, 'strerror', None) or error}): "
            "free some space or choose another folder with --out."
        ) from error


def write_description(folder: Path, description: Description) -> None:
    """Write ``bundle.json`` beside the weights, with their hash so that an altered file is noticed."""
    fingerprints = {**description.fingerprints, "model": _file_hash(folder / WEIGHTS_FILE)}
    described = description.model_copy(update={"fingerprints": fingerprints}).model_dump(mode="json")
    (folder / DESCRIPTION_FILE).write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")


def replace_folder(staged: Path, folder: Path) -> None:
    """Put ``staged`` in the place of ``folder`` on the same disk; an older folder of that name is dropped."""
    if folder.exists():
        shutil.rmtree(folder)
    staged.rename(folder)


def load_description(folder: Path) -> Description:
    """Read ``bundle.json``. Raises BundleError when it is missing, of a newer format or not as expected."""
    file = folder / DESCRIPTION_FILE
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(
            f"Expected a bundle, got {folder} without a {DESCRIPTION_FILE}: name a folder that hpo export-best wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise BundleError(f"Expected JSON in {file}, got something else ({error}): export the bundle again.") from error
    _check_format(content, file)
    try:
        return Description.model_validate(read_description(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{file} is not as expected at {where} ({first['msg']}): export the bundle again.") from error


def _check_format(content: Any, file: Path) -> None:
    version = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise BundleError(
            f"Expected a bundle of format {FORMAT_VERSION} or older, got {version!r} in {file}: upgrade hpo."
        )


def load_classifier(folder: Path, description: Description) -> Network:
    """Rebuild the network of a bundle. Raises BundleError when the weights are missing, altered or do not fit."""
    file = folder / WEIGHTS_FILE
    if not file.is_file() or _file_hash(file) != description.fingerprints.get("model"):
        raise BundleError(f"{file} is missing or is not the file that was exported: export the bundle again.")
    try:
        backbones = [
            build_backbone(name, preprocessing.image_size, preprocessing.model_dump())
            for name, preprocessing in zip(description.backbones, description.preprocessing, strict=True)
        ]
        classifier = _untrained(backbones, description)
        classifier.load_state_dict(rename_tensors(load_file(file)))
    except (HpoError, RuntimeError) as error:
        raise BundleError(
            f"The weights in {file} do not fit timm's {description.backbone!r} ({textwrap.shorten(str(error), 160)}): "
            f"install timm {description.versions.get('timm', 'of the time')} or export the bundle again."
        ) from error
    return classifier


def _untrained(backbones: list[Backbone], description: Description) -> Network:
    n_labels = len(description.label_names)
    if not description.members:
        return Classifier.untrained(backbones, n_labels, description.params)
    parts = [Part(one.weight, one.params, one.inputs, one.averages_flips) for one in description.members]
    return Ensemble.untrained(backbones, n_labels, parts)


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
