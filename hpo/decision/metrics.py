"""Scores of multi-label probabilities (N, L) against targets (N, L): NumPy in, NumPy out.

N posters, L labels. Every rule that two libraries could read differently is stated once, here:

- a label is predicted when `probability >= threshold`;
- 0 / 0 is `ZERO_DIVISION`, so a label without a positive counts as 0 in f1_macro;
- mean_ap averages over the labels that have a positive, because no ranking of the others is right or wrong;
- equal probabilities are one step of the precision-recall curve: none of them comes before another.

Every score is a ratio of weighted counts, computed for B weightings of the posters at once: a plain score
weighs each poster 1, a bootstrap draws a thousand multinomial weightings. One implementation serves both, at
the price of an (N, B) array, which is made in chunks of B where N is large.

The definitions are scikit-learn's (`f1_score`, `average_precision_score`), the judge of this module's tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.errors import DataError, HpoError, did_you_mean

Floats: TypeAlias = NDArray[np.floating[Any]]
Bools: TypeAlias = NDArray[np.bool_]
Counts: TypeAlias = NDArray[Any]  # whole numbers, in an integer or a floating dtype

METRICS = ("f1_macro", "f1_micro", "f1_samples", "mean_ap")
ZERO_DIVISION = 0.0

_CHUNK_ENTRIES = 1 << 23  # of an (N, B) weighting: 32 MB in float32


@dataclass(frozen=True, eq=False)
class Scores:
    """What probabilities and their decisions are worth, in 0..1: four averages, and arrays (L,) by label."""

    f1_macro: float
    f1_micro: float
    f1_samples: float
    mean_ap: float
    n_posters: int
    precision: Floats  # (L,)
    recall: Floats  # (L,)
    f1: Floats  # (L,)
    support: NDArray[np.int64]  # (L,) posters that have the label
    average_precision: Floats  # (L,) ZERO_DIVISION where support is 0

    def value(self, metric: str) -> float:
        """Return the average named `metric`, one of METRICS."""
        return self.headline()[known_metric(metric)]

    def headline(self) -> dict[str, float]:
        """Return the four averages by name, in the order of METRICS."""
        return {metric: getattr(self, metric) for metric in METRICS}

    def per_label(self, label_names: Sequence[str], thresholds: Floats) -> dict[str, dict[str, float | int]]:
        """Return {name: {f1, precision, recall, support, threshold}} in plain Python numbers."""
        columns = {
            "f1": self.f1.tolist(),
            "precision": self.precision.tolist(),
            "recall": self.recall.tolist(),
            "support": self.support.tolist(),
            "threshold": np.asarray(thresholds).tolist(),
        }
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        return dict(zip(label_names, rows, strict=True))


def predict(probabilities: ArrayLike, thresholds: ArrayLike) -> Bools:
    """Return predictions (N, L): `probability >= threshold`.

    Thresholds are (L,), or (N, L) where each poster has its own, as cross-fitting gives them.

    Raises:
        DataError: the thresholds belong to another number of labels or posters.
    """
    probabilities, thresholds = np.asarray(probabilities), np.asarray(thresholds)
    if thresholds.shape not in (probabilities.shape, probabilities.shape[1:]):
        raise DataError(
            f"thresholds must have shape {probabilities.shape[1:]}, one per label, got {thresholds.shape}: "
            "use the thresholds that were fitted for these labels."
        )
    return np.asarray(probabilities >= thresholds)


def score(probabilities: ArrayLike, targets: ArrayLike, thresholds: ArrayLike) -> Scores:
    """Score probabilities (N, L) in 0..1, cut at thresholds (L,) or (N, L), against 0/1 targets (N, L).

    Raises:
        DataError: see `checked` and `predict`.
    """
    probabilities, targets = checked(probabilities, targets)
    n_posters = len(targets)
    tally = _tally(probabilities, targets, predict(probabilities, thresholds), np.ones((n_posters, 1)))
    return Scores(
        **{metric: float(values[0]) for metric, values in tally.headline().items()},
        n_posters=n_posters,
        precision=ratio(tally.hits, tally.predicted)[:, 0],
        recall=ratio(tally.hits, tally.actual)[:, 0],
        f1=f1(tally.hits, tally.predicted, tally.actual)[:, 0],
        support=targets.sum(axis=0),
        average_precision=tally.average_precision[:, 0],
    )


def bootstrap_ci95(
    probabilities: ArrayLike,
    targets: ArrayLike,
    thresholds: ArrayLike,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Return {metric: (low, high)}: the 95 % percentile bootstrap over posters (Efron & Tibshirani 1993).

    The thresholds stay as they are: the interval is that of these decisions on other posters of the same
    kind, and does not cover the luck of thresholds that were fitted on these very posters.

    Raises:
        DataError: see `checked` and `predict`.
    """
    probabilities, targets = checked(probabilities, targets)
    predictions = predict(probabilities, thresholds)
    chunks = [
        _tally(probabilities, targets, predictions, weights).headline()
        for weights in _bootstrap_weights(len(targets), n_resamples, seed)
    ]
    intervals = {}
    for metric in METRICS:
        low, high = np.percentile(np.concatenate([chunk[metric] for chunk in chunks]), (2.5, 97.5))
        intervals[metric] = (float(low), float(high))
    return intervals


