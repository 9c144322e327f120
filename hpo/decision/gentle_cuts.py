"""Cuts that give up a little on the posters seen for more on new ones: smoothed, shrunk and bagged.

An exact cut sits in the luckiest gap between two posters, and for a label of few positives luck is most of it. Three
ways to trust it less. Whether one of them holds better than the calibrated cut on real posters is not measured yet:

    smoothed   maximise (2 hits + 1) / (predicted + actual + 1): one imagined hit makes a gap of few posters weigh less
    shrunk     draw each label's cut towards the one that is best for all labels, the more the fewer its positives
    bagged     cut many resamples of the posters, and take the middle of their cuts

Sources:
    Lin & Lin 2023, On the thresholding strategy for infrequent labels in multi-label classification (smoothed F).
    Breiman 1996, Bagging predictors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hpo.decision.calibration import logit, sigmoid
from hpo.decision.counts import Bools, Floats
from hpo.decision.exact_cuts import NOTHING, Ranking

_IMAGINED = 1.0  # hits, and decisions, that smoothing adds
SHRINK_POSITIVES = 30.0  # a label with as many positives is drawn half of the way
BAGS = 50
_SEED = 0
_INSIDE = (float(np.finfo(np.float32).tiny), NOTHING)

ExactCuts = Callable[[Floats, Bools], Floats]  # (N, L), (N, L) → (L,)


def smoothed_cuts(probabilities: Floats, targets: Bools) -> Floats:
    """Return the cuts (L,) with the best smoothed F1 of each label, in O(N log N) a label."""
    return np.array([_smoothed_cut(*label) for label in zip(probabilities.T, targets.T, strict=True)])


def _smoothed_cut(probabilities: Floats, targets: Bools) -> float:
    ranking = Ranking.of(probabilities)
    hits, actual = ranking.totals(targets), targets.sum()
    values = (2 * hits + _IMAGINED) / (ranking.taken + actual + _IMAGINED)
    return ranking.cut(int(np.argmax(values)))


def shrunk_cuts(cuts: Floats, towards: float, n_positives: Floats) -> Floats:
    """Return cuts (L,) between each label's own and `towards`, by its positives (L,), on the scale of logits."""
    trust = n_positives / (n_positives + SHRINK_POSITIVES)
    return _inside(sigmoid(trust * logit(cuts) + (1 - trust) * logit(towards)))


def bagged_cuts(probabilities: Floats, targets: Bools, exact: ExactCuts) -> Floats:
    """Return the median (L,) of the exact cuts on BAGS resamples; NaN for a label without a positive in any.

    The resamples are of the posters in an order of their own, so that the order in which they come changes nothing.
    """
    order = np.lexsort(np.concatenate([targets, probabilities], axis=1).T)
    probabilities, targets = probabilities[order], targets[order]
    rng = np.random.default_rng(_SEED)
    resampled = rng.integers(len(targets), size=(BAGS, len(targets)))
    cuts = np.array([_cuts_of_known(probabilities[rows], targets[rows], exact) for rows in resampled])
    known = ~np.isnan(cuts).all(axis=0)
    median = np.full(targets.shape[1], np.nan)
    median[known] = np.nanmedian(cuts[:, known], axis=0)
    return _inside(median)


def _inside(cuts: Floats) -> Floats:
    clipped: Floats = np.clip(cuts, *_INSIDE)
    return clipped


def _cuts_of_known(probabilities: Floats, targets: Bools, exact: ExactCuts) -> Floats:
    cuts: Floats = np.where(targets.any(axis=0), exact(probabilities, targets), np.nan)
    return cuts
