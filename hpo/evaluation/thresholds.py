"""Fit per-label thresholds (L,) on probabilities (N, L) and targets (N, L), by a named strategy.

    fixed       0.5 for every label, whatever the data
    global      one cut for all labels, exactly the best on these posters
    per_label   one cut a label, exactly the best on these posters
    calibrated  Platt scaling a label, then the cut with the best *expected* F1 (the default)

The exact strategies win on the posters they see and flatter themselves by it; `calibrated` learns two smooth
numbers a label instead of one lucky gap between two posters, so that it holds on new posters. Smoothed, shrunk and
bagged exact cuts were tried as well, and lost to it in every measurement (`benchmarks/LOG.md`). `claimed` scores any of
them on posters that it did not see.

The cuts themselves are in `exact_cuts` and `calibration`, each with its sources.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.errors import DataError, HpoError, did_you_mean
from hpo.evaluation.calibration import Calibration, expected_f1_cut, fit_calibration
from hpo.evaluation.metrics import Bools, Counts, Floats, Scores, checked, f1, known_metric, predict, score

# The cuts in (0, 1] that are exactly the best on given probabilities (N, L) and targets (N, L).
#
# Each is one sort and a cumulative sum over every decision that a cut can make; ties stay together. The price
# of exactness is flattery: a cut that is the best on these posters owes part of its score to them.
#
# 1.0 predicts nothing short of certainty, and a probability of exactly 0 is never predicted. Of equally good
# cuts the highest is taken: fewer labels for the same score.
#
# Sources:
#     Pillai, Fumera & Roli 2013, Threshold optimisation for multi-label classifiers: the joint optimum of
#         f1_micro can be reached; here by the iteration of
#     Dinkelbach 1967, On nonlinear fractional programming.

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


DEFAULT_STRATEGY = "calibrated"


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds (L,) in the space of raw probabilities, and how they came about."""

    strategy: str
    metric: str  # the F1 that they maximise: mean_ap has no thresholds and takes f1_macro's
    values: Floats  # (L,) float64 in (0, 1]
    fallback_labels: tuple[int, ...] = ()  # labels the strategy could not fit: these have the global cut
    calibration: Calibration | None = None


ExactCuts: TypeAlias = Callable[[Floats, Bools], Floats]  # (N, L), (N, L) → (L,)
Strategy: TypeAlias = Callable[[Floats, Bools, str], Thresholds]


def fit(strategy: str, probabilities: ArrayLike, targets: ArrayLike, metric: str = "f1_macro") -> Thresholds:
    """Fit thresholds that maximise `metric` (one of METRICS) by `strategy` (a key of STRATEGIES).

    Args:
        strategy: "fixed", "global", "per_label" or "calibrated".
        probabilities: (N, L) in 0..1, of posters that the model was not trained on.
        targets: (N, L) of 0 and 1.
        metric: "mean_ap" does not depend on thresholds and takes those of "f1_macro".

    Raises:
        DataError: see `metrics.checked`.
        HpoError: an unknown strategy or metric.
    """
    if strategy not in STRATEGIES:
        hint = did_you_mean(strategy, STRATEGIES)
        raise HpoError(f"the threshold strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}{hint}.")
    metric = "f1_macro" if known_metric(metric) == "mean_ap" else metric
    return STRATEGIES[strategy](*checked(probabilities, targets), metric)


def claimed(
    strategy: str,
    probabilities: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    n_folds: int = 5,
    seed: int = 0,
) -> Scores:
    """Score what a strategy can honestly claim: each poster is decided by thresholds that did not see it."""
    return score(probabilities, targets, cross_fit(strategy, probabilities, targets, metric, n_folds, seed))


