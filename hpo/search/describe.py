"""What a search says of itself: metrics of a trial, the description of its bundle, the note on its MLflow run."""

from __future__ import annotations

from typing import Any

from hpo.bundle.bundle import Description, installed_versions
from hpo.bundle.card import baseline_table, markdown_table
from hpo.bundle.preprocessing import Preprocessing
from hpo.data.account import kept_together, split_rows
from hpo.data.prepare import Part, PreparedData
from hpo.data.shards import Array
from hpo.decision.bootstrap import bootstrap_ci95
from hpo.decision.counts import Bools, Floats
from hpo.decision.metrics import score
from hpo.search.options import SearchOptions
from hpo.search.study import Study
from hpo.search.trial import TrialResult

Baselines = dict[str, dict[str, float]]  # name → headline metrics on val


def trial_metrics(result: TrialResult, label_names: tuple[str, ...], forecast_seconds: float) -> dict[str, float]:
    """Return the final metrics of a trial by MLflow key: all strategies, and each label at the calibrated cut."""
    metrics = {f"time/{stage}_seconds": seconds for stage, seconds in result.seconds.items()}
    metrics |= {"val/best_epoch": result.best_epoch, "val/n_epochs": result.n_epochs}
    metrics |= {"train/micro_batch": result.micro_batch, "time/forecast_seconds": forecast_seconds}
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
    thresholds, label_names = result.judged.thresholds, data.catalogue.label_names
    on_val = measure(result.val_probabilities, val.targets, thresholds.values, label_names)
    return Description(
        label_names=label_names,
        thresholds=tuple(float(value) for value in thresholds.values),
        threshold_strategy=thresholds.strategy,
        backbone=result.chosen.backbone,
        backbone_weights=tuple(backbone.source for backbone in result.backbones),
        preprocessing=tuple(Preprocessing.of(backbone, result.chosen.fit) for backbone in result.backbones),
        params=result.chosen,
        metrics={
            "metric": options.metric,
            "phase": result.phase,
            "synthetic": options.synthetic,
            "claim": claim("val", on_val),
            "val": on_val,
            "baselines": {"val": baselines},
        },
        data=options.data.rules.model_copy(update={"label_names": label_names}),
        fingerprints=data.fingerprints,
        versions=installed_versions(),
    )


def measure(probabilities: Array, targets: Bools, thresholds: Floats, label_names: tuple[str, ...]) -> dict[str, Any]:
    """Score probabilities (N, L) as ``hpo evaluate --json`` does: its keys are a contract."""
    scores = score(probabilities, targets, thresholds)
    intervals = bootstrap_ci95(probabilities, targets, thresholds)
    return {
        "n_posters": len(targets),
        **scores.headline(),
        "ci95": {name: list(interval) for name, interval in intervals.items()},
        "per_label": scores.per_label(label_names, thresholds),
    }


def claim(source: str, measured: dict[str, Any]) -> dict[str, Any]:
    """Return the scores that a bundle claims, and which posters they come from."""
    return {"from": source, **{key: value for key, value in measured.items() if key != "per_label"}}


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
        f"{data.distribution.largest_deviation:.4f}. {kept_together(data)} The split and its picture are among the "
        f"artifacts, under `split`.\n\n{markdown_table(split_rows(data))}\n\n"
        f"## Constant baselines on validation posters\n\n{baseline_table(baselines)}\n\n"
        f"## Go on\n\n```\nhpo leaderboard --study {study.name}\nhpo export-best --study {study.name}\n```\n"
    )


def _sizes(data: PreparedData) -> str:
    sizes = " / ".join(f"{size:,} {part}" for part, size in data.distribution.sizes.items())
    return f"{sizes}, stratified by label; test posters are not looked at by the search."
