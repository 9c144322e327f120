"""What a ranking is worth, whatever the thresholds."""

from __future__ import annotations

import numpy as np

from hpo.decision.counts import Bools, Floats, ratio


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
