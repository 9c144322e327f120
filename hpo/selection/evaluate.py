"""Evaluate models: on any labelled posters, on the test split, and cross-fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo.bundle.description import Description
from hpo.bundle.predictor import Predicted, Predictor
from hpo.bundle.trained_on import Digests, trained_on
from hpo.data.dataset import PreparedData
from hpo.data.splits.stratify import Rows
from hpo.data.table.catalogue import Catalogue
from hpo.errors import DataError
from hpo.evaluation.baselines import constant_baselines
from hpo.evaluation.bootstrap import ThresholdedPredictions
from hpo.evaluation.counts import Bools
from hpo.evaluation.metrics import METRICS, score
from hpo.evaluation.support import over_supported, with_macros
from hpo.evaluation.thresholds import cross_fit
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFactory
from hpo.selection.context import StudyContext
from hpo.selection.labelled import Labelled
from hpo.study.trial_record import TrialRecord
from hpo.trial.cross_validation import out_of_fold_probabilities
from hpo.trial.description import Baselines, claim, measure
from hpo.trial.trainer import Trainer

ScoresByPart = Mapping[str, tuple[dict[str, Any], Baselines]]  # part → what was measured, constant baselines


def evaluate(
    predictor: Predictor, catalogue: Catalogue, phase: ProgressFactory, min_labels: int | None = None
) -> tuple[dict[str, Any], list[Path]]:
    """Score a bundle on a catalogue whose label names are the bundle's; also return the posters that are broken.

    ``min_labels`` replaces the bundle's own; where some are asked for, ``without_min_labels`` says what the averages
    would be otherwise. Averages over labels leave out those that no poster has (``n_labels_averaged`` are left).
    """
    predicted = _predicted(predictor, catalogue, phase)
    return _judged(predictor, catalogue, predicted, min_labels), [
        catalogue.image_paths[row] for row in predicted.broken
    ]


def evaluate_table(
    predictor: Predictor,
    labelled: Labelled,
    digests: Digests | None,
    phase: ProgressFactory,
    min_labels: int | None = None,
) -> dict[str, Any]:
    """Score a bundle on a table of posters as ``hpo evaluate --json`` does: its keys are a contract.

    Those that the bundle was made from, by its ``digests``, are counted, and the others are scored apart as well.
    """
    catalogue = labelled.catalogue
    predicted = _predicted(predictor, catalogue, phase)
    labelled.broken.update({catalogue.image_paths[row]: reason for row, reason in predicted.broken.items()})
    found = {**_judged(predictor, catalogue, predicted, min_labels), **labelled.account()}
    found |= {"trained_on": None, "not_trained_on": None}
    if digests is not None:
        rows = np.array(predicted.rows)
        seen = trained_on(digests, [catalogue.image_paths[row] for row in predicted.rows])
        found["trained_on"] = {"n_posters": int(seen.sum())}
        if seen.any() and not seen.all():
            apart = Predicted(tuple(rows[~seen].tolist()), predicted.probabilities[~seen], {})
            found["not_trained_on"] = _judged(predictor, catalogue, apart, min_labels)
    return found


def _predicted(predictor: Predictor, catalogue: Catalogue, phase: ProgressFactory) -> Predicted:
    with phase("predicting", len(catalogue)) as progress:
        predicted = predictor.predict(catalogue.image_paths, progress)
    if not predicted.rows:
        broken = [catalogue.image_paths[row] for row in predicted.broken]
        raise DataError(
            f"Expected posters that can be decoded, got {len(broken)} broken ones (the first is {broken[0]}): "
            "check --images."
        )
    return predicted


def _judged(predictor: Predictor, catalogue: Catalogue, predicted: Predicted, min_labels: int | None) -> dict[str, Any]:
    described, rows = predictor.description, list(predicted.rows)
    at_least = described.min_labels if min_labels is None else min_labels
    titles = np.unique(np.array(catalogue.title_ids)[rows], return_inverse=True)[1]
    targets, names, thresholds = catalogue.targets[rows], described.label_names, np.array(described.thresholds)
    found = _over_supported(
        ThresholdedPredictions(predicted.probabilities, thresholds, at_least), targets, names, titles
    )
    if at_least:
        plain = ThresholdedPredictions(predicted.probabilities, thresholds)
        few, kept = over_supported(plain, targets)
        headline = score(plain.probabilities, targets, thresholds).headline()
        if kept.size:
            headline = with_macros(headline, score(few.probabilities, kept, few.thresholds).headline())
        found["without_min_labels"] = headline
    return found


def _over_supported(
    decided: ThresholdedPredictions, targets: Bools, names: tuple[str, ...], titles: Rows
) -> dict[str, Any]:
    """Measure decisions; macro averages are over the labels that some poster has."""
    found = measure(
        np.asarray(decided.probabilities),
        targets,
        np.asarray(decided.thresholds),
        names,
        groups=titles,
        min_labels=decided.min_labels,
    )
    few, kept = over_supported(decided, targets)
    found["n_labels_averaged"] = n_kept = kept.shape[1]
    if 0 < n_kept < len(names):
        apart = measure(np.asarray(few.probabilities), kept, np.asarray(few.thresholds), ("",) * n_kept, groups=titles)
        for key in ("averages", "ci95"):
            found[key] = with_macros(found[key], apart[key])
        found |= with_macros({name: found[name] for name in METRICS}, apart)
    return found


def baselines_over_supported(
    score_baselines: Callable[[Bools, Bools], Baselines], reference: Bools, targets: Bools
) -> Baselines:
    """Return constant baselines whose macro averages leave out the labels that no poster has, as ``evaluate`` does."""
    found, has = score_baselines(reference, targets), targets.any(axis=0)
    if has.all() or not has.any():
        return found
    apart = score_baselines(reference[:, has], targets[:, has])
    return {name: with_macros(values, apart[name]) for name, values in found.items()}


def with_scores(folder: Path, data: PreparedData, claimed: ScoresByPart, phase: ProgressFactory) -> Description:
    """Return the description of the bundle in ``folder`` with honest scores: its claims, and those on test posters."""
    predictor, test = Predictor.load(folder), data.catalogue.take(data.split.test)
    described = predictor.description
    found, _ = evaluate(predictor, test, phase)
    judged = {
        **claimed,
        "test": (found, baselines_over_supported(constant_baselines, data.part("train").targets, test.targets)),
    }
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


def claims(described: Description, trial: TrialRecord, context: StudyContext, phase: ProgressFactory) -> ScoresByPart:
    """Return what a trial may claim beside its test posters; folds of a fine-tuned one would take hours."""
    trainer = context.trainer
    if trainer.n_folds > 1:
        probabilities = context.probabilities(trial.number)
        return {} if probabilities is None else {"cross_fitted": _cross_fitted(described, probabilities, trainer)}
    if described.metrics.get("phase", "frozen") == "finetune":
        return {}
    return {"cross_validation": _cross_validated(described, trial, context, phase)}


def _cross_validated(
    described: Description, trial: TrialRecord, context: StudyContext, phase: ProgressFactory
) -> tuple[dict[str, Any], Baselines]:
    """Score the trial's recipe on training posters, each by a network that was trained without it."""
    trainer, part = context.trainer, context.trainer.train
    epochs, seed = trial.best_epoch, context.study.seed
    with phase("cross-validating the champion", len(part)) as progress:
        probabilities = out_of_fold_probabilities(described.params, epochs, trainer.inputs(seed), progress)
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
