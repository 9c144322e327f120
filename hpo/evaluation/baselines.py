"""Constant baselines: scores of predictions that do not depend on the poster."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from hpo.errors import DataError
from hpo.evaluation.counts import Bools, Floats
from hpo.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    Tally,
    averages,
    checked_targets,
    prediction_averages,
    score,
)

PRIOR_DRAWS = 20


def constant_baselines(reference_targets: ArrayLike, targets: ArrayLike) -> dict[str, dict[str, float]]:
    """Score three predictions that ignore the poster on targets (N, L): {baseline: {metric: value in 0..1}}.

    "every label" predicts all L. "best constant set" predicts, for each metric, the set that is best for that
    metric on reference_targets (M, L), those of the training posters. "prior sampling" predicts each label at random,
    as often as it comes among them: the mean of PRIOR_DRAWS draws.

    Raises:
        DataError: targets other than 0 and 1, no posters, or two numbers of labels.
    """
    reference, actual = checked_targets(reference_targets), checked_targets(targets)
    if reference.shape[1] != actual.shape[1]:
        raise DataError(
            f"reference targets and targets must have the same labels, got {reference.shape[1]} and "
            f"{actual.shape[1]}: take both from one catalogue."
        )
    return {
        "every label": _values(METRICS, _constant_tally(np.ones(actual.shape[1], dtype=bool), actual)),
        "best constant set": {
            name: _values([name], _constant_tally(labels, actual))[name]
            for name, labels in best_constant_sets(reference).items()
        },
        "prior sampling": _prior_sampling(reference.mean(axis=0), actual),
    }


def baseline_averages(reference_targets: ArrayLike, targets: ArrayLike) -> dict[str, dict[str, float]]:
    """Return the same three baselines by all of `metrics.averages`; the best constant set is the best for each average.

    Arguments and errors are those of `constant_baselines`.
    """
    constant = constant_baselines(reference_targets, targets)
    reference, actual = checked_targets(reference_targets), checked_targets(targets)
    sets = _nested_sets(reference)
    everywhere = [prediction_averages(np.broadcast_to(one, reference.shape), reference) for one in sets]
    reached = {}
    for name in everywhere[0]:
        values = [row[name] for row in everywhere]
        best = sets[int(np.argmin(values) if name in LOWER_IS_BETTER else np.argmax(values))]
        reached[name] = prediction_averages(np.broadcast_to(best, actual.shape), actual)[name]
    rates = reference.mean(axis=0)
    drawn = np.random.default_rng(0).random(actual.shape)
    return {
        "every label": {**prediction_averages(np.ones_like(actual), actual), **constant["every label"]},
        "best constant set": {**reached, **constant["best constant set"]},
        "prior sampling": {**averages(drawn, actual, 1 - rates), **constant["prior sampling"]},
    }


def _prior_sampling(rates: Floats, targets: Bools) -> dict[str, float]:
    rng = np.random.default_rng(0)
    draws = [score(rng.random(targets.shape), targets, 1 - rates).headline() for _ in range(PRIOR_DRAWS)]
    return {metric: float(np.mean([draw[metric] for draw in draws])) for metric in METRICS}


def best_constant_sets(targets: ArrayLike) -> dict[str, Bools]:
    """Return, for each of METRICS, which labels (L,) to predict for every poster of targets (N, L): the k commonest.

    Exact for f1_macro and f1_micro; for f1_samples the best of these L nested sets. A constant ranks nothing: a metric
    that needs no thresholds takes the set of the one whose thresholds it has. Raises DataError.
    """
    actual = checked_targets(targets)
    maximised = {name: metric.thresholds_for for name, metric in METRICS.items()}
    best: dict[str, tuple[float, Bools]] = {}
    for labels in _nested_sets(actual):
        counted = _constant_tally(labels, actual)
        values = _values(set(maximised.values()), counted)
        for name, other in maximised.items():
            if name not in best or values[other] > best[name][0]:
                best[name] = values[other], labels
    return {name: labels for name, (_, labels) in best.items()}


def _nested_sets(targets: Bools) -> list[Bools]:
    """Return the k commonest labels (L,) of targets (N, L), for every k from 1."""
    order = np.argsort(-targets.sum(axis=0), kind="stable")
    labels = np.arange(targets.shape[1])
    return [np.isin(labels, order[:k]) for k in labels + 1]


def _constant_tally(labels: Bools, targets: Bools) -> Tally:
    predicted = np.broadcast_to(labels, targets.shape)
    return Tally.of(predicted.astype(np.float32), targets, predicted, np.ones((len(targets), 1), np.float32))


def _values(metrics: Iterable[str], counted: Tally) -> dict[str, float]:
    return {name: float(METRICS[name].value(counted)[0]) for name in metrics}
