"""From probabilities (N, L) and targets (N, L) to thresholds (L,), by a named strategy.

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
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.decision.calibration import Calibration, expected_f1_cut, fit_calibration
from hpo.decision.counts import Bools, Floats
from hpo.decision.exact_cuts import (
    FIXED_THRESHOLD,
    NOTHING,
    ascended_samples_cuts,
    cut_by_label,
    global_cut,
    joint_micro_cuts,
)
from hpo.decision.metrics import Scores, checked, known_metric, score
from hpo.errors import DataError, HpoError, did_you_mean

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