def constant_baselines(reference_targets: ArrayLike, targets: ArrayLike) -> dict[str, dict[str, float]]:
    """Score two ways of ignoring the poster, each as a `headline()` on targets (N, L).

    "every label" predicts all L. "best constant set" predicts, for each metric, the set that is best for that
    metric on reference_targets (M, L), those of the training posters.

    Raises:
        DataError: targets other than 0 and 1, no posters, or two numbers of labels.
    """
    reference, actual = _checked_targets(reference_targets), _checked_targets(targets)
    if reference.shape[1] != actual.shape[1]:
        raise DataError(
            f"reference targets and targets must have the same labels, got {reference.shape[1]} and "
            f"{actual.shape[1]}: take both from one catalogue."
        )
    chosen = {m: _constant_score(best_constant_set(reference, m), actual).value(m) for m in METRICS}
    return {
        "every label": _constant_score(np.ones(actual.shape[1], dtype=bool), actual).headline(),
        "best constant set": chosen,
    }


def best_constant_set(targets: ArrayLike, metric: str) -> Bools:
    """Return which labels (L,) to predict for every poster: the k commonest, k being best for the metric.

    Exact for f1_macro and f1_micro; for f1_samples the best of these L nested sets. A constant ranks nothing,
    so mean_ap is the same for every set and takes f1_macro's.
    """
    targets = _checked_targets(targets)
    n_posters, n_labels = targets.shape
    support, k = targets.sum(axis=0), np.arange(1, n_labels + 1)
    commonest = np.argsort(-support, kind="stable")
    hits = np.cumsum(targets[:, commonest], axis=1)  # (N, L): right labels among the k commonest
    if known_metric(metric) == "f1_micro":
        values = f1(hits.sum(axis=0), n_posters * k, support.sum())
    elif metric == "f1_samples":
        values = f1(hits, k, targets.sum(axis=1, keepdims=True)).mean(axis=0)
    else:
        values = np.cumsum(f1(support, np.array(n_posters), support)[commonest])
    return np.isin(np.arange(n_labels), commonest[: np.argmax(values) + 1])


def checked(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, Bools]:
    """Return probabilities (N, L), their floating dtype kept, and targets (N, L) as booleans.

    Raises:
        DataError: not two dimensions, no posters or labels, shapes that differ, a NaN or a value outside
            0..1, or targets other than 0 and 1.
    """
    probabilities, actual = np.asarray(probabilities), _checked_targets(targets)
    if probabilities.shape != actual.shape:
        raise DataError(
            f"probabilities and targets must have one shape (posters, labels), got {probabilities.shape} and "
            f"{actual.shape}: give both for the same posters and the same labels."
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        probabilities = probabilities.astype(np.float64)
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):  # a NaN fails both comparisons
        poster, label = np.argwhere(~((probabilities >= 0) & (probabilities <= 1)))[0]
        raise DataError(
            f"probabilities must lie in 0..1, got {probabilities[poster, label]} for poster {poster}, "
            f"label {label}: apply the sigmoid to logits first, or drop the diverged trial where it is nan."
        )
    return probabilities, actual


