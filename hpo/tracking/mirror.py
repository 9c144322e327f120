"""Mirror of Optuna's record in MLflow: a study's runs, written now or later.

Optuna's database is the record; MLflow is where people look. So a trial is noted there first and written here after it,
and where MLflow is away the search continues: nothing waits for it, files wait in a spool folder, and what was missed
is written when MLflow answers again, at the end of the search, or by `hpo sync`. Writing is the same each time, so it
may be done twice.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo.errors import TrackingError
from hpo.runtime import profiling as timeline
from hpo.runtime.commands import command
from hpo.study.running_trial import RunningTrial
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.runs import LoggedRun, Tracking
from hpo.tracking.study_report import posters_of, study_note
from hpo.tracking.trial_run import TrialRun, run_name, trial_tags

_AWAY_SECONDS = 30.0  # after a refusal, in which MLflow is not asked again
_REPORTING = 0.05  # of a search's time at most: a report lists every trial, and so grows with their number


@dataclass(frozen=True)
class Synced:
    """What had to be done so that MLflow says what Optuna does."""

    created: int = 0  # runs that were missing
    reconciled: int = 0  # runs of another state, or without their metrics
    removed: int = 0  # second runs of one trial
    uploaded: int = 0  # files of trials that had waited in the spool
    united: int = 0  # runs that had another parent than the study's, and second parents

    @property
    def nothing(self) -> bool:
        """Whether all agreed already."""
        return self == Synced()


class MlflowMirror:
    """Writes the runs of one study's trials; while MLflow is away, it remembers that there is something to catch up."""

    def __init__(
        self,
        study: Study,
        tracking: Tracking,
        parent_run_id: str,
        spool: Path,
        notice: Callable[[str], None],
        system_metrics: bool = False,
    ) -> None:
        self._study, self._tracking, self._parent = study, tracking, parent_run_id
        self._spool, self._notice, self._system_metrics = spool, notice, system_metrics
        self._away_until = 0.0
        self._behind = False
        self._refused = False  # by the registry
        self._report_after = 0.0

    @property
    def parent_run_id(self) -> str:
        """The run of the study, which ``sync`` may have found to be another one."""
        return self._parent

    def attempt(self, act: Callable[[], object]) -> bool:
        """Do what asks something of MLflow, and say whether it was done; not at all while MLflow is away."""
        if time.monotonic() < self._away_until:
            self._behind = True
            return False
        try:
            with timeline.stage("MLflow"):
                if self._behind:
                    self._tracking.check_answers()  # or every trial would wait for a server that accepts and is silent
                act()
        except TrackingError as error:
            self._miss(error)
            return False
        return True

    def _miss(self, error: TrackingError) -> None:
        if not self._behind:
            self._notice(
                f"{error} The search continues; {command('sync', study=self._study.name)} writes what is missing."
            )
        self._away_until, self._behind = time.monotonic() + _AWAY_SECONDS, True

    def promote(self, act: Callable[[], object]) -> None:
        """Do what asks something of the registry; where that alone refuses, say so once, and runs are still written."""
        if time.monotonic() < self._away_until:
            return
        try:
            with timeline.stage("promoting"):
                act()
        except TrackingError as error:
            try:
                self._tracking.check_answers()
            except TrackingError as away:
                self._miss(away)
                return
            if not self._refused:
                self._refused = True
                self._notice(
                    f"{error} The search continues; {command('export-best', study=self._study.name)} trains its best "
                    "trial again."
                )

    def begin(self, trial: RunningTrial, config: Mapping[str, Any]) -> None:
        """Open the run of a trial and note its id with the trial."""

        def open_run() -> None:
            tags = trial_tags(replace(trial.record(), config=config))
            name = run_name(trial.number, config)
            run_id = self._tracking.start_trial(self._parent, trial.number, name, config, tags, posters_of(self._study))
            trial.note(run_id=run_id)

        self.attempt(open_run)

    def watching(self, trial: RunningTrial) -> AbstractContextManager[object]:
        """Log the machine's cores, memory, disk and network with the trial's run inside, where that was asked for."""
        run_id = trial.record().run_id
        if not self._system_metrics or run_id is None:
            return nullcontext()
        return self._tracking.watching(str(run_id))

    def spooled(self, number: int) -> Path:
        """Return the folder for files of a trial that are to be kept with its run."""
        folder = self._spool / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def end(self, trial: TrialRecord) -> None:
        """Write the run of a trial that has ended, and what was missed before."""
        written = self.attempt(lambda: self._write(trial, self._study.run_id(trial)))
        if written and self._behind:
            self.sync()
        if time.monotonic() >= self._report_after:
            self.attempt(self.report)

    def report(self) -> None:
        """Bring the report on the parent run up to date. Raises TrackingError."""
        began = time.monotonic()
        self._tracking.note(self._parent, study_note(self._study, self._tracking.experiment_id))
        ended = time.monotonic()
        self._report_after = ended + (ended - began) / _REPORTING

    def sync(self) -> Synced:
        """Write every run that is missing or wrong, and remove second ones.

        MLflow is asked even where it refused a moment ago: this may be the last time that the search asks.
        """
        done = Synced()
        self._away_until = 0.0

        def all_of_it() -> None:
            nonlocal done
            done = self._sync()
            self._behind = False

        with self._study.locked("runs"):
            self.attempt(all_of_it)
        return done

    def _sync(self) -> Synced:
        self._parent, united = self._tracking.unite(self._study.name, self._parent)
        runs = self._tracking.trial_runs(self._parent)
        created = reconciled = removed = uploaded = 0
        for trial in self._study.trials():
            mine, others = self._split(trial, runs.get(trial.number, []))
            for run in others:
                self._tracking.delete_run(run.run_id)
                removed += 1
            if not trial.is_finished:
                continue
            uploaded += len(self._files(trial.number))
            if mine is None:
                self._write(trial, None)
                created += 1
                continue
            if mine.run_id != self._study.run_id(trial):
                self._study.note_run(trial.number, mine.run_id)
            if mine.state != TrialRun.of(trial).state or not mine.has_ended or self._files(trial.number):
                self._write(trial, mine.run_id)
                reconciled += mine.state != TrialRun.of(trial).state or not mine.has_ended
        return Synced(created, reconciled, removed, uploaded, united)

    def _split(self, trial: TrialRecord, runs: Sequence[LoggedRun]) -> tuple[LoggedRun | None, list[LoggedRun]]:
        """Return the run of a trial, and others that a killed worker left."""
        noted = self._study.run_id(trial)
        if not trial.is_finished and noted is None:
            return None, []  # its run may have been opened in this moment
        # The run that its worker opened holds its files and versions; one that was written later holds what it says.
        by_worker = str(trial.run_id)
        preferred = sorted(runs, key=lambda run: (run.run_id != by_worker, run.run_id != noted))
        return next(iter(preferred), None), preferred[1:]

    def _write(self, trial: TrialRecord, run_id: str | None) -> None:
        record = TrialRun.of(trial)
        if run_id is None:
            run_id = self._tracking.start_trial(
                self._parent, record.number, record.name, record.params, record.tags, posters_of(self._study)
            )
        if run_id != trial.run_id:
            self._study.note_run(trial.number, run_id)  # a trial that has ended takes no attributes any more
        if record.state == "complete" and self._files(trial.number):
            self._tracking.keep(run_id, self._spool / str(trial.number))
        self._tracking.log_trial(run_id, record)
        shutil.rmtree(self._spool / str(trial.number), ignore_errors=True)

    def _files(self, number: int) -> list[Path]:
        return [path for path in (self._spool / str(number)).rglob("*") if path.is_file()]
