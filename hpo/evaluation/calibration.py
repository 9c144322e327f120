"""Calibrated probabilities: Platt scaling of each label, with a prior that all labels share.

A label's map has two parameters, a slope and an intercept. A Gaussian prior draws them towards those of one map that
all labels share, since one network made all of the probabilities; it weighs as much as `PRIOR_POSTERS` posters. On 90
posters that gains 0.005 f1_macro on new ones and removes two thirds of the optimism; on 600 it costs nothing
(`benchmarks/LOG.md`). The map is a sigmoid, so that a score of another shape stays miscalibrated.

Sources:
    Platt 1999, Probabilistic outputs for support vector machines: smoothed targets, sigmoid on scores.
    Lin, Lin & Weng 2007, A note on Platt's probabilistic outputs: Newton's method with a line search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpo.evaluation.counts import Bools, Floats

# Half of float32's step below 1: a sigmoid that saturated to exactly 1 (or 0) is known no better than that.
_LOGIT_MARGIN = 2.0**-25
PRIOR_POSTERS = 30.0  # precision of the prior on slope and intercept, in units of the logits' spread
_NEWTON_STEPS = 100
_RIDGE = 1e-12  # keeps Newton's equations solvable where every fitted probability is nearly 0 or 1
_LEAST_SLOPE = 1e-6  # in units of the logits' spread; a slope of rounding errors is none
_CONVERGED = 1e-10  # nats a poster still to be gained
_HALVINGS = 0.5 ** np.arange(40)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Platt's map of each label: calibrated = sigmoid(slope * logit(probability) + intercept).

    A slope of 0 is a label whose targets do not rise with its probabilities: its map is its base rate.
    """

    slopes: Floats  # (L,) >= 0
    intercepts: Floats  # (L,)

    def apply(self, probabilities: Floats) -> Floats:
        """Return calibrated probabilities (N, L) in 0..1, float64, for raw ones (N, L) in 0..1."""
        return sigmoid(self.slopes * logit(probabilities) + self.intercepts)

    def raw(self, thresholds: Floats) -> Floats:
        """Return the thresholds (L,) on raw probabilities that decide as `thresholds` (L,) do on calibrated ones.

        They are float32 numbers in (0, 1], so that every runtime compares alike; NaN where the slope is 0.
        """
        slopes = np.where(self.slopes > 0, self.slopes, np.nan)
        tiny = np.finfo(np.float32).tiny
        logits = (logit(thresholds) - self.intercepts) / slopes
        return np.clip(sigmoid(logits).astype(np.float32), tiny, 1.0).astype(np.float64)


def fit_calibration(probabilities: Floats, targets: Bools) -> Calibration:
    """Fit Platt's map of each label on probabilities (N, L) in 0..1 and targets (N, L).

    A label gets slope 0 at its base rate where all posters have it, or none, or where its targets do not rise with it.
    """
    logits, smoothed = logit(probabilities), _smoothed(targets)  # (N, L)
    centre, spread = float(logits.mean()), float(logits.std()) or 1.0
    inputs = np.stack([(logits - centre) / spread, np.ones_like(logits)])  # (2, N, L)
    start = np.array([0.0, float(logit(smoothed.mean()))])
    common = _logistic_regression(inputs.reshape(2, -1), smoothed.ravel(), start, precision=0.0)
    maps = [
        _logistic_regression(inputs[:, :, label], smoothed[:, label], common, precision=PRIOR_POSTERS)
        for label in range(targets.shape[1])
    ]
    can_be_fitted = targets.any(axis=0) & ~targets.all(axis=0) & (np.ptp(logits, axis=0) > 0)
    slopes, offsets = np.transpose(maps)
    rises = can_be_fitted & (slopes > _LEAST_SLOPE)
    slopes = np.where(rises, slopes / spread, 0.0)
    return Calibration(slopes, np.where(rises, offsets - slopes * centre, logit(smoothed.mean(axis=0))))


def _smoothed(targets: Bools) -> Floats:
    """Return Platt's targets (N, L), by Laplace's rule of succession: never certain, so that no label diverges."""
    n_posters, n_positives = len(targets), targets.sum(axis=0)
    smoothed: Floats = np.where(targets, (n_positives + 1) / (n_positives + 2), 1 / (n_posters - n_positives + 2))
    return smoothed


def _logistic_regression(inputs: Floats, targets: Floats, start: Floats, precision: float) -> Floats:
    """Return the weights (D,) with the least cross-entropy of inputs (D, N) against soft targets (N,).

    A Gaussian prior of that `precision` draws them towards `start`. Newton's method, each step halved until the loss
    falls enough (Armijo), for it overshoots where posters are nearly separable.
    """

    def loss_at(weights: Floats) -> tuple[float, Floats]:
        cross_entropy, fitted = _cross_entropy(inputs, targets, weights)
        return cross_entropy + precision / 2 * float(np.sum((weights - start) ** 2)), fitted

    weights, (loss, fitted) = start, loss_at(start)
    for _ in range(_NEWTON_STEPS):
        gradient = inputs @ (fitted - targets) + precision * (weights - start)
        hessian = (inputs * (fitted * (1 - fitted))) @ inputs.T + (precision + _RIDGE) * np.eye(len(start))
        step = np.linalg.solve(hessian, gradient)
        decrease = gradient @ step
        if decrease < _CONVERGED * len(targets):
            return weights - step
        for length in _HALVINGS:
            next_loss, next_fitted = loss_at(weights - length * step)
            if next_loss <= loss - 1e-4 * length * decrease:
                break
        weights, loss, fitted = weights - length * step, next_loss, next_fitted
    return weights


def _cross_entropy(inputs: Floats, targets: Floats, weights: Floats) -> tuple[float, Floats]:
    """Return the summed cross-entropy in nats and the fitted probabilities (N,)."""
    logits = weights @ inputs
    fitted = sigmoid(logits)
    # -t log(p) - (1 - t) log(1 - p), with log(1 - p) = log(p) - logit: one logarithm instead of two.
    with np.errstate(divide="ignore"):  # a step that overshoots to p = 0 costs infinity, and is halved
        return float(np.sum((1 - targets) * logits - np.log(fitted))), fitted


def logit(probabilities: ArrayLike) -> Floats:
    """Return log(p / (1 - p)) in float64, of any shape, finite for probabilities of 0 and 1 too."""
    inside = np.clip(np.asarray(probabilities, dtype=np.float64), _LOGIT_MARGIN, 1 - _LOGIT_MARGIN)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-logits)), of any shape."""
    with np.errstate(over="ignore"):  # exp(710) is inf, and 1 / inf the right answer
        return 1 / (1 + np.exp(-logits))
