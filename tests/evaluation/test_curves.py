from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from hpo.evaluation.metrics import calibration_error, curve_of, reliability, score


@pytest.mark.parametrize("levels", [3, 1000])
def test_a_curve_is_scikit_learns_and_each_point_is_its_threshold(levels):
    rng = np.random.default_rng(0)
    values, targets = rng.integers(levels, size=200) / levels, rng.random(200) < 0.3
    curve = curve_of(values, targets)
    precision, recall, thresholds = precision_recall_curve(targets, values)
    np.testing.assert_allclose(curve.thresholds[::-1], thresholds)
    np.testing.assert_allclose(curve.precision[::-1], precision[:-1])
    np.testing.assert_allclose(curve.recall[::-1], recall[:-1])
    assert curve.average_precision == pytest.approx(average_precision_score(targets, values))
    for threshold in (curve.thresholds[0], curve.thresholds[-1], 0.4):
        at = curve.at(threshold)
        assert at is not None
        assert curve.f1[at] == pytest.approx(score(values[:, None], targets[:, None], [threshold]).value("f1_macro"))
    assert curve.at(1.5) is None


def test_a_label_without_a_positive_has_a_curve_of_zeros():
    curve = curve_of([0.2, 0.4], [0, 0])
    assert (curve.f1.tolist(), curve.recall.tolist(), curve.share) == ([0, 0], [0, 0], 0)


def test_calibration_error_is_the_gap_between_said_and_true():
    assert calibration_error([[0.25, 0.25], [0.25, 0.25]], [[1, 0], [0, 0]]) == 0
    assert calibration_error([1.0, 1.0, 0.0, 0.0], [0, 1, 0, 1]) == pytest.approx(0.5)
    said, true, counts = reliability([0.05, 0.15, 1.0], [0, 1, 1])
    assert (said.tolist(), true.tolist(), counts.tolist()) == ([0.05, 0.15, 1.0], [0.0, 1.0, 1.0], [1, 1, 1])
