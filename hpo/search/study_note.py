"""The Markdown that heads a study's MLflow run: a report that anybody understands who has only the link to it.

It is written from Optuna's record alone, again after each trial, by whichever worker has finished one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from optuna.trial import FrozenTrial

from hpo.bundle.card import baseline_table
from hpo.bundle.markdown import markdown_table
from hpo.commands import command
from hpo.data.account import kept_together, split_rows
from hpo.data.prepare import PreparedData
from hpo.search.again import command_of
from hpo.search.objective import judged_posters
from hpo.search.record import TrialRecord
from hpo.search.standing import fresh_values
from hpo.search.study import Crown, Study
from hpo.search.summary import (
    Row,
    backbone_rows,
    cost_sentence,
    leaderboard_rows,
    reported,
    reported_sentence,
    standing_sentence,
    states_sentence,
    threshold_rows,
)

_TOP = 10


def study_note(study: Study, experiment_id: str) -> str:
    """Return the report on a study as it stands; ``experiment_id`` is where its runs are, which it links to."""
    trials, leader, crown = study.trials(), study.leader(), study.crown()
    sections = [
        f"# Study {study.name}",
        _result(study, leader, crown),
        _synthetic(study),
        states_sentence(trials, study.budget),
    ]
    if leader is not None:
        sections += [
            _how_to_get_it(study, crown),
            "## Best trial of each backbone",
            _trial_table(backbone_rows(trials), study, trials, experiment_id),
            f"## Best {_TOP} trials",
            _trial_table(leaderboard_rows(trials, _TOP, leader.number), study, trials, experiment_id),
            f"## Thresholds of trial {leader.number}",
            _thresholds(study, leader),
        ]
    sections += [
        str(study.attributes.get("posters_note", "")),
        "## Cost",
        cost_sentence(trials),
        _time_spent(study),
        _go_on(study),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _time_spent(study: Study) -> str:
    spent = study.attributes.get("time_spent")
    return "" if spent is None else f"The time of all workers went to: {spent}."


def posters_note(data: PreparedData, baselines: dict[str, dict[str, float]]) -> str:
    """Return what the report says of posters, their split and what is reached without looking at any."""
    sizes = " / ".join(f"{size:,} {part}" for part, size in data.distribution.sizes.items())
    return (
        f"## Constant baselines on the same posters\n\n{baseline_table(baselines)}\n\n"
        f"## Posters\n\n{sizes}, stratified by label; test posters are not looked at by the search. The largest "
        f"deviation of a label's share is {data.distribution.largest_deviation:.4f}. {kept_together(data)} The split "
        f"and its picture are among the artifacts, under `split`.\n\n{markdown_table(split_rows(data))}"
    )


def _result(study: Study, leader: FrozenTrial | None, crown: Crown | None) -> str:
    if leader is None:
        return "No trial is complete yet."
    how = f"{study.attributes.get('thresholds', 'calibrated')} thresholds, one a label"
    figure = reported(study.attributes, leader, study.exported())
    to_trust = "" if figure is None else f"**{reported_sentence(study.metric, figure)}** "
    interval = ""
    if crown is not None and crown.get("run_id") == study.run_id(leader) and "ci95" in crown:
        low, high = crown["ci95"]
        interval = f" [{low:.3f}, {high:.3f}]"
    best, fresh = study.best() or leader, fresh_values(leader, study.run_again())
    return (
        f"**The champion's {study.metric} on {judged_posters(study.attributes)}: {leader.value:.3f}{interval}**, by "
        f"trial {TrialRecord.of(leader).name} ({how}). {standing_sentence(study.metric, best, leader, fresh)} Trial "
        f"and thresholds were chosen on these posters, which is optimistic. {to_trust}"
        f"`{command('export-best', study=study.name)}` says what it scores on the test posters, which no search has "
        "looked at."
    )


def _synthetic(study: Study) -> str:
    if not study.attributes.get("synthetic"):
        return ""
    return "The posters are **synthetic** (the built-in sample), and so are these numbers."


def _how_to_get_it(study: Study, crown: Crown | None) -> str:
    if crown is None:
        return f"To get it: `{command('export-best', study=study.name)}`."
    version = f"[version {crown['version']}](#/models/{quote(study.name, safe='')}/versions/{crown['version']})"
    why = f" Why: {crown['reason']}." if crown.get("reason") else ""
    return (
        f"Champion: {version} of the registered model `{study.name}`, `models:/{study.name}@champion`.{why}\n\n"
        f"To get it: `{command('export-best', study=study.name)}`. `{command('ensemble', study=study.name)}` says "
        "whether averaging several trials is worth its cost here, and "
        f"`{command('export-best', study=study.name, ensemble=True)}` averages them."
    )


def _trial_table(rows: Sequence[Row], study: Study, trials: Sequence[FrozenTrial], experiment_id: str) -> str:
    """Rows with each trial's name as a link to its run."""
    shown = []
    for row in rows:
        run_id, name = study.run_id(trials[row["number"]]), row["trial"]
        linked = name if run_id is None else f"[{name}](#/experiments/{experiment_id}/runs/{run_id})"
        shown.append({key: _cell(value) for key, value in {**row, "trial": linked}.items() if key != "number"})
    return markdown_table(shown)


def _thresholds(study: Study, leader: FrozenTrial) -> str:
    rows = [{key: _cell(value) for key, value in row.items()} for row in threshold_rows(leader)]
    if not rows:
        return "This trial was run by an older hpo, which did not note them."
    return f"{markdown_table(rows)}\n\nOn {judged_posters(study.attributes)}."


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _go_on(study: Study) -> str:
    commands = [command(name, study=study.name) for name in ("leaderboard", "ensemble", "export-best")]
    typed = "\n".join((command_of(study), *commands, command("status", study=study.name, watch=True)))
    return f"## Go on\n\n```\n{typed}\n```"
