"""Cross-validate a trial in K folds, or its configuration for a claim.

Every poster gets its probabilities from the one network that did not see it, so that thresholds and objective rest on
all of them and not on a tenth. Folds keep groups whole and labels even, as the split does.

A fold's network stops at the epoch that is best on the fold's own posters, and is deployed so. What is reported of
these posters is another epoch of the same training: the one that is best on the mean of the other folds. So no poster
has a say in the epoch, or the phase, that it is judged by; chosen on the fold itself, epochs flatter a trial's value
(`benchmarks/LOG.md`, ``benchmarks.flattery``). Two smaller choices stay with the fold: when its training ends, after
which it counts as it was last, and the head that fine-tuning begins with where that is a trained one. Pruning compares
fold by fold, each at its own best epoch, which no report shows: the same fold of two trials, under the same rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from statistics import fmean, median
from typing import Literal

import numpy as np
import torch

from hpo.data.dataset import Part
from hpo.data.splits.split import deal_folds
from hpo.model.classifier import build_head
from hpo.model.config import TrialConfig
from hpo.model.training.dataloader import joined
from hpo.model.training.loop import train_head
from hpo.model.training.optim import StateDict, greedy_soup
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFn
from hpo.trial.features import predicted_views, train_views
from hpo.trial.trial import SOUP_EPOCHS, Epochs, JudgedEpoch, PhaseName, TrialInputs, TrialResult, run_trial

# What the champion may claim: its recipe and its own thresholds, on posters that neither has seen.
#
# The champion's score on one validation part is optimistic: its thresholds and its best epoch were chosen on those
# posters, and it is the luckiest of many trials. So its recipe is trained once more per fold, for exactly as many
# epochs as the champion, on the other folds and the validation posters; no group of posters lies in two folds, as in
# the split. The out-of-fold probabilities of the training posters are then cut at the champion's thresholds, which were
# fitted on other posters. That is many more posters than a test part has, and hence a narrower interval. What remains
# is the choice of the recipe itself, a small part of the flattery.

N_FOLDS = 5


def out_of_fold_probabilities(
    config: TrialConfig, n_epochs: int, inputs: TrialInputs, progress: ProgressFn = lambda _: None
) -> Array:
    """Return float32 (N_train, L): each training poster by a head that did not see it."""
    train_part, source, seed = inputs.train, inputs.source, inputs.seed
    views = train_views(config)
    train_examples, val_examples = (source.examples(config, part, views) for part in (train_part, inputs.val))
    targets = torch.from_numpy(train_part.targets.astype(np.float32))
    val_targets = torch.from_numpy(inputs.val.targets.astype(np.float32))
    groups = np.arange(len(targets)) if train_part.groups is None else train_part.groups
    folds = torch.from_numpy(deal_folds(train_part.targets, groups, N_FOLDS, seed))
    n_predicted = len(predicted_views(config))  # the first of the views that are trained on
    probabilities = np.empty(train_part.targets.shape, np.float32)
    for fold in range(N_FOLDS):
        held_out, kept = (folds == fold).nonzero().ravel(), (folds != fold).nonzero().ravel()
        torch.manual_seed(seed)
        head = build_head(source.backbones(config), targets.shape[1], config)
        seen = joined(train_examples.select(kept), val_examples)
        asked = train_examples.select(held_out).first_views(n_predicted)
        epochs = train_head(head, seen, torch.cat([targets[kept], val_targets]), asked, config, seed)
        *_, last = islice(epochs, n_epochs)
        probabilities[held_out.numpy()] = last.val_probabilities
        progress(len(held_out))
    return probabilities


FoldModel = Literal["average", "refit"]


def run_folds(config: TrialConfig, inputs: TrialInputs, n_folds: int, fold_model: FoldModel) -> TrialResult:
    """Train on all but one fold of train and val together, for each of them, and evaluate all posters out of fold.

    ``inputs.report`` is called after every epoch of each fold (from 0), ``inputs.report_fold`` with the value of each
    at its own best epoch; whatever they raise stops the trial. The model is the average of the folds', or trained once
    more on everything for as long as they were in the median. With checkpoints, each fold that is fine-tuned has one of
    its own, and those of finished folds stay until the trial ends: run again, it trains their heads again and then
    continues where it was.
    """
    everything = inputs.train + inputs.val
    folds = _folds(everything, n_folds, inputs.seed)
    results = []
    for fold in range(n_folds):
        held_out, kept = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        of_fold = replace(inputs, train=everything.take(kept), val=everything.take(held_out), fold=fold)
        result = run_trial(config, of_fold)
        results.append(result)
        inputs.report_fold(fold, result.value)
    probabilities = np.empty(everything.targets.shape, np.float32)
    for fold, judged in enumerate(judged_by_other_folds(results)):
        probabilities[folds == fold] = judged
    whole = _together(results, everything, probabilities)
    if fold_model == "average":
        return whole
    again = run_trial(
        config,
        TrialInputs(
            everything,
            everything,
            inputs.source,
            inputs.objective,
            inputs.seed,
            epochs=whole.epochs,
            checkpoints=inputs.checkpoints,
        ),
    )
    return replace(whole, classifiers=again.classifiers, seconds=_summed([whole.seconds, again.seconds]))


def _folds(everything: Part, n_folds: int, seed: int) -> np.ndarray:
    groups = np.arange(len(everything)) if everything.groups is None else everything.groups
    return deal_folds(everything.targets, groups, n_folds, seed)


def judged_by_other_folds(results: Sequence[TrialResult]) -> list[Array]:
    """Return the probabilities of each fold's posters, at the epoch of the highest mean value on the other folds.

    Both phases are candidates, and the earliest of equals is chosen. Where weights of several epochs are averaged, the
    mean of those epochs' probabilities stands for them, each taken in as long as that helps the other folds.
    """
    config, objective = results[0].config, results[0].objective
    n_averaged = SOUP_EPOCHS if config.averaging == "soup" else 1
    epochs = _aligned(results)
    values = np.array([[epoch.value for epoch in fold] for fold in epochs])  # (K, E)

    def without(fold: int) -> Array:
        others = [other for other in range(len(results)) if other != fold]
        means = values[others].mean(axis=0)

        def value_of(tables: StateDict) -> float:
            judged = (objective.judge(tables[f"{at}"].numpy(), results[at].judged_on.targets) for at in others)
            return fmean(value for value, _ in judged)

        best = np.argsort(-means, kind="stable")[:n_averaged]
        tables = [
            {f"{at}": torch.from_numpy(one[epoch].probabilities) for at, one in enumerate(epochs)} for epoch in best
        ]
        _, averaged, _ = greedy_soup(list(zip(means[best].tolist(), tables, strict=True)), value_of)
        return averaged[f"{fold}"].numpy()

    return [without(fold) for fold in range(len(results))]


def _aligned(results: Sequence[TrialResult]) -> list[list[JudgedEpoch]]:
    """Return each fold's epochs, equally many of each phase: a fold that stopped early stays as it was last."""
    lengths = {phase: max(len(one.judged_epochs[phase]) for one in results) for phase in results[0].judged_epochs}
    return [
        [
            one.judged_epochs[phase][min(at, len(one.judged_epochs[phase]) - 1)]
            for phase, n in lengths.items()
            for at in range(n)
        ]
        for one in results
    ]


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
        judged_on=everything,
        val_probabilities=probabilities,
        judged_epochs={},
        classifiers=tuple(classifier for result in results for classifier in result.classifiers),
        seconds=_summed([result.seconds for result in results]),
        micro_batch=min(result.micro_batch for result in results),
    )


def _summed(seconds: list[dict[str, float]]) -> dict[str, float]:
    stages = dict.fromkeys(stage for trial in seconds for stage in trial)
    return {stage: sum(trial.get(stage, 0.0) for trial in seconds) for stage in stages}
