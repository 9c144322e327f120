"""What a study remembers of itself in Optuna's user attributes: the only place that knows their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar

import optuna
from pydantic import BaseModel, ConfigDict, ValidationError

from hpo.data.dataset import DataOptions
from hpo.errors import StudyError
from hpo.escaping import shortened
from hpo.evaluation.thresholds import DEFAULT_STRATEGY
from hpo.runtime.commands import command
from hpo.trial.setup import StudySetup

UNLIMITED_TRIALS = 1_000  # the budget of a study that is limited by time
SPACE = "space_document"  # the attribute that holds the space itself
OF_THE_SPACE = ("space", "space_file", "weights", "backbones", SPACE)  # what changes with a study's space

M = TypeVar("M", bound=BaseModel)


class ChampionRef(TypedDict):
    """A registered version and its run."""

    version: int
    run_id: str


class ChampionRecord(ChampionRef, total=False):
    """The version that was last given the alias ``champion``, and what is claimed of it."""

    reason: str
    ci95: list[float]  # of the study's metric
    trials: list[int]  # of an average: its members, heaviest first
    value: float  # of an average: the study's metric, cross-fitted


class ExportedScores(TypedDict):
    """What the bundle of an exported champion claims of the study's metric."""

    trials: list[int]  # one, or the members of an average
    value: float
    ci95: list[float]
    on: str  # which posters, in words
    test: dict[str, Any]  # value, ci95 and n_posters of the test posters


class StudyProgress(BaseModel):
    """What changes while a study continues."""

    model_config = ConfigDict(frozen=True)

    identity: dict[str, str] | None = None  # what may not change, by the words of a refusal; written last
    budget: int = 0  # finished trials that were last asked for
    confirmed: dict[str, dict[str, float]] = {}  # trial number → fresh seed → value
    code: str | None = None  # digest of the code of its workers
    late_runs: dict[str, str] = {}  # trial number → MLflow run that was written after the trial had ended
    warm_started: tuple[str, ...] = ()  # studies whose best trials were queued
    version_of: str | None = None  # base name, where this is a later version
    champion: dict[str, Any] | None = None  # a ChampionRecord
    exported: dict[str, Any] | None = None  # ExportedScores
    time_spent: str | None = None  # where the time of the last profiled search went
    drawn: dict[str, Any] | None = None  # of what the study's figures were drawn
    posters_note: str = ""  # what the report says of the posters, in Markdown
    space_document: dict[str, Any] | None = None  # as ``migration.write_space`` writes it


class StudyAttributes(StudyProgress):
    """Everything that a study remembers, as far as it was written yet.

    What a study is begun with is complete in ``StudySetup``, which ``setup_of`` reads.
    """

    metric: str | None = None  # written last of the setup: a study that knows it is begun
    objective: str | None = None
    thresholds: str = DEFAULT_STRATEGY
    folds: int = 1
    space: str | None = None
    seed: int | None = None
    synthetic: bool = False
    data: DataOptions | None = None
    fingerprints: dict[str, str] | None = None


_CHANGING = frozenset(StudyProgress.model_fields)


def attributes_of(name: str, written: Mapping[str, Any]) -> StudyAttributes:
    """Return the attributes of study ``name``. Raises StudyError where one of them is not what hpo writes."""
    return _read(StudyAttributes, name, written)


def setup_of(name: str, written: Mapping[str, Any]) -> StudySetup:
    """Return what study ``name`` was begun with. Raises StudyError where that is incomplete, or not what hpo writes."""
    return _read(StudySetup, name, written)


def _read(model: type[M], name: str, written: Mapping[str, Any]) -> M:
    try:
        return model.model_validate(dict(written))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StudyError(
            f"Expected study {name!r} to remember {where!r} as {command('search')} writes it, but it cannot be used "
            f"({first['msg']}): begin another study with --study, or take an older copy of its database."
        ) from None


def begun_with(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes less those that change while a study continues, as they are in the database."""
    return {key: value for key, value in written.items() if key not in _CHANGING}


def is_bound(written: Mapping[str, Any]) -> bool:
    """Say whether a study knows its identity: one that does not is new, or an interrupted copy."""
    return "identity" in written


def write(study: optuna.Study, **attributes: Any) -> None:
    """Write attributes in the order in which they are given; their values are JSON."""
    for key, value in attributes.items():
        study.set_user_attr(key, value)


def write_begun(study: optuna.Study, more: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    """Write what a new study is begun with: the metric last of ``more``, and the identity after all of it."""
    write(study, **dict(sorted(more.items(), key=lambda item: item[0] == "metric")), identity=dict(identity))


# In which options a study differs from what is asked for now.

_DATA = {  # what a study remembers of its posters → the option that decides it
    ("csv",): "--data",
    ("images",): "--images",
    ("rules", "top_labels"): "--labels",
    ("rules", "types"): "--types",
    ("rules", "keep_adult"): "--adult",
    ("rules", "id_column"): "--id-column",
    ("rules", "labels_column"): "--labels-column",
    ("rules", "label_separator"): "--label-separator",
    ("rules", "image_column"): "--image-column",
    ("rules", "group_column"): "--group-column",
    ("val_size",): "--val-size",
    ("test_size",): "--test-size",
    ("grouping",): "--grouping",
    ("split_file",): "--split",
    ("seed",): "--seed",
}
_OPTIONS = {  # part of a study's identity → what it remembers of it, and the option
    "search space": [("space", "--space")],
    "metric": [("metric", "--metric")],
    "objective": [("objective", "--objective"), ("thresholds", "--thresholds")],
    "folds": [("folds", "--folds"), ("fold_model", "--fold-model")],
}
_OF_POSTERS = {"data set", "split"}


def differences(known: Mapping[str, Any], asked: Mapping[str, Any], changed: Sequence[str]) -> str:
    """Return `` (study: f1_macro, now: f1_micro (--metric))`` with every option in which a study differs.

    ``known`` is what the study remembers and ``asked`` what it would remember if it were begun now; ``changed`` are
    the words of its identity that differ. Empty where no option can be named.
    """
    pairs = [pair for what in changed for pair in _OPTIONS.get(what, ())]
    said = [_said(known.get(key), asked.get(key), option) for key, option in pairs if known.get(key) != asked.get(key)]
    if _OF_POSTERS & set(changed):
        said += _of_posters(known.get("data") or {}, asked.get("data") or {})
    if "search space" in changed and known.get("space") == asked.get("space"):
        said.append("the file of --space has changed")
    return f" ({'; '.join(said)})" if said else ""


def _of_posters(known: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    values = [(_at(known, path), _at(asked, path), option) for path, option in _DATA.items()]
    said = [_said(before, now, option) for before, now, option in values if before != now]
    return said or ["the rows of --data or the files of --images have changed"]


def _at(data: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = data
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _said(before: Any, now: Any, option: str) -> str:
    return f"study: {_shown(before, option)}, now: {_shown(now, option)} ({option})"


def _shown(value: Any, option: str) -> str:
    if option == "--types" and value is None:
        return "all"
    if isinstance(value, list | tuple):
        return shortened(",".join(map(str, value)))
    return "not given" if value is None else shortened(str(value), 200)
