"""Options in which a study differs from what is asked for now, each with both values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.escaping import shortened

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
