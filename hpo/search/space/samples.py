"""Configurations drawn from a space as the random trials of a study draw them."""

from __future__ import annotations

import optuna

from hpo.search.space.allowed import Scalar
from hpo.search.space.search_space import SearchSpace


def draw(space: SearchSpace, n_samples: int, seed: int) -> list[dict[str, Scalar]]:
    """Return the searched parameters that apply in each of ``n_samples`` random configurations, the same by seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trials = [study.ask() for _ in range(n_samples)]
    for trial in trials:
        space.sample(trial)
    return [dict(trial.params) for trial in trials]
