from __future__ import annotations

import numpy as np
import pytest

from hpo.evaluation.label_errors import entry_issue_scores, label_issue_scores


def test_doubt_is_even_at_the_threshold_and_grows_away_from_it():
    thresholds = np.array([0.2, 0.5, 0.9])
    written = np.array([[True] * 3, [False] * 3])
    at_the_threshold = label_issue_scores(np.stack([thresholds, thresholds]), written, thresholds)
    np.testing.assert_allclose(at_the_threshold, 0.5)
    np.testing.assert_allclose(label_issue_scores(np.full((1, 3), 0.3), written[1:], np.full(3, 0.5)), 0.3)
    rare, common = label_issue_scores(np.array([[0.5, 0.5]]), written[1:, :2], np.array([0.1, 0.5]))[0]
    assert rare == pytest.approx(0.9)
    assert common == pytest.approx(0.5)
    ends = label_issue_scores(np.array([[0.0, 1.0, 1.0]]), written[:1], np.array([1.0, 0.0, 0.5]))
    assert np.isfinite(ends).all()


def test_the_worst_label_weighs_most_in_an_entry():
    doubts = entry_issue_scores(np.array([[0.1, 0.9, 0.1], [0.6, 0.6, 0.6], [0.9, 0.9, 0.1]]))
    np.testing.assert_allclose(doubts, [0.8 * 0.9 + 0.2 * 0.1, 0.6, 0.96 * 0.9 + 0.04 * 0.1])
    np.testing.assert_allclose(entry_issue_scores(np.array([[0.7]])), [0.7])
