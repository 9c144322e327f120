"""The Markdown report at the head of a study's MLflow run, and the summary tables behind it.

It is written from Optuna's record alone, again after each trial, by whichever worker has finished one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hpo.bundle.model_card import PARTS, baseline_table, markdown_table
from hpo.data.dataset import PreparedData
from hpo.data.summary import kept_together, split_rows
from hpo.runtime.commands import command
from hpo.study.attributes import ChampionRecord
from hpo.study.reproduction import command_of
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord, fresh_values, ranked, title_of
from hpo.tracking.client import StudyPosters
from hpo.tracking.trial_run import TrialRun
from hpo.trial.objective import judged_posters

# What a study came to, as rows that a person reads: on its MLflow run, in tables, in a report.
#
# Everything here is read from Optuna's record, so that any worker that finishes a trial can write it again in
# milliseconds.

if TYPE_CHECKING:
    from hpo.study.attributes import ExportedScores

ReportRow = dict[str, Any]
_ON_VAL = "validation posters, each decided by thresholds fitted without it (they chose the epochs: optimistic)"
CHAMPION = "★"  # marks its trial in a table
_LABEL_ACCURACY = "1 - Hamming loss"  # what the write-up calls accuracy: of single decisions
# The write-up's results table, with the accuracy of whole label sets beside it: column → metric of a trial.
_AVERAGES = {
    "F1 macro": "val/f1_macro",
    "F1 micro": "val/f1_micro",
    "precision": "val/precision_macro",
    "recall": "val/recall_macro",
    _LABEL_ACCURACY: "val/hamming_loss",
    "subset accuracy": "val/subset_accuracy",
    "mean AP": "val/mean_ap",
}


def standing_sentence(
    metric: str,
    best: TrialRecord,
    champion: TrialRecord,
    fresh: Sequence[float],
    promoted: ChampionRecord | None = None,
) -> str:
    """Name the champion, what it was selected by, and the best single trial, which may be another.

    ``champion`` is the best single trial by all that is known, and ``fresh`` are its values on fresh seeds, none where
    it was not run again; ``promoted`` is the version that has the alias, which may be an average.
    """
    if promoted is not None and "trials" in promoted:
        return f"Champion: {title_of(promoted['trials'])}, {metric} {promoted['value']:.3f}. {_single(best)}"
    alone = "It is the best single trial." if best.number == champion.number else _single(best)
    if not fresh:
        return f"Champion: trial {champion.number}, {metric} {champion.value:.3f}. {alone}"
    return (
        f"Champion: trial {champion.number}, mean {metric} {fmean(fresh):.3f} over {in_fresh_seeds(len(fresh))} "
        f"({champion.value:.3f} on the seed that selected it). {alone}"
    )


def reported(
    n_folds: int,
    champion: TrialRecord | None,
    exported: ExportedScores | None,
    promoted: ChampionRecord | None = None,
) -> dict[str, Any] | None:
    """Return the figure of the champion to trust: ``value``, ``ci95``, what it was computed ``on``, and ``test``.

    That is what its trial noted, and what its bundle claims once it was exported; in five folds these are the same.
    ``test`` is its figure on the test posters, once exported. Of trials of an older hpo there is none. Of an average
    that has the alias (``promoted``), it is the claim with which it was promoted.
    """
    if champion is None:
        return None
    average = promoted if promoted is not None and "trials" in promoted else None
    if exported is not None and exported["trials"] == ([champion.number] if average is None else average["trials"]):
        return {key: exported[key] for key in ("value", "ci95", "on", "test")}
    if average is not None:
        return {"value": average["value"], "ci95": average["ci95"], "on": PARTS["cross_fitted"], "test": None}
    noted = champion.reported
    if noted is None:
        return None
    on = PARTS["cross_fitted"] if n_folds > 1 else _ON_VAL
    return {**noted, "on": on, "test": None}


def reported_sentence(metric: str, figure: Mapping[str, Any]) -> str:
    """Say what ``reported`` returned."""
    test = figure["test"]
    on_test = "" if test is None else f"; {in_interval(test)} on {test['n_posters']:,} test posters"
    return f"Reported: {metric} {in_interval(figure)} on {figure['on']}{on_test}."


def in_interval(figure: Mapping[str, Any]) -> str:
    """Return ``0.431 [0.402, 0.460]``: a value and its 95 % interval."""
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} [{low:.3f}, {high:.3f}]"


def _single(best: TrialRecord) -> str:
    return f"Best single trial: {best.number}, {best.value:.3f}."


def in_fresh_seeds(n: int) -> str:
    """Return "1 fresh seed" or "2 fresh seeds"."""
    return f"{n} fresh seed{'' if n == 1 else 's'}"


def leaderboard_rows(trials: Sequence[TrialRecord], most: int, champion: Collection[int] = ()) -> list[ReportRow]:
    """Return the best ``most`` complete trials, best first, with the averages of the write-up's results table.

    The trials of the numbers ``champion`` are marked.
    """
    rows = [_row(trial) for trial in ranked(trials)[:most]]
    return [{**row, "trial": f"{row['trial']} {CHAMPION}"} if row["number"] in champion else row for row in rows]


def backbone_rows(trials: Sequence[TrialRecord]) -> list[ReportRow]:
    """Return the best trial of each backbone, best first, and how many trials each had."""
    tried = Counter(_backbone(trial) for trial in trials if trial.is_finished)
    first: dict[str, TrialRecord] = {}
    for trial in ranked(trials):
        first.setdefault(_backbone(trial), trial)
    return [{"backbone": name, **_row(trial), "trials": tried[name]} for name, trial in first.items()]


def _row(trial: TrialRecord) -> ReportRow:
    metrics = trial.metrics
    values = {column: metrics[key] for column, key in _AVERAGES.items() if key in metrics}
    if _LABEL_ACCURACY in values:
        values[_LABEL_ACCURACY] = 1.0 - values[_LABEL_ACCURACY]
    noted = trial.reported  # trials of an older hpo have none
    figure = "–" if noted is None else in_interval(noted)
    return {"trial": TrialRun.of(trial).name, "number": trial.number, "reported [95 %]": figure, **values}


def _backbone(trial: TrialRecord) -> str:
    return str(trial.configuration.get("backbone", "none config"))


def threshold_rows(trial: TrialRecord) -> list[ReportRow]:
    """Return each label of a complete trial with its threshold and what it scores there."""
    metrics = trial.metrics
    labels = [key.partition("/")[2] for key in metrics if key.startswith("threshold/")]
    return [
        {
            "label": label,
            "threshold": metrics[f"threshold/{label}"],
            **{name: metrics.get(f"val/{name}/{label}") for name in ("f1", "precision", "recall")},
            "posters": int(metrics.get(f"val/support/{label}", 0)),
        }
        for label in labels
    ]


def cost_sentence(trials: Sequence[TrialRecord]) -> str:
    """Say how long the trials took, on what, and how many workers ran them."""
    durations = [trial.duration for trial in trials if trial.duration is not None]
    if not durations:
        return "No trial has ended yet."
    seconds: Counter[str] = Counter()
    for trial in trials:
        seconds.update(trial.seconds)
    n_workers = len({trial.worker for trial in trials if trial.duration is not None})
    workers = "one worker" if n_workers == 1 else f"{n_workers} workers"
    stages = ", ".join(f"{name} {_time(taken)}" for name, taken in seconds.most_common() if taken >= 1)
    spent = f" The complete ones spent it on {stages}." if stages else ""
    total = sum(duration.total_seconds() for duration in durations)
    return f"{len(durations)} trials took {_time(total)} in all, run by {workers}.{spent}"


def _time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def states_sentence(trials: Sequence[TrialRecord], budget: int) -> str:
    """Count the trials by state, the budget beside them."""
    states = Counter(trial.state for trial in trials)
    finished = states["complete"] + states["pruned"]
    others = ", ".join(f"{n} {state}" for state, n in sorted(states.items()) if state not in ("complete", "pruned"))
    return (
        f"{finished} of {budget} trials have finished: {states['complete']} complete, {states['pruned']} pruned"
        f"{f'; {others}' if others else ''}."
    )


_TOP = 10


def study_note(study: Study, experiment_id: str) -> str:
    """Return the report on a study as it stands; ``experiment_id`` is where its runs are, which it links to."""
    trials, leader, champion = study.trials(), study.leader(), study.champion()
    sections = [
        f"# Study {study.name}",
        _result(study, leader, champion),
        _synthetic(study),
        states_sentence(trials, study.budget),
    ]
    if leader is not None:
        sections += [
            _how_to_get_it(study, champion),
            "## Best trial of each backbone",
            _trial_table(backbone_rows(trials), study, trials, experiment_id),
            f"## Best {_TOP} trials",
            _trial_table(leaderboard_rows(trials, _TOP, study.champion_trials()), study, trials, experiment_id),
            f"## Thresholds of trial {leader.number}",
            _thresholds(study, leader),
        ]
    sections += [
        study.attributes.posters_note,
        "## Cost",
        cost_sentence(trials),
        _time_spent(study),
        _go_on(study),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _time_spent(study: Study) -> str:
    spent = study.attributes.time_spent
    return "" if spent is None else f"The time of all workers went to: {spent}."


def posters_of(study: Study) -> StudyPosters | None:
    """Return what a study knows of its posters, as MLflow shows them; None where it does not know them yet."""
    known = study.attributes
    if known.data is None or known.fingerprints is None:
        return None
    return StudyPosters(str(known.data.csv), str(known.data.images), known.fingerprints)


def posters_note(data: PreparedData, baselines: dict[str, dict[str, float]]) -> str:
    """Return what the report says of posters, their split and what is reached without looking at any."""
    sizes = " / ".join(f"{size:,} {part}" for part, size in data.distribution.sizes.items())
    return (
        f"## Constant baselines on the same posters\n\n{baseline_table(baselines)}\n\n"
        f"## Posters\n\n{sizes}, stratified by label; test posters are not looked at by the search. The largest "
        f"deviation of a label's share is {data.distribution.largest_deviation:.4f}. {kept_together(data)} The split "
        f"and its picture are among the artifacts, under `split`.\n\n{markdown_table(split_rows(data))}"
    )


def _result(study: Study, leader: TrialRecord | None, champion: ChampionRecord | None) -> str:
    if leader is None:
        return "No trial is complete yet."
    how = f"{study.attributes.thresholds} thresholds, one a label"
    figure = reported(study.attributes.folds, leader, study.exported(), champion)
    to_trust = "" if figure is None else f"**{reported_sentence(study.metric, figure)}** "
    interval = ""
    if champion is not None and champion.get("run_id") == study.run_id(leader) and "ci95" in champion:
        low, high = champion["ci95"]
        interval = f" [{low:.3f}, {high:.3f}]"
    best, fresh = study.best() or leader, fresh_values(leader, study.run_again())
    judged_on = judged_posters(study.attributes.folds)
    standing = standing_sentence(study.metric, best, leader, fresh, champion)
    who = "best trial" if champion is not None and "trials" in champion else "champion"
    return (
        f"**The {who}'s {study.metric} on {judged_on}: {leader.value:.3f}{interval}**, by "
        f"trial {TrialRun.of(leader).name} ({how}). {standing} Trial and thresholds were chosen on these "
        f"posters, which is optimistic. {to_trust}"
        f"`{command('export-best', study=study.name)}` says what it scores on the test posters, which no search has "
        "looked at."
    )


def _synthetic(study: Study) -> str:
    if not study.attributes.synthetic:
        return ""
    return "The posters are **synthetic** (the built-in sample), and so are these numbers."


def _how_to_get_it(study: Study, champion: ChampionRecord | None) -> str:
    if champion is None:
        return f"To get it: `{command('export-best', study=study.name)}`."
    version = f"[version {champion['version']}](#/models/{quote(study.name, safe='')}/versions/{champion['version']})"
    why = f" Why: {champion['reason']}." if champion.get("reason") else ""
    return (
        f"Champion: {version} of the registered model `{study.name}`, `models:/{study.name}@champion`.{why}\n\n"
        f"To get it: `{command('export-best', study=study.name)}`. `{command('ensemble', study=study.name)}` says "
        "whether averaging several trials is worth its cost here, and "
        f"`{command('export-best', study=study.name, ensemble=True)}` averages them."
    )


def _trial_table(rows: Sequence[ReportRow], study: Study, trials: Sequence[TrialRecord], experiment_id: str) -> str:
    """Rows with each trial's name as a link to its run."""
    shown = []
    for row in rows:
        run_id, name = study.run_id(trials[row["number"]]), row["trial"]
        linked = name if run_id is None else f"[{name}](#/experiments/{experiment_id}/runs/{run_id})"
        shown.append({key: _cell(value) for key, value in {**row, "trial": linked}.items() if key != "number"})
    return markdown_table(shown)


def _thresholds(study: Study, leader: TrialRecord) -> str:
    rows = [{key: _cell(value) for key, value in row.items()} for row in threshold_rows(leader)]
    if not rows:
        return "This trial was run by an older hpo, which did not note them."
    return f"{markdown_table(rows)}\n\nOn {judged_posters(study.attributes.folds)}."


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _go_on(study: Study) -> str:
    commands = [command(name, study=study.name) for name in ("leaderboard", "ensemble", "export-best")]
    typed = "\n".join((command_of(study), *commands, command("status", study=study.name, watch=True)))
    return f"## Continue\n\n```\n{typed}\n```"
