"""What one label's probabilities can do at every threshold, and how far they can be believed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpo.decision.counts import Floats, f1, ratio
from hpo.decision.ranking import average_precision

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
        """Return the point that a threshold cuts at, or None where it predicts the label for no poster."""
        n_above = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return n_above - 1 if n_above else None


def curve_of(probabilities: ArrayLike, targets: ArrayLike) -> Curve:
    """Return the curve of one label's probabilities (N,) and targets (N,). Equal probabilities are one point."""
    values, actual = np.asarray(probabilities), np.asarray(targets).astype(bool)
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # the last of each tie
    hits, predicted, positives = np.cumsum(actual[order])[ends], ends + 1, actual.sum()
    return Curve(
        thresholds=values[order][ends],
        precision=ratio(hits, predicted),
        recall=ratio(hits, positives),
        f1=f1(hits, predicted, positives),
        average_precision=float(average_precision(values, actual, np.ones((len(values), 1)))[0]),
        share=float(actual.mean()),
    )


def reliability(probabilities: ArrayLike, targets: ArrayLike, n_bins: int = N_BINS) -> tuple[Floats, Floats, Floats]:
    """Return, for each bin that holds posters, the mean probability, the share with the label, and the posters.

    Bins are of equal width in 0..1 (DeGroot & Fienberg 1983).
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
