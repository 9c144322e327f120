from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpo.study.pruners import PhaseHalving, RecentTrialsPruner
from hpo.study.samplers import BEST, MOST, SAMPLERS, build_sampler, shortened

X = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}


def study_of(n_trials: int, n_good: int = 0) -> optuna.Study:
    """The earliest ``n_good`` are the best."""
    study = optuna.create_study(direction="maximize")
    for number in range(n_trials):
        value = 0.9 if number < n_good else 0.1
        study.add_trial(
            create_trial(value=value, params={"x": 0.5}, distributions=X, intermediate_values={2: value}),
        )
    return study


def test_a_study_of_usual_length_is_seen_whole() -> None:
    study = study_of(MOST)

    assert [trial.number for trial in shortened(study).get_trials()] == [*range(MOST)]


def test_of_a_long_study_the_best_trials_and_the_latest_are_seen() -> None:
    study = study_of(MOST + 200, n_good=20)

    seen = [trial.number for trial in shortened(study).trials]

    best = [*range(BEST)]  # of equals, the earlier
    assert seen == [*best, *range(MOST + 200 - (MOST - BEST), MOST + 200)]


def test_trials_that_run_are_seen_and_states_can_be_asked_for() -> None:
    study = study_of(MOST + 10)
    running = study.ask()

    seen = shortened(study).get_trials(states=(TrialState.RUNNING,))

    assert [trial.number for trial in seen] == [running.number]


def test_a_pruner_sees_the_latest_alone() -> None:
    study = study_of(MOST + 200, n_good=200)  # against all of them, the trial below is far from the best third
    trial = study.ask()
    trial.report(0.2, 2)

    assert PhaseHalving(eta=5).prune(study, study.trials[-1])
    assert not RecentTrialsPruner(PhaseHalving(eta=5)).prune(study, study.trials[-1])


def test_a_pruner_reads_a_study_once_a_trial_and_again_within_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    study, clock = study_of(20), iter([0.0, 0.5, 0.6, 5.0])
    monkeypatch.setattr("hpo.study.pruners.time", SimpleNamespace(monotonic=lambda: next(clock)))
    reads: list[bool] = []
    monkeypatch.setattr(study, "get_trials", lambda deepcopy: reads.append(deepcopy) or [])
    pruner = RecentTrialsPruner(PhaseHalving())
    first, second = study.ask(), study.ask()

    for trial in (first, first, second, second):
        trial.report(0.2, 2)
        pruner.prune(study, study._storage.get_trial(trial._trial_id))

    assert len(reads) == 3  # for the first, for the second, and for it again when seconds have passed


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_goes_on_after_hundreds_of_trials(name: str) -> None:
    study = optuna.create_study(direction="maximize", sampler=build_sampler(name, 0))
    study.add_trials(study_of(MOST + 20).trials)

    assert 0.0 <= study.ask().suggest_float("x", 0.0, 1.0) <= 1.0
