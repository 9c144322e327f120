"""Rich tables: posters and splits, trials, the end of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.bundle.card import PARTS
from hpo.commands import command
from hpo.decision.baselines import constant_baselines
from hpo.decision.metrics import METRICS
from hpo.report.terminal import Plain
from hpo.search.objective import judged_posters
from hpo.search.summary import CHAMPION, reported, reported_sentence, standing_sentence

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from hpo.bundle.description import Description
    from hpo.bundle.predictor import Answer
    from hpo.data.prepare import PreparedData
    from hpo.search.export import Exported
    from hpo.search.search import Outcome
    from hpo.search.study import Study

_TOP = 10


def split_table(data: PreparedData) -> Table:
    """The share of each label in each part."""
    sizes = data.distribution.sizes
    table = Table(title="Posters by label, stratified", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("label")
    table.add_column("posters", justify="right")
    for part in ("train", "val", "test"):
        table.add_column(f"{part} ({sizes[part]:,})", justify="right")
    for shares in data.distribution.labels:
        parts = (f"{100 * getattr(shares, part):.1f} %" for part in ("train", "val", "test"))
        table.add_row(shares.label, f"{shares.n_posters:,}", *parts)
    table.caption = f"largest deviation of a share: {100 * data.distribution.largest_deviation:.2f} percentage points"
    return table


def trial_table(trials: list[FrozenTrial], metric: str, judged_on: str, champion: int | None = None) -> Table:
    """The given complete trials, one a row, with all averages at the calibrated thresholds; the champion is marked."""
    table = Table(title=f"Best trials by {metric} on {judged_on}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("trial", *METRICS):
        table.add_column(name, justify="right", no_wrap=True)
    has_intervals = any("reported" in trial.user_attrs for trial in trials)  # trials of an older hpo have none
    if has_intervals:
        table.add_column("±", justify="right", no_wrap=True)
    table.add_column("backbone and head", overflow="fold")
    for trial in trials:
        scores = trial.user_attrs["scores"]["calibrated"]
        averages = (f"{scores[name]:.3f}" for name in METRICS)
        marked = f"{CHAMPION} {trial.number}" if trial.number == champion else f"{trial.number}"
        interval = [_half_width(trial.user_attrs.get("reported"))] if has_intervals else []
        table.add_row(marked, *averages, *interval, _in_words(trial.user_attrs["chosen"]))
    notes = [f"{CHAMPION} champion"] if champion in [trial.number for trial in trials] else []
    if has_intervals:
        notes.append(f"± half the 95 % interval of {metric}, at thresholds that did not see the poster")
    table.caption = "; ".join(notes) or None
    return table


def _half_width(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    low, high = figure["ci95"]
    return f"{(high - low) / 2:.3f}"


def _in_words(chosen: dict[str, Any]) -> str:
    head = "label queries" if chosen.get("head") == "label_query" else "linear"
    if chosen["hidden_layers"]:
        head = f"{chosen['hidden_layers']} × {chosen['width']} {chosen['activation']}"
    depth = str(chosen["features"]).replace("_", " ")
    pooled = "" if chosen["features"] == "final" else f" {chosen['pooling']}"
    unfrozen = chosen.get("unfreeze", "none")  # studies of before have no such choice
    trained = "" if unfrozen == "none" else f", {unfrozen.replace('_', ' ')} trained"
    return f"{chosen['backbone']}, {depth}{pooled}, {head}{trained}"


def complete_trials(study: Study) -> list[FrozenTrial]:
    """Return the complete trials, best first."""
    return study.top(None)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print the end of a search: top trials, baselines, and what to type next."""
    study, counts = outcome.study, outcome.study.counts()
    trials = complete_trials(study)
    if trials:
        glance = study.glance()
        champion = None if glance.leader is None else glance.leader.number
        console.print(trial_table(trials[:_TOP], study.metric, judged_posters(study.attributes), champion))
        if glance.best is not None and glance.leader is not None:
            sentence = standing_sentence(study.metric, glance.best, glance.leader, glance.fresh)
            console.print(sentence, highlight=False)
        figure = reported(study.attributes, glance.leader, study.exported())
        if figure is not None:
            console.print(reported_sentence(study.metric, figure), highlight=False)
        _print_baselines(outcome, console)
    console.print(
        f"{counts.complete} trials complete, {counts.pruned} pruned, {counts.failed} failed, "
        f"of {study.budget} asked for.",
        highlight=False,
    )
    if outcome.interrupted:
        console.print("Stopped; nothing is lost. The same command continues.")
    elif counts.finished < study.budget and not outcome.idle:
        after = "" if outcome.timeout_seconds is None else f" after {outcome.timeout_seconds:g} s"
        console.print(f"Stopped by --timeout{after}. The same command continues.", highlight=False)
    if not trials:
        console.print("No trial is complete yet, so there is nothing to export.")
        return
    console.print("Next:")
    for name in ("export-best", "leaderboard", "ui"):
        console.print(f"  {command(name, study=study.name)}", highlight=False, soft_wrap=True)


def _print_baselines(outcome: Outcome, console: Console) -> None:
    metric, in_folds = outcome.study.metric, outcome.study.attributes.get("folds", 1) > 1
    train, val = outcome.data.part("train"), outcome.data.part("val")
    baselines = constant_baselines(train.targets, (train + val if in_folds else val).targets)
    named = ", ".join(f"{name} {values[metric]:.3f}" for name, values in baselines.items())
    console.print(f"Constant baselines, {metric} on the same posters: {named}", highlight=False)


