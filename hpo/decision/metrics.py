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

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.decision.counts import Bools, Counts, Floats, f1, ratio
from hpo.decision.ranking import average_precision
from hpo.errors import DataError, HpoError, did_you_mean

METRICS = ("f1_macro", "f1_micro", "f1_samples", "mean_ap")


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


def predict(probabilities: ArrayLike, thresholds: ArrayLike, min_labels: int = 0) -> Bools:
    """Return predictions (N, L): `probability >= threshold`, and at least the `min_labels` likeliest labels.

    Thresholds are (L,), or (N, L) where each poster has its own, as cross-fitting gives them. Of equally likely
    labels the first is taken.

    Raises:
        DataError: the thresholds belong to another number of labels or posters, or fewer labels than `min_labels`.
    """
    probabilities, thresholds = np.asarray(probabilities), np.asarray(thresholds)
    if thresholds.shape not in (probabilities.shape, probabilities.shape[1:]):
        raise DataError(
            f"thresholds must have shape {probabilities.shape[1:]}, one per label, got {thresholds.shape}: "
            "use the thresholds that were fitted for these labels."
        )
    predictions = np.asarray(probabilities >= thresholds)
    return _with_likeliest(predictions, probabilities, min_labels) if min_labels else predictions


def _with_likeliest(predictions: Bools, probabilities: Floats, min_labels: int) -> Bools:
    """Add the likeliest labels of each poster until it has `min_labels`."""
    n_labels = predictions.shape[1]
    if not 0 < min_labels <= n_labels:
        raise DataError(f"a poster can be given 0 to {n_labels} labels at least, got {min_labels}: lower min_labels.")
    likeliest_first = np.argsort(-probabilities, axis=1, kind="stable")
    # What is predicted comes first, however unlikely: only a poster with too few labels is given more.
    rank = np.empty_like(likeliest_first)
    np.put_along_axis(rank, likeliest_first, np.broadcast_to(np.arange(n_labels), rank.shape), axis=1)
    wanted = np.argsort(rank - n_labels * predictions, axis=1)[:, :min_labels]
    extended = predictions.copy()
    np.put_along_axis(extended, wanted, True, axis=1)
    return extended


def score(probabilities: ArrayLike, targets: ArrayLike, thresholds: ArrayLike, min_labels: int = 0) -> Scores:
    """Score probabilities (N, L) in 0..1, cut at thresholds (L,) or (N, L), against 0/1 targets (N, L).

    Raises:
        DataError: see `checked` and `predict`.
    """
    probabilities, targets = checked(probabilities, targets)
    n_posters = len(targets)
    predictions = predict(probabilities, thresholds, min_labels)
    counted = tally(probabilities, targets, predictions, np.ones((n_posters, 1)))
    return Scores(
        **{metric: float(values[0]) for metric, values in counted.headline().items()},
        n_posters=n_posters,
        precision=ratio(counted.hits, counted.predicted)[:, 0],
        recall=ratio(counted.hits, counted.actual)[:, 0],
        f1=f1(counted.hits, counted.predicted, counted.actual)[:, 0],
        support=targets.sum(axis=0),
        average_precision=counted.average_precision[:, 0],
    )


def checked(probabilities: ArrayLike, targets: ArrayLike) -> tuple[Floats, Bools]:
    """Return probabilities (N, L), their floating dtype kept, and targets (N, L) as booleans.

    Raises:
        DataError: not two dimensions, no posters or labels, shapes that differ, a NaN or a value outside
            0..1, or targets other than 0 and 1.
    """
    probabilities, actual = np.asarray(probabilities), checked_targets(targets)
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


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of N posters under B weightings of them."""

    hits: Counts  # (L, B) predicted and rightly so
    predicted: Counts  # (L, B)
    actual: Counts  # (L, B)
    f1_samples: Floats  # (B,)
    probabilities: Floats  # (N, L)
    targets: Bools  # (N, L)
    weights: Floats  # (N, B)

    @cached_property
    def average_precision(self) -> Floats:
        """(L, B); it takes most of the time of a tally, and is not computed unless it is asked for."""
        labels = zip(self.probabilities.T, self.targets.T, strict=True)
        return np.stack([average_precision(*label, self.weights) for label in labels])

    def value(self, metric: str) -> Floats:
        """Return the average named `metric`, one of METRICS, (B,)."""
        if metric == "f1_macro":
            by_label: Floats = f1(self.hits, self.predicted, self.actual)
            return np.asarray(by_label.mean(axis=0))
        if metric == "f1_micro":
            return f1(self.hits.sum(axis=0), self.predicted.sum(axis=0), self.actual.sum(axis=0))
        if known_metric(metric) == "f1_samples":
            return self.f1_samples
        # Labels without a positive have an average precision of 0: they add nothing and are not counted.
        return ratio(self.average_precision.sum(axis=0), (self.actual > 0).sum(axis=0))

    def headline(self) -> dict[str, Floats]:
        """Return {metric: (B,)}."""
        return {metric: self.value(metric) for metric in METRICS}


def tally(probabilities: Floats, targets: Bools, predictions: Bools, weights: Floats) -> Tally:
    """Count under weights (N, B), whole numbers in float32 (exact up to 2**24 posters) or float64."""
    hits, predicted, actual = (
        (which.T.astype(weights.dtype) @ weights).astype(np.float64)
        for which in (predictions & targets, predictions, targets)
    )
    f1_of_posters = f1((predictions & targets).sum(axis=1), predictions.sum(axis=1), targets.sum(axis=1))
    return Tally(
        hits=hits,
        predicted=predicted,
        actual=actual,
        f1_samples=f1_of_posters @ weights / weights.sum(axis=0),
        probabilities=probabilities,
        targets=targets,
        weights=weights,
    )


def checked_targets(targets: ArrayLike) -> Bools:
    """Return targets (N, L) of 0 and 1 as booleans. Raises DataError."""
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
