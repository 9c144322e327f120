"""What a study maximises, on posters that the network was not trained on: a metric at thresholds that were fitted.

A trial's value has to rank trials as new posters would. Two ways of fitting the thresholds do:

    calibrated     at calibrated thresholds, fitted on the posters that are scored: two smooth numbers a label flatter
                   themselves little, and every trial alike
    cross_fitted   at the thresholds of any strategy, fitted for each poster on the folds that it is not in

Which of them ranks better, and by how much, is in ``benchmarks/LOG.md`` (``benchmarks.decisions``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hpo.data.shards import Array
from hpo.decision.counts import Bools
from hpo.decision.metrics import Scores, score
from hpo.decision.thresholds import DEFAULT_STRATEGY, Thresholds, claimed, fit

Kind = Literal["calibrated", "cross_fitted"]
FEW_POSTERS = 1500  # of train and val, below which folds are worth their time
_FOLDS_OF_FEW = 5


def default_folds(n_posters: int, finetunes: bool) -> int:
    """Return in how many folds trials are judged where nobody says: few posters in folds, many on val alone.

    A tenth of few posters is too little to choose trials, thresholds and ensembles by: with 80 of them the claim of an
    ensemble was off by up to 0.04, in five folds by 0.007, and ensembles were better by 0.007 (`benchmarks/LOG.md`).
    Fine-tuning five times is rarely worth it.
    """
    return _FOLDS_OF_FEW if n_posters < FEW_POSTERS and not finetunes else 1


def judged_posters(attributes: Mapping[str, Any]) -> str:
    """Say on which posters the trials of the study that remembers ``attributes`` are judged."""
    if attributes.get("folds", 1) == 1:
        return "validation posters"
    return "training and validation posters, out of fold"


@dataclass(frozen=True, eq=False)
class Judged:
    """Thresholds that were fitted on some posters, and what they score on these."""

    thresholds: Thresholds
    scores: Scores


def judge(strategy: str, probabilities: Array, targets: Bools, metric: str) -> Judged:
    """Fit thresholds on probabilities (N, L) and targets (N, L), and score them there. Raises HpoError."""
    thresholds = fit(strategy, probabilities, targets, metric)
    return Judged(thresholds, score(probabilities, targets, thresholds.values))


@dataclass(frozen=True)
class Objective:
    """A metric, and how the thresholds come about at which it is judged."""

    metric: str
    kind: Kind = "calibrated"
    strategy: str = DEFAULT_STRATEGY  # of the thresholds that a model gets

    def judge(self, probabilities: Array, targets: Bools) -> tuple[float, Judged]:
        """Return the value in 0..1 of probabilities (N, L), and the thresholds that a model gets. Raises HpoError."""
        judged = judge(self.strategy, probabilities, targets, self.metric)
        if self.kind == "cross_fitted":
            return claimed(self.strategy, probabilities, targets, self.metric).value(self.metric), judged
        calibrated = judged
        if self.strategy != "calibrated":
            calibrated = judge("calibrated", probabilities, targets, self.metric)
        return calibrated.scores.value(self.metric), judged
