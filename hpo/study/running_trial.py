"""A running trial: suggest, report, set attributes, and the exceptions that stop it."""

from __future__ import annotations

from typing import Any

import optuna

from hpo.model.config import TrialConfig
from hpo.runtime import profiling as timeline
from hpo.space.space import SearchSpace
from hpo.study.trial_record import TrialRecord
from hpo.trial.trial import Pruned


class RunningTrial:
    """One trial as an objective sees it."""

    def __init__(self, trial: optuna.Trial, space: SearchSpace) -> None:
        self._trial, self._space = trial, space
        self.number = trial.number
        self.recipe: str | None = trial.user_attrs.get("recipe")
        stage = trial.user_attrs.get("proposal", {}).get("stage")
        self._is_prunable = self.recipe is None or stage != next(iter(space.stages), None)

    def choose(self) -> TrialConfig:
        """Sample the space."""
        with timeline.stage("Optuna"):
            return self._space.sample(self._trial)

    def report(self, value: float, step: int, where: str) -> None:
        """Report to the pruner; raises ``Pruned`` when this trial is clearly behind.

        A recipe is never pruned, unless it is of a later stage of the space than the first.
        ``step`` is what trials are compared at: the same for equal epochs of the same phase, or for one fold.
        ``where`` is that in words.
        """
        with timeline.stage("Optuna"):
            self._trial.report(value, step)
            is_behind = self._is_prunable and self._trial.should_prune()
        if is_behind:
            raise Pruned(where)

    def record(self) -> TrialRecord:
        """Return the trial as it stands, with everything that was noted with it."""
        return TrialRecord.of(self._trial.storage.get_trial(self._trial._trial_id))

    def note(self, **attributes: Any) -> None:
        """Keep JSON values with the trial."""
        with timeline.stage("Optuna"):
            for key, value in attributes.items():
                self._trial.set_user_attr(key, value)


class OutOfTime(Exception):
    """The next trial would not finish in the time that is left."""
