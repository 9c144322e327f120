"""What a model is worth: on any posters with known labels, on its study's test posters, and what else it may claim."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from hpo.bundle.description import Description
from hpo.bundle.predictor import Predictor
from hpo.data.catalogue.catalogue import Catalogue
from hpo.data.images import Phase
from hpo.data.prepare import PreparedData
from hpo.data.shards import Array
from hpo.decision.baselines import constant_baselines
from hpo.decision.metrics import score
from hpo.decision.thresholds import cross_fit
from hpo.errors import DataError
from hpo.search.confirm import out_of_fold_probabilities
from hpo.search.describe import Baselines, claim, measure
from hpo.search.trainer import Trainer
from hpo.search.workshop import Workshop

Scores = Mapping[str, tuple[dict[str, Any], Baselines]]  # part → what was measured, constant baselines


def evaluate(
    predictor: Predictor, catalogue: Catalogue, phase: Phase, min_labels: int | None = None
) -> tuple[dict[str, Any], list[Path]]:
    """Score a bundle on a catalogue whose label names are the bundle's; also return the posters that are broken.

    The keys are the contract of ``hpo evaluate --json``. ``min_labels`` replaces the bundle's own; where some are
    asked for, ``without_min_labels`` says what the averages would be otherwise.
    """
    with phase("predicting", len(catalogue)) as progress:
        predicted = predictor.predict(catalogue.image_paths, progress)
    broken = [catalogue.image_paths[row] for row in predicted.broken]
    if not predicted.rows:
        raise DataError(
            f"Expected posters that can be decoded, got {len(broken)} broken ones (the first is {broken[0]}): "
            "check --images."
        )
    described, rows = predictor.description, list(predicted.rows)
    at_least = described.min_labels if min_labels is None else min_labels
    titles = np.unique(np.array(catalogue.title_ids)[rows], return_inverse=True)[1]
    judged = (predicted.probabilities, catalogue.targets[rows], np.array(described.thresholds))
    found = measure(*judged, described.label_names, groups=titles, min_labels=at_least)
    if at_least:
        found["without_min_labels"] = score(*judged).headline()
    return found, broken


def with_scores(folder: Path, data: PreparedData, claimed: Scores, phase: Phase) -> Description:
    """Return the description of the bundle in ``folder`` with honest scores: its claims, and those on test posters."""
    predictor, test = Predictor.load(folder), data.catalogue.take(data.split.test)
    described = predictor.description
    found, _ = evaluate(predictor, test, phase)
    judged = {**claimed, "test": (found, constant_baselines(data.part("train").targets, test.targets))}
    part = next(iter(judged))  # the test posters must do where nothing else is claimed
    metrics = {
        **described.metrics,
        **{name: scores for name, (scores, _) in judged.items()},
        "claim": claim(part, judged[part][0]),
        "baselines": {
            **described.metrics["baselines"],
            **{name: constants for name, (_, constants) in judged.items()},
        },
    }
    return described.model_copy(update={"metrics": metrics})


def claims(described: Description, trial: FrozenTrial, workshop: Workshop, phase: Phase) -> Scores:
    """Return what a trial may claim beside its test posters; folds of a fine-tuned one would take hours."""
    trainer = workshop.trainer
    if trainer.n_folds > 1:
        probabilities = workshop.probabilities(workshop.study.run_id(trial))
        return {} if probabilities is None else {"cross_fitted": _cross_fitted(described, probabilities, trainer)}
    if described.metrics.get("phase", "frozen") == "finetune":
        return {}
    return {"cross_validation": _cross_validated(described, trial, workshop, phase)}


def _cross_validated(
    described: Description, trial: FrozenTrial, workshop: Workshop, phase: Phase
) -> tuple[dict[str, Any], Baselines]:
    """Score the trial's recipe on training posters, each by a network that was trained without it."""
    trainer, part = workshop.trainer, workshop.trainer.train
    epochs, seed = int(trial.user_attrs["best_epoch"]), workshop.study.attributes["seed"]
    with phase("cross-validating the champion", len(part)) as progress:
        probabilities = out_of_fold_probabilities(
            described.params, epochs, part, trainer.val, trainer.source, seed, progress
        )
    scores = measure(
        probabilities,
        part.targets,
        np.array(described.thresholds),
        described.label_names,
        groups=part.groups,
        min_labels=described.min_labels,
    )
    return scores, constant_baselines(part.targets, part.targets)


def _cross_fitted(described: Description, probabilities: Array, trainer: Trainer) -> tuple[dict[str, Any], Baselines]:
    """Score out-of-fold probabilities at thresholds that did not see the poster either."""
    part, objective = trainer.judged_on, trainer.objective
    thresholds = cross_fit(objective.strategy, probabilities, part.targets, objective.metric)
    scores = measure(probabilities, part.targets, thresholds, described.label_names, groups=part.groups)
    return scores, constant_baselines(part.targets, part.targets)
