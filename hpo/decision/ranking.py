"""What a ranking is worth, whatever the thresholds."""

from __future__ import annotations

import numpy as np

from hpo.decision.counts import Bools, Floats, ratio


def area_under_roc(probabilities: Floats, targets: Bools) -> float:
    """Return how often a poster with the label has a higher probability (N,) than one without; ties count half.

    That is the area under the ROC curve (Mann & Whitney 1947); NaN where all posters have the label, or none.
    """
    n_with = int(targets.sum())
    n_without = len(targets) - n_with
    _, level, n_alike = np.unique(probabilities, return_inverse=True, return_counts=True)
    rank = np.cumsum(n_alike) - (n_alike - 1) / 2  # from 1, the mean of each tie
    above = rank[level][targets].sum() - n_with * (n_with + 1) / 2
    return float(above / (n_with * n_without)) if n_with and n_without else float("nan")


def average_precision(probabilities: Floats, targets: Bools, weights: Floats) -> Floats:
    """Return the average precision (B,) of one label's probabilities (N,) under weights (N, B).

    It is the mean, over the positives, of the precision among all posters at least as likely as each.
    """
    order = np.argsort(-probabilities)
    positives = np.flatnonzero(targets[order])  # (P,) ranks, likeliest first
    levels = -probabilities[order]  # ascending, as searchsorted needs it
    # (P,) Where each positive's tie ends: as a rank among all posters, and as one among the positives.
    tie_end = np.searchsorted(levels, levels[positives], side="right") - 1
    tie_end_positive = np.searchsorted(positives, tie_end, side="right") - 1

    ranked = weights[order]
    hits = np.cumsum(ranked[positives], axis=0)  # (P, B)
    predicted = np.cumsum(ranked, axis=0)[tie_end]  # (P, B)
    precision = ratio(hits[tie_end_positive], predicted)
    return ratio((ranked[positives] * precision).sum(axis=0), ranked[positives].sum(axis=0))