def known_metric(metric: str) -> str:
    """Return the metric's name as it is, or raise HpoError where it is none of METRICS."""
    if metric not in METRICS:
        hint = did_you_mean(metric, METRICS)
        raise HpoError(f"the metric must be one of {', '.join(METRICS)}, got {metric!r}{hint}.")
    return metric


def f1(hits: Counts, predicted: Counts, actual: Counts) -> Floats:
    """Return F1 = 2 hits / (predicted + actual), the harmonic mean of precision and recall."""
    return ratio(2 * hits, predicted + actual)


def ratio(numerator: Counts, denominator: Counts) -> Floats:
    """Return numerator / denominator in float64, and ZERO_DIVISION where the denominator is 0."""
    out = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), ZERO_DIVISION)
    np.divide(numerator, denominator, out=out, where=np.not_equal(denominator, 0), dtype=np.float64)
    return out


@dataclass(frozen=True, eq=False)
class _Tally:
    """Counts of N posters under B weightings of them."""

    hits: Counts  # (L, B) predicted and rightly so
    predicted: Counts  # (L, B)
    actual: Counts  # (L, B)
    f1_samples: Floats  # (B,)
    average_precision: Floats  # (L, B)

    def headline(self) -> dict[str, Floats]:
        """Return {metric: (B,)}."""
        return {
            "f1_macro": f1(self.hits, self.predicted, self.actual).mean(axis=0),
            "f1_micro": f1(self.hits.sum(axis=0), self.predicted.sum(axis=0), self.actual.sum(axis=0)),
            "f1_samples": self.f1_samples,
            # Labels without a positive have an average precision of 0: they add nothing and are not counted.
            "mean_ap": ratio(self.average_precision.sum(axis=0), (self.actual > 0).sum(axis=0)),
        }


def _tally(probabilities: Floats, targets: Bools, predictions: Bools, weights: Floats) -> _Tally:
    """Count under weights (N, B), whole numbers in float32 (exact up to 2**24 posters) or float64."""
    hits, predicted, actual = (
        (which.T.astype(weights.dtype) @ weights).astype(np.float64)
        for which in (predictions & targets, predictions, targets)
    )
    f1_of_posters = f1((predictions & targets).sum(axis=1), predictions.sum(axis=1), targets.sum(axis=1))
    return _Tally(
        hits=hits,
        predicted=predicted,
        actual=actual,
        f1_samples=f1_of_posters @ weights / weights.sum(axis=0),
        average_precision=np.stack(
            [_average_precision(*label, weights) for label in zip(probabilities.T, targets.T, strict=True)]
        ),
    )


def _average_precision(probabilities: Floats, targets: Bools, weights: Floats) -> Floats:
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


def _bootstrap_weights(n_posters: int, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Yield chunks (N, b) of how often each poster was drawn, n_resamples columns in all."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ENTRIES // n_posters)
    for start in range(0, n_resamples, chunk):
        width = min(chunk, n_resamples - start)
        drawn = rng.integers(n_posters, size=(n_posters, width))
        cells = drawn * width + np.arange(width)  # each draw's place in the flattened (N, b) table
        counts = np.bincount(cells.ravel(), minlength=n_posters * width)
        yield counts.reshape(n_posters, width).astype(np.float32)


def _constant_score(predicted_labels: Bools, targets: Bools) -> Scores:
    certainties = np.broadcast_to(predicted_labels, targets.shape).astype(np.float64)
    return score(certainties, targets, np.full(targets.shape[1], 0.5))


def _checked_targets(targets: ArrayLike) -> Bools:
    targets = np.asarray(targets)
    if targets.ndim != 2 or 0 in targets.shape:
        raise DataError(
            f"targets must be a table of at least one poster and one label, got shape {targets.shape}: "
            "check that the split holds posters and the catalogue labels."
        )
    wrong = targets[(targets != 0) & (targets != 1)]
    if wrong.size:
        raise DataError(f"targets must be 0 or 1, got {wrong[0]}: give one column per label, 1 where a poster has it.")
    return targets.astype(bool)
