"""Thresholds in (0, 1] that are the best for a measure on given probabilities (N, L) and targets (N, L).

Each search is one sort and a cumulative sum over every decision that a threshold can make; ties stay together. The
price of exactness is optimism: a threshold that is the best on these posters owes part of its score to them.

A threshold of 1.0 predicts nothing short of certainty, and a probability of exactly 0 is never predicted. Of equally
good thresholds the highest is taken: fewer labels for the same score.

Sources:
    Pillai, Fumera & Roli 2013, Threshold optimisation for multi-label classifiers: the joint optimum of f1_micro can be
        reached; here by the iteration of
    Dinkelbach 1967, On nonlinear fractional programming.
    Lipton, Elkan & Narayanaswamy 2014, Optimal thresholding of classifiers to maximize F1: threshold F*/2.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hpo.evaluation.counts import Bools, CountRatio, Counts, Floats

FIXED_THRESHOLD = 0.5
NOTHING = 1.0  # the threshold that predicts no poster that is short of certain

_WORTH_THREADS = 1 << 20  # decisions, below which starting threads costs more than they save

# Sums of a measure that differ by less, relatively, are equal: their order of summation is the posters' order.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Ranking:
    """M probabilities from the likeliest down, and the K thresholds in (0, 1] that decide them differently."""

    order: NDArray[np.intp]  # (M,) indices, likeliest first
    levels: Floats  # (M + 2,) the probabilities in that order, between the bounds 1 and 0
    n_predicted: NDArray[np.intp]  # (K,) how many of the likeliest each threshold predicts, ascending

    @classmethod
    def of(cls, probabilities: Floats) -> Ranking:
        """Rank probabilities (M,) in 0..1."""
        order = np.argsort(-probabilities)
        levels = np.concatenate([[1.0], probabilities[order].astype(np.float64), [0.0]])
        # A threshold fits between unequal neighbours only: so ties stay together and a 0 is never predicted.
        return cls(order, levels, np.flatnonzero(levels[:-1] > levels[1:]))

    def totals(self, amounts: Counts) -> Counts:
        """Return, for each threshold, the sum (K,) of the amounts (M,) of what it predicts."""
        return np.concatenate([[0], np.cumsum(amounts[self.order])])[self.n_predicted]

    def threshold(self, which: int) -> float:
        """Return threshold `which` of the K."""
        return _below(self.levels, int(self.n_predicted[which]))


def _below(levels: Floats, n_predicted: int) -> float:
    """Return the threshold that predicts so many of the likeliest: in (0, 1], rounded to float32 where that fits.

    The middle of two neighbouring float32 numbers is no float32 number: a runtime that keeps thresholds in float32
    would round it, perhaps down onto the lower one, and predict what the threshold was to leave out.
    """
    if not n_predicted:
        return NOTHING
    low, high = float(levels[n_predicted + 1]), float(levels[n_predicted])
    middle = low + (high - low) / 2
    # Neighbours have nothing between them: the threshold is the upper one.
    candidates = (float(np.float32(middle)), float(np.float32(high)), middle, high)
    return next(threshold for threshold in candidates if low < threshold <= high)


def _highest_of_best(totals: Floats) -> int:
    """Return the first index whose total is the largest up to rounding: of equally good thresholds, the highest."""
    return int(np.argmax(totals >= totals.max() - _ROUNDING * max(1.0, abs(totals.max()))))


def pooled_threshold(measure: CountRatio, probabilities: Floats, targets: Bools) -> float:
    """Return the threshold with the best measure of M decisions (M,), in O(M log M)."""
    levels, positives = _likeliest_first(probabilities, targets)
    n_predicted = np.flatnonzero(levels[:-1] > levels[1:])  # as in a ranking
    true_positives = np.concatenate([[0], np.cumsum(positives, dtype=np.int64)])[n_predicted]
    # A threshold that takes no positive more than the one above it is worse, so few are left to compare.
    kept = np.flatnonzero(np.diff(true_positives, prepend=-1))
    true_positives, n_predicted = true_positives[kept], n_predicted[kept]
    return _below(levels, int(n_predicted[np.argmax(measure(true_positives, n_predicted, targets.sum()))]))


def _likeliest_first(probabilities: Floats, targets: Bools) -> tuple[Floats, Counts]:
    """Return the probabilities from the likeliest down, between the bounds 1 and 0 (M + 2,), and their targets (M,).

    Numbers in 0..1 are in the order of their bits and need one bit less than they have, so that a target fits beside
    its probability into one whole number. Sorting those is several times as fast as sorting indices and following them.
    """
    if probabilities.dtype not in (np.float32, np.float64):
        probabilities = probabilities.astype(np.float32 if probabilities.dtype.itemsize < 4 else np.float64)
    bits = np.ascontiguousarray(probabilities).view(f"u{probabilities.dtype.itemsize}")
    pairs = np.sort(bits << 1 | targets)[::-1]
    levels = np.ascontiguousarray(pairs >> 1).view(probabilities.dtype)
    return np.concatenate([[1.0], levels, [0.0]]), pairs & 1


def thresholds_by_label(measure: CountRatio, probabilities: Floats, targets: Bools) -> Floats:
    """Return the thresholds (L,) with the best measure of each label, and so the best mean over labels."""
    by_label = np.ascontiguousarray(probabilities.T), np.ascontiguousarray(targets.T)
    best = partial(pooled_threshold, measure)
    if probabilities.size < _WORTH_THREADS:
        return np.array([best(*label) for label in zip(*by_label, strict=True)])
    with ThreadPoolExecutor() as pool:  # NumPy sorts without holding up other threads
        return np.array(list(pool.map(best, *by_label)))


def mean_threshold(measure: CountRatio, probabilities: Floats, targets: Bools) -> float:
    """Return the threshold with the best mean over G groups of the measure within a group, for (G, M).

    Lowering the threshold past one entry changes the measure of that entry's group alone. Those changes, summed from
    the likeliest entry of all groups down, are G times the mean at every threshold. O(G M log(G M)).
    """
    order = np.argsort(-probabilities, axis=1)
    true_positives = np.cumsum(np.take_along_axis(targets, order, axis=1), axis=1)
    values = measure(true_positives, np.arange(1, targets.shape[1] + 1), targets.sum(axis=1, keepdims=True))
    gains = np.empty(targets.shape)
    np.put_along_axis(gains, order, np.diff(values, axis=1, prepend=0.0), axis=1)
    ranking = Ranking.of(probabilities.ravel())
    return ranking.threshold(_highest_of_best(ranking.totals(gains.ravel())))


def joint_thresholds(measure: CountRatio, probabilities: Floats, targets: Bools) -> Floats:
    """Return the thresholds (L,) that together have the best measure of all N x L decisions.

    Dinkelbach's iteration: for a ratio r that was reached, maximise numerator - r denominator. That is a sum over
    labels, so each label's threshold is found alone; the new ones have a larger ratio, or r was the optimum. Whole
    numbers throughout, so that "larger" is exact and the iteration ends.
    """
    rankings = [Ranking.of(label) for label in probabilities.T]
    true_positives = [ranking.totals(label) for ranking, label in zip(rankings, targets.T, strict=True)]
    top, bottom = 0, 1
    while True:
        per_true_positive, per_predicted = measure.gains(top, bottom)
        best = [
            int(np.argmax(per_true_positive * found + per_predicted * ranking.n_predicted))
            for ranking, found in zip(rankings, true_positives, strict=True)
        ]
        n_found = sum(int(found[which]) for found, which in zip(true_positives, best, strict=True))
        n_predicted = sum(int(ranking.n_predicted[which]) for ranking, which in zip(rankings, best, strict=True))
        next_top, next_bottom = measure.terms(n_found, n_predicted, int(targets.sum()))
        if next_top * bottom <= top * next_bottom:
            return np.array([ranking.threshold(which) for ranking, which in zip(rankings, best, strict=True)])
        top, bottom = next_top, next_bottom


def thresholds_by_poster(measure: CountRatio, probabilities: Floats, targets: Bools) -> Floats:
    """Return thresholds (L,) whose mean of the measure over posters no change of a single label's threshold improves.

    A poster's measure couples the labels, and no fast way to the joint optimum is known: from the best of four starts,
    one label after another gets its best threshold while the others hold, until nothing improves.
    """
    thresholds = _best_start(measure, probabilities, targets)
    rankings = [Ranking.of(label) for label in probabilities.T]
    predictions, actual = probabilities >= thresholds, targets.sum(axis=1)
    true_positives, predicted = (predictions & targets).sum(axis=1), predictions.sum(axis=1)  # (N,) kept up to date
    improved = True
    while improved:
        improved = False
        for label, ranking in enumerate(rankings):
            target, now = targets[:, label], predictions[:, label].copy()
            others_true, others_predicted = true_positives - (now & target), predicted - now
            with_label = measure(others_true + target, others_predicted + 1, actual)
            gains = with_label - measure(others_true, others_predicted, actual)  # (N,) of predicting the label
            totals = ranking.totals(gains)
            best = _highest_of_best(totals)
            if totals[best] <= gains[now].sum() + _ROUNDING * len(gains):
                continue
            improved, thresholds[label] = True, ranking.threshold(best)
            now = predictions[:, label] = probabilities[:, label] >= thresholds[label]
            true_positives, predicted = others_true + (now & target), others_predicted + now
    return thresholds


def _best_start(measure: CountRatio, probabilities: Floats, targets: Bools) -> Floats:
    n_labels = targets.shape[1]
    starts = [
        np.full(n_labels, FIXED_THRESHOLD),
        np.full(n_labels, mean_threshold(measure, probabilities, targets)),
        thresholds_by_label(measure, probabilities, targets),
        joint_thresholds(measure, probabilities, targets),
    ]
    values = np.array([_mean_over_posters(measure, probabilities >= start, targets) for start in starts])
    return starts[_highest_of_best(values)]


def _mean_over_posters(measure: CountRatio, predictions: Bools, targets: Bools) -> float:
    true_positives = (predictions & targets).sum(axis=1)
    return float(measure(true_positives, predictions.sum(axis=1), targets.sum(axis=1)).mean())


def expected_threshold(measure: CountRatio, calibrated: Floats) -> float:
    """Return the threshold with the best expected measure for calibrated probabilities (M,); F*/2 for F1.

    Taking the k likeliest has, to first order, the measure of the expected counts: sum_{i<=k} p_i true positives among
    k, of sum_i p_i. F* is the best over k, and the best decision takes exactly those that it gains by (Lipton et al.).
    """
    likeliest_first = np.sort(calibrated)[::-1]
    expected = measure(np.cumsum(likeliest_first), np.arange(1, len(calibrated) + 1), calibrated.sum())
    return measure.indifference(float(np.max(expected)))
