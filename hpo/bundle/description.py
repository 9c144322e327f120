"""The description of a bundle (`bundle.json`): a pydantic model, read without PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import textwrap
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, ValidationInfo, field_validator

from hpo.bundle.trained_on import TRAINED_ON_FILE
from hpo.data.decoding import Fit, Framing, Interpolation
from hpo.data.table.rules import CatalogueRules
from hpo.errors import BundleError
from hpo.model.config import FUSE, TrialConfig

# Bundles of earlier formats, read as if they had been written today.
#
# Format 1 knew one backbone: its preprocessing and the origin of its weights stood alone, and the names of its tensors
# began with ``backbone.``. Since format 2 there is a list, with one entry for each of the backbones that are fused.
# Since format 3 there are ensembles and ``min_labels``, and since format 4 an ONNX graph may lie beside the weights;
# their defaults mean what there was before.

if TYPE_CHECKING:
    from torch import Tensor

_ONE_EACH = ("preprocessing", "backbone_weights")
_ONLY_BACKBONE, _FIRST_BACKBONE = "backbone.", "backbones.0."


def read_description(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an older ``bundle.json`` holds in the words of the present format."""
    listed = {}
    if content["format_version"] == 1:
        listed = {key: [content[key]] for key in _ONE_EACH if key in content}
    return {**content, **listed, "format_version": 4}


