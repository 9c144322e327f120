"""Rich tables of datasets, trials, evaluations, comparisons and garbage collection."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.bundle.annotation import Doubt, _counts_line, _doubtful_table, _odd_line
from hpo.bundle.model_card import PARTS, rounded
from hpo.data.summary import cleaning_lines, group_rows, kept_together
from hpo.data.table.cleaning import MERGED
from hpo.evaluation.baselines import constant_baselines
from hpo.evaluation.metrics import METRICS
from hpo.evaluation.support import is_over_labels
from hpo.runtime.commands import command
from hpo.runtime.terminal import Plain
from hpo.selection.ensemble import Selected
from hpo.selection.garbage_collection import DeletionPlan
from hpo.study.attributes import UNLIMITED_TRIALS
from hpo.study.study import Study
from hpo.tracking.study_report import CHAMPION, reported, reported_sentence, standing_sentence
from hpo.trial.objective import judged_posters


def doubtful_csv(rows: Iterable[Doubt]) -> bytes:
    """Return the doubtful entries as a CSV."""
    text = io.StringIO(newline="")
    fields = ("id", "title", "labels", "predicted", "doubt", "worst_label", "probability", "threshold", "image")
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        lists = {name: ", ".join(row[name]) for name in ("labels", "predicted")}
        numbers = {name: f"{row[name]:.4f}" for name in ("doubt", "probability", "threshold")}
        writer.writerow({**row, **lists, **numbers})
    return text.getvalue().encode()


def print_annotation(account: Mapping[str, Any], odd_lines: Sequence[int]) -> None:
    """Print what `hpo annotate` did; `account` is what it prints as JSON."""
    console = Plain()
    for line in (_counts_line(account), _odd_line(odd_lines)):
        if line:
            console.print(line, highlight=False, soft_wrap=True)
    if account["doubtful"]:
        console.print(_doubtful_table(account["doubtful"], account["n_doubtful"]))


# ``hpo ensemble``: which trials are best averaged, and what each adds, as JSON and as a table.


def ensemble_account(study: Study, selected: Selected) -> dict[str, Any]:
    """Return what ``hpo ensemble --json`` prints."""
    rows = zip(selected.trials, selected.weights, selected.steps, selected.costs_gflop, strict=True)
    return {
        "study": study.name,
        "metric": study.metric,
        "pool": selected.n_pool,
        "members": [
            {
                "trial": trial.number,
                "backbone": trial.configuration["backbone"],
                "weight": weight,
                "value": step.value,
                "gain": step.gain,
                "gflop": gflop,
            }
            for trial, weight, step, gflop in rows
        ],
        "claim": selected.claim,
        "best_single": selected.best_single,
    }


def print_ensemble(study: Study, selected: Selected) -> None:
    """Print it for a person."""
    account, metric, console = ensemble_account(study, selected), study.metric, Console()
    title = f"An ensemble of {len(selected.trials)} out of {selected.n_pool} trials"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in ("trial", "weight", metric, "adds", "GFLOP a poster"):
        table.add_column(name, justify="right")
    table.add_column("backbone", overflow="fold")
    for member in account["members"]:
        table.add_row(
            f"{member['trial']}",
            f"{member['weight']:.2f}",
            f"{member['value']:.3f}",
            f"{member['gain']:+.3f}",
            f"{member['gflop']:.2f}",
            member["backbone"],
        )
    table.caption = f"{metric} as each is added, with thresholds fitted on the same posters: optimistic"
    console.print(table)
    for name, scores in (("The ensemble", selected.claim), ("The best trial alone", selected.best_single)):
        low, high = scores["ci95"][metric]
        console.print(
            f"{name} can claim {metric} {scores[metric]:.3f} [{low:.3f}, {high:.3f}], each poster decided by what was "
            "chosen without it",
            highlight=False,
        )
    console.print(selected.verdict(metric), highlight=False)
    typed = command("export-best", study=study.name, ensemble=selected.pays(metric) or None)
    console.print(f"Next: {typed}", highlight=False, soft_wrap=True, markup=False, emoji=False)


# ``hpo gc`` in words: what goes, or would go, why, and how much that frees.


def gc_account(study: Study, freed: DeletionPlan, dry_run: bool) -> dict[str, Any]:
    """Return what ``hpo gc --json`` prints: its keys are a contract."""
    items = [{"kind": i.kind, "name": i.name, "why": i.why, "bytes": i.n_bytes} for i in freed.items]
    return {
        "study": study.name,
        "dry_run": dry_run,
        "items": items,
        "bytes": freed.n_bytes,
        "notes": list(freed.notes),
    }


def print_gc(study: Study, freed: DeletionPlan, dry_run: bool) -> None:
    """Print it for a person."""
    console = Console()
    if freed.items:
        console.print(_plan_table(freed))
        did = "would free" if dry_run else "freed"
        console.print(f"Study {study.name}: {did} {in_words(freed.n_bytes)}.", highlight=False)
    else:
        console.print(f"Study {study.name}: nothing to free.", highlight=False)
    for note in freed.notes:
        console.print(note, highlight=False, markup=False)


def _plan_table(freed: DeletionPlan) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in ("what", "of", "why"):
        table.add_column(name)
    table.add_column("size", justify="right", no_wrap=True)
    for item in freed.items:
        table.add_row(item.kind, item.name, item.why, in_words(item.n_bytes))
    return table


def in_words(n_bytes: int) -> str:
    """Return bytes as people say them: 220 kB, 24.6 MB, 1.2 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes >= 1000 else f"{n_bytes} bytes"


