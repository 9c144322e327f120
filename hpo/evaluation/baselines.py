"""Constant baselines: scores reached without looking at a poster."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from hpo.errors import DataError
from hpo.evaluation.metrics import (
    LOWER_IS_BETTER,
    METRICS,
    Bools,
    Floats,
    Scores,
    averages,
    checked_targets,
    decided,
    f1,
    known_metric,
    score,
)

PRIOR_DRAWS = 20


def constant_baselines(reference_targets: ArrayLike, targets: ArrayLike) -> dict[str, dict[str, float]]:
    """Score three ways of ignoring the poster, each as a `headline()` on targets (N, L).

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
    chosen = {m: _constant_score(best_constant_set(reference, m), actual).value(m) for m in METRICS}
    return {
        "every label": _constant_score(np.ones(actual.shape[1], dtype=bool), actual).headline(),
        "best constant set": chosen,
        "prior sampling": _prior_sampling(reference.mean(axis=0), actual),
    }


def baseline_averages(reference_targets: ArrayLike, targets: ArrayLike) -> dict[str, dict[str, float]]:
    """Return the same three ways by all of `averages`; the best constant set is the best for each, but as above.

    Sets are the k commonest labels. Arguments and errors are those of `constant_baselines`.
    """
    constant = constant_baselines(reference_targets, targets)
    reference, actual = checked_targets(reference_targets), checked_targets(targets)
    order = np.argsort(-reference.sum(axis=0), kind="stable")
    sets = [np.isin(np.arange(actual.shape[1]), order[: k + 1]) for k in range(actual.shape[1])]
    everywhere = [decided(np.broadcast_to(one, reference.shape), reference) for one in sets]
    reached = {}
    for name in everywhere[0]:
        values = [row[name] for row in everywhere]
        best = sets[int(np.argmin(values) if name in LOWER_IS_BETTER else np.argmax(values))]
        reached[name] = decided(np.broadcast_to(best, actual.shape), actual)[name]
    rates = reference.mean(axis=0)
    drawn = np.random.default_rng(0).random(actual.shape)
    return {
        "every label": {**decided(np.ones_like(actual), actual), **constant["every label"]},
        "best constant set": {**reached, **constant["best constant set"]},
        "prior sampling": {**averages(drawn, actual, 1 - rates), **constant["prior sampling"]},
    }


def _prior_sampling(rates: Floats, targets: Bools) -> dict[str, float]:
    rng = np.random.default_rng(0)
    draws = [score(rng.random(targets.shape), targets, 1 - rates).headline() for _ in range(PRIOR_DRAWS)]
    return {metric: float(np.mean([draw[metric] for draw in draws])) for metric in METRICS}


def best_constant_set(targets: ArrayLike, metric: str) -> Bools:
    """Return which labels (L,) to predict for every poster: the k commonest, k being best for the metric.

    Exact for f1_macro and f1_micro; for f1_samples the best of these L nested sets. A constant ranks nothing,
    so mean_ap is the same for every set and takes f1_macro's.
    """
    targets = checked_targets(targets)
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


def _constant_score(predicted_labels: Bools, targets: Bools) -> Scores:
    certainties = np.broadcast_to(predicted_labels, targets.shape).astype(np.float64)
    return score(certainties, targets, np.full(targets.shape[1], 0.5))
