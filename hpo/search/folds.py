"""A trial as a K-fold cross-validation on train + val, instead of one training judged on val.

Every poster gets its probabilities from the one network that did not see it, so that thresholds and objective rest on
all of them and not on a tenth. Folds keep groups whole and labels even, as the split does. What each fold chose on its
own posters, its best epoch, is the flattery that is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Literal

import numpy as np

from hpo.data.prepare import Part
from hpo.data.splits.splits import deal_folds
from hpo.model.checkpoint import Checkpoints
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.objective import Objective
from hpo.search.source import FeatureSource
from hpo.search.trial import EpochReport, Epochs, PhaseName, TrialResult, judge_all, run_trial

FoldModel = Literal["average", "refit"]


def run_folds(
    chosen: Hyperparameters,
    everything: Part,
    source: FeatureSource,
    objective: Objective,
    seed: int,
    n_folds: int,
    fold_model: FoldModel,
    report: Callable[[int, EpochReport], None] = lambda *_: None,
    report_fold: Callable[[int, float], None] = lambda *_: None,
    checkpoints: Checkpoints | None = None,
) -> TrialResult:
    """Train on all but one fold of ``everything``, for each of them, and judge all posters out of fold.

    ``report`` hears of every epoch of each fold (from 0), ``report_fold`` of the value of each; whatever they raise
    stops the trial. The model is the average of the folds', or trained once more on everything for as long as they
    were in the median. With ``checkpoints``, each fold that is fine-tuned has one of its own, and those of finished
    folds stay until the trial ends: run again, it trains their heads again and then goes on where it was.
    """
    folds = _folds(everything, n_folds, seed)
    probabilities = np.empty(everything.targets.shape, np.float32)
    results = []
    for fold in range(n_folds):
        held_out, kept = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        result = run_trial(
            chosen,
            everything.take(kept),
            everything.take(held_out),
            source,
            objective,
            seed,
            partial(report, fold),
            checkpoints=checkpoints,
        )
        probabilities[held_out] = result.val_probabilities
        results.append(result)
        report_fold(fold, result.value)
    whole = _together(results, everything, probabilities)
    if fold_model == "average":
        return whole
    again = run_trial(
        chosen, everything, everything, source, objective, seed, epochs=whole.epochs, checkpoints=checkpoints
    )
    return replace(whole, classifiers=again.classifiers, seconds=_summed([whole.seconds, again.seconds]))


def _folds(everything: Part, n_folds: int, seed: int) -> np.ndarray:
    groups = np.arange(len(everything)) if everything.groups is None else everything.groups
    return deal_folds(everything.targets, groups, n_folds, seed)


def _together(results: list[TrialResult], everything: Part, probabilities: np.ndarray) -> TrialResult:
    """Return the folds as one trial, judged out of fold."""
    objective = results[0].objective
    value, _ = objective.judge(probabilities, everything.targets)
    phase: PhaseName = Counter(result.phase for result in results).most_common(1)[0][0]
    alike = [result for result in results if result.phase == phase]
    epochs: Epochs = {name: round(median(result.epochs[name] for result in alike)) for name in alike[0].epochs}
    return replace(
        results[0],
        value=value,
        phase=phase,
        best_epoch=sum(epochs.values()),
        n_epochs=sum(result.n_epochs for result in results),
        epochs=epochs,
        strategies=judge_all(probabilities, everything, objective.metric),
        judged_on=everything,
        val_probabilities=probabilities,
        classifiers=tuple(classifier for result in results for classifier in result.classifiers),
        seconds=_summed([result.seconds for result in results]),
        micro_batch=min(result.micro_batch for result in results),
    )


def _summed(seconds: list[dict[str, float]]) -> dict[str, float]:
    stages = dict.fromkeys(stage for trial in seconds for stage in trial)
    return {stage: sum(trial.get(stage, 0.0) for trial in seconds) for stage in stages}
