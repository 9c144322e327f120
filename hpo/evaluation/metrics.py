"""Multi-label metrics of probabilities (N, L) against targets (N, L), in NumPy.

N posters, L labels. Every rule that two libraries could read differently is stated once, here:

- a label is predicted when `probability >= threshold`;
- 0 / 0 is `ZERO_DIVISION`, so a label without a positive counts as 0 in f1_macro;
- mean_ap averages over the labels that have a positive, because no ranking of the others is right or wrong;
- equal probabilities are one step of the precision-recall curve: none of them comes before another.

What a study can maximise is an entry of `METRICS`; another metric is one more entry, such as `macro(F1)`.

Every score is a ratio of weighted counts, computed for B weightings of the posters at once: a plain score weighs each
poster 1, a bootstrap draws a thousand multinomial weightings. One implementation serves both, at the price of an (N, B)
array, which is made in chunks of B where N is large.

The definitions are scikit-learn's (`f1_score`, `average_precision_score`), which this module's tests compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.errors import DataError, HpoError, did_you_mean
from hpo.evaluation.counts import F1, PRECISION, RECALL, Bools, CountRatio, Counts, Floats, ratio
from hpo.evaluation.optimal_thresholds import (
    expected_threshold,
    joint_thresholds,
    mean_threshold,
    pooled_threshold,
    thresholds_by_label,
    thresholds_by_poster,
)

# The metrics that a study can maximise.


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts of N posters under B weightings of them."""

    probabilities: Floats  # (N, L)
    targets: Bools  # (N, L)
    predictions: Bools  # (N, L)
    weights: Floats  # (N, B)
    true_positives: Counts  # (L, B)
    predicted: Counts  # (L, B)
    actual: Counts  # (L, B)

    @classmethod
    def of(cls, probabilities: Floats, targets: Bools, predictions: Bools, weights: Floats) -> Tally:
        """Count under weights (N, B), whole numbers in float32 (exact up to 2**24 posters) or float64."""
        counts = (
            (which.T.astype(weights.dtype) @ weights).astype(np.float64)
            for which in (predictions & targets, predictions, targets)
        )
        return cls(probabilities, targets, predictions, weights, *counts)

    def by_label(self, measure: CountRatio) -> Floats:
        """Return a measure of each label (L, B)."""
        return measure(self.true_positives, self.predicted, self.actual)

    @cached_property
    def average_precision(self) -> Floats:
        """(L, B); it takes most of the time of a tally, and is not computed unless it is asked for."""
        labels = zip(self.probabilities.T, self.targets.T, strict=True)
        return np.stack([average_precision(*label, self.weights) for label in labels])


@dataclass(frozen=True)
class Metric:
    """An average in 0..1 that a study can maximise, and the thresholds that maximise it.

    The functions of thresholds take probabilities (N, L) and targets (N, L). A metric of the ranking alone needs no
    thresholds, and has those of another metric: see `ranking`.
    """

    name: str
    kind: str  # of measure, as the metrics of a model card are called
    value: Callable[[Tally], Floats]  # → (B,)
    best_threshold: Callable[[Floats, Bools], float]  # one for all labels, exactly the best
    best_thresholds: Callable[[Floats, Bools], Floats]  # → (L,), one a label; NaN where a label's does not matter
    expected_thresholds: Callable[[Floats], Floats] | None  # calibrated probabilities (N, L) → (L,), where known
    thresholds_for: str  # the metric that the thresholds maximise: this one, or the one it has them from
    over_labels: bool  # a mean over labels, so that its value depends on which labels have posters


def macro(measure: CountRatio) -> Metric:
    """Return the mean of a measure over the labels, in which one without a positive counts as 0."""

    def best_thresholds(probabilities: Floats, targets: Bools) -> Floats:
        return np.where(targets.any(axis=0), thresholds_by_label(measure, probabilities, targets), np.nan)

    return Metric(
        name := f"{measure.name}_macro",
        measure.name,
        value=lambda counted: np.asarray(counted.by_label(measure).mean(axis=0)),
        best_threshold=lambda probabilities, targets: mean_threshold(measure, probabilities.T, targets.T),
        best_thresholds=best_thresholds,
        expected_thresholds=lambda calibrated: np.array([expected_threshold(measure, label) for label in calibrated.T]),
        thresholds_for=name,
        over_labels=True,
    )


def micro(measure: CountRatio) -> Metric:
    """Return a measure of all N x L decisions together."""
    return Metric(
        name := f"{measure.name}_micro",
        measure.name,
        value=lambda counted: measure(*(each.sum(axis=0) for each in _counts(counted))),
        best_threshold=lambda probabilities, targets: pooled_threshold(measure, probabilities.ravel(), targets.ravel()),
        best_thresholds=partial(joint_thresholds, measure),
        expected_thresholds=lambda calibrated: np.full(
            calibrated.shape[1], expected_threshold(measure, calibrated.ravel())
        ),
        thresholds_for=name,
        over_labels=False,
    )


