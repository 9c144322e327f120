"""What a search says of itself: metrics of a trial, the description of its bundle, the note on its MLflow run."""

from __future__ import annotations

from typing import Any


from hpo.bundle.card import baseline_table, markdown_table
from hpo.bundle.bundle import Description, installed_versions
from hpo.decision.metrics import bootstrap_ci95
from hpo.search.options import SearchOptions
from hpo.search.prepare import PreparedData
from hpo.search.study import Study
from hpo.search.trial import Judged, Part, TrialResult

Baselines = dict[str, dict[str, float]]  # name → headline metrics on val


def trial_metrics(result: TrialResult, label_names: tuple[str, ...]) -> dict[str, float]:
    """Return the final metrics of a trial by MLflow key: all strategies, and each label at the calibrated cut."""
    metrics = {f"time/{stage}_seconds": seconds for stage, seconds in result.seconds.items()}
    metrics |= {"val/best_epoch": result.best_epoch, "val/n_epochs": result.n_epochs}
    for strategy, judged in result.strategies.items():
        metrics |= {f"val/{strategy}/{name}": value for name, value in judged.scores.headline().items()}
    judged = result.judged
    metrics |= {f"val/{name}": value for name, value in judged.scores.headline().items()}
    per_label = judged.scores.per_label(label_names, judged.thresholds.values)
    for label, row in per_label.items():
        metrics |= {f"val/{name}/{label}": row[name] for name in ("f1", "precision", "recall", "support")}
        metrics[f"threshold/{label}"] = row["threshold"]
    return metrics


def describe(
    options: SearchOptions, data: PreparedData, baselines: Baselines, result: TrialResult, val: Part
) -> Description:
    """Describe a trial's classifier as a bundle does."""
    judged, label_names = result.judged, data.catalogue.label_names
    return Description(
        label_names=label_names,
        thresholds=tuple(float(value) for value in judged.thresholds.values),
        threshold_strategy=judged.thresholds.strategy,
        backbone=result.chosen.backbone,
        backbone_weights=result.backbone.source,
        preprocessing=result.backbone.preprocessing(),
        params=result.chosen,
        metrics={
            "metric": options.metric,
            "synthetic": options.synthetic,
            "val": measured(judged, result.val_probabilities, val, label_names),
            "baselines": {"val": baselines},
        },
        data=options.rules.model_copy(update={"label_names": label_names}),
        fingerprints=data.fingerprints,
        versions=installed_versions(),
    )


def measured(judged: Judged, probabilities: Any, part: Part, label_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the scores of one part as ``hpo evaluate --json`` has them."""
    thresholds = judged.thresholds.values
    intervals = bootstrap_ci95(probabilities, part.targets, thresholds)
    return {
        "n_posters": len(part.targets),
        **judged.scores.headline(),
        "ci95": {name: list(interval) for name, interval in intervals.items()},
        "per_label": judged.scores.per_label(label_names, thresholds),
    }


def split_table(data: PreparedData) -> list[dict[str, Any]]:
    """Return the share of each label in each part, a row a label."""
    return [
        {
            "label": shares.label,
            "posters": shares.n_posters,
            **{part: round(getattr(shares, part), 4) for part in ("overall", "train", "val", "test")},
            "largest deviation": round(shares.largest_deviation, 4),
        }
        for shares in data.distribution.labels
    ]


def study_note(study: Study, data: PreparedData, baselines: Baselines, synthetic: bool) -> str:
    """Return the Markdown that heads the study's MLflow run."""
    counts, best, metric = study.counts(), study.best(), study.metric
    result = "No trial is complete yet."
    if best is not None:
        result = (
            f"**Best {metric} on validation posters: {best.value:.3f}** (trial {best.number}, "
            f"{best.params.get('backbone', '')}, per-label calibrated thresholds)."
        )
    drawn = "The posters are **synthetic** (the built-in sample), and so are these numbers.\n\n" if synthetic else ""
    return (
        f"# Study {study.name}\n\n{result}\n\n{drawn}"
        f"{counts.complete} trials complete, {counts.pruned} pruned, {counts.failed} failed, of {study.budget} asked "
        f"for.\n\n## Posters\n\n{_sizes(data)} The largest deviation of a label's share is "
        f"{data.distribution.largest_deviation:.4f}.\n\n{markdown_table(split_table(data))}\n\n"
        f"## Constant baselines on validation posters\n\n{baseline_table(baselines)}\n\n"
        f"## Go on\n\n```\nhpo leaderboard --study {study.name}\nhpo export-best --study {study.name}\n```\n"
    )


def _sizes(data: PreparedData) -> str:
    sizes = " / ".join(f"{size:,} {part}" for part, size in data.distribution.sizes.items())
    return f"{sizes}, stratified by label; test posters are not looked at by the search."
