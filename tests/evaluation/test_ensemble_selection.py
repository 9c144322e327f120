from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from hpo.errors import DataError
from hpo.evaluation.ensemble_selection import Limits, cross_fit, mean_average_precision, select
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import DEFAULT_STRATEGY, fit, stratified_folds


def trials(n_trials: int, n_posters: int, seed: int = 0, noise: float = 1.5):
    """Candidates whose errors are their own, of labels that come at 0.5 down to 0.1."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1, (n_posters, 5))
    targets = truth > np.quantile(truth, np.linspace(0.5, 0.9, 5), axis=0)[np.arange(5), np.arange(5)]
    logits = truth + rng.normal(0, noise, (n_trials, n_posters, 5)) - 1
    return 1 / (1 + np.exp(-logits)), targets


def reached(probabilities, targets, seen, new) -> float:
    thresholds = fit(DEFAULT_STRATEGY, probabilities[seen], targets[seen]).values
    return score(probabilities[new], targets[new], thresholds).value("f1_macro")


def test_an_average_beats_the_best_trial_on_new_posters_and_its_claim_is_honest():
    candidates, targets = trials(20, 2400)
    seen, new = np.arange(600), np.arange(600, 2400)
    chosen = select(candidates[:, seen], targets[seen])
    best = max(candidates, key=lambda p: score(p[seen], targets[seen], np.full(5, 0.5)).value("mean_ap"))
    value = reached(chosen.probabilities(candidates), targets, seen, new)
    assert value > reached(best, targets, seen, new) + 0.05
    honest = cross_fit(candidates[:, seen], targets[seen]).scores(targets[seen]).value("f1_macro")
    assert honest == pytest.approx(value, abs=0.03)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 5))
def test_weights_are_shares_of_few_members(n_trials, max_members, seed):
    candidates, targets = trials(n_trials, 60, seed)
    chosen = select(candidates, targets, limits=Limits(max_members))
    weights = [member.weight for member in chosen.members]
    assert sum(weights) == pytest.approx(1)
    assert weights == sorted(weights, reverse=True)
    assert 1 <= len(weights) <= max_members
    assert [step.candidate for step in chosen.steps] == [member.candidate for member in chosen.members]
    assert sum(step.gain for step in chosen.steps) == pytest.approx(chosen.steps[-1].value)


def test_a_single_trial_is_its_own_ensemble():
    candidates, targets = trials(1, 60)
    np.testing.assert_allclose(select(candidates, targets).probabilities(candidates), candidates[0])


def test_the_best_of_each_kind_come_first():
    candidates, targets = trials(30, 400, noise=1.0)
    candidates[5:] = candidates[5] + 1e-4 * np.arange(25)[:, None, None] / 25  # a search that stayed with one backbone
    candidates = np.clip(candidates, 0, 1)
    kinds = tuple({"other": 1.0} if at < 5 else {"usual": 1.0} for at in range(30))
    chosen = select(candidates, targets, limits=Limits(costs=kinds))
    others = sum(member.weight for member in chosen.members if member.candidate < 5)
    alike = select(candidates, targets, limits=Limits(costs=({"usual": 1.0},) * 30))
    assert others > 0.4
    assert others >= sum(member.weight for member in alike.members if member.candidate < 5)


def test_a_trial_of_noise_gets_no_weight():
    candidates, targets = trials(4, 600, noise=0.5)
    candidates[2] = np.random.default_rng(1).random(candidates[2].shape)
    assert 2 not in [member.candidate for member in select(candidates, targets).members]


def test_an_ensemble_keeps_to_its_cost_and_pays_shared_parts_once():
    candidates, targets = trials(6, 300)
    own = tuple({"shared": 1.0, f"own {at}": 1.0} for at in range(6))
    free = select(candidates, targets, limits=Limits(costs=own))
    assert len(free.members) > 3
    limits = Limits(max_cost=3.0, costs=own)
    chosen = [member.candidate for member in select(candidates, targets, limits=limits).members]
    assert len(chosen) == 2
    assert limits.cost(chosen) == 3.0
    shared = tuple({"shared": 3.0} for _ in range(6))
    assert select(candidates, targets, limits=Limits(max_cost=3.0, costs=shared)).members == free.members
    with pytest.raises(
        DataError, match="costs at most 1 was asked for, and the cheapest trial alone costs 2: allow more"
    ):
        select(candidates, targets, limits=Limits(max_cost=1.0, costs=own))


def test_a_poster_has_no_say_in_what_decides_it():
    candidates, targets = trials(6, 120)
    fold = stratified_folds(targets, 5, 0) == 0
    before = cross_fit(candidates, targets)
    candidates[:, fold] = 1 - candidates[:, fold]
    after = cross_fit(candidates, targets)
    np.testing.assert_array_equal(after.thresholds[fold], before.thresholds[fold])
    assert not np.array_equal(after.thresholds[~fold], before.thresholds[~fold])


def test_the_inner_loop_is_scikit_learns_average_precision():
    candidates, targets = trials(1, 80)
    expected = np.mean([average_precision_score(targets[:, i], candidates[0][:, i]) for i in range(5)])
    assert mean_average_precision(candidates[0], targets) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        (np.empty((0, 3, 2)), r"at least one trial, got \(0, 3, 2\)"),
        (np.full((3, 2), 0.5), r"got \(3, 2\)"),
        (np.full((2, 3, 4), 0.5), "must have one shape"),
        (np.full((2, 3, 2), np.nan), "got nan"),
    ],
)
def test_bad_candidates_are_one_sentence(candidates, words):
    with pytest.raises(DataError, match=words):
        select(candidates, np.eye(3, 2))