def samples(measure: CountRatio) -> Metric:
    """Return the mean of a measure over the posters."""

    def value(counted: Tally) -> Floats:
        by_poster = measure(*(each.sum(axis=1) for each in _decisions(counted.predictions, counted.targets)))
        return np.asarray(by_poster @ counted.weights / counted.weights.sum(axis=0))

    return Metric(
        name := f"{measure.name}_samples",
        measure.name,
        value=value,
        best_threshold=partial(mean_threshold, measure),
        best_thresholds=partial(thresholds_by_poster, measure),
        expected_thresholds=None,  # a poster's measure couples its labels
        thresholds_for=name,
        over_labels=False,
    )


def ranking(name: str, value: Callable[[Tally], Floats], like: Metric, *, over_labels: bool) -> Metric:
    """Return a metric of the probabilities' order alone, whose model is given the thresholds of metric `like`."""
    return replace(like, name=name, kind=name, value=value, over_labels=over_labels)


def _mean_average_precision(counted: Tally) -> Floats:
    # Labels without a positive have an average precision of 0: they add nothing and are not counted.
    return ratio(counted.average_precision.sum(axis=0), (counted.actual > 0).sum(axis=0))


F1_MACRO = macro(F1)
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        F1_MACRO,
        micro(F1),
        samples(F1),
        ranking("mean_ap", _mean_average_precision, F1_MACRO, over_labels=True),
    )
}


def metric_named(name: str) -> Metric:
    """Return an entry of METRICS. Raises HpoError where there is none of that name."""
    if name not in METRICS:
        raise HpoError(f"the metric must be one of {', '.join(METRICS)}, got {name!r}{did_you_mean(name, METRICS)}.")
    return METRICS[name]


def _counts(counted: Tally) -> tuple[Counts, Counts, Counts]:
    return counted.true_positives, counted.predicted, counted.actual


def _decisions(predictions: Bools, targets: Bools) -> tuple[Bools, Bools, Bools]:
    return predictions & targets, predictions, targets


# What a ranking is worth, whatever the thresholds.


def area_under_roc(probabilities: Floats, targets: Bools) -> float:
    """Return the area under the ROC curve, in 0..1, of one label's probabilities (N,) against its targets (N,).

    It is how often a poster with the label has a higher probability than one without, ties counting half (Mann &
    Whitney 1947); NaN where all posters have the label, or none.
    """
    n_with = int(targets.sum())
    n_without = len(targets) - n_with
    _, level, n_alike = np.unique(probabilities, return_inverse=True, return_counts=True)
    rank = np.cumsum(n_alike) - (n_alike - 1) / 2  # from 1, the mean of each tie
    above = rank[level][targets].sum() - n_with * (n_with + 1) / 2
    return float(above / (n_with * n_without)) if n_with and n_without else float("nan")


def average_precision(probabilities: Floats, targets: Bools, weights: Floats) -> Floats:
    """Return the average precision (B,), in 0..1, of one label's probabilities and targets (N,) under weights (N, B).

    It is the mean, over the positives, of the precision among all posters at least as likely as each.
    """
    order = np.argsort(-probabilities)
    positives = np.flatnonzero(targets[order])  # (P,) ranks, likeliest first
    levels = -probabilities[order]  # ascending, as searchsorted needs it
    # (P,) Where each positive's tie ends: as a rank among all posters, and as one among the positives.
    tie_end = np.searchsorted(levels, levels[positives], side="right") - 1
    tie_end_positive = np.searchsorted(positives, tie_end, side="right") - 1

    ranked = weights[order]
    true_positives = np.cumsum(ranked[positives], axis=0)  # (P, B)
    predicted = np.cumsum(ranked, axis=0)[tie_end]  # (P, B)
    precision = ratio(true_positives[tie_end_positive], predicted)
    return ratio((ranked[positives] * precision).sum(axis=0), ranked[positives].sum(axis=0))


# What one label's probabilities can do at every threshold, and how far they can be believed.

N_BINS = 10


@dataclass(frozen=True, eq=False)
class Curve:
    """One label at each of T distinct probabilities as a threshold, the highest first."""

    thresholds: Floats  # (T,) descending
    precision: Floats  # (T,)
    recall: Floats  # (T,)
    f1: Floats  # (T,)
    average_precision: float
    share: float  # of posters that have the label: the precision of predicting it for all

    def at(self, threshold: float) -> int | None:
        """Return the index of the point that a threshold makes, or None where it predicts the label for no poster."""
        n_above = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return n_above - 1 if n_above else None


def curve_of(probabilities: ArrayLike, targets: ArrayLike) -> Curve:
    """Return the curve of one label's probabilities (N,) in 0..1 and targets (N,) of 0 and 1, N >= 1."""
    values, actual = np.asarray(probabilities), np.asarray(targets).astype(bool)
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # the last of each tie
    counts = np.cumsum(actual[order])[ends], ends + 1, actual.sum()  # true positives, predicted, actual
    return Curve(
        thresholds=values[order][ends],
        precision=PRECISION(*counts),
        recall=RECALL(*counts),
        f1=F1(*counts),
        average_precision=float(average_precision(values, actual, np.ones((len(values), 1)))[0]),
        share=float(actual.mean()),
    )