def best_by_backbone(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the best trial of each backbone; ``trials`` come best first."""
    first: dict[str, FrozenTrial] = {}
    for trial in trials:
        first.setdefault(trial.user_attrs["chosen"]["backbone"], trial)
    return list(first.values())


def export_lines(exported: Exported) -> list[str]:
    """Say what was exported and what it scores."""
    described, metric = exported.description, exported.description.metrics["metric"]
    lines = [f"Wrote {exported.folder}: {exported.title}, {described.backbone}."]
    lines += [_score_line(part, described.metrics, metric) for part in PARTS if part in described.metrics]
    if exported.verdict is not None:
        lines.append(f"  {exported.verdict}")
    if exported.untested is not None:
        lines.append(f"Not judged on other posters than those of the search: {exported.untested}")
    if described.min_labels:
        lines.append(_min_labels_line(described, metric))
    return [*lines, f"Next: {command('predict', exported.folder)} POSTER.jpg"]


def _min_labels_line(described: Description, metric: str) -> str:
    test = described.metrics.get("test", {})
    without = test.get("without_min_labels")
    effect = (
        "" if without is None else f": {metric} {test[metric]:.3f} on the test posters, {without[metric]:.3f} without"
    )
    return f"  every poster gets {described.min_labels} labels or more{effect}"


def _score_line(part: str, metrics: dict[str, Any], metric: str) -> str:
    scores = metrics[part]
    low, high = scores["ci95"][metric]
    constant = max(values[metric] for values in metrics["baselines"][part].values())
    interval = f"{scores[metric]:.3f} [{low:.3f}, {high:.3f}]"
    return f"  {metric} {interval}, best constant {constant:.3f}, on {scores['n_posters']:,} {PARTS[part]}"


def trained_on_line(found: dict[str, Any]) -> list[str]:
    """Warn where posters of ``hpo evaluate`` are those that the bundle was made from, or where that is unknown."""
    if found["trained_on"] is None:
        return ["This bundle does not say which posters it was trained on: scores on those would be too good."]
    n_seen, others = found["trained_on"]["n_posters"], found["not_trained_on"]
    if not n_seen:
        return []
    told = f"{n_seen:,} of {found['n_posters']:,} posters are those that the bundle was trained and chosen on"
    if others is None:
        return [f"{told}: these scores are too good; take other posters."]
    low, high = others["ci95"]["f1_macro"]
    scored = f"f1_macro {others['f1_macro']:.3f} [{low:.3f}, {high:.3f}]"
    return [f"{told}: scores on all are too good; the other {others['n_posters']:,}: {scored}."]


def print_evaluation(found: dict[str, Any], baselines: dict[str, dict[str, float]]) -> None:
    """Print what ``hpo evaluate`` found, with the constant baselines beside it."""
    console = Plain()
    n_seen = (found.get("trained_on") or {}).get("n_posters")
    console.print(_averages_table(found, baselines, f", {n_seen:,} of them trained on: too good" if n_seen else ""))
    others = found.get("not_trained_on")
    if others is not None:
        console.print(_averages_table(others, {}, " not trained on"))
    labels = Table(title="By label", title_justify="left")
    for name in ("label", "f1", "precision", "recall", "support", "threshold"):
        labels.add_column(name, justify="left" if name == "label" else "right")
    for label, row in found["per_label"].items():
        scored = row["support"] > 0
        numbers = (f"{row[name]:.3f}" if scored else "–" for name in ("f1", "precision", "recall"))
        labels.add_row(label, *numbers, f"{row['support']:,}" if scored else "–", f"{row['threshold']:.3f}")
    console.print(labels)


def _averages_table(found: dict[str, Any], baselines: dict[str, dict[str, float]], which: str = "") -> Table:
    table = Table(title=f"{found['n_posters']:,} posters{which}", title_justify="left", caption_justify="left")
    for name in ("average", "value", "95 %", *baselines):
        whole = name not in baselines  # where the terminal is narrow, the long names of baselines give way
        table.add_column(name, justify="left" if name == "average" else "right", no_wrap=whole)
    others = [metric for metric in found["averages"] if metric not in METRICS]
    n_averaged, n_labels = found.get("n_labels_averaged"), len(found["per_label"])
    is_partial = n_averaged is not None and n_averaged < n_labels
    for metric in (*METRICS, *others):
        low, high = found["ci95"].get(metric, (None, None))
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        constants = (f"{values[metric]:.3f}" if metric in values else "" for values in baselines.values())
        mark = " *" if is_partial and (metric.endswith("_macro") or metric == "mean_ap") else ""
        table.add_row(metric + mark, f"{found['averages'][metric]:.3f}", interval, *constants)
    if is_partial:
        table.caption = f"* over the {n_averaged} of {n_labels} labels that some poster has"
    return table


def prediction_table(answers: Sequence[tuple[str, Answer]], thresholds: Mapping[str, float]) -> Table:
    """The predicted labels of each poster, likeliest first, each probability with what it had to reach."""
    table = Table()
    for name in ("poster", "labels (probability/threshold)", "likeliest others"):
        table.add_column(name)
    for image, answer in answers:
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        said = {name: f"{name} ({probability:.2f}/{thresholds[name]:.2f})" for name, probability in ranked}
        shown = [words for name, words in said.items() if name in answer.labels]
        others = [words for name, words in said.items() if name not in answer.labels]
        table.add_row(Path(image).name, ", ".join(shown) or "none", ", ".join(others[:2]))
    return table
