"""Print the status of a study, once or repeatedly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hpo.study.attributes import UNLIMITED_TRIALS, ChampionRef
from hpo.study.reproduction import command_of
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.study_report import reported, reported_sentence, standing_sentence
from hpo.trial.objective import judged_posters

if TYPE_CHECKING:
    from hpo.selection.sync import SyncReport

_LOOK_SECONDS = 2.0
_RECENT = 20  # trials, by whose ends the pace is judged


def status_of(study: Study, champion: ChampionRef | None) -> dict[str, Any]:
    """Return what ``hpo status --json`` prints: its keys are a contract."""
    snapshot = study.snapshot()
    trials, counts, best, leader = snapshot.trials, snapshot.counts, snapshot.best, snapshot.leader
    workers = len(study.living_workers(trials))
    pace = trials_an_hour(trials) if workers or not counts.running else None  # of dead workers nothing is to come
    left = max(0, study.budget - counts.finished)
    return {
        "study": study.name,
        "metric": study.metric,
        "judged_on": judged_posters(study.attributes.folds),
        "trials": {
            "complete": counts.complete,
            "pruned": counts.pruned,
            "failed": counts.failed,
            "running": counts.running,
            "waiting": counts.waiting,
        },
        "retried": counts.retried,
        "budget": study.budget,
        "workers": workers,
        "trials_an_hour": pace,
        "left_seconds": None if pace is None or study.budget == UNLIMITED_TRIALS else 3600 * left / pace,
        "best": None if best is None else {"number": best.number, "value": best.value, "params": best.params},
        "reported": reported(study.attributes.folds, leader, study.exported(), study.champion()),
        "champion": champion,
        "champion_trial": leader and {"number": leader.number, "value": leader.value, "fresh_seeds": snapshot.fresh},
        "standing": best and leader and standing_sentence(study.metric, best, leader, snapshot.fresh, study.champion()),
    }


def trials_an_hour(trials: list[TrialRecord]) -> float | None:
    """Return the pace at which the latest trials finished; None where fewer than two have."""
    ended = sorted(t.ended for t in trials if t.state in ("complete", "pruned") and t.ended)
    recent: list[datetime] = ended[-_RECENT:]
    if len(recent) < 2 or recent[-1] == recent[0]:
        return None
    return 3600 * (len(recent) - 1) / (recent[-1] - recent[0]).total_seconds()


def status_lines(status: dict[str, Any]) -> list[str]:
    """Return the status in words."""
    trials, champion = status["trials"], status["champion"]
    finished = trials["complete"] + trials["pruned"]
    numbers = {**trials, "retried": status["retried"]}
    states = ("failed", "running", "waiting", "retried")
    others = "".join(f", {numbers[state]} {state}" for state in states if numbers[state])
    lines = [
        f"Study {status['study']}: {finished}{_of(status['budget'])} trials finished",
        f"  {trials['complete']} complete, {trials['pruned']} pruned{others}",
    ]
    if trials["running"] and not status["workers"]:
        lines.append("  no worker is alive: the next search runs again what was running")
    elif trials["running"]:
        n_workers = status["workers"]
        lines.append(f"  {n_workers} {'worker' if n_workers == 1 else 'workers'} running{_pace(status)}")
    if status["standing"] is not None:
        lines.append(f"  {status['standing']}")
        if status["reported"] is not None:
            lines.append(f"  {reported_sentence(status['metric'], status['reported'])}")
        lines.append(f"  Trials are selected by their {status['metric']} on {status['judged_on']}.")
    if champion is not None:
        lines.append(f"  models:/{status['study']}@champion is version {champion['version']}")
    return lines


def _pace(status: dict[str, Any]) -> str:
    if status["trials_an_hour"] is None:
        return ""
    pace = f", {status['trials_an_hour']:.0f} trials an hour"
    if status["left_seconds"] is None:
        return pace
    return f"{pace}, about {timedelta(seconds=round(status['left_seconds']))} left"


def _of(budget: int) -> str:
    return "" if budget == UNLIMITED_TRIALS else f" of {budget}"


def print_status(study: Study, status: dict[str, Any]) -> None:
    """Print it for a person, with the command that continues a study at which no worker is."""
    console = Console()
    for line in status_lines(status):
        console.print(line, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not status["workers"] and study.counts().finished < study.budget:
        typed = f"To continue: {command_of(study)}"
        console.print(typed, highlight=False, soft_wrap=True, markup=False, emoji=False)


def watch_status(study: Study, champion: Callable[[], ChampionRef | None], say: Callable[[str], None] | None) -> None:
    """Look again and again until the budget has finished or Ctrl-C; ``say`` gets one JSON object a look."""
    if say is not None:
        for status in _looks(study, champion):
            say(json.dumps(status, ensure_ascii=False))
        return
    with Live(console=Console(), auto_refresh=False) as live:
        for status in _looks(study, champion):
            live.update(Text("\n".join(status_lines(status))), refresh=True)


def _looks(study: Study, champion: Callable[[], ChampionRef | None]) -> Iterator[dict[str, Any]]:
    """Yield the status every two seconds, for the last time when the budget has finished."""
    with suppress(KeyboardInterrupt):
        while True:
            status = status_of(study, champion())
            yield status
            if status["trials"]["complete"] + status["trials"]["pruned"] >= status["budget"]:
                return
            time.sleep(_LOOK_SECONDS)


def sync_account(study: Study, done: SyncReport) -> dict[str, Any]:
    """Return what ``hpo sync --json`` prints."""
    return {
        "study": study.name,
        "runs": asdict(done.runs),
        "requeued": list(done.requeued),
        "champion": done.champion,
        "champion_made_again": done.made_again,
        "closed": done.closed,
    }


def print_sync(study: Study, done: SyncReport) -> None:
    """Say what was done."""
    runs, console = done.runs, Console()
    if done.nothing:
        console.print(f"MLflow agrees with study {study.name}: nothing to do.", highlight=False)
        return
    console.print(
        f"Study {study.name}: {runs.created} runs written, {runs.reconciled} fixed, {runs.removed} removed, "
        f"{runs.uploaded} files taken from the spool; {len(done.requeued)} lost trials wait again.",
        highlight=False,
    )
    if runs.united:
        console.print(f"  {runs.united} runs were put under the study's one run, or deleted as its double.")
    if done.made_again:
        console.print(f"  The champion is {done.champion}, trained again and registered.", highlight=False)
    if done.closed:
        console.print("  The study's run was closed, since no trial runs any more.")
