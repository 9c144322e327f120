"""The command that reproduces a study."""

from __future__ import annotations

from typing import Any

from hpo.data.dataset import DataOptions
from hpo.data.table.rules import DEFAULT_RULES
from hpo.runtime.commands import command
from hpo.study.study import Study


def command_of(study: Study) -> str:
    """Return the command line that begins this study again; options that have their defaults are left out."""
    known = study.attributes
    if "data" not in known:  # a study whose first search has not noted its options yet
        return command("search", study=study.name)
    data = DataOptions.model_validate(known["data"])
    posters = {} if known.get("synthetic") else {"data": data.csv, "images": data.images}
    return command(
        "search",
        study=study.name,
        space=known.get("space_file") or known["space"],
        trials=study.budget or None,
        **posters,
        seed=known["seed"],
        folds=known.get("folds", 1),
        metric=known["metric"],
        val_size=data.val_size,
        test_size=data.test_size,
        **_chosen(known, data),
    )


def _chosen(known: dict[str, Any], data: DataOptions) -> dict[str, Any]:
    """The options that differ from their defaults."""
    rules = data.rules
    options = {
        "objective": (known.get("objective"), "calibrated"),
        "thresholds": (known.get("thresholds"), "calibrated"),
        "fold_model": (known.get("fold_model"), "average"),
        "confirm": (known.get("confirm"), True),
        "sampler": (known.get("sampler"), "tpe"),
        "pruner": (known.get("pruner"), None),
        "grouping": (data.grouping, "all"),
        "split": (data.split_file, None),
        "labels": (rules.top_labels, DEFAULT_RULES.top_labels),
        "types": (_types(rules.types), _types(DEFAULT_RULES.types)),
        "adult": (rules.keep_adult, False),
        "id_column": (rules.id_column, None),
        "labels_column": (rules.labels_column, None),
        "image_column": (rules.image_column, None),
        "group_column": (rules.group_column, None),
        "label_separator": (rules.label_separator, None),
    }
    return {name: value for name, (value, default) in options.items() if value not in (None, default)}


def _types(types: tuple[str, ...] | None) -> str:
    return "all" if types is None else ",".join(types)
