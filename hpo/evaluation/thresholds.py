"""Fit thresholds (L,) on probabilities (N, L) and targets (N, L), by a named strategy.

    fixed       0.5 for every label, whatever the data
    global      one threshold for all labels, exactly the best on these posters
    per_label   one threshold a label, exactly the best on these posters
    calibrated  Platt scaling a label, then the threshold with the best *expected* metric (the default)

The exact strategies are the best on the posters that they are fitted on, and so optimistic there; `calibrated` learns
two numbers a label instead of one gap between two posters, and is better on new posters. Smoothed, shrunk and bagged
exact thresholds were tried as well, and lost to it in every measurement (`benchmarks/LOG.md`). `cross_fitted_scores`
scores any of them on posters that it did not see.

What is best for a metric is the metric's own to say (`metrics.Metric`); how it is found is in `optimal_thresholds` and
`calibration`, each with its sources.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.errors import DataError, HpoError, did_you_mean
from hpo.evaluation.calibration import Calibration, fit_calibration
from hpo.evaluation.counts import Bools, Floats
from hpo.evaluation.metrics import Metric, Scores, checked, metric_named, score
from hpo.evaluation.optimal_thresholds import FIXED_THRESHOLD, NOTHING

DEFAULT_STRATEGY = "calibrated"


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Thresholds (L,) in the space of raw probabilities, and how they came about."""

    strategy: str
    metric: str  # what they maximise: a metric that has no thresholds takes another's
    values: Floats  # (L,) float64 in (0, 1]
    fallback_labels: tuple[int, ...] = ()  # labels the strategy could not fit: these have the global threshold
    calibration: Calibration | None = None


Strategy: TypeAlias = Callable[[Floats, Bools, Metric], Thresholds]


def fit(strategy: str, probabilities: ArrayLike, targets: ArrayLike, metric: str = "f1_macro") -> Thresholds:
    """Fit thresholds that maximise `metric` (one of METRICS) by `strategy` (a key of STRATEGIES).

    Args:
        strategy: a key of STRATEGIES.
        probabilities: (N, L) in 0..1, of posters that the model was not trained on.
        targets: (N, L) of 0 and 1.
        metric: one that does not depend on thresholds, such as "mean_ap", takes those of another ("f1_macro").

    Raises:
        DataError: see `metrics.checked`.
        HpoError: an unknown strategy or metric.
    """
    if strategy not in STRATEGIES:
        hint = did_you_mean(strategy, STRATEGIES)
        raise HpoError(f"the threshold strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}{hint}.")
    maximised = metric_named(metric)
    return STRATEGIES[strategy](*checked(probabilities, targets), maximised)


def cross_fitted_scores(
    strategy: str,
    probabilities: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    n_folds: int = 5,
    seed: int = 0,
) -> Scores:
    """Score a strategy without optimism: each poster is decided by thresholds that were fitted without it.

    Arguments and errors are those of `cross_fit`.
    """
    return score(probabilities, targets, cross_fit(strategy, probabilities, targets, metric, n_folds, seed))


def cross_fit(
    strategy: str,
    probabilities: ArrayLike,
    targets: ArrayLike,
    metric: str = "f1_macro",
    n_folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Return thresholds (N, L) in (0, 1]: each poster's are fitted on the folds that it is not in.

    They go wherever thresholds (L,) go: `predict`, `score`, `bootstrap_ci95`. Strategy, probabilities, targets and
    metric are those of `fit`; folds are `stratified_folds`, at most one a poster.

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


def _fixed(probabilities: Floats, targets: Bools, metric: Metric) -> Thresholds:
    return Thresholds("fixed", metric.thresholds_for, np.full(targets.shape[1], FIXED_THRESHOLD))


def _global(probabilities: Floats, targets: Bools, metric: Metric) -> Thresholds:
    best = metric.best_threshold(probabilities, targets)
    return Thresholds("global", metric.thresholds_for, np.full(targets.shape[1], best))


def _per_label(probabilities: Floats, targets: Bools, metric: Metric) -> Thresholds:
    values = metric.best_thresholds(probabilities, targets)
    unfitted = np.isnan(values)  # a label without a positive has an F1 of 0 at every threshold
    if unfitted.any():
        values = np.where(unfitted, metric.best_threshold(probabilities, targets), values)
    return Thresholds("per_label", metric.thresholds_for, values, _indices(unfitted))


def _calibrated(probabilities: Floats, targets: Bools, metric: Metric) -> Thresholds:
    calibration = fit_calibration(probabilities, targets)
    calibrated = calibration.apply(probabilities)
    unfitted = calibration.slopes == 0
    fallback = metric.best_threshold(probabilities, targets) if unfitted.any() else NOTHING
    if metric.expected_thresholds is not None:
        thresholds = metric.expected_thresholds(calibrated)
    else:
        # Labels without a calibration take part as they will be decided: certain, or out of the question.
        calibrated[:, unfitted] = probabilities[:, unfitted] >= fallback
        thresholds = np.full(len(unfitted), metric.best_threshold(calibrated, targets))
    values = np.where(unfitted, fallback, calibration.raw(thresholds))
    return Thresholds("calibrated", metric.thresholds_for, values, _indices(unfitted), calibration)


STRATEGIES: dict[str, Strategy] = {
    "fixed": _fixed,
    "global": _global,
    "per_label": _per_label,
    "calibrated": _calibrated,
}


def stratified_folds(targets: Bools, n_folds: int, seed: int) -> NDArray[np.intp]:
    """Return the fold (N,), from 0, of each poster of targets (N, L), so that every fold has its share of each label.

    Posters are shuffled, sorted by their labels, rarest first, and dealt round.
    """
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    commonest_first = np.argsort(-targets.sum(axis=0), kind="stable")
    # lexsort sorts by its last key first: the rarest label.
    dealt = shuffled[np.lexsort(targets[np.ix_(shuffled, commonest_first)].T)]
    folds = np.empty(len(targets), dtype=np.intp)
    folds[dealt] = np.arange(len(targets)) % n_folds
    return folds


def _indices(labels: ArrayLike) -> tuple[int, ...]:
    return tuple(np.flatnonzero(labels).tolist())
