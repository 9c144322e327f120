from __future__ import annotations

import logging
import warnings
from pathlib import Path

import optuna
import pytest

from hpo.errors import StudyError
from hpo.space.load import load_space
from hpo.study.samplers import SAMPLERS, STARTUP_TRIALS, build_sampler

SPACE = load_space(Path("default"))
N_ASKED = STARTUP_TRIALS + 2  # the last ones are modelled


def asked(study: optuna.Study, n_trials: int, slope: float) -> list[dict]:
    for _ in range(n_trials):
        trial = study.ask()
        study.tell(trial, 0.5 + slope * SPACE.sample(trial).learning_rate)
    return [trial.params for trial in study.trials]


def study_of(name: str, seed: int = 0) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=build_sampler(name, seed))


@pytest.mark.parametrize("slope", [0.0, 10.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_takes_categorical_and_conditional_parameters_without_a_word(name, slope, caplog):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.logging.enable_propagation()
    try:
        with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
            warnings.simplefilter("error")
            drawn = asked(study_of(name), N_ASKED, slope)
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    assert len({str(params) for params in drawn}) == N_ASKED
    assert len({len(params) for params in drawn}) > 1  # conditions were met and not met
    assert [r.message for r in caplog.records if "greenlet" not in r.message] == []


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_seed_gives_the_same_trials_and_another_gives_others(name):
    once, again, other = (asked(study_of(name, seed), 3, 1.0) for seed in (0, 0, 1))
    assert once == again
    assert once != other


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_drawn_does_not_depend_on_how_often_a_study_was_opened(name):
    """So workers that start together draw different trials, and a resumed study none of them twice."""
    study = study_of(name)
    for _ in range(N_ASKED):
        study.sampler = build_sampler(name, 0)
        asked(study, 1, 1.0)
    assert [trial.params for trial in study.trials] == asked(study_of(name), N_ASKED, 1.0)


def test_a_new_version_of_a_study_does_not_draw_the_sequence_of_its_first_one_again():
    first, second = (optuna.create_study(study_name=name, sampler=build_sampler("qmc", 0)) for name in ("x", "x~2"))
    rates = [{params["learning_rate"] for params in asked(study, 9, 1.0)[1:]} for study in (first, second)]
    assert rates[0].isdisjoint(rates[1])


def test_a_model_finds_a_slope():
    study = study_of("tpe")
    rates = [params["learning_rate"] for params in asked(study, 40, 100.0)]
    assert max(rates[STARTUP_TRIALS:]) > 0.004  # of 0.005
    assert sum(rates[-10:]) > 1.5 * sum(rates[:10])


def test_the_sampler_of_a_living_study_may_change():
    study = optuna.create_study(direction="maximize")
    for name in SAMPLERS:
        study.sampler = build_sampler(name, 0)
        asked(study, 3, 1.0)
    assert len(study.trials) == 3 * len(SAMPLERS)


def test_an_unknown_sampler_is_answered_with_those_there_are():
    with pytest.raises(StudyError, match=r"--sampler expects one of tpe, gp, cmaes, qmc, random, got 'cma'"):
        build_sampler("cma", 0)
