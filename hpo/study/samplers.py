"""Samplers by name, and the limit on the history that they consider.

What a trial draws depends on the study's seed, the trial's number and the trials before it, never on the process that
runs it: so workers that start together do not draw the same random trials, and a resumed search does not draw those of
its beginning again. The price is a sampler built again for every trial, which costs less than a millisecond.

Only TPE takes part in every parameter, conditional ones in groups of those that occur together. GP and CMA-ES see what
all trials have in common (CMA-ES its numbers alone) and leave the rest to TPE; QMC sees the parameters of the first
trial and leaves the rest to chance. Sources: TPE, Bergstra et al. 2011, and with groups Falkner et al. 2018; CMA-ES,
Hansen 2016; QMC, Bergstra & Bengio 2012 with Sobol's sequence scrambled as by Owen 1998.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Container, Sequence
from heapq import nlargest
from typing import Any, Literal, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import StudyError, did_you_mean
from hpo.space.schema import Scalar
from hpo.space.space import SearchSpace
from hpo.study.migration import version_number

# What samplers and pruners look at in a long study: its latest trials, and for samplers its best.
#
# TPE weighs and sorts every trial before it proposes one, a pruner takes the median of every curve: in a study of
# thousands, each trial would cost more than the one before it. Up to ``MOST`` trials this changes nothing. Beyond, what
# is left out is what TPE gives the least weight to: the oldest but the best (it learns from 25 what is good).

MOST, BEST = 500, 50


def shortened(study: optuna.Study, n_best: int = BEST) -> optuna.Study:
    """Return ``study`` as one of ``MOST`` trials at most, its ``n_best`` best and its latest, in order of number.

    They are read when they are first asked for, and then stay the same.
    """
    return cast(optuna.Study, _Shortened(study, n_best))


class _Shortened:
    """Everything else is as in the study itself."""

    def __init__(self, study: optuna.Study, n_best: int) -> None:
        self._study, self._n_best = study, n_best
        self._chosen: list[FrozenTrial] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """Return the chosen trials, those in ``states``."""
        if self._chosen is None:
            self._chosen = _choose(self._study.get_trials(deepcopy=False), self._n_best)
        trials = [trial for trial in self._chosen if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    @property
    def trials(self) -> list[FrozenTrial]:
        """Return copies of the chosen trials."""
        return self.get_trials()

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """By the name that Optuna's own samplers use."""
        return self.get_trials(deepcopy, states)


def comparable(study: optuna.Study, wanted: Callable[[FrozenTrial], bool]) -> optuna.Study:
    """Return ``study`` as one of the trials that are ``wanted``, its best trial included."""
    return cast(optuna.Study, _Comparable(study, wanted))


class _Comparable(_Shortened):
    """A study of some of its trials."""

    def __init__(self, study: optuna.Study, wanted: Callable[[FrozenTrial], bool]) -> None:
        super().__init__(study, 0)
        self._chosen = [trial for trial in study.get_trials(deepcopy=False) if wanted(trial)]

    @property
    def best_trial(self) -> FrozenTrial:
        """The complete one of the highest value. Raises ValueError where none is complete, as Optuna does."""
        complete = self.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return max(complete, key=lambda trial: trial.value or 0.0)


def _choose(trials: list[FrozenTrial], n_best: int) -> list[FrozenTrial]:
    if len(trials) <= MOST:
        return trials
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    best = {trial.number: trial for trial in nlargest(n_best, complete, key=lambda trial: trial.value or 0.0)}
    latest = [trial for trial in trials if trial.number not in best][n_best - MOST :]
    return sorted([*best.values(), *latest], key=lambda trial: trial.number)


SamplerName = Literal["tpe", "gp", "cmaes", "qmc", "random"]
STARTUP_TRIALS = 10  # random before there is something to model, and never pruned


def build_sampler(name: str, seed: int) -> BaseSampler:
    """Return the sampler called ``name``; ``seed`` is at least 0. Raises StudyError for a name that is none.

    It may differ from one search of a study to the next.
    """
    if name not in SAMPLERS:
        hint = did_you_mean(name, SAMPLERS)
        raise StudyError(f"--sampler expects one of {', '.join(SAMPLERS)}, got {name!r}{hint}: type one of them.")
    sees = _all_of_it if name == "qmc" else shortened
    return SeededByTrial(SAMPLERS[name], seed, sees)


class SeededByTrial(BaseSampler):
    """A sampler that is built for each trial, from the study's seed and the trial's number.

    ``build`` takes the seed of the study's version and the trial's. A process asks for one trial after the other.
    What the sampler sees of the study is what ``sees`` makes of it.
    """

    def __init__(
        self, build: Callable[[int, int], BaseSampler], seed: int, sees: Callable[[optuna.Study], optuna.Study]
    ) -> None:
        self._build, self._seed, self._sees = build, seed, sees
        self._of_trial = build(seed, seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Build the trial's sampler."""
        drawn = np.random.SeedSequence((self._seed, trial.number)).generate_state(1)
        of_version = self._seed + version_number(study.study_name) - 1
        self._of_trial = self._build(of_version, int(drawn[0]))
        self._seen = self._sees(study)  # read when it is first asked for, once for all parameters of the trial
        self._of_trial.before_trial(self._seen, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that are sampled together."""
        return self._of_trial.infer_relative_search_space(self._seen, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Sample them."""
        return self._of_trial.sample_relative(self._seen, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Sample one of the others."""
        return self._of_trial.sample_independent(self._seen, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the trial's sampler keep what it learned."""
        self._of_trial.after_trial(self._sees(study), trial, state, values)


def _all_of_it(study: optuna.Study) -> optuna.Study:
    """For QMC, whose space is that of a study's first trial, and which looks at no other."""
    return study


def _tpe(_: int, seed: int) -> BaseSampler:
    """Trials that run elsewhere count as bad (``constant_liar``), or workers would all try the same."""
    with _experimental_as_known():
        return optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True
        )


def _gp(_: int, seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(
        seed=seed,
        n_startup_trials=STARTUP_TRIALS,
        independent_sampler=_tpe(seed, seed),
        warn_independent_sampling=False,
    )


def _cmaes(_: int, seed: int) -> BaseSampler:
    with _experimental_as_known():
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            independent_sampler=_tpe(seed, seed),
            warn_independent_sampling=False,
        )


def _qmc(study_seed: int, seed: int) -> BaseSampler:
    """One sequence through the study, whose place in it the storage counts; so it has the study's seed.

    The count begins again where a space grew, so each version has a sequence of its own: the first one's was tried.
    """
    with _experimental_as_known():
        return optuna.samplers.QMCSampler(
            qmc_type="sobol",
            scramble=True,
            seed=study_seed,
            independent_sampler=_random(seed, seed),
            warn_independent_sampling=False,
        )


def _random(_: int, seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


def _experimental_as_known() -> warnings.catch_warnings[None]:
    """That a sampler's interface may change is pinned by our own tests, and nothing that a user can act on."""
    return warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning)


SAMPLERS: dict[str, Callable[[int, int], BaseSampler]] = {
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "qmc": _qmc,
    "random": _random,
}


def draw(space: SearchSpace, n_samples: int, seed: int) -> list[dict[str, Scalar]]:
    """Return the searched parameters that apply in each of ``n_samples`` random configurations, the same by seed."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trials = [study.ask() for _ in range(n_samples)]
    for trial in trials:
        space.sample(trial)
    return [dict(trial.params) for trial in trials]
