"""Print the plan of a search: its stages, how far each is, and why the latest trial was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from hpo.report.space_tables import searched_in
from hpo.runtime.terminal import Plain
from hpo.search.plan import progress
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord


def plan_account(study: Study) -> dict[str, Any]:
    """Return what ``hpo plan --json`` prints. Raises StudyError."""
    space, trials = study.space, study.trials()
    latest = _latest(trials)
    return {
        "study": study.name,
        "metric": study.metric,
        "space": space.name,
        "stages": [
            {**asdict(stage), "searches": searched_in(space.stages[stage.name])} for stage in progress(space, trials)
        ],
        "latest": None if latest is None else {"trial": latest.number, **(latest.proposal or {})},
    }


def print_plan(plan: dict[str, Any]) -> None:
    """Print it for a person."""
    console = Plain()
    if not plan["stages"]:
        console.print(f"The space {plan['space']} has no stages: all of it is searched from the start.")
        return
    table = Table(title=f"Stages of study {plan['study']}", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("stage")
    for name in ("trials", f"best {plan['metric']}", "seconds", "since gain", "next gains"):
        table.add_column(name, justify="right")
    for stage in plan["stages"]:
        table.add_row(
            stage["name"],
            f"{stage['n_finished']}",
            "–" if stage["best"] is None else f"{stage['best']:.3f}",
            f"{stage['seconds']:,.0f}",
            f"{stage['n_since_gain']}",
            f"{stage['expected_gain']:+.4f}",
        )
    console.print(table)
    for stage in plan["stages"]:
        console.print(f"{stage['name']}: {stage['searches']}.", highlight=False)
    console.print("The next trial is of the stage with the most expected gain per second of its forecast.")
    latest = plan["latest"]
    if latest is not None:
        console.print(f"Trial {latest['trial']} was chosen as {latest['why']}.", highlight=False)


def _latest(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    return next((trial for trial in reversed(trials) if trial.proposal is not None), None)