def reliability(probabilities: ArrayLike, targets: ArrayLike, n_bins: int = N_BINS) -> tuple[Floats, Floats, Floats]:
    """Return, for each bin that holds posters, the mean probability, the share with the label, and their number.

    Probabilities in 0..1 and targets are of one shape, any. Bins are of equal width (DeGroot & Fienberg 1983).
    """
    values, actual = np.asarray(probabilities, np.float64).ravel(), np.asarray(targets).ravel()
    bins = np.minimum((values * n_bins).astype(np.intp), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    said, true = (np.bincount(bins, weights=weights, minlength=n_bins) for weights in (values, actual))
    full = counts > 0
    return said[full] / counts[full], true[full] / counts[full], counts[full].astype(np.float64)


def calibration_error(probabilities: ArrayLike, targets: ArrayLike, n_bins: int = N_BINS) -> float:
    """Return the expected calibration error of probabilities (N, ...) in 0..1 (Naeini et al. 2015, equation 3).

    The mean over posters and labels of how far a bin's probability is from the share that has the label.
    """
    said, true, counts = reliability(probabilities, targets, n_bins)
    return float((counts * np.abs(said - true)).sum() / counts.sum())


@dataclass(frozen=True, eq=False)
class Scores:
    """What probabilities and their decisions are worth, in 0..1: averages by name, and arrays (L,) by label."""

    averages: dict[str, float]  # by the names of METRICS, in that order
    n_posters: int
    precision: Floats  # (L,)
    recall: Floats  # (L,)
    f1: Floats  # (L,)
    support: NDArray[np.int64]  # (L,) posters that have the label
    average_precision: Floats  # (L,) ZERO_DIVISION where support is 0

    def value(self, metric: str) -> float:
        """Return the average named `metric`, one of METRICS. Raises HpoError where there is none of that name."""
        return self.averages[metric_named(metric).name]

    def headline(self) -> dict[str, float]:
        """Return the averages by name, in the order of METRICS."""
        return dict(self.averages)

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
    """Score probabilities (N, L) in 0..1, at thresholds (L,) or (N, L), against 0/1 targets (N, L).

    Raises:
        DataError: see `checked` and `predict`.
    """
    probabilities, targets = checked(probabilities, targets)
    n_posters = len(targets)
    predictions = predict(probabilities, thresholds, min_labels)
    counted = Tally.of(probabilities, targets, predictions, np.ones((n_posters, 1)))
    precision, recall, f1 = (counted.by_label(measure)[:, 0] for measure in (PRECISION, RECALL, F1))
    return Scores(
        averages={name: float(metric.value(counted)[0]) for name, metric in METRICS.items()},
        n_posters=n_posters,
        precision=precision,
        recall=recall,
        f1=f1,
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


# Every average that multi-label papers report, beside those that a study can maximise (`METRICS`).
#
# The definitions are scikit-learn's with `zero_division=0`. Labels that all posters
# have, or none, are left out of the area under the ROC curve, which has no value there.

LOWER_IS_BETTER = ("hamming_loss", "calibration_error")


def averages(
    probabilities: ArrayLike, targets: ArrayLike, thresholds: ArrayLike, min_labels: int = 0
) -> dict[str, float]:
    """Return every average of probabilities (N, L) in 0..1, at thresholds (L,) or (N, L), against targets (N, L).

    F1, precision and recall as macro, micro, samples and weighted (by how many posters have a label), Hamming loss and
    subset accuracy of the decisions; mean AP, macro AUC and the expected calibration error of the probabilities.

    Raises:
        DataError: see `metrics.checked` and `metrics.predict`.
    """
    table, actual = checked(probabilities, targets)
    areas = np.array([area_under_roc(*label) for label in zip(table.T, actual.T, strict=True)])
    known = areas[~np.isnan(areas)]
    by_decision = prediction_averages(predict(table, thresholds, min_labels), actual)
    headline = score(table, actual, thresholds, min_labels).headline()
    return {
        **by_decision,
        **{name: value for name, value in headline.items() if name not in by_decision},
        "auc_macro": float(known.mean()) if len(known) else 0.0,
        "calibration_error": calibration_error(table, actual),
    }


def prediction_averages(predictions: Bools, targets: Bools) -> dict[str, float]:
    """Return the averages of predictions (N, L) against targets (N, L), whatever the probabilities behind them."""
    decisions = _decisions(predictions, targets)
    by_label, by_poster = ([each.sum(axis=axis) for each in decisions] for axis in (0, 1))
    support = by_label[2]
    found: dict[str, float] = {}
    for measure in (F1, PRECISION, RECALL):
        each = measure(*by_label)
        found[f"{measure.name}_macro"] = float(each.mean())
        found[f"{measure.name}_micro"] = float(measure(*(counts.sum() for counts in by_label)))
        found[f"{measure.name}_samples"] = float(measure(*by_poster).mean())
        found[f"{measure.name}_weighted"] = float(ratio((each * support).sum(), support.sum()))
    found["hamming_loss"] = float((predictions != targets).mean())
    found["subset_accuracy"] = float((predictions == targets).all(axis=1).mean())
    return found
