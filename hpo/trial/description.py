"""Describe a finished trial: its metrics and the description of its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hpo.bundle.bundle import made_of, save_bundle
from hpo.bundle.description import Description, installed_versions
from hpo.bundle.trained_on import Digests, of_posters
from hpo.data.dataset import PreparedData
from hpo.data.splits.stratify import Rows
from hpo.evaluation.bootstrap import bootstrap_ci95
from hpo.evaluation.counts import Bools, Floats
from hpo.evaluation.metrics import averages, score
from hpo.evaluation.thresholds import Thresholds, cross_fit
from hpo.model.classifier import Network
from hpo.runtime.atomic import Array
from hpo.trial.setup import StudySetup
from hpo.trial.trial import TrialResult

Baselines = dict[str, dict[str, float]]  # name → headline metrics on val


def trial_metrics(result: TrialResult, label_names: tuple[str, ...], forecast_seconds: float) -> dict[str, float]:
    """Return the final metrics of a trial by MLflow key: all strategies, and each label at the calibrated threshold."""
    metrics = {f"time/{stage}_seconds": seconds for stage, seconds in result.seconds.items()}
    metrics |= {"val/best_epoch": result.best_epoch, "val/n_epochs": result.n_epochs}
    metrics |= {"train/micro_batch": result.micro_batch, "time/forecast_seconds": forecast_seconds}
    for strategy, judged in result.strategies.items():
        metrics |= {f"val/{strategy}/{name}": value for name, value in judged.scores.headline().items()}
    judged = result.judged
    metrics |= {f"val/{name}": value for name, value in judged.scores.headline().items()}
    table = result.val_probabilities, result.judged_on.targets, judged.thresholds.values
    metrics |= {f"val/{name}": value for name, value in averages(*table).items()}
    per_label = judged.scores.per_label(label_names, judged.thresholds.values)
    for label, row in per_label.items():
        metrics |= {f"val/{name}/{label}": row[name] for name in ("f1", "precision", "recall", "support")}
        metrics[f"threshold/{label}"] = row["threshold"]
    return metrics


def reported_figure(result: TrialResult) -> dict[str, Any]:
    """Return the study's metric as it is to be reported of a trial, with its 95 % interval: ``{value, ci95}``.

    It is computed from the probabilities that the trial is judged by, each poster decided by thresholds that were
    fitted without it. ``hpo export-best`` computes the same from the probabilities that the trial kept.
    """
    probabilities, part, objective = result.val_probabilities, result.judged_on, result.objective
    thresholds = result.judged.thresholds.values
    if len(part) > 1:
        thresholds = cross_fit(objective.strategy, probabilities, part.targets, objective.metric)
    value = score(probabilities, part.targets, thresholds).value(objective.metric)
    metrics = (objective.metric,)
    intervals = bootstrap_ci95(probabilities, part.targets, thresholds, groups=part.groups, metrics=metrics)
    return {"value": value, "ci95": list(intervals[objective.metric])}


def describe(setup: StudySetup, data: PreparedData, baselines: Baselines, result: TrialResult) -> Description:
    """Describe a trial's network as a bundle does."""
    part, judged_on, thresholds = judged_part(setup.folds), result.judged_on, result.judged.thresholds
    measured = measure(
        result.val_probabilities,
        judged_on.targets,
        thresholds.values,
        data.catalogue.label_names,
        groups=judged_on.groups,
    )
    metrics = {"phase": result.phase, "claim": claim(part, measured), part: measured, "baselines": {part: baselines}}
    return describe_network(setup, data, result.network, thresholds, metrics)


def describe_network(
    setup: StudySetup,
    data: PreparedData,
    network: Network,
    thresholds: Thresholds,
    metrics: Mapping[str, Any],
) -> Description:
    """Describe a network of a study with its thresholds, and what is known of it."""
    label_names = data.catalogue.label_names
    rules = setup.data.rules
    return Description(
        **made_of(network),
        label_names=label_names,
        thresholds=tuple(float(value) for value in thresholds.values),
        threshold_strategy=thresholds.strategy,
        metrics={"metric": setup.metric, "synthetic": setup.synthetic, **metrics},
        data=rules.model_copy(update={"label_names": label_names}),
        fingerprints=data.fingerprints,
        versions=installed_versions(),
    )


def measure(
    probabilities: Array,
    targets: Bools,
    thresholds: Floats,
    label_names: tuple[str, ...],
    *,
    groups: Rows | None = None,
    min_labels: int = 0,
) -> dict[str, Any]:
    """Score probabilities (N, L) as ``hpo evaluate --json`` does: its keys are a contract.

    Thresholds are (L,), or (N, L) where each poster has its own; their mean is then shown. The interval draws whole
    groups (N,), since posters of one title are not independent.
    """
    scores = score(probabilities, targets, thresholds, min_labels=min_labels)
    intervals = bootstrap_ci95(probabilities, targets, thresholds, groups=groups, min_labels=min_labels)
    return {
        "n_posters": len(targets),
        **scores.headline(),
        "ci95": {name: list(interval) for name, interval in intervals.items()},
        "averages": averages(probabilities, targets, thresholds, min_labels),
        "per_label": scores.per_label(label_names, np.atleast_2d(thresholds).mean(axis=0)),
    }


def judged_part(n_folds: int) -> str:
    """Name the posters that a study's trials are judged on, as the metrics of a bundle do."""
    return "val" if n_folds == 1 else "out_of_fold"


def save_trial(folder: Path, described: Description, result: TrialResult, card: str, data: PreparedData) -> None:
    """Write a trial's network as a bundle. Raises BundleError."""
    save_bundle(folder, described, result.network, card, digests_of(data))


def digests_of(data: PreparedData) -> Digests:
    """Return the digests of the posters that a study trains on and chooses by."""
    return of_posters([*data.part("train").posters.digests, *data.part("val").posters.digests])


def claim(source: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Return the scores that a bundle claims, and which posters they come from."""
    return {"from": source, **{key: value for key, value in measured.items() if key not in ("per_label", "averages")}}
