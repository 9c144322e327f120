"""The cuts in (0, 1] that are exactly the best on given probabilities (N, L) and targets (N, L).

Each is one sort and a cumulative sum over every decision that a cut can make; ties stay together. The price
of exactness is flattery: a cut that is the best on these posters owes part of its score to them.

1.0 predicts nothing short of certainty, and a probability of exactly 0 is never predicted. Of equally good
cuts the highest is taken: fewer labels for the same score.

Sources:
    Pillai, Fumera & Roli 2013, Threshold optimisation for multi-label classifiers: the joint optimum of
        f1_micro can be reached; here by the iteration of
    Dinkelbach 1967, On nonlinear fractional programming.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hpo.decision.counts import Bools, Counts, Floats, f1
from hpo.decision.metrics import predict

FIXED_THRESHOLD = 0.5
NOTHING = 1.0  # the cut that predicts no poster that is short of certain

_WORTH_THREADS = 1 << 20  # decisions, below which starting threads costs more than they save

# Sums of F1 that differ by less, relatively, are equal: their order of summation is the posters' order.
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Ranking:
    """M probabilities from the likeliest down, and the K cuts in (0, 1] that decide them differently."""

    order: NDArray[np.intp]  # (M,) indices, likeliest first
    levels: Floats  # (M + 2,) the probabilities in that order, between the bounds 1 and 0
    taken: NDArray[np.intp]  # (K,) how many of the likeliest each cut predicts, ascending

    @classmethod
    def of(cls, probabilities: Floats) -> Ranking:
        """Rank probabilities (M,)."""
        order = np.argsort(-probabilities)
        levels = np.concatenate([[1.0], probabilities[order].astype(np.float64), [0.0]])
        # A cut fits between unequal neighbours only: so ties stay together and a 0 is never predicted.
        return cls(order, levels, np.flatnonzero(levels[:-1] > levels[1:]))

    def totals(self, amounts: Counts) -> Counts:
        """Return, for each cut, the sum (K,) of the amounts (M,) of what it predicts."""
        return np.concatenate([[0], np.cumsum(amounts[self.order])])[self.taken]

    def cut(self, which: int) -> float:
        """Return the threshold of cut `which` of the K."""
        taken = self.taken[which]
        return _between(float(self.levels[taken + 1]), float(self.levels[taken])) if taken else NOTHING


def _between(low: float, high: float) -> float:
    """Return the middle of (low, high], rounded to float32 where that stays inside.

    The middle of two neighbouring float32 numbers is no float32 number: a runtime that keeps thresholds in
    float32 would round it, perhaps down onto `low`, and predict what the cut was to leave out.
    """
    middle = low + (high - low) / 2
    # Neighbours have nothing between them, and are cut at the upper one.
    candidates = (float(np.float32(middle)), float(np.float32(high)), middle, high)
    return next(cut for cut in candidates if low < cut <= high)


def _highest_of_best(totals: Floats) -> int:
    """Return the first index whose total is the largest up to rounding: of equally good cuts, the highest."""
    return int(np.argmax(totals >= totals.max() - _ROUNDING * max(1.0, abs(totals.max()))))


def _f1_cut(probabilities: Floats, targets: Bools) -> float:
    """Return the cut with the best F1 of M decisions (M,), in O(M log M)."""
    levels, positives = _likeliest_first(probabilities, targets)
    taken = np.flatnonzero(levels[:-1] > levels[1:])  # as in a ranking
    hits = np.concatenate([[0], np.cumsum(positives, dtype=np.int64)])[taken]
    # A cut that takes no positive more than the one above it is worse, so few are left to compare.
    worth_a_look = np.flatnonzero(np.diff(hits, prepend=-1))
    hits, taken = hits[worth_a_look], taken[worth_a_look]
    best = int(taken[np.argmax(f1(hits, taken, targets.sum()))])
    return _between(float(levels[best + 1]), float(levels[best])) if best else NOTHING


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


def cut_by_label(probabilities: Floats, targets: Bools) -> Floats:
    """Return the cuts (L,) with the best F1 of each label, and so the best f1_macro."""
    by_label = np.ascontiguousarray(probabilities.T), np.ascontiguousarray(targets.T)
    if probabilities.size < _WORTH_THREADS:
        return np.array([_f1_cut(*label) for label in zip(*by_label, strict=True)])
    with ThreadPoolExecutor() as pool:  # NumPy sorts without holding up other threads
        return np.array(list(pool.map(_f1_cut, *by_label)))


def global_cut(probabilities: Floats, targets: Bools, metric: str) -> float:
    """Return the one cut for all labels with the best metric, in O(N L log(N L))."""
    if metric == "f1_micro":
        return _f1_cut(probabilities.ravel(), targets.ravel())
    if metric == "f1_macro":
        return _mean_f1_cut(probabilities.T, targets.T)
    return _mean_f1_cut(probabilities, targets)


def _mean_f1_cut(probabilities: Floats, targets: Bools) -> float:
    """Return the cut with the best mean over G groups of the F1 within a group, for (G, M).

    Lowering the cut past one entry changes the F1 of that entry's group alone. Those changes, summed from the
    likeliest entry of all groups down, are G times the mean F1 at every cut.
    """
    order = np.argsort(-probabilities, axis=1)
    hits = np.cumsum(np.take_along_axis(targets, order, axis=1), axis=1)
    values = f1(hits, np.arange(1, hits.shape[1] + 1), targets.sum(axis=1, keepdims=True))
    gains = np.empty(targets.shape)
    np.put_along_axis(gains, order, np.diff(values, axis=1, prepend=0.0), axis=1)
    ranking = Ranking.of(probabilities.ravel())
    return ranking.cut(_highest_of_best(ranking.totals(gains.ravel())))


def joint_micro_cuts(probabilities: Floats, targets: Bools) -> Floats:
    """Return the cuts (L,) that together have the best f1_micro = 2 hits / (predicted + actual).

    Dinkelbach's iteration: for a ratio r that was reached, maximise 2 hits - r (predicted + actual). That is
    a sum over labels, so each label is cut alone; the new cuts have a larger ratio, or r was the optimum.
    Whole numbers throughout, so that "larger" is exact and the iteration ends.
    """
    rankings = [Ranking.of(label) for label in probabilities.T]
    hits = [ranking.totals(label) for ranking, label in zip(rankings, targets.T, strict=True)]
    numerator, denominator = 0, 1
    while True:
        best = [
            int(np.argmax(2 * denominator * label_hits - numerator * ranking.taken))
            for ranking, label_hits in zip(rankings, hits, strict=True)
        ]
        top = 2 * sum(int(label_hits[which]) for label_hits, which in zip(hits, best, strict=True))
        predicted = sum(int(ranking.taken[which]) for ranking, which in zip(rankings, best, strict=True))
        bottom = predicted + int(targets.sum())
        if top * denominator <= numerator * bottom:
            return np.array([ranking.cut(which) for ranking, which in zip(rankings, best, strict=True)])
        numerator, denominator = top, bottom


def ascended_samples_cuts(probabilities: Floats, targets: Bools) -> Floats:
    """Return cuts (L,) whose f1_samples no change of a single label's cut improves.

    A poster's F1 couples the labels, and no fast way to the joint optimum is known: from the best of four
    starts, one label after another is cut exactly while the others hold, until nothing improves.
    """
    cuts = _best_samples_start(probabilities, targets)
    rankings = [Ranking.of(label) for label in probabilities.T]
    predictions, actual = predict(probabilities, cuts), targets.sum(axis=1)
    hits, predicted = (predictions & targets).sum(axis=1), predictions.sum(axis=1)  # (N,) kept up to date
    improved = True
    while improved:
        improved = False
        for label, ranking in enumerate(rankings):
            target, now = targets[:, label], predictions[:, label].copy()
            other_hits, other_predicted = hits - (now & target), predicted - now
            with_label = f1(other_hits + target, other_predicted + 1, actual)
            gains = with_label - f1(other_hits, other_predicted, actual)  # (N,) of predicting the label
            totals = ranking.totals(gains)
            best = _highest_of_best(totals)
            if totals[best] <= gains[now].sum() + _ROUNDING * len(gains):
                continue
            improved, cuts[label] = True, ranking.cut(best)
            now = predictions[:, label] = probabilities[:, label] >= cuts[label]
            hits, predicted = other_hits + (now & target), other_predicted + now
    return cuts


def _best_samples_start(probabilities: Floats, targets: Bools) -> Floats:
    n_labels = targets.shape[1]
    starts = [
        np.full(n_labels, FIXED_THRESHOLD),
        np.full(n_labels, global_cut(probabilities, targets, "f1_samples")),
        cut_by_label(probabilities, targets),
        joint_micro_cuts(probabilities, targets),
    ]
    values = np.array([_f1_samples(predict(probabilities, cuts), targets) for cuts in starts])
    return starts[_highest_of_best(values)]


def _f1_samples(predictions: Bools, targets: Bools) -> float:
    hits = (predictions & targets).sum(axis=1)
    return float(f1(hits, predictions.sum(axis=1), targets.sum(axis=1)).mean())
