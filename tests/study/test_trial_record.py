from __future__ import annotations

from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hpo.study.trial_record import ParameterRange, TrialRecord

STATES = {
    TrialState.COMPLETE: ("complete", True),
    TrialState.PRUNED: ("pruned", True),
    TrialState.FAIL: ("failed", True),
    TrialState.RUNNING: ("running", False),
    TrialState.WAITING: ("waiting", False),
}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
def test_every_state_of_optuna_has_a_name(state):
    value = 0.5 if state == TrialState.COMPLETE else None
    record = TrialRecord.of(create_trial(state=state, value=value))
    assert (record.state, record.is_finished) == STATES[state]


def test_a_trial_that_has_just_been_asked_for_knows_nothing_yet():
    study = optuna.create_study()
    study.ask()
    [trial] = study.trials
    assert TrialRecord.of(trial) == TrialRecord(0, "running", started=trial.datetime_start)


def test_what_was_searched_over_is_kept_as_plain_ranges():
    searched = {
        "rate": FloatDistribution(1e-4, 1.0, log=True),
        "depth": IntDistribution(2, 6),
        "head": CategoricalDistribution(["a", None]),
    }
    params = {"rate": 0.1, "depth": 3, "head": None}
    record = TrialRecord.of(create_trial(value=0.5, params=params, distributions=searched))
    assert record.params == params
    assert record.ranges == {
        "rate": ParameterRange(None, 1e-4, 1.0, log=True),
        "depth": ParameterRange(None, 2.0, 6.0),
        "head": ParameterRange(("a", None)),
    }


def test_what_a_search_notes_is_read_by_name():
    noted = {
        "chosen": {"backbone": "a"}, "metrics": {"val/f1_macro": 0.5}, "scores": {"calibrated": {"f1_macro": 0.5}},
        "reported": {"value": 0.4, "ci95": [0.3, 0.5]}, "curve": {"val/f1_macro": [[1, 0.5]]},
        "seconds": {"training": 2.0}, "phase": "finetune", "best_epoch": 7, "worker": "machine-1", "run_id": "abc",
        "threads": 2, "recipe": "write_up", "retry_of": 3, "history": [{"trial": 3, "how": "lost", "why": "died"}],
    }  # fmt: skip
    trial = create_trial(value=0.5, user_attrs=noted, intermediate_values={1: 0.25})
    trial.datetime_start, trial.datetime_complete = datetime(2026, 11, 25, 14), datetime(2026, 11, 25, 15)
    record = TrialRecord.of(trial)
    renamed = {"config": noted["chosen"], "history": tuple(noted["history"])}
    for name, value in {**{key: noted[key] for key in noted if key != "chosen"}, **renamed}.items():
        assert getattr(record, name) == value
    assert record.duration == timedelta(hours=1)
    assert record.reports == {1: 0.25}


def test_a_configuration_is_what_was_chosen_or_else_what_was_searched():
    assert TrialRecord(0, "running", params={"width": 16}).configuration == {"width": 16}
    chosen = {"width": 16, "backbone": "a"}
    assert TrialRecord(0, "running", params={"width": 16}, config=chosen).configuration == chosen


def test_a_trial_that_chose_nothing_has_no_hyperparameters():
    with pytest.raises(ValueError, match="TrialConfig"):
        _ = TrialRecord(0, "failed").hyperparameters
