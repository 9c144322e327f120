"""What samplers and pruners look at in a long study: its latest trials, and for samplers its best.

TPE weighs and sorts every trial before it proposes one, a pruner takes the median of every curve: in a study of
thousands, each trial would cost more than the one before it. Up to ``MOST`` trials this changes nothing. Beyond, what
is left out is what TPE gives the least weight to: the oldest but the best (it learns from 25 what is good).
"""

from __future__ import annotations

import copy
from collections.abc import Container
from heapq import nlargest
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

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


def _choose(trials: list[FrozenTrial], n_best: int) -> list[FrozenTrial]:
    if len(trials) <= MOST:
        return trials
    complete = (trial for trial in trials if trial.state == TrialState.COMPLETE)
    best = {trial.number: trial for trial in nlargest(n_best, complete, key=lambda trial: trial.value or 0.0)}
    latest = [trial for trial in trials if trial.number not in best][n_best - MOST :]
    return sorted([*best.values(), *latest], key=lambda trial: trial.number)
