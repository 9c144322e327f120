"""Build an ensemble of a study's trials from their stored predictions.

What it may claim is cross-fitted: each poster is decided by members and thresholds that were chosen without it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpo.bundle.bundle import load_classifier
from hpo.bundle.description import Description, load_description
from hpo.bundle.predictor import Predictor
from hpo.errors import BundleError, StudyError
from hpo.evaluation.bootstrap import Difference, ThresholdedPredictions, paired_differences
from hpo.evaluation.ensemble_selection import MAX_MEMBERS, Limits, Step, cross_fit, select
from hpo.evaluation.ensemble_selection import SelectedEnsemble as Choice
from hpo.evaluation.thresholds import Thresholds, fit
from hpo.model.classifier import Classifier, Ensemble, Network
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFactory
from hpo.selection.context import StudyContext
from hpo.study.trial_record import TrialRecord
from hpo.tracking.artifacts import download_network
from hpo.trial.cost_model import WorkCounter
from hpo.trial.description import claim, describe_network, measure
from hpo.trial.features import predicted_views
from hpo.trial.trainer import Trainer

DEFAULT_MAX_MEMBERS = MAX_MEMBERS


@dataclass(frozen=True, eq=False)
class Candidates:
    """The complete trials whose predictions are stored, best first."""

    trials: tuple[TrialRecord, ...]
    probabilities: Array  # (K, N, L)


@dataclass(frozen=True, eq=False)
class Selected:
    """The trials that are averaged, heaviest first, and what their average is worth."""

    trials: tuple[TrialRecord, ...]
    weights: tuple[float, ...]  # sum to 1
    steps: tuple[Step, ...]  # the metric as each is added, thresholds fitted on the same posters
    costs_gflop: tuple[float, ...]  # of a poster's forward pass, as each is added
    n_pool: int  # trials that there were to choose from
    claim: dict[str, Any]  # as `hpo evaluate --json`, cross-fitted
    best_single: dict[str, Any]  # the same for the best trial, its thresholds cross-fitted
    lead: Difference  # of the average over the best trial, in the study's metric, on the same posters

    def pays(self, metric: str) -> bool:
        """Say whether the average can claim more than the best trial alone."""
        return bool(self.claim[metric] > self.best_single[metric])

    def verdict(self, metric: str) -> str:
        """Say so in a sentence, the same wherever averaging is offered."""
        return (
            f"Averaged, these trials can claim {metric} {self.claim[metric]:.3f}, the best trial alone "
            f"{self.best_single[metric]:.3f}: averaging is {'' if self.pays(metric) else 'not '}worth its cost here."
        )


@dataclass(frozen=True, eq=False)
class Assembled:
    """The network of an ensemble, and thresholds fitted on its own probabilities."""

    network: Ensemble
    thresholds: Thresholds


def select_members(
    context: StudyContext, max_members: int = DEFAULT_MAX_MEMBERS, max_cost: float | None = None
) -> Selected:
    """Choose trials by the posters that they were judged on; ``max_cost`` is in forward passes of the best trial.

    Raises StudyError where no trial kept its probabilities, DataError where none is cheap enough.
    """
    pool, limits, ensemble = _choice(context, max_members, max_cost)
    order = [member.candidate for member in ensemble.members]
    together = _cross_fitted(pool.probabilities, context, limits)
    alone = _cross_fitted(pool.probabilities[:1], context, Limits(max_members=1))
    part, metric = context.trainer.judged_on, context.study.metric
    return Selected(
        trials=tuple(pool.trials[at] for at in order),
        weights=tuple(member.weight for member in ensemble.members),
        steps=ensemble.steps,
        costs_gflop=tuple(limits.cost(order[: n + 1]) for n in range(len(order))),
        n_pool=len(pool.trials),
        claim=_measured(together, context),
        best_single=_measured(alone, context),
        lead=paired_differences(alone, together, part.targets, part.groups)[metric],
    )


def member_trials(context: StudyContext) -> tuple[TrialRecord, ...]:
    """Return the trials that ``select_members`` chooses when left alone, without what their average may claim.

    Raises StudyError where no trial kept its probabilities, BackboneError where a backbone cannot be had any more.
    """
    pool, _, ensemble = _choice(context, DEFAULT_MAX_MEMBERS, None)
    return tuple(pool.trials[member.candidate] for member in ensemble.members)


def _choice(context: StudyContext, max_members: int, max_cost: float | None) -> tuple[Candidates, Limits, Choice]:
    trainer = context.trainer
    part, metric, strategy = trainer.judged_on, trainer.objective.metric, trainer.objective.strategy
    pool = _candidates(context)
    counter = WorkCounter(trainer.source, trainer.train, trainer.val, trainer.n_folds)
    costs = tuple(_parts_gflop(trial, trainer, counter) for trial in pool.trials)
    most = math.inf if max_cost is None else max_cost * sum(costs[0].values())
    limits = Limits(max_members, most, costs)
    return pool, limits, select(pool.probabilities, part.targets, metric, strategy=strategy, limits=limits)


def _candidates(context: StudyContext) -> Candidates:
    study = context.study
    found = [
        (trial, probabilities)
        for trial in study.top(None)
        if (probabilities := context.probabilities(trial.number)) is not None
    ]
    if not found:
        raise StudyError(
            f"Expected complete trials of study {study.name!r} that kept their probabilities, got none: "
            "run a few with hpo search."
        )
    return Candidates(tuple(trial for trial, _ in found), np.stack([probabilities for _, probabilities in found]))


def _cross_fitted(candidates: Array, context: StudyContext, limits: Limits) -> ThresholdedPredictions:
    part, objective = context.trainer.judged_on, context.trainer.objective
    found = cross_fit(candidates, part.targets, objective.metric, strategy=objective.strategy, limits=limits)
    return ThresholdedPredictions(found.probabilities, found.thresholds)


def _measured(decided: ThresholdedPredictions, context: StudyContext) -> dict[str, Any]:
    part, names = context.trainer.judged_on, context.data.catalogue.label_names
    probabilities, thresholds = np.asarray(decided.probabilities), np.asarray(decided.thresholds)
    return measure(probabilities, part.targets, thresholds, names, groups=part.groups)


def _parts_gflop(trial: TrialRecord, trainer: Trainer, counter: WorkCounter) -> Mapping[str, float]:
    """Return what a poster's forward pass through each backbone costs; heads are left out, a thousandth of it.

    Frozen backbones go by name, as trials share them; a fine-tuned one is its trial's own, and each fold's.
    """
    config = trial.hyperparameters
    n_copies, owner = 1, ""
    if trial.phase == "finetune":
        n_copies = trainer.n_folds if trainer.fold_model == "average" else 1
        owner = f" of trial {trial.number}"
    n_looks = len(predicted_views(config))
    return {
        f"{backbone.name} {backbone.image_size} {config.fit}{owner} {copy} {look}": counter.forward_gflop(backbone)
        for backbone in trainer.source.backbones(config)
        for copy in range(n_copies)
        for look in range(n_looks)
    }


def assemble(
    selected: Selected, context: StudyContext, phase: ProgressFactory, flip_average: bool = False
) -> Assembled:
    """Put the chosen trials together; those whose network was not kept are trained again, and come out the same.

    With ``flip_average`` every member looks at posters mirrored as well, and thresholds are fitted on what that gives
    (in folds, where no poster is unseen by all of a trial's networks, on the probabilities without).
    """
    trainer = context.trainer
    members: list[tuple[Classifier, float]] = []
    mean = np.zeros(trainer.judged_on.targets.shape)
    with phase("putting the ensemble together", len(selected.trials)) as progress:
        for trial, weight in zip(selected.trials, selected.weights, strict=True):
            network, probabilities = _trained(trial, context)
            alone = network.members() if isinstance(network, Ensemble) else [(network, 1.0)]
            members += [(classifier, weight * share) for classifier, share in alone]
            mean += weight * probabilities
            progress(1)
    together = Ensemble.of(members, flip_average)
    fitted = _thresholds(mean, trainer)
    if flip_average and trainer.n_folds == 1:
        described = describe_network(context.study.setup, context.data, together, fitted, {})
        paths = trainer.judged_on.posters.paths
        with phase("looking at both sides", len(paths)) as progress:
            fitted = _thresholds(Predictor(described, together).predict(paths, progress).probabilities, trainer)
    return Assembled(together, fitted)


def _thresholds(probabilities: Array, trainer: Trainer) -> Thresholds:
    objective, targets = trainer.objective, trainer.judged_on.targets
    return fit(objective.strategy, np.clip(probabilities, 0.0, 1.0), targets, objective.metric)


def _trained(trial: TrialRecord, context: StudyContext) -> tuple[Network, Array]:
    """Return the network of a trial, and its probabilities (N, L) of the posters that it was judged on."""
    run_id = context.study.run_id(trial)
    probabilities = context.probabilities(trial.number)
    with tempfile.TemporaryDirectory() as folder:
        kept = None if run_id is None else download_network(context.tracking, run_id, Path(folder))
        if kept is not None and probabilities is not None:
            with suppress(BundleError):  # damaged: as good as not kept
                return load_classifier(kept, load_description(kept)), probabilities
    result = context.train_again(trial)
    return result.network, result.val_probabilities


def describe_ensemble(context: StudyContext, selected: Selected, assembled: Assembled) -> Description:
    """Describe an ensemble as its bundle does, with what it may claim."""
    metrics = {
        "phase": "ensemble",
        "trials": [trial.number for trial in selected.trials],
        "claim": claim("cross_fitted", selected.claim),
        "cross_fitted": selected.claim,
        "baselines": {"cross_fitted": context.baselines},
    }
    return describe_network(context.study.setup, context.data, assembled.network, assembled.thresholds, metrics)
