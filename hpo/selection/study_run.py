"""The study's own MLflow run: dataset, parameters, figures and closing state.

The report at its head is `study_report.py`, which every worker brings up to date; what takes seconds to draw is drawn
once, when a search ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpo.data.dataset import SavedSplit
from hpo.data.summary import group_rows, split_rows
from hpo.selection.context import StudyContext
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.client import LoggedTable
from hpo.tracking.figures import decision_figures, progress_figure, study_figures
from hpo.tracking.runs import Tracking
from hpo.tracking.study_report import (
    backbone_rows,
    leaderboard_rows,
    posters_note,
    posters_of,
    study_note,
    threshold_rows,
)


def open_parent_run(
    study: Study,
    tracking: Tracking,
    tables: Mapping[str, LoggedTable] | None = None,
    files: Mapping[str, Sequence[Path]] | None = None,
) -> str:
    """Return the id of the study's run, which is created, with all that it says, by one process of those that ask."""
    tags = {"hpo.metric": study.metric, "hpo.synthetic": str(study.attributes.synthetic).lower()}
    with study.locked("parent run"):
        run_id = tracking.study_run(study.name, study.memory, tags, tables or {}, files or {}, posters_of(study))
        tracking.note(run_id, study_note(study, tracking.experiment_id))
    return run_id


def close_parent_run(study: Study, tracking: Tracking, run_id: str, interrupted: bool) -> None:
    """End the study's run, unless other machines still run trials of it."""
    counts, best, metric = study.counts(), study.best(), study.metric
    status = "KILLED" if interrupted and counts.finished < study.budget else "FINISHED"
    metrics = {f"best/{metric}": best.value} if best is not None and best.value else {}
    tracking.finish_study(run_id, "RUNNING" if counts.running else status, metrics)


class ParentRun:
    """The run of one study. Methods raise TrackingError."""

    def __init__(self, context: StudyContext) -> None:
        self._context = context
        self._study, self._tracking, self._data = context.study, context.tracking, context.data

    def begin(self, saved: SavedSplit) -> str:
        """Open the run, or continue with it, and return its id."""
        self._study.note_posters(posters_note(self._data, self._context.baselines))
        files = {"split": [saved.file, saved.picture]}
        return open_parent_run(self._study, self._tracking, self._tables(), files)

    def draw(self, run_id: str) -> None:
        """Log how the study went, and how its leader decides, unless that was drawn of the same trials already."""
        leader = self._study.leader()
        if leader is None:
            return
        ended = [trial for trial in self._study.trials() if trial.is_finished]
        drawn_of = {"run_id": run_id, "n_trials": len(ended), "leader": leader.number}
        if self._study.is_drawn(drawn_of):
            return
        self._tracking.tabulate(run_id, self._tables())
        metric = self._study.metric
        constant = {name: values[metric] for name, values in self._context.baselines.items()}
        progress = progress_figure([trial.value for trial in ended], [t.state for t in ended], metric, constant)
        figures = {"progress": progress, **study_figures(ended, metric, self._study.importances())}
        self._tracking.show(run_id, figures)
        self._draw_decisions(leader)
        self._study.note_drawn(drawn_of)

    def close(self, run_id: str, interrupted: bool) -> None:
        """End the run, unless other machines still run trials."""
        close_parent_run(self._study, self._tracking, run_id, interrupted)

    def _tables(self) -> dict[str, LoggedTable]:
        """Those of trials are there once one is complete."""
        tables: dict[str, LoggedTable] = {"splits": split_rows(self._data), "groups": group_rows(self._data)}
        leader, trials = self._study.leader(), self._study.trials()
        if leader is None:
            return tables
        board = {
            "leaderboard": leaderboard_rows(trials, len(trials), self._study.champion_trials()),
            "backbones": backbone_rows(trials),
        }
        return {**tables, **board, "thresholds": threshold_rows(leader)}

    def _draw_decisions(self, leader: TrialRecord) -> None:
        run_id, probabilities = self._study.run_id(leader), self._context.probabilities(leader.number)
        if run_id is None or probabilities is None:
            return
        trainer, names = self._context.trainer, self._data.catalogue.label_names
        targets = trainer.judged_on.targets
        _, judged = trainer.objective.judge(probabilities, targets)
        self._tracking.show(run_id, decision_figures(probabilities, targets, judged.thresholds, names))
