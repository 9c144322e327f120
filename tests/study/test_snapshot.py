"""A study's snapshot equals what reading all of it gives."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.study.study import Study, open_study
from hpo.study.trial_queue import TrialCounts


def opened(folder: Path, *trials: FrozenTrial) -> Study:
    url = f"sqlite:///{folder / 'optuna.db'}"
    study = open_study(url, "s", folder / "locks", 0, create=True)
    optuna.load_study(study_name="s", storage=url).add_trials(trials)
    return study


def ended(state: TrialState, value: float | None = None, **noted: object) -> FrozenTrial:
    params, distributions = {"x": 1.0}, {"x": optuna.distributions.FloatDistribution(0.0, 2.0)}
    return create_trial(state=state, value=value, params=params, distributions=distributions, user_attrs=noted)


def test_it_agrees_with_the_whole_record(tmp_path: Path) -> None:
    study = opened(
        tmp_path,
        ended(TrialState.COMPLETE, 0.4, worker="a", metrics={"much": 1}),
        ended(TrialState.PRUNED),
        ended(TrialState.FAIL, lost="its worker died"),
        ended(TrialState.COMPLETE, 0.6, retry_of=2),
        create_trial(state=TrialState.FAIL, user_attrs={"lost": "before it had chosen"}),
        ended(TrialState.FAIL, error="too large"),
        ended(TrialState.COMPLETE, 0.6),
        create_trial(state=TrialState.WAITING),
        ended(TrialState.RUNNING, worker="b"),
    )
    snapshot, trials = study.snapshot(), study.trials()
    assert snapshot.counts == study.counts() == TrialCounts(3, 1, 1, 1, 1, 2)
    assert snapshot.leader == study.leader() == trials[3]
    for light, whole in zip(snapshot.trials, trials, strict=True):
        assert (light.number, light.state, light.value) == (whole.number, whole.state, whole.value)
        assert light.ended == whole.ended
        assert (light.worker, light.retry_of) == (whole.worker, whole.retry_of)
        assert not light.metrics


def test_the_leader_is_the_best_mean_over_seeds(tmp_path: Path) -> None:
    study = opened(tmp_path, ended(TrialState.COMPLETE, 0.6), ended(TrialState.COMPLETE, 0.5))
    lucky, steady = study.trials()
    study.confirm(lucky, 1, 0.3)
    study.confirm(steady, 1, 0.5)
    assert study.snapshot().leader == study.leader() == steady
    assert study.snapshot().best == study.best() == lucky


def test_an_empty_study(tmp_path: Path) -> None:
    snapshot = opened(tmp_path).snapshot()
    assert (snapshot.trials, snapshot.leader, snapshot.counts.finished) == ([], None, 0)


def test_what_was_crowned_is_remembered(tmp_path: Path) -> None:
    study = opened(tmp_path)
    assert study.champion_ref() is None
    study.set_champion({"version": 3, "run_id": "run", "reason": "it is first", "ci95": [0.4, 0.5]})
    study.set_champion({"version": 3, "run_id": "run", "reason": "it was run again"})
    assert study.champion_ref() == {"version": 3, "run_id": "run"}
    assert study.champion() == {"version": 3, "run_id": "run", "reason": "it was run again", "ci95": [0.4, 0.5]}
    study.set_champion({"version": 4, "run_id": "another", "reason": "it is better"})
    assert study.champion() == {"version": 4, "run_id": "another", "reason": "it is better"}
    assert "champion" not in study.memory
