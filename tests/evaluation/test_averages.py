from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn import metrics as judge

from hpo.evaluation.baselines import baseline_averages, constant_baselines
from hpo.evaluation.metrics import METRICS, averages

AVERAGES = ("macro", "micro", "samples", "weighted")


def case(kind: str, n_posters: int, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n_posters + n_labels)
    targets = rng.random((n_posters, n_labels)) < rng.uniform(0.1, 0.6, n_labels)
    probabilities = np.clip(0.4 * targets + rng.normal(0.3, 0.2, targets.shape), 0, 1)
    if kind == "ties":
        probabilities = probabilities.round(1)
    elif kind == "no positive":
        targets[:, 0] = False
    elif kind == "all positive":
        targets[:, -1] = True
    elif kind == "nothing predicted":
        probabilities *= 0.0
    elif kind == "nothing true":
        targets[:] = False
    return probabilities, targets


@pytest.mark.parametrize("kind", ["plain", "ties", "no positive", "all positive", "nothing predicted", "nothing true"])
@pytest.mark.parametrize(("n_posters", "n_labels"), [(1, 2), (2, 3), (50, 4), (300, 12)])
def test_every_average_is_scikit_learns(kind, n_posters, n_labels):
    probabilities, targets = case(kind, n_posters, n_labels)
    found = averages(probabilities, targets, np.full(n_labels, 0.5))
    predicted = probabilities >= 0.5
    for name, score in (("f1", judge.f1_score), ("precision", judge.precision_score), ("recall", judge.recall_score)):
        for average in AVERAGES:
            expected = score(targets, predicted, average=average, zero_division=0)
            assert found[f"{name}_{average}"] == pytest.approx(expected), (name, average)
    assert found["hamming_loss"] == pytest.approx(judge.hamming_loss(targets, predicted))
    assert found["subset_accuracy"] == pytest.approx(judge.accuracy_score(targets, predicted))
    ranked = [at for at in range(n_labels) if 0 < targets[:, at].sum() < n_posters]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        areas = [judge.roc_auc_score(targets[:, at], probabilities[:, at]) for at in ranked]
    assert found["auc_macro"] == pytest.approx(np.mean(areas) if areas else 0.0)


def test_min_labels_counts_in_what_is_decided():
    probabilities, targets = case("plain", 50, 4)
    few, more = (averages(probabilities, targets, np.ones(4), min_labels=n) for n in (0, 1))
    assert few["recall_micro"] < more["recall_micro"]
    assert few["auc_macro"] == more["auc_macro"]


def test_baselines_are_the_best_constant_by_each_average():
    _, targets = case("plain", 300, 6)
    _, reference = case("plain", 301, 6)
    found = baseline_averages(reference, targets)
    assert all(found[name][metric] == value for name, row in constant_baselines(reference, targets).items()
               for metric, value in row.items() if metric in METRICS)  # fmt: skip
    assert found["every label"]["recall_macro"] == 1
    best, every = found["best constant set"], found["every label"]
    assert best["hamming_loss"] < every["hamming_loss"]
    assert best["f1_weighted"] >= every["f1_weighted"] - 0.05
    assert set(found["prior sampling"]) > set(best)
