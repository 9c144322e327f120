"""``hpo status``: how far a study is, as JSON and as lines."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from hpo.search.study import Study
from hpo.search.tracking import Tracking


def status_of(study: Study, tracking: Tracking) -> dict[str, Any]:
    """Return what ``hpo status --json`` prints: its keys are a contract."""
    counts, best, champion = study.counts(), study.leader(), tracking.champion(study.name)
    return {
        "study": study.name,
        "metric": study.metric,
        "trials": {
            "complete": counts.complete,
            "pruned": counts.pruned,
            "failed": counts.failed,
            "running": counts.running,
            "waiting": counts.waiting,
        },
        "budget": study.budget,
        "best": None if best is None else {"number": best.number, "value": best.value, "params": best.params},
        "champion": None if champion is None else {"version": champion.version, "run_id": champion.run_id},
    }


def print_status(status: dict[str, Any]) -> None:
    """Print it for a person."""
    console = Console()
    trials, best, champion = status["trials"], status["best"], status["champion"]
    finished = trials["complete"] + trials["pruned"]
    others = ", ".join(f"{trials[state]} {state}" for state in ("failed", "running", "waiting") if trials[state])
    console.print(f"Study {status['study']}: {finished} of {status['budget']} trials finished", highlight=False)
    console.print(
        f"  {trials['complete']} complete, {trials['pruned']} pruned" + (f", {others}" if others else ""),
        highlight=False,
    )
    if best is not None:
        console.print(f"  best {status['metric']} {best['value']:.4f} on validation posters, trial {best['number']}")
    if champion is not None:
        console.print(f"  champion: models:/{status['study']}@champion, version {champion['version']}", highlight=False)
