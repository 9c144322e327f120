from __future__ import annotations

import numpy as np
import pytest

from hpo.evaluation.thresholds import cross_fitted_scores, fit
from hpo.trial.objective import Objective


@pytest.fixture
def judged_posters():
    rng = np.random.default_rng(0)
    targets = rng.random((200, 4)) < (0.5, 0.3, 0.2, 0.1)
    return np.clip(0.3 + 0.2 * targets + rng.normal(0, 0.2, targets.shape), 0, 1), targets


def test_the_value_is_at_calibrated_thresholds_and_the_model_gets_those_of_its_strategy(judged_posters):
    value, judged = Objective("f1_macro").judge(*judged_posters)
    assert value == judged.scores.value("f1_macro")
    exact_value, exact = Objective("f1_macro", "calibrated", "per_label").judge(*judged_posters)
    assert exact_value == value
    np.testing.assert_array_equal(exact.thresholds.values, fit("per_label", *judged_posters).values)


@pytest.mark.parametrize("strategy", ["per_label", "calibrated"])
def test_cross_fitted_is_what_the_strategy_can_claim(judged_posters, strategy):
    value, judged = Objective("f1_micro", "cross_fitted", strategy).judge(*judged_posters)
    assert value == cross_fitted_scores(strategy, *judged_posters, "f1_micro").value("f1_micro")
    assert judged.thresholds.strategy == strategy
