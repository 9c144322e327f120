from __future__ import annotations

import datetime

import optuna
from optuna.trial import TrialState

from hpo.study.trial_record import TrialRecord
from hpo.tracking.trial_run import CurveKeeper, TrialRun, run_name


def ended(state: TrialState, value: float | None = None, **noted: object) -> TrialRecord:
    trial = optuna.trial.create_trial(
        state=state, value=value, user_attrs=noted, intermediate_values={1: 0.2, 10_001: 0.3}
    )
    trial.number = 7
    trial.datetime_complete = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)
    return TrialRecord.of(trial)


def test_a_complete_trial_says_all_that_was_noted():
    config = {
        "backbone": "tf_efficientnet_lite2",
        "image_size": 260,
        "hidden_layers": 2,
        "width": 512,
        "focal_gamma": 1.4,
    }
    kept = CurveKeeper()
    for epoch in (1, 2):
        kept.add(epoch, {"train/loss": 1 / 3 / epoch})
    record = TrialRun.of(
        ended(
            TrialState.COMPLETE,
            0.4634,
            chosen=config,
            metrics={"val/f1_macro": 0.4634},
            curve=kept.curve,
            worker="here",
        )
    )
    assert record.name == "#7 lite2 · 260 px · 2 × 512 · γ 1.4 · 0.463"
    assert (record.state, record.params, record.metrics) == ("complete", config, {"val/f1_macro": 0.4634})
    assert record.curve == {"train/loss": [(1, 0.333333), (2, 0.166667)]}
    assert record.tags == {"hpo.worker": "here", "hpo.backbone": "tf_efficientnet_lite2"}
    assert record.ended_ms == 1_795_564_800_000


def test_a_lost_trial_says_what_it_had_reported_and_why_it_ended():
    history = [{"trial": 3, "how": "lost", "why": "its worker died"}]
    record = TrialRun.of(ended(TrialState.FAIL, lost="its worker died", retry_of=3, history=history))
    assert record.curve == {"val/objective": [(1, 0.2), (1, 0.3)]}
    assert record.tags == {
        "hpo.reason": "its worker died",
        "hpo.retry_of": "3",
        "hpo.history": "#3 lost: its worker died",
    }


def test_a_pruned_trial_says_where():
    record = TrialRun.of(ended(TrialState.PRUNED, 0.2, pruned_after="epoch 4", reason="behind", curve={}))
    assert record.tags == {"hpo.reason": "behind", "hpo.pruned_after": "epoch 4"}


def test_names_say_only_what_is_known():
    assert run_name(0, {}) == "#0"
    assert run_name(1, {"hidden_layers": 0, "unfreeze": "last_stage"}, 0.5) == "#1 last stage · linear · 0.500"
