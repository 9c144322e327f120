"""``hpo ensemble``: which trials are best averaged, and what each adds, as JSON and as a table."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from hpo.commands import command
from hpo.search.ensemble import Selected
from hpo.search.study import Study


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
                "backbone": trial.user_attrs["chosen"]["backbone"],
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
    console.print(f"Next: {typed}", highlight=False, soft_wrap=True, markup=False)
