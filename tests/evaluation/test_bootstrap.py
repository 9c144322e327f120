from __future__ import annotations

import numpy as np
import pytest

from hpo.errors import DataError
from hpo.evaluation.bootstrap import (
    ThresholdedPredictions,
    bootstrap_ci95,
    paired_differences,
    paired_label_differences,
)
from hpo.evaluation.metrics import METRICS, score


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    targets = rng.random((200, 4)) < 0.3
    good, poor = (np.clip(0.3 + 0.4 * targets + rng.normal(0, s, targets.shape), 0, 1) for s in (0.2, 0.5))
    return good, poor, targets, np.full(4, 0.5)


def test_a_labels_difference_is_that_of_its_f1(case):
    good, poor, targets, thresholds = case
    first, second = ThresholdedPredictions(poor, thresholds), ThresholdedPredictions(good, thresholds)
    found = paired_label_differences(first, second, targets, n_resamples=200)
    gained = score(good, targets, thresholds).f1 - score(poor, targets, thresholds).f1
    assert [difference.value for difference in found] == pytest.approx(gained.tolist())
    assert all(difference.low <= difference.value <= difference.high for difference in found)
    whole = paired_differences(first, second, targets, n_resamples=200)["f1_macro"]
    assert whole.value == pytest.approx(gained.mean())
    assert whole.high - whole.low < max(difference.high - difference.low for difference in found)


def test_groups_of_one_poster_change_nothing(case):
    good, _, targets, thresholds = case
    alone = bootstrap_ci95(good, targets, thresholds, 200)
    assert bootstrap_ci95(good, targets, thresholds, 200, groups=[f"title {i}" for i in range(200)]) == alone


def test_posters_that_are_copies_of_each_other_are_worth_one_poster(case):
    """Each of 50 posters four times: the interval must be that of 50 posters, not that of 200."""
    good, _, targets, thresholds = case
    few = bootstrap_ci95(good[:50], targets[:50], thresholds, 500)["f1_macro"]
    copied = (np.repeat(good[:50], 4, axis=0), np.repeat(targets[:50], 4, axis=0), thresholds)
    grouped = bootstrap_ci95(*copied, 500, groups=np.repeat(np.arange(50), 4))["f1_macro"]
    assert grouped == pytest.approx(few, abs=1e-6)
    naive = bootstrap_ci95(*copied, 500)["f1_macro"]
    assert naive[1] - naive[0] < 0.7 * (few[1] - few[0])


def test_groups_of_other_posters_are_refused(case):
    good, _, targets, thresholds = case
    with pytest.raises(DataError, match=r"groups must have shape \(200,\).*got \(3,\)"):
        bootstrap_ci95(good, targets, thresholds, groups=[1, 2, 3])


def test_a_model_does_not_differ_from_itself(case):
    good, _, targets, thresholds = case
    same = ThresholdedPredictions(good, thresholds)
    for difference in paired_differences(same, same, targets, n_resamples=100).values():
        assert (difference.value, difference.low, difference.high, difference.share_above_zero) == (0, 0, 0, 0)


def test_a_difference_is_that_of_the_scores_and_turns_round_with_its_sides(case):
    good, poor, targets, thresholds = case
    first, second = ThresholdedPredictions(poor, thresholds), ThresholdedPredictions(good, thresholds)
    there, back = (paired_differences(*pair, targets, n_resamples=300) for pair in ((first, second), (second, first)))
    for metric in METRICS:
        gained = score(good, targets, thresholds).value(metric) - score(poor, targets, thresholds).value(metric)
        assert there[metric].value == pytest.approx(gained)
        assert there[metric].low <= there[metric].value <= there[metric].high
        assert (back[metric].low, back[metric].high) == pytest.approx((-there[metric].high, -there[metric].low))
    assert there["mean_ap"].low > 0
    assert there["mean_ap"].share_above_zero == 1


def test_pairs_are_narrower_than_two_intervals(case):
    """What makes a poster hard for both cancels out."""
    good, _, targets, thresholds = case
    nudged = np.clip(good + 0.01, 0, 1)
    paired = paired_differences(
        ThresholdedPredictions(good, thresholds), ThresholdedPredictions(nudged, thresholds), targets, n_resamples=300
    )
    low, high = bootstrap_ci95(good, targets, thresholds, 300)["f1_macro"]
    assert paired["f1_macro"].high - paired["f1_macro"].low < 0.5 * (high - low)