def cross_fit(
    strategy: str,
    probabilities: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    n_folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Return thresholds (N, L): each poster's are fitted on the folds that it is not in.

    They go wherever thresholds (L,) go: `predict`, `score`, `bootstrap_ci95`.

    Raises:
        DataError: a single poster, or see `metrics.checked`.
        HpoError: an unknown strategy or metric.
    """
    probabilities, targets = checked(probabilities, targets)
    n_folds = min(n_folds, len(targets))
    if n_folds < 2:
        raise DataError(f"cross-fitting needs 2 posters and 2 folds, got {n_folds}: validate on a larger split.")
    folds = stratified_folds(targets, n_folds, seed)
    thresholds = np.empty(targets.shape)
    for fold in range(n_folds):
        held_out = folds == fold
        thresholds[held_out] = fit(strategy, probabilities[~held_out], targets[~held_out], metric).values
    return thresholds


def _fixed(probabilities: Floats, targets: Bools, metric: str) -> Thresholds:
    return Thresholds("fixed", metric, np.full(targets.shape[1], FIXED_THRESHOLD))


def _global(probabilities: Floats, targets: Bools, metric: str) -> Thresholds:
    return Thresholds("global", metric, np.full(targets.shape[1], global_cut(probabilities, targets, metric)))


def _per_label(probabilities: Floats, targets: Bools, metric: str) -> Thresholds:
    if metric != "f1_macro":
        return Thresholds("per_label", metric, _EXACT[metric](probabilities, targets))
    return _with_fallback("per_label", cut_by_label(probabilities, targets), probabilities, targets, metric)


def _with_fallback(strategy: str, cuts: Floats, probabilities: Floats, targets: Bools, metric: str) -> Thresholds:
    """Give the global cut to labels without a positive, whose F1 is 0 at every cut, and to those without a cut."""
    unfitted = np.isnan(cuts) | (targets.sum(axis=0) == 0)
    if unfitted.any():
        cuts = np.where(unfitted, global_cut(probabilities, targets, metric), cuts)
    return Thresholds(strategy, metric, cuts, _indices(unfitted))


def _calibrated(probabilities: Floats, targets: Bools, metric: str) -> Thresholds:
    calibration = fit_calibration(probabilities, targets)
    calibrated = calibration.apply(probabilities)
    unfitted = calibration.slopes == 0
    fallback = global_cut(probabilities, targets, metric) if unfitted.any() else NOTHING
    if metric == "f1_macro":
        cuts = np.array([expected_f1_cut(label) for label in calibrated.T])
    elif metric == "f1_micro":
        cuts = np.full(len(unfitted), expected_f1_cut(calibrated.ravel()))
    else:
        # Labels without a calibration take part as they will be decided: certain, or out of the question.
        calibrated[:, unfitted] = probabilities[:, unfitted] >= fallback
        cuts = np.full(len(unfitted), global_cut(calibrated, targets, metric))
    values = np.where(unfitted, fallback, calibration.raw(cuts))
    return Thresholds("calibrated", metric, values, _indices(unfitted), calibration)


_EXACT: dict[str, ExactCuts] = {
    "f1_macro": cut_by_label,
    "f1_micro": joint_micro_cuts,
    "f1_samples": ascended_samples_cuts,
}
STRATEGIES: dict[str, Strategy] = {
    "fixed": _fixed,
    "global": _global,
    "per_label": _per_label,
    "calibrated": _calibrated,
}


def stratified_folds(targets: Bools, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Return each poster's fold (N,): posters shuffled, sorted by label, rarest first, and dealt round."""
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    commonest_first = np.argsort(-targets.sum(axis=0), kind="stable")
    # lexsort sorts by its last key first: the rarest label.
    dealt = shuffled[np.lexsort(targets[np.ix_(shuffled, commonest_first)].T)]
    folds = np.empty(len(targets), dtype=np.intp)
    folds[dealt] = np.arange(len(targets)) % n_folds
    return folds


def _indices(labels: ArrayLike) -> tuple[int, ...]:
    return tuple(np.flatnonzero(labels).tolist())
