"""Ratios of counts: F1, precision, recall, and any other measure of predictions that is one.

A prediction is summed up by three counts: the true positives, the predicted and the actual positives. They are taken
over posters, over labels, or over both; which of these an average takes is up to `hpo.evaluation.metrics`.

Source:
    Koyejo, Natarajan, Ravikumar & Dhillon 2014, Consistent binary classification with generalized performance metrics:
        what is optimal for a ratio of linear combinations of these counts is a threshold on the probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Bools: TypeAlias = NDArray[np.bool_]
Counts: TypeAlias = NDArray[Any]  # whole numbers, in an integer or a floating dtype
Coefficients: TypeAlias = tuple[int, int, int]  # of the true positives, the predicted and the actual positives

ZERO_DIVISION = 0.0  # 0 / 0: a label without a positive counts as 0 in f1_macro


def ratio(numerator: Counts, denominator: Counts) -> Floats:
    """Return numerator / denominator in float64, broadcast, and ZERO_DIVISION where the denominator is 0."""
    out = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), ZERO_DIVISION)
    np.divide(numerator, denominator, out=out, where=np.not_equal(denominator, 0), dtype=np.float64)
    return out


@dataclass(frozen=True)
class CountRatio:
    """A measure in 0..1 that is a ratio of two linear combinations of counts, larger for better predictions.

    At equal true positives it must not rise with the predicted ones: the search for thresholds relies on that.
    """

    name: str
    numerator: Coefficients
    denominator: Coefficients

    def __call__(self, true_positives: Counts, predicted: Counts, actual: Counts) -> Floats:
        """Return the measure (...) of counts that broadcast to one shape; `ZERO_DIVISION` where it is 0 / 0."""
        counts = true_positives, predicted, actual
        return ratio(_combined(self.numerator, counts), _combined(self.denominator, counts))

    def indifference(self, best: float) -> float:
        """Return the probability at which one more prediction leaves the best reachable value in 0..1 as it is.

        It adds the probability to the true positives and 1 to the predicted: for F1 that is half the best F1.
        """
        per_true_positive, per_predicted = self.gains(best, 1)
        return -per_predicted / per_true_positive

    def gains(self, top: float, bottom: float) -> tuple[float, float]:
        """Return the weights of a true positive and of a prediction in bottom * numerator - top * denominator.

        That difference is what Dinkelbach 1967 maximises in place of the ratio, at the value top / bottom.
        """
        n, d = self.numerator, self.denominator
        return bottom * n[0] - top * d[0], bottom * n[1] - top * d[1]

    def terms(self, true_positives: int, predicted: int, actual: int) -> tuple[int, int]:
        """Return the numerator and the denominator of whole numbers, exactly."""
        counts = true_positives, predicted, actual
        return _total(self.numerator, counts), _total(self.denominator, counts)


F1 = CountRatio("f1", (2, 0, 0), (0, 1, 1))  # the harmonic mean of precision and recall
PRECISION = CountRatio("precision", (1, 0, 0), (0, 1, 0))
RECALL = CountRatio("recall", (1, 0, 0), (0, 0, 1))


def _combined(coefficients: Coefficients, counts: tuple[Counts, Counts, Counts]) -> Counts:
    combined: Counts | None = None
    for times, count in zip(coefficients, counts, strict=True):
        if times:  # most are 0 or 1, and arrays are not computed for nothing
            term = count if times == 1 else times * count
            combined = term if combined is None else combined + term
    return np.zeros(()) if combined is None else combined


def _total(coefficients: Coefficients, counts: tuple[int, int, int]) -> int:
    return sum(times * count for times, count in zip(coefficients, counts, strict=True))
