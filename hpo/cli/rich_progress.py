"""Progress display of long commands: one bar a phase, then the trials with best value and time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hpo.escaping import shortened
from hpo.runtime.terminal import Plain

if TYPE_CHECKING:
    from hpo.data.dataset import PreparedData
    from hpo.model.config import TrialConfig
    from hpo.runtime.progress import ProgressFn
    from hpo.study.trial_queue import TrialCounts
    from hpo.study.trial_record import TrialRecord
    from hpo.trial.trial import EpochReport

_MOST_CHARACTERS = 300  # of an error


@contextmanager
def start_heavy_imports() -> Iterator[None]:
    """Say that something happens while PyTorch, timm, Optuna and MLflow load (seconds on a cold disk)."""
    with Console(stderr=True).status("starting PyTorch, Optuna and MLflow"):
        yield


class RichProgress:
    """Progress on stderr; also works where stderr is a file, without the bars.

    With ``limit_seconds`` the bar of trials shows the seconds of a search that is limited by time alone.
    """

    def __init__(self, metric: str = "", limit_seconds: float | None = None) -> None:
        self.console = Plain(stderr=True)
        self.metric, self._limit_seconds = metric, limit_seconds
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} / {task.total:,.0f}"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._trials: TaskID | None = None
        self._note = self._count = ""
        self._current = ""

    def __enter__(self) -> RichProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def notice(self, text: str) -> None:
        """Print a line above the bars: unbroken, since it may hold a command."""
        self._progress.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[ProgressFn]:
        """Show a bar for ``total`` posters while the block runs."""
        task = self._progress.add_task(what, total=total, note="posters")
        try:
            yield lambda n: self._progress.advance(task, n)
        finally:
            self._progress.remove_task(task)

    def prepared(self, data: PreparedData, finished: int, budget: int) -> None:
        """Print how the posters were cleaned and split, and begin the bar of trials."""
        from hpo.data.summary import cleaning_lines, kept_together
        from hpo.report.tables import split_table

        for line in (*cleaning_lines(data), kept_together(data)):
            self._progress.console.print(line, highlight=False, markup=False)  # a label may hold brackets
        self._progress.console.print(split_table(data))
        if self._limit_seconds is None:
            self._trials = self._progress.add_task("trials", total=budget, completed=finished, note="")
        else:
            self._trials = self._progress.add_task("seconds", total=self._limit_seconds, completed=0, note="")

    def trial_started(self, number: int, config: TrialConfig) -> None:
        """Name the trial in hand."""
        self._current = f"#{number} {config.backbone}"
        self._show(self._current)

    def epoch(self, report: EpochReport) -> None:
        """Show the epoch in hand."""
        phase = "fine-tuning, " if report.phase == "finetune" else ""
        self._show(f"{self._current} {phase}epoch {report.epoch}: {report.value:.3f}")

    def trial_ended(self, trial: TrialRecord, counts: TrialCounts, best: TrialRecord | None) -> None:
        """Count a trial, and keep the best value in sight."""
        if best is not None and best.value is not None:
            self._note = f"best {self.metric} {best.value:.3f}"
        if trial.state == "failed":
            self.notice(f"Trial {trial.number} failed: {_last_line(trial.error or '')}")
        if self._limit_seconds is not None:
            self._count = f"{counts.finished} trials"
        if self._trials is not None:
            seconds = time.monotonic() - self._started
            self._progress.update(self._trials, completed=counts.finished if self._limit_seconds is None else seconds)
        self._show("")

    def workers(self, alive: int, counts: TrialCounts) -> None:
        """Say how many workers live, and how many trials they have in hand, on other machines as well."""
        self._show(f"{alive} workers, {counts.running} running")

    def _show(self, current: str) -> None:
        if self._trials is not None:
            note = " · ".join(part for part in (self._count, self._note, current) if part)
            self._progress.update(self._trials, note=note)


def _last_line(error: str) -> str:
    """The last line of an error, which says what went wrong; those above often say where."""
    lines = error.strip().splitlines()
    return shortened(lines[-1].strip(), _MOST_CHARACTERS) if lines else "its MLflow run has its log"
