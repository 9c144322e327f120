"""A trial while it runs: what an objective may do with it, and the two ways in which it is stopped."""

from __future__ import annotations

from typing import Any

import optuna

from hpo import timeline
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.space.search_space import SearchSpace


class RunningTrial:
    """One trial as an objective sees it."""

    def __init__(self, trial: optuna.Trial, space: SearchSpace) -> None:
        self._trial, self._space = trial, space
        self.number = trial.number
        self.recipe: str | None = trial.user_attrs.get("recipe")

    def choose(self) -> Hyperparameters:
        """Sample the space."""
        with timeline.stage("Optuna"):
            return self._space.sample(self._trial)

    def report(self, value: float, step: int, where: str) -> None:
        """Tell the pruner; raises ``Pruned`` when this trial is clearly behind. A recipe is never pruned.

        ``step`` is what trials are compared at: the same for equal epochs of the same phase, or for one fold.
        ``where`` is that in words.
        """
        with timeline.stage("Optuna"):
            self._trial.report(value, step)
            is_behind = self.recipe is None and self._trial.should_prune()
        if is_behind:
            raise Pruned(where)

    @property
    def attributes(self) -> dict[str, Any]:
        """Everything that was noted with the trial."""
        return dict(self._trial.user_attrs)

    def note(self, **attributes: Any) -> None:
        """Keep JSON values with the trial."""
        with timeline.stage("Optuna"):
            for key, value in attributes.items():
                self._trial.set_user_attr(key, value)


class Pruned(optuna.TrialPruned):
    """The study stopped a trial ``where`` it was clearly behind: after epoch 7, or after fold 3."""

    def __init__(self, where: str) -> None:
        super().__init__(f"clearly behind other trials after {where}")
        self.where = where


class OutOfTime(Exception):
    """The next trial would not finish in the time that is left."""
