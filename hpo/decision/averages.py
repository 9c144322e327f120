"""Every average that multi-label papers report, beside the four that a study can maximise (`metrics.METRICS`).

The definitions are scikit-learn's with `zero_division=0`, the judge of this module's tests. Labels that all posters
have, or none, are left out of the area under the ROC curve, which has no value there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hpo.decision.counts import Bools, Counts, f1, ratio
from hpo.decision.curves import calibration_error
from hpo.decision.metrics import checked, predict, score
from hpo.decision.ranking import area_under_roc

LOWER_IS_BETTER = ("hamming_loss", "calibration_error")


def averages(
    probabilities: ArrayLike, targets: ArrayLike, thresholds: ArrayLike, min_labels: int = 0
) -> dict[str, float]:
    """Return every average of probabilities (N, L), cut at thresholds (L,) or (N, L), against targets (N, L).

    F1, precision and recall as macro, micro, samples and weighted (by how many posters have a label), Hamming loss and
    subset accuracy of the decisions; mean AP, macro AUC and the expected calibration error of the probabilities.

    Raises:
        DataError: see `metrics.checked` and `metrics.predict`.
    """
    table, actual = checked(probabilities, targets)
    areas = np.array([area_under_roc(*label) for label in zip(table.T, actual.T, strict=True)])
    known = areas[~np.isnan(areas)]
    return {
        **decided(predict(table, thresholds, min_labels), actual),
        "mean_ap": score(table, actual, thresholds).mean_ap,
        "auc_macro": float(known.mean()) if len(known) else 0.0,
        "calibration_error": calibration_error(table, actual),
    }


def decided(predictions: Bools, targets: Bools) -> dict[str, float]:
    """Return the averages of decisions (N, L), whatever the probabilities behind them."""
    right = predictions & targets
    by_label = right.sum(axis=0), predictions.sum(axis=0), targets.sum(axis=0)
    by_poster = right.sum(axis=1), predictions.sum(axis=1), targets.sum(axis=1)
    support = by_label[2]
    found: dict[str, float] = {}
    for name, of in (("f1", f1), ("precision", _precision), ("recall", _recall)):
        each = of(*by_label)
        found[f"{name}_macro"] = float(each.mean())
        found[f"{name}_micro"] = float(of(*(counts.sum() for counts in by_label)))
        found[f"{name}_samples"] = float(of(*by_poster).mean())
        found[f"{name}_weighted"] = float(ratio((each * support).sum(), support.sum()))
    found["hamming_loss"] = float((predictions != targets).mean())
    found["subset_accuracy"] = float((predictions == targets).all(axis=1).mean())
    return found


def _precision(hits: Counts, predicted: Counts, actual: Counts) -> Counts:
    return ratio(hits, predicted)


def _recall(hits: Counts, predicted: Counts, actual: Counts) -> Counts:
    return ratio(hits, actual)
