"""Bootstrap intervals of scores, and of paired differences between two models.

The posters are drawn again with replacement; the predictions stay as they are. So an interval says what these
predictions would score on other posters of the same kind; it does not cover the optimism of thresholds that were fitted
on these very posters. Where posters belong together (one title, one franchise), whole groups are drawn, since their
scores are not independent; that gives wider and truer intervals.

Sources:
    Efron & Tibshirani 1993, An Introduction to the Bootstrap: percentile intervals.
    Field & Welsh 2007, Bootstrapping clustered data: draw whole clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.errors import DataError
from hpo.evaluation.counts import F1, Bools, Floats
from hpo.evaluation.metrics import METRICS, Tally, checked, metric_named, predict

_CHUNK_ENTRIES = 1 << 23  # of an (N, B) weighting: 32 MB in float32
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class ThresholdedPredictions:
    """Probabilities with the thresholds that turn them into predictions: what `metrics.predict` takes."""

    probabilities: ArrayLike  # (N, L) in 0..1
    thresholds: ArrayLike  # (L,), or (N, L) where each poster has its own
    min_labels: int = 0  # that a poster gets at least


@dataclass(frozen=True)
class Difference:
    """How much better the second of two is, with its 95 % interval."""

    value: float
    low: float
    high: float
    share_above_zero: float  # of the resamples


def bootstrap_ci95(
    probabilities: ArrayLike,
    targets: ArrayLike,
    thresholds: ArrayLike,
    n_resamples: int = 1000,
    seed: int = 0,
    groups: ArrayLike | None = None,
    min_labels: int = 0,
    metrics: Sequence[str] | None = None,
) -> dict[str, tuple[float, float]]:
    """Return {metric: (low, high)}: 95 % percentile intervals over posters, or over whole groups (N,).

    ``metrics`` are names of METRICS, None for all. ``mean_ap`` takes most of the time: without it, a third is enough.

    Raises:
        DataError: see `checked` and `predict`.
    """
    table = _Table.of(ThresholdedPredictions(probabilities, thresholds, min_labels), targets)
    names = list(METRICS) if metrics is None else metrics
    [resampled] = _resampled([table], groups, n_resamples, seed, partial(_averages, names))
    return {name: _interval(values) for name, values in zip(names, resampled, strict=True)}


def paired_differences(
    first: ThresholdedPredictions,
    second: ThresholdedPredictions,
    targets: ArrayLike,
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return {metric: second minus first} for each of METRICS, with its interval over posters or whole groups (N,).

    Both are scored on the same resamples, so that hard posters cancel out. Targets are (N, L) of 0 and 1.

    Raises:
        DataError: see `checked` and `predict`.
    """
    differences = _differences(first, second, targets, groups, n_resamples, seed, partial(_averages, list(METRICS)))
    return dict(zip(METRICS, differences, strict=True))


def paired_label_differences(
    first: ThresholdedPredictions,
    second: ThresholdedPredictions,
    targets: ArrayLike,
    groups: ArrayLike | None = None,
    n_resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Return the same as `paired_differences` for the F1 of each of L labels.

    Raises:
        DataError: see `checked` and `predict`.
    """
    return _differences(first, second, targets, groups, n_resamples, seed, _f1_by_label)


Measure: TypeAlias = Callable[[Tally], Floats]  # → (M, B): M figures under B weightings


def _averages(metrics: Sequence[str], counted: Tally) -> Floats:
    return np.stack([metric_named(name).value(counted) for name in metrics])


def _f1_by_label(counted: Tally) -> Floats:
    return counted.by_label(F1)


def _differences(
    first: ThresholdedPredictions,
    second: ThresholdedPredictions,
    targets: ArrayLike,
    groups: ArrayLike | None,
    n_resamples: int,
    seed: int,
    measure: Measure,
) -> list[Difference]:
    tables = [_Table.of(decided, targets) for decided in (first, second)]
    once = np.ones((len(tables[0].targets), 1))
    before, after = (measure(table.tally(once))[:, 0] for table in tables)
    resampled = _resampled(tables, groups, n_resamples, seed, measure)
    return [
        _difference(float(gain), drawn) for gain, drawn in zip(after - before, resampled[1] - resampled[0], strict=True)
    ]


def _difference(value: float, resampled: Floats) -> Difference:
    return Difference(value, *_interval(resampled), float((resampled > 0).mean()))


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, _PERCENTILES)
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class _Table:
    """Decisions that were checked, ready to be counted under any weighting."""

    probabilities: Floats  # (N, L)
    targets: Bools  # (N, L)
    predictions: Bools  # (N, L)

    @classmethod
    def of(cls, decided: ThresholdedPredictions, targets: ArrayLike) -> _Table:
        probabilities, actual = checked(decided.probabilities, targets)
        return cls(probabilities, actual, predict(probabilities, decided.thresholds, decided.min_labels))

    def tally(self, weights: Floats) -> Tally:
        """Count under weights (N, B)."""
        return Tally.of(self.probabilities, self.targets, self.predictions, weights)


def _resampled(tables: list[_Table], groups: ArrayLike | None, n_resamples: int, seed: int, measure: Measure) -> Floats:
    """Return (D, M, B): M figures of each of D tables under the same B resamples."""
    weightings = _weights(len(tables[0].targets), groups, n_resamples, seed)
    chunks = [np.stack([measure(table.tally(weights)) for table in tables]) for weights in weightings]
    return np.concatenate(chunks, axis=2)


def _weights(n_posters: int, groups: ArrayLike | None, n_resamples: int, seed: int) -> Iterator[Floats]:
    """Yield chunks (N, b) of how often each poster was drawn, n_resamples columns in all."""
    group_of = _group_numbers(groups, n_posters)
    n_groups = n_posters if group_of is None else int(group_of.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ENTRIES // n_posters)
    for start in range(0, n_resamples, chunk):
        drawn = _draws(n_groups, min(chunk, n_resamples - start), rng)
        yield drawn if group_of is None else drawn[group_of]


def _draws(n: int, width: int, rng: np.random.Generator) -> Floats:
    """Return how often each of n was drawn (n, width)."""
    drawn = rng.integers(n, size=(n, width))
    cells = drawn * width + np.arange(width)  # each draw's place in the flattened (n, width) table
    return np.bincount(cells.ravel(), minlength=n * width).reshape(n, width).astype(np.float32)


def _group_numbers(groups: ArrayLike | None, n_posters: int) -> NDArray[np.intp] | None:
    """Return the group (N,) of each poster, numbered from 0; None where every poster is on its own."""
    if groups is None:
        return None
    named = np.asarray(groups)
    if named.shape != (n_posters,):
        raise DataError(
            f"groups must have shape ({n_posters},), one for each poster, got {named.shape}: "
            "leave them out where posters do not belong together."
        )
    names, numbers = np.unique(named, return_inverse=True)
    return None if len(names) == n_posters else numbers
