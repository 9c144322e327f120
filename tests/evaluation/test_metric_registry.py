"""A metric is one entry of METRICS: what is registered here works everywhere, with no other file changed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import jaccard_score

from hpo.evaluation.baselines import best_constant_sets, constant_baselines
from hpo.evaluation.bootstrap import ThresholdedPredictions, bootstrap_ci95, paired_differences
from hpo.evaluation.counts import CountRatio
from hpo.evaluation.metrics import METRICS, averages, macro, micro, predict, samples, score
from hpo.evaluation.thresholds import STRATEGIES, cross_fit, fit

JACCARD = CountRatio("jaccard", (1, 0, 0), (-1, 1, 1))
F2 = CountRatio("f2", (5, 0, 0), (0, 1, 4))
ADDED = [average(measure) for measure in (JACCARD, F2) for average in (macro, micro, samples)]
NAMES = [metric.name for metric in ADDED]


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for metric in ADDED:
        monkeypatch.setitem(METRICS, metric.name, metric)


def a_table(n_posters: int = 80, seed: int = 0):
    rng = np.random.default_rng(seed)
    probabilities = 1 / (1 + np.exp(-rng.normal(np.linspace(0.5, -2.5, 5), 1.3, (n_posters, 5))))
    return probabilities, rng.random(probabilities.shape) < probabilities


def every_threshold(probabilities):
    return [threshold for threshold in {*np.ravel(probabilities).tolist(), 1.0} if threshold > 0]


@pytest.mark.parametrize("average", ["macro", "micro", "samples"])
def test_a_score_by_a_new_metric_is_scikit_learns(average):
    probabilities, targets = a_table()
    expected = jaccard_score(targets, probabilities >= 0.4, average=average, zero_division=0)
    found = score(probabilities, targets, np.full(5, 0.4))
    assert found.value(f"jaccard_{average}") == pytest.approx(expected, abs=1e-12)
    assert list(found.headline()) == list(METRICS)
    assert averages(probabilities, targets, np.full(5, 0.4))[f"jaccard_{average}"] == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(
    table=st.tuples(st.integers(1, 7), st.integers(1, 3)).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float64, shape, elements=st.integers(0, 6).map(lambda i: i / 6)), hnp.arrays(np.bool_, shape)
        )
    )
)
@pytest.mark.parametrize("metric", NAMES)
def test_the_single_best_threshold_is_that_of_brute_force(metric, table):
    probabilities, targets = table
    n_labels = targets.shape[1]
    best = max(score(probabilities, targets, [at] * n_labels).value(metric) for at in every_threshold(probabilities))
    found = score(probabilities, targets, fit("global", probabilities, targets, metric).values)
    assert found.value(metric) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("metric", NAMES)
def test_thresholds_by_label_are_no_worse_than_any_one_threshold_moved(metric):
    probabilities, targets = a_table(30)
    thresholds = fit("per_label", probabilities, targets, metric).values
    value = score(probabilities, targets, thresholds).value(metric)
    for label in range(5):
        for moved in every_threshold(probabilities[:, label]):
            others = np.where(np.arange(5) == label, moved, thresholds)
            assert score(probabilities, targets, others).value(metric) <= value + 1e-9


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_takes_a_new_metric(strategy, metric):
    probabilities, targets = a_table()
    thresholds = fit(strategy, probabilities, targets, metric)
    assert (thresholds.strategy, thresholds.metric) == (strategy, metric)
    assert ((thresholds.values > 0) & (thresholds.values <= 1)).all()
    assert cross_fit(strategy, probabilities, targets, metric).shape == targets.shape


@pytest.mark.parametrize("metric", NAMES)
def test_calibrated_thresholds_are_nearly_the_best_on_many_posters(metric):
    probabilities, targets = a_table(20_000)
    fixed, best, calibrated = (
        score(probabilities, targets, fit(strategy, probabilities, targets, metric).values).value(metric)
        for strategy in ("fixed", "per_label", "calibrated")
    )
    assert fixed + 0.01 < calibrated
    # By poster, calibrated thresholds are one for all labels: that is what they can be held against.
    if metric.endswith("_samples"):
        best = score(probabilities, targets, fit("global", probabilities, targets, metric).values).value(metric)
    assert calibrated > best - 0.005


@pytest.mark.parametrize("metric", NAMES)
def test_baselines_and_intervals_have_a_new_metric(metric):
    probabilities, targets = a_table()
    baselines = constant_baselines(targets, targets)
    assert baselines["best constant set"][metric] >= baselines["every label"][metric] > 0
    assert best_constant_sets(targets)[metric].any()
    low, high = bootstrap_ci95(probabilities, targets, np.full(5, 0.4), 50)[metric]
    assert low < score(probabilities, targets, np.full(5, 0.4)).value(metric) < high
    one = ThresholdedPredictions(probabilities, np.full(5, 0.4))
    assert paired_differences(one, one, targets, n_resamples=20)[metric].value == 0


def test_the_same_predictions_maximise_jaccard_and_f1_of_a_label():
    """One is a monotone function of the other, so their thresholds are the same."""
    probabilities, targets = a_table()
    for strategy in STRATEGIES:
        ours, f1s = (fit(strategy, probabilities, targets, name).values for name in ("jaccard_macro", "f1_macro"))
        assert (predict(probabilities, ours) == predict(probabilities, f1s)).all()
