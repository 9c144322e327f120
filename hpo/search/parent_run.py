"""The study's own MLflow run: what it was about at its beginning, what came of it at its end.

The report at its head is `study_note.py`, which every worker brings up to date; what takes seconds to draw is drawn
once, when a search ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpo.data.account import group_rows, split_rows
from hpo.data.prepare import PreparedData, SavedSplit
from hpo.search.describe import Baselines
from hpo.search.figures.decisions import decision_figures
from hpo.search.figures.progress import progress_figure
from hpo.search.figures.study import study_figures
from hpo.search.mlflow_entities import Table
from hpo.search.pool import load_probabilities
from hpo.search.record import state_name
from hpo.search.study import Study
from hpo.search.study_note import posters_note, study_note
from hpo.search.summary import backbone_rows, leaderboard_rows, threshold_rows
from hpo.search.tracking import Tracking
from hpo.search.trainer import Trainer


@dataclass(frozen=True)
class ParentRun:
    """The run of one study. Methods raise TrackingError."""

    study: Study
    tracking: Tracking
    data: PreparedData
    baselines: Baselines
    trainer: Trainer

    def begin(self, saved: SavedSplit) -> str:
        """Open the run, or go on with it, and return its id."""
        attributes = self.study.attributes
        run_id = self.tracking.study_run(
            self.study.name,
            params=self.study.memory,
            tags={"hpo.metric": self.study.metric, "hpo.synthetic": str(attributes["synthetic"]).lower()},
            tables=self._tables(),
            files={"split": [saved.file, saved.picture]},
            data=attributes,
        )
        self.study.note_posters(posters_note(self.data, self.baselines))
        self.tracking.note(run_id, study_note(self.study, self.tracking.experiment_id))
        return run_id

    def draw(self, run_id: str) -> None:
        """Log how the study went, and how its leader decides."""
        leader = self.study.leader()
        if leader is None:
            return
        self.tracking.tabulate(run_id, self._tables())
        metric = self.study.metric
        constant = {name: values[metric] for name, values in self.baselines.items()}
        ended = [trial for trial in self.study.trials() if trial.state.is_finished()]
        progress = progress_figure([trial.value for trial in ended], [state_name(t) for t in ended], metric, constant)
        figures = {"progress": progress, **study_figures(ended, metric, self.study.importances())}
        self.tracking.show(run_id, figures)
        self._draw_decisions(self.study.run_id(leader))

    def close(self, run_id: str, interrupted: bool) -> None:
        """End the run, unless other machines go on."""
        counts, best, metric = self.study.counts(), self.study.best(), self.study.metric
        status = "KILLED" if interrupted and counts.finished < self.study.budget else "FINISHED"
        metrics = {f"best/{metric}": best.value} if best is not None and best.value else {}
        self.tracking.finish_study(run_id, "RUNNING" if counts.running else status, metrics)

    def _tables(self) -> dict[str, Table]:
        """Those of trials are there once one is complete."""
        tables: dict[str, Table] = {"splits": split_rows(self.data), "groups": group_rows(self.data)}
        leader, trials = self.study.leader(), self.study.trials()
        if leader is None:
            return tables
        board = {"leaderboard": leaderboard_rows(trials, len(trials)), "backbones": backbone_rows(trials)}
        return {**tables, **board, "thresholds": threshold_rows(leader)}

    def _draw_decisions(self, run_id: str | None) -> None:
        judged_on = self.trainer.judged_on
        probabilities = load_probabilities(self.tracking, run_id, judged_on)
        if run_id is None or probabilities is None:
            return
        _, judged = self.trainer.objective.judge(probabilities, judged_on.targets)
        names = self.data.catalogue.label_names
        self.tracking.show(run_id, decision_figures(probabilities, judged_on.targets, judged.thresholds, names))
