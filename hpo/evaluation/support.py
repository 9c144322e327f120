"""Averages over the labels that have support in a table.

A study averages over all of its labels, since its split gives each of them posters. Another table may never use a label
of the bundle, and a 0 for it would say nothing of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from hpo.evaluation.bootstrap import ThresholdedPredictions
from hpo.evaluation.counts import Bools
from hpo.evaluation.metrics import METRICS, predict

T = TypeVar("T")

MACRO = "_macro"  # ends the name of a mean over all labels, in which one without a positive counts as 0
_NEVER = 2.0  # a threshold that no probability reaches


def over_supported(decided: ThresholdedPredictions, targets: Bools) -> tuple[ThresholdedPredictions, Bools]:
    """Return what is decided of, and the targets (N, L') of, the labels that some poster of targets (N, L) has.

    Their predictions are those that were made among all L labels. Raises DataError: see `metrics.predict`.
    """
    has = targets.any(axis=0)
    chosen = predict(decided.probabilities, decided.thresholds, decided.min_labels)
    thresholds = np.where(chosen, 0.0, _NEVER)
    return ThresholdedPredictions(np.asarray(decided.probabilities)[:, has], thresholds[:, has]), targets[:, has]


def is_over_labels(average: str) -> bool:
    """Say whether an average, of METRICS or of `metrics.averages`, is a mean over labels."""
    return METRICS[average].over_labels if average in METRICS else average.endswith(MACRO)


def with_macros(averages: Mapping[str, T], supported: Mapping[str, T]) -> dict[str, T]:
    """Return ``averages`` with the macro averages of ``supported``, both by name."""
    return {
        name: supported[name] if name.endswith(MACRO) and name in supported else value
        for name, value in averages.items()
    }
