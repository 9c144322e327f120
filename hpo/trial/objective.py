"""The objective: a metric at fitted thresholds on posters that the network was not trained on.

A trial's value has to rank trials as new posters would. Two ways of fitting the thresholds do:

    calibrated     at calibrated thresholds, fitted on the posters that are scored: two smooth numbers a label flatter
                   themselves little, and every trial alike
    cross_fitted   at the thresholds of any strategy, fitted for each poster on the folds that it is not in

Which of them ranks better, and by how much, is in ``benchmarks/LOG.md`` (``benchmarks.decisions``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hpo.evaluation.counts import Bools
from hpo.evaluation.metrics import Scores, score
from hpo.evaluation.thresholds import DEFAULT_STRATEGY, Thresholds, cross_fitted_scores, fit
from hpo.runtime.atomic import Array

FINETUNE_STEP = 10_000  # epochs of phase two are reported to the pruner from here, so like is compared with like


ObjectiveKind = Literal["calibrated", "cross_fitted"]


def judged_posters(n_folds: int) -> str:
    """Say on which posters the trials of a study are judged."""
    if n_folds == 1:
        return "validation posters (which also chose the epochs: optimistic)"
    return "training and validation posters, out of fold"


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Thresholds that were fitted on some posters, and what they score on these."""

    thresholds: Thresholds
    scores: Scores


def judge(strategy: str, probabilities: Array, targets: Bools, metric: str) -> EvaluationResult:
    """Fit thresholds on probabilities (N, L) and targets (N, L), and score them there. Raises HpoError."""
    thresholds = fit(strategy, probabilities, targets, metric)
    return EvaluationResult(thresholds, score(probabilities, targets, thresholds.values))


@dataclass(frozen=True)
class Objective:
    """A metric, and how the thresholds come about at which it is judged."""

    metric: str
    kind: ObjectiveKind = "calibrated"
    strategy: str = DEFAULT_STRATEGY  # of the thresholds that a model gets

    def judge(self, probabilities: Array, targets: Bools) -> tuple[float, EvaluationResult]:
        """Return the value in 0..1 of probabilities (N, L), and the thresholds that a model gets. Raises HpoError."""
        judged = judge(self.strategy, probabilities, targets, self.metric)
        if self.kind == "cross_fitted":
            return cross_fitted_scores(self.strategy, probabilities, targets, self.metric).value(self.metric), judged
        calibrated = judged
        if self.strategy != "calibrated":
            calibrated = judge("calibrated", probabilities, targets, self.metric)
        return calibrated.scores.value(self.metric), judged