# ``hpo compare`` as tables: averages, labels, and the posters that two models see most differently.

_SURE = 0.975  # of the resamples on one side: the interval excludes 0


def table_lines(account: dict[str, Any]) -> list[str]:
    """Warn where posters of the table are those that a model was made from, or where its bundle does not say."""
    lines, others = [], account["not_trained_on"]
    for which, n_seen in account["trained_on"].items():
        name = account[which]
        if n_seen is None:
            lines.append(f"{name} does not say which posters it was trained on: scores on those would be too good.")
        elif n_seen:
            lines.append(f"{n_seen:,} of {account['n_posters']:,} posters are those that {name} was trained on.")
    if others is not None:
        row = others["metrics"]["f1_macro"]
        low, high = row["ci95"]
        lines.append(
            f"On the {others['n_posters']:,} others f1_macro is {row['a']:.3f} of A and {row['b']:.3f} of B, "
            f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]."
        )
    return lines


def print_comparison(account: dict[str, Any]) -> None:
    """Print what ``Comparison.account`` found."""
    console = Plain()
    console.print(f"A is {account['a']}, B is {account['b']}, on {account['n_posters']:,} posters:", highlight=False)
    console.print(f"  {account['where']}", highlight=False)
    console.print(_table("Averages", account["metrics"], "average"))
    n_averaged, n_labels = account["n_labels_averaged"], len(account["per_label"])
    if n_averaged < n_labels:
        partial = " and ".join(name for name, metric in METRICS.items() if metric.over_labels)
        console.print(f"  {partial} are over the {n_averaged} of {n_labels} labels that some poster has.")
    if account.get("not_trained_on"):
        others = account["not_trained_on"]
        title = f"Averages of the {others['n_posters']:,} posters that neither was trained on"
        console.print(_table(title, others["metrics"], "average"))
    console.print(_table("F1 by label", account["per_label"], "label"))
    others = {name: row for name, row in account["averages"].items() if name not in account["metrics"]}
    console.print(_plain_table(others))
    if account["posters"]:
        console.print(_poster_table(account["posters"]))


