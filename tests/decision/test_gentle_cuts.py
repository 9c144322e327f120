from __future__ import annotations

import numpy as np
import pytest

from hpo.decision.exact_cuts import cut_by_label
from hpo.decision.gentle_cuts import SHRINK_POSITIVES, bagged_cuts, shrunk_cuts, smoothed_cuts
from hpo.decision.metrics import score
from hpo.decision.thresholds import STRATEGIES, fit


def posters(n: int, seed: int):
    """Calibrated probabilities of labels from common to rare."""
    rng = np.random.default_rng(seed)
    probabilities = 1 / (1 + np.exp(-rng.normal(np.linspace(0, -3.5, 8), 1.2, (n, 8))))
    return probabilities, rng.random(probabilities.shape) < probabilities


def test_smoothing_is_brute_force_over_every_cut():
    probabilities, targets = posters(60, 0)
    for label, cut in enumerate(smoothed_cuts(probabilities, targets)):
        p, t = probabilities[:, label], targets[:, label]
        values = {c: (2 * t[p >= c].sum() + 1) / ((p >= c).sum() + t.sum() + 1) for c in (*p, 1.0)}
        assert values[min((c for c in values if c >= cut), default=1.0)] == pytest.approx(max(values.values()))


def test_a_label_of_one_lucky_positive_is_cut_lower_by_its_own_cut_than_by_a_smoothed_one():
    probabilities = np.array([[0.1], [0.2], [0.3], [0.4]])
    targets = np.array([[True], [False], [False], [False]])
    assert cut_by_label(probabilities, targets)[0] < 0.1
    assert smoothed_cuts(probabilities, targets)[0] == 1.0  # 1 / 2 for nothing, 3 / 6 for all: the higher cut


@pytest.mark.parametrize(("n_positives", "share"), [(0, 0.0), (SHRINK_POSITIVES, 0.5), (1e9, 1.0)])
def test_a_cut_goes_as_far_as_its_positives_carry_it(n_positives, share):
    [cut] = shrunk_cuts(np.array([0.9]), 0.1, np.array([n_positives]))
    far = np.log(9)
    assert np.log(cut / (1 - cut)) == pytest.approx(share * far - (1 - share) * far, abs=1e-5)


def test_bags_of_equal_posters_agree_with_the_exact_cut():
    """Where every positive lies above every other, all resamples that hold both cut between them."""
    probabilities = np.repeat([[0.2], [0.8]], 20, axis=0)
    targets = probabilities > 0.5
    assert 0.2 < bagged_cuts(probabilities, targets, cut_by_label)[0] <= 0.8


@pytest.mark.parametrize("strategy", ["smoothed", "shrunk", "bagged", "calibrated"])
def test_gentle_cuts_reach_more_than_exact_ones_on_new_posters(strategy):
    gained = []
    for seed in range(12):
        seen, (probabilities, targets) = posters(150, seed), posters(4000, 100 + seed)
        exact, gentle = (fit(name, *seen).values for name in ("per_label", strategy))
        values = [score(probabilities, targets, cuts).f1_macro for cuts in (exact, gentle)]
        gained.append(values[1] - values[0])
    assert np.mean(gained) > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("metric", ["f1_macro", "f1_micro", "f1_samples"])
def test_every_strategy_answers_for_a_single_poster_and_for_equal_probabilities(strategy, metric):
    for table in ((np.array([[0.3, 0.6]]), np.array([[1, 0]])), (np.full((6, 2), 0.5), np.eye(6, 2))):
        thresholds = fit(strategy, *table, metric)
        assert thresholds.strategy == strategy
        assert ((thresholds.values > 0) & (thresholds.values <= 1)).all()


def test_labels_without_a_positive_get_the_global_cut_and_are_named():
    probabilities, targets = posters(80, 1)
    targets[:, 2] = False
    for strategy in ("per_label", "smoothed", "shrunk", "bagged"):
        thresholds = fit(strategy, probabilities, targets)
        assert thresholds.fallback_labels == (2,)
        assert thresholds.values[2] == pytest.approx(fit("global", probabilities, targets).values[2])
