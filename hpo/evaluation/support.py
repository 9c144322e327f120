"""Averages over the labels that have support in a table.

A study averages over all of its labels, since its split gives each of them posters. Another table may never use a label
of the bundle, and a 0 for it would say nothing of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from hpo.evaluation.bootstrap import Decided
from hpo.evaluation.metrics import Bools, predict

T = TypeVar("T")

_NEVER = 2.0  # a threshold that no probability reaches


def over_supported(decided: Decided, targets: Bools) -> tuple[Decided, Bools]:
    """Return the labels (N, L') that some poster has, with the decisions that were made among all L labels."""
    has = targets.any(axis=0)
    chosen = predict(decided.probabilities, decided.thresholds, decided.min_labels)
    cuts = np.where(chosen, 0.0, _NEVER)
    return Decided(np.asarray(decided.probabilities)[:, has], cuts[:, has]), targets[:, has]


def with_macros(averages: Mapping[str, T], supported: Mapping[str, T]) -> dict[str, T]:
    """Return ``averages`` with the macro averages of ``supported``; the area under the ROC curve leaves out its own."""
    return {
        name: supported[name] if name.endswith("_macro") and name in supported else value
        for name, value in averages.items()
    }
