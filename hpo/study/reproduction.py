"""The command that reproduces a study."""

from __future__ import annotations

from typing import Any

from hpo.data.table.rules import DEFAULT_RULES
from hpo.runtime.commands import command
from hpo.study.study import Study
from hpo.trial.setup import StudySetup


def command_of(study: Study) -> str:
    """Return the command line that begins this study again; options that have their defaults are left out."""
    known = study.attributes
    if known.metric is None or known.data is None:  # a study whose first search has not noted its options yet
        return command("search", study=study.name)
    setup = study.setup
    posters = {} if setup.synthetic else {"data": setup.data.csv, "images": setup.data.images}
    return command(
        "search",
        study=study.name,
        space=setup.space_file or setup.space,
        trials=study.budget or None,
        **posters,
        seed=setup.seed,
        folds=setup.folds,
        metric=setup.metric,
        val_size=setup.data.val_size,
        test_size=setup.data.test_size,
        **_chosen(setup),
    )


def _chosen(setup: StudySetup) -> dict[str, Any]:
    """The options that differ from their defaults."""
    data, rules = setup.data, setup.data.rules
    options = {
        "objective": (setup.objective, "calibrated"),
        "thresholds": (setup.thresholds, "calibrated"),
        "fold_model": (setup.fold_model, "average"),
        "confirm": (setup.confirm, True),
        "sampler": (setup.sampler, "tpe"),
        "pruner": (setup.pruner, None),
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