def rename_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an older ``model.safetensors`` under the names of the present format."""
    return {
        _FIRST_BACKBONE + name.removeprefix(_ONLY_BACKBONE) if name.startswith(_ONLY_BACKBONE) else name: tensor
        for name, tensor in tensors.items()
    }


# How a poster becomes the input of one of a bundle's backbones, complete enough for a reader without timm.

if TYPE_CHECKING:
    from hpo.model.backbones.backbone import Backbone

Finite = Annotated[float, Field(ge=-1000, le=1000)]
Divisor = Annotated[float, Field(ge=1e-6, le=1000)]
_LARGEST_PX = 1024  # no network of timm's sees more
_DEEPEST_ARGUMENT, _MOST_ARGUMENT_VALUES = 8, 1000


class Preprocessing(BaseModel):
    """What ``bundle.json`` says of each backbone. Where a default is given, older bundles do not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_size: int = Field(gt=0, le=_LARGEST_PX)  # px, of the square
    fit: Fit = "squash"
    interpolation: Interpolation = "bicubic"
    crop_share: float = Field(1.0, ge=0.1, le=1)
    mean: tuple[Finite, Finite, Finite]  # subtracted from pixels in 0..1, which are then divided by std
    std: tuple[Divisor, Divisor, Divisor]
    channel_order: Literal["RGB", "BGR"] = "RGB"
    architecture: str | None = None  # timm's name of the network
    arguments: dict[str, Any] = {}  # what timm builds it with, where the hub says so

    @field_validator("arguments")
    @classmethod
    def _of_a_usual_size(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """Refuse what takes long to look at, and squares or windows (``img_size``) that no poster is scaled to."""
        waiting: list[tuple[str, Any, int]] = [("", arguments, 0)]
        n_seen = 0
        while waiting:
            name, value, depth = waiting.pop()
            n_seen += 1
            if depth > _DEEPEST_ARGUMENT or n_seen > _MOST_ARGUMENT_VALUES:
                raise ValueError("expected a few arguments, got too many")
            if isinstance(value, dict):
                waiting += [(str(key), each, depth + 1) for key, each in value.items()]
            elif isinstance(value, list | tuple):
                waiting += [(name, each, depth + 1) for each in value]
            elif isinstance(value, int | float) and "size" in name and not abs(value) <= _LARGEST_PX:
                raise ValueError(f"expected {name} of at most {_LARGEST_PX}")
        return arguments

    @classmethod
    def of(cls, backbone: Backbone, fit: Fit) -> Preprocessing:
        """Return how posters of that ``fit`` become the input of ``backbone``."""
        return cls.model_validate(backbone.preprocessing(fit))

    @property
    def framing(self) -> Framing:
        """How a poster becomes a square."""
        return Framing(self.image_size, self.fit, self.interpolation, self.crop_share)


FORMAT_VERSION = 4
DESCRIPTION_FILE = "bundle.json"
WEIGHTS_FILE = "model.safetensors"
GRAPH_FILE = "model.onnx"
CARD_FILE = "README.md"
BUNDLE_FILES = (DESCRIPTION_FILE, WEIGHTS_FILE, GRAPH_FILE, CARD_FILE, TRAINED_ON_FILE)
_VERSIONED = ("hpo", "torch", "timm", "numpy", "pillow")

_MOST_BYTES = 2**24  # of bundle.json; one of 60 members takes 120 kB
_DEEPEST = 64  # lists and objects in one another; hpo writes seven
_SHARE_OF_MEMORY = 0.5  # for a file that is read as a whole, besides the network that it fills
_MOST_MEMBERS = 1000
_MOST_BACKBONES = 100
_MOST_FUSED = 20  # under one head

Precision = Literal["fp32", "fp16"]


class Member(BaseModel):
    """One of the classifiers of an ensemble."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(gt=0, le=1)  # of its probabilities
    # Which of the description's backbones it looks through.
    inputs: tuple[NonNegativeInt, ...] = Field(min_length=1, max_length=_MOST_FUSED)
    averages_flips: bool  # over the poster and its mirror image
    params: TrialConfig


class Graph(BaseModel):
    """The same network as an ONNX graph, and how far its answers are from PyTorch's on posters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    precision: Precision
    sha256: str
    n_posters: NonNegativeInt  # on which the two were compared
    largest_difference: float  # of a probability
    same_labels: float = Field(ge=0, le=1)  # share of these posters
    cost: float | None = None  # in the search's metric, on the test posters; None where they were not at hand


class Description(BaseModel):
    """What ``bundle.json`` holds. Where a default is given, older bundles do not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    label_names: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)  # (L,)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...]  # (L,), predicted when probability >= threshold
    threshold_strategy: str
    min_labels: NonNegativeInt = 0  # every poster is given its likeliest labels up to so many, whatever the thresholds
    backbone: str  # a+b where there are two, fused or in one ensemble
    backbone_weights: tuple[str, ...]  # where those of each came from
    preprocessing: tuple[Preprocessing, ...]  # for each
    params: TrialConfig  # of an ensemble's heaviest member
    members: tuple[Member, ...] = Field((), max_length=_MOST_MEMBERS)  # of an ensemble, heaviest first
    onnx: Graph | None = None  # where it was exported as one
    metrics: dict[str, Any]
    data: CatalogueRules  # how the CSV was cleaned, so that another one is cleaned alike
    fingerprints: dict[str, str]
    versions: dict[str, str]

    @field_validator("label_names")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("expected different labels, got one of them twice")
        return names

    @field_validator("min_labels")
    @classmethod
    def _as_many_as_there_are(cls, at_least: int, info: ValidationInfo) -> int:
        n_labels = len(info.data.get("label_names", ()))
        if at_least > n_labels:
            raise ValueError(f"expected at most {n_labels}, the number of labels")
        return at_least

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
        if len(names) > _MOST_BACKBONES:
            raise ValueError(f"expected at most {_MOST_BACKBONES} backbones, got {len(names)}")
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


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that a bundle's numbers depend on."""
    return {name: metadata.version(name).split("+")[0] for name in _VERSIONED}


def write_description(folder: Path, description: Description) -> None:
    """Write ``bundle.json`` beside the weights, with their hash so that an altered file is noticed."""
    fingerprints = {**description.fingerprints, "model": file_hash(folder / WEIGHTS_FILE)}
    described = description.model_copy(update={"fingerprints": fingerprints}).model_dump(mode="json")
    (folder / DESCRIPTION_FILE).write_text(json.dumps(described, indent=2, ensure_ascii=False), encoding="utf-8")


def replace_folder(staged: Path, folder: Path) -> None:
    """Put ``staged`` in the place of ``folder`` on the same disk: of an older folder, the files of a bundle go.

    It is moved aside first, beside ``staged``, so that under its name there is never a part of it. What else it holds
    is linked into ``staged`` before that, so that a kill at any moment loses none of it.
    """
    older = staged.with_name("replaced")
    if folder.exists():
        _keep_others(folder, staged)
        folder.rename(older)
    try:
        staged.rename(folder)
    except OSError:
        if older.exists():
            older.rename(folder)
        raise
    shutil.rmtree(older, ignore_errors=True)


def _keep_others(folder: Path, staged: Path) -> None:
    """Link what in ``folder`` is no file of a bundle into ``staged``."""
    for other in folder.iterdir():
        if other.name in BUNDLE_FILES or (staged / other.name).exists() or staged.is_relative_to(other):
            continue
        if other.is_dir() and not other.is_symlink():
            shutil.copytree(other, staged / other.name, symlinks=True, copy_function=_link)
        else:
            _link(other, staged / other.name)


def _link(file: Path | str, link: Path | str) -> None:
    try:
        os.link(file, link, follow_symlinks=False)
    except OSError:  # a disk that knows no links
        shutil.copy2(file, link, follow_symlinks=False)


def load_description(folder: Path) -> Description:
    """Read ``bundle.json``. Raises BundleError when it is missing, of a newer format or not as expected."""
    file = folder / DESCRIPTION_FILE
    try:
        if not file.is_file():  # a pipe would wait for ever, a device never end
            raise BundleError(
                f"Expected a bundle, got {folder} without a {DESCRIPTION_FILE}: name a folder that hpo export-best "
                "wrote."
            )
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{file.stat().st_size:,} bytes")
        content = json.loads(file.read_text(encoding="utf-8"))
        if _is_deeper(content, _DEEPEST):
            raise ValueError(f"lists or objects in one another more than {_DEEPEST} times")
    except OSError as error:
        raise BundleError(
            f"Expected to read {file}, got an error ({error.strerror or error}): check its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"Expected JSON in {file}, got something else ({error}): export the bundle again.") from error
    _check_format(content, file)
    try:
        return Description.model_validate(read_description(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = textwrap.shorten(".".join(str(part) for part in first["loc"]), 100)
        raise BundleError(f"{file} is not as expected at {where} ({first['msg']}): export the bundle again.") from error


def _is_deeper(content: Any, most: int) -> bool:
    level = [content]
    for _ in range(most):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _check_format(content: Any, file: Path) -> None:
    version = content.get("format_version") if isinstance(content, dict) else None
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:  # in JSON, true is no number
        raise BundleError(
            f"Expected a bundle of format {FORMAT_VERSION} or older, got {version!r} in {file}: upgrade hpo."
        )


def file_hash(file: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checked_content(file: Path, sha256: str | None) -> bytes:
    """Return the bytes of a bundle's file.

    Raises BundleError when it is missing, altered since ``sha256``, or larger than this machine can hold.
    """
    try:
        is_file = file.is_file()  # a pipe would wait for ever, a device never end
        if is_file and file.stat().st_size > _SHARE_OF_MEMORY * psutil.virtual_memory().total:
            raise BundleError(
                f"Expected a file of at most half of this machine's memory, got {file.stat().st_size / 1e9:.1f} GB in "
                f"{file}: use a larger machine or another bundle."
            )
        content = file.read_bytes() if is_file else b""
    except MemoryError:
        content = b""
    except OSError as error:
        raise BundleError(
            f"Expected to read {file}, got an error ({error.strerror or error}): check its permissions."
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise BundleError(f"{file} is missing or is not the file that was exported: export the bundle again.")
    return content
