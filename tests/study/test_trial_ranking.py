from __future__ import annotations

import pytest

from hpo.study.trial_record import TrialRecord, leader, run_again


def trials(*values: float) -> list[TrialRecord]:
    return [TrialRecord(number, "complete", value) for number, value in enumerate(values)]


def test_u7_the_leader_is_ranked_by_fresh_seeds_alone_and_not_by_the_seed_that_selected_it():
    # As it was seen: with its lucky first seed, 0.403, trial 2 has the best mean of three.
    seen = trials(0.390, 0.392, 0.403)
    confirmed = {"0": {"1": 0.387, "2": 0.387}, "1": {"1": 0.384, "2": 0.384}, "2": {"1": 0.380, "2": 0.380}}
    assert leader(seen, confirmed) is seen[0]
    assert [trial.number for trial, _ in run_again(seen, confirmed)] == [0, 1, 2]


def test_trials_are_compared_on_the_fresh_seeds_that_all_of_them_have():
    seen = trials(0.6, 0.5)
    confirmed = {"0": {"1": 0.40, "2": 0.90}, "1": {"1": 0.45}}  # stopped before the second trial had seed 2
    assert leader(seen, confirmed) is seen[1]
    assert [values for _, values in run_again(seen, confirmed)] == [[0.45], [0.40]]


@pytest.mark.parametrize("confirmed", [{}, {"1": {"1": 0.9}}])
def test_the_best_trial_leads_until_it_was_run_again(confirmed):
    seen = trials(0.6, 0.5)
    assert leader(seen, confirmed) is seen[0]


def test_the_earlier_of_equals_leads():
    seen = trials(0.5, 0.6)
    assert leader(seen, {"0": {"1": 0.4}, "1": {"1": 0.4}}) is seen[0]
    assert leader([], {}) is None
    assert run_again([], {}) == []