def _table(title: str, rows: dict[str, Any], what: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column(what)
    for name in ("A", "B", "B - A", "95 %"):
        table.add_column(name, justify="right")
    table.add_column("better")
    for name, row in rows.items():
        if row.get("support") == 0:
            table.add_row(name, *("–" for _ in range(5)))
            continue
        low, high = row["ci95"]
        share = row["share_above_zero"]
        sure = "B" if share >= _SURE else "A" if share <= 1 - _SURE and high < 0 else "undecided"
        cells = f"{row['a']:.3f}", f"{row['b']:.3f}", f"{row['difference']:+.3f}", f"{low:+.3f} to {high:+.3f}"
        table.add_row(name, *cells, sure)
    return table


def _plain_table(rows: dict[str, Any]) -> Table:
    table = Table(title="Other averages", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("average")
    for name in ("A", "B"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        table.add_row(name, f"{row['a']:.3f}", f"{row['b']:.3f}")
    return table


def _poster_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Posters that they see most differently", title_justify="left", box=SIMPLE_HEAD)
    for name in ("poster", "truth", "A", "B"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(Path(row["image"]).name, *(", ".join(row[key]) or "none" for key in ("truth", "a", "b")))
    return table


if TYPE_CHECKING:
    from hpo.bundle.description import Description
    from hpo.bundle.predictor import Answer
    from hpo.data.dataset import PreparedData
    from hpo.search.search import Outcome
    from hpo.selection.export import Exported
    from hpo.study.study import Study
    from hpo.study.trial_record import TrialRecord

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


def trial_table(trials: list[TrialRecord], metric: str, judged_on: str, champion: Collection[int] = ()) -> Table:
    """The given complete trials, one a row, with all averages at calibrated thresholds; the champion's are marked."""
    table = Table(
        title=f"Best trials by {metric} on {judged_on}",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for name in ("trial", *METRICS):
        table.add_column(name, justify="right", no_wrap=True)
    has_intervals = any(trial.reported is not None for trial in trials)  # trials of an older hpo have none
    if has_intervals:
        table.add_column("±", justify="right", no_wrap=True)
    table.add_column("backbone and head", overflow="fold")
    for trial in trials:
        averages = rounded(trial.scores["calibrated"]).values()
        marked = f"{CHAMPION} {trial.number}" if trial.number in champion else f"{trial.number}"
        interval = [_half_width(trial.reported)] if has_intervals else []
        table.add_row(marked, *averages, *interval, _in_words(trial.configuration))
    is_marked = any(trial.number in champion for trial in trials)
    notes = [f"{CHAMPION} {'champion' if len(champion) == 1 else 'averaged in the champion'}"] if is_marked else []
    if has_intervals:
        notes.append(f"± half the 95 % interval of {metric}, at thresholds that did not see the poster")
    table.caption = "; ".join(notes) or None
    return table


def _half_width(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "–"
    low, high = figure["ci95"]
    return f"{(high - low) / 2:.3f}"


def _in_words(config: Mapping[str, Any]) -> str:
    head = "label queries" if config.get("head") == "label_query" else "linear"
    if config["hidden_layers"]:
        head = f"{config['hidden_layers']} × {config['width']} {config['activation']}"
    depth = str(config["features"]).replace("_", " ")
    pooled = "" if config["features"] == "final" else f" {config['pooling']}"
    unfrozen = config.get("unfreeze", "none")  # studies of before have no such choice
    trained = "" if unfrozen == "none" else f", {unfrozen.replace('_', ' ')} trained"
    return f"{config['backbone']}, {depth}{pooled}, {head}{trained}"


def complete_trials(study: Study) -> list[TrialRecord]:
    """Return the complete trials, best first."""
    return study.top(None)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Print the end of a search: top trials, baselines, and what to type next."""
    study, counts = outcome.study, outcome.study.counts()
    trials = complete_trials(study)
    if trials:
        snapshot = study.snapshot()
        judged_on = judged_posters(study.attributes.folds)
        console.print(trial_table(trials[:_TOP], study.metric, judged_on, study.champion_trials()))
        if snapshot.best is not None and snapshot.leader is not None:
            sentence = standing_sentence(study.metric, snapshot.best, snapshot.leader, snapshot.fresh, study.champion())
            console.print(sentence, highlight=False)
        figure = reported(study.attributes.folds, snapshot.leader, study.exported(), study.champion())
        if figure is not None:
            console.print(reported_sentence(study.metric, figure), highlight=False)
        _print_baselines(outcome, console)
    console.print(
        f"{counts.complete} trials complete, {counts.pruned} pruned, {counts.failed} failed"
        f"{'' if study.budget == UNLIMITED_TRIALS else f', of {study.budget} asked for'}.",
        highlight=False,
    )
    if outcome.interrupted:
        console.print("Stopped; nothing is lost. The same command continues.")
    elif counts.finished < study.budget and not outcome.idle:
        after = "" if outcome.timeout_seconds is None else f" after {outcome.timeout_seconds:,.12g} s"
        console.print(f"Stopped by --timeout{after}. The same command continues.", highlight=False)
    if not trials:
        console.print("No trial is complete yet, so there is nothing to export.")
        return
    console.print("Next:")
    for name in ("export-best", "leaderboard", "ui"):
        typed = command(name, study=study.name)
        console.print(f"  {typed}", highlight=False, soft_wrap=True, markup=False, emoji=False)


def _print_baselines(outcome: Outcome, console: Console) -> None:
    metric, in_folds = outcome.study.metric, outcome.study.attributes.folds > 1
    train, val = outcome.data.part("train"), outcome.data.part("val")
    baselines = constant_baselines(train.targets, (train + val if in_folds else val).targets)
    named = ", ".join(f"{name} {values[metric]:.3f}" for name, values in baselines.items())
    console.print(f"Constant baselines, {metric} on the same posters: {named}", highlight=False)


def best_by_backbone(trials: list[TrialRecord]) -> list[TrialRecord]:
    """Return the best trial of each backbone; ``trials`` come best first."""
    first: dict[str, TrialRecord] = {}
    for trial in trials:
        first.setdefault(trial.configuration["backbone"], trial)
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
    trained_on = f"{n_seen:,} of {found['n_posters']:,} posters are those that the bundle was trained and chosen on"
    if others is None:
        return [f"{trained_on}: these scores are too good; take other posters."]
    low, high = others["ci95"]["f1_macro"]
    scored = f"f1_macro {others['f1_macro']:.3f} [{low:.3f}, {high:.3f}]"
    return [f"{trained_on}: scores on all are too good; the other {others['n_posters']:,}: {scored}."]


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
    for metric in (*(name for name in METRICS if name in found["averages"]), *others):
        low, high = found["ci95"].get(metric, (None, None))
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        constants = (f"{values[metric]:.3f}" if metric in values else "" for values in baselines.values())
        mark = " *" if is_partial and is_over_labels(metric) else ""
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


# `hpo data check` as tables: what a search would use of a table and a folder, and why not the rest.

if TYPE_CHECKING:
    from hpo.data.dataset import PreparedData

_GROUPS_SHOWN = 8
_COLUMNS_SHOWN = 10  # more do not fit a terminal of 80
_TITLES_SHOWN = 3


def print_check(data: PreparedData, account: dict[str, Any], console: Console) -> None:
    """Print the account: rows, columns, labels, images, groups, parts."""
    for line in cleaning_lines(data):
        console.print(line, highlight=False, markup=False)
    if account["sample"] is not None:
        console.print(_sample_line(account["sample"]), highlight=False, markup=False)
    console.print(_dropped_table(account))
    console.print(_cooccurrence_table(account["labels"]))
    labels = account["labels"]
    console.print(
        f"{labels['cardinality']:.2f} labels a poster, {labels['distinct_label_sets']:,} distinct sets of them",
        highlight=False,
    )
    if account["images"] is not None:
        console.print(_image_line(account["images"]), highlight=False)
    console.print(kept_together(data), highlight=False)
    if data.groups.shared:
        console.print(_group_table(data))
    console.print(split_table(data))


def _sample_line(sample: dict[str, Any]) -> str:
    image = "" if sample["image"] is None else f", image {sample['image']}"
    labels = " · ".join(sample["labels"])
    return f"A row as it was read: id {sample['id']}{image}, labels {labels} (the cell: {sample['label_cell']})"


def _dropped_table(account: dict[str, Any]) -> Table:
    table = Table(title="Rows", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("what became of them")
    table.add_column("rows", justify="right")
    table.add_column("for example")
    table.add_row("read", f"{account['rows_read']:,}", "")
    for reason, count in account["dropped"].items():
        if count:
            table.add_row(
                reason if reason == MERGED else f"dropped: {reason}",
                f"{count:,}",
                ", ".join(account["examples"][reason]),
            )
    table.add_row("kept", f"{account['rows_kept']:,}", "")
    return table


def _cooccurrence_table(labels: dict[str, Any]) -> Table:
    """A row and a column a label, by number: how many posters carry both; on the diagonal those that carry the one."""
    names = list(labels["counts"])
    table = Table(title="Posters by label and label", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("label")
    for number in range(1, len(names[:_COLUMNS_SHOWN]) + 1):
        table.add_column(str(number), justify="right")
    for number, name in enumerate(names, start=1):
        counts = labels["cooccurrence"][name]
        table.add_row(f"{number} {name}", *(f"{counts[other]}" for other in names[:_COLUMNS_SHOWN]))
    return table


def _image_line(images: dict[str, Any]) -> str:
    formats = ", ".join(f"{count:,} {name}" for name, count in images["formats"].items())
    width, height = images["width_px"], images["height_px"]
    unclaimed = len(images["unclaimed"])
    return (
        f"Images: {formats}; width {width['min']} to {width['max']} px (median {width['median']}), "
        f"height {height['min']} to {height['max']} px (median {height['median']}); "
        f"{len(images['broken'])} broken, {unclaimed:,} that no row asks for"
    )


def _group_table(data: PreparedData) -> Table:
    rows = group_rows(data)
    table = Table(title="Largest groups that stay in one part", title_justify="left", box=SIMPLE_HEAD)
    for name, justify in (("posters", "right"), ("because of", "left"), ("titles or ids", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in rows[:_GROUPS_SHOWN]:
        table.add_row(str(row["posters"]), row["because of"], _first_few(row))
    if len(rows) > _GROUPS_SHOWN:
        table.caption = f"and {len(rows) - _GROUPS_SHOWN:,} more groups"
    return table


def _first_few(row: dict[str, Any]) -> str:
    names = row["titles"].split(" · ") if row["titles"] else row["ids"].split(", ")
    more = len(names) - _TITLES_SHOWN
    return " · ".join(names[:_TITLES_SHOWN]) + (f" and {more} more" if more > 0 else "")
