"""What a study is bound to, and what it remembers for the commands that come after the search."""

from __future__ import annotations

from typing import Any

from hpo.data.prepare import PreparedData, SavedSplit
from hpo.search.options import SearchOptions


def identity(options: SearchOptions, data: PreparedData) -> dict[str, str]:
    """Return, by the words in which a refusal names it, what may not change while a study lives."""
    fingerprints = data.fingerprints
    return {
        "data set": fingerprints["labels"] + fingerprints["images"],
        "split": fingerprints["split"],
        "search space": options.space.fingerprint,
        "metric": options.metric,
        "objective": f"{options.objective.kind} at {options.objective.strategy} thresholds",
        "folds": "1" if options.n_folds == 1 else f"{options.n_folds} {options.fold_model}",
    }


def memory(options: SearchOptions, data: PreparedData, saved: SavedSplit) -> dict[str, Any]:
    """Return what later commands (export, leaderboard) need to know of a study, in JSON.

    A split that was given is remembered by its copy, since the user's own file may change.
    """
    given = options.data.split_file is not None
    posters = options.data.model_copy(update={"split_file": saved.file}) if given else options.data
    return {
        "metric": options.metric,
        "objective": options.objective.kind,
        "thresholds": options.objective.strategy,
        "folds": options.n_folds,
        "fold_model": options.fold_model,
        "confirm": options.confirm,
        "sampler": options.sampler,
        "pruner": options.pruner,
        "space": options.space.name,
        "space_file": None if options.space_file is None else str(options.space_file),
        "weights": dict(options.space.weights),
        "data": posters.model_dump(mode="json"),
        "seed": options.seed,
        "synthetic": options.synthetic,
        "backbones": list(options.space.backbones),
        "fingerprints": data.fingerprints,
    }
