"""Run a search from end to end: prepare data, open the study, run trials, promote a champion.

Whatever happens, three records agree: Optuna knows every trial, MLflow shows every trial, and the registry's alias
``champion`` is a trial at least as good as the best that Optuna calls complete. What a kill leaves apart is reconciled
by any process of the study, at the latest when the command is run again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from hpo.data.dataset import PreparedData, save_split
from hpo.errors import BackboneError, StudyError
from hpo.model.backbones.backbone import check_image_size, check_weights
from hpo.runtime import profiling as timeline
from hpo.runtime.interrupt import Interruptible
from hpo.search.callbacks import SearchCallback
from hpo.search.config import SearchOptions, study_identity, study_setup
from hpo.search.executors.base import SearchJob
from hpo.search.executors.factory import build_executor
from hpo.search.worker import TrialWorker, open_mirror
from hpo.selection.average import promote_average
from hpo.selection.champion import ChampionSelector
from hpo.selection.context import StudyContext
from hpo.selection.garbage_collection import free_after_search
from hpo.selection.study_run import ParentRun
from hpo.space.space import SearchSpace
from hpo.study import migration as versions
from hpo.study.attributes import SPACE
from hpo.study.running_trial import OutOfTime
from hpo.study.study import Study, open_study
from hpo.study.trial_record import TrialRecord
from hpo.trial.provenance import code_version


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    study: Study
    data: PreparedData
    parent_run_id: str
    interrupted: bool
    idle: bool = False  # as many trials as were asked for had finished before
    timeout_seconds: float | None = None  # that was asked for


def search(options: SearchOptions, callback: SearchCallback) -> Outcome:
    """Run the search that ``options`` describe, or continue with it. Raises HpoError."""
    options = replace(options, space=available_space(options, callback))
    if options.profile is not None:
        timeline.begin(options.profile)
    with Interruptible() as interruptible, timeline.joined(options.profile, "search"):
        deadline = options.deadline()
        context = StudyContext.open(options, interruptible.watching(callback.bar))
        options = replace(options, n_folds=context.trainer.n_folds)
        parent_run_id, idle = _begin(options, context, callback)
        return _Search(options, context, callback, interruptible, deadline, parent_run_id, idle).run()


def available_space(options: SearchOptions, callback: SearchCallback) -> SearchSpace:
    """Return the space with the backbones whose weights can be had; all of them, unless asked to leave some out.

    Raises BackboneError for the first that cannot be had, SpaceError when none is left.
    """
    missing: dict[str, str] = {}
    sizes = [size for size in options.space.values_of("image_size") if isinstance(size, int)]
    for name in options.space.backbones:
        try:
            check_weights(name, options.space.weights)
            for size in sizes:
                check_image_size(name, size)
        except BackboneError as error:
            if not options.skip_unavailable:
                raise
            missing[name] = str(error)
    for name, reason in missing.items():
        callback.notice(f"Left out {name}: {reason}")
    return options.space.without_backbones(missing) if missing else options.space


def _begin(options: SearchOptions, context: StudyContext, callback: SearchCallback) -> tuple[str, bool]:
    """Bind the study to what it is about, queue what comes first, set the budget, and open the study's MLflow run.

    Returns the run's id, and whether no trial is left to run.
    """
    study = context.study
    with timeline.stage("posters"):
        saved = save_split(context.data, options.paths.splits)
    setup = study_setup(options, context.data, saved).model_dump(mode="json")
    grown = study.bind(study_identity(options, context.data), {**setup, SPACE: versions.write_space(options.space)})
    if grown is not None:
        callback.notice(grown)
    study.take_code(code_version(), callback.notice)
    _queue_first_trials(options, study)
    budget = study.set_budget(options.trials, more=options.adds_trials)
    finished = study.counts().finished
    idle = not options.adds_trials and options.trials <= finished
    if idle and options.trials < finished:
        callback.notice(
            f"Study {study.name!r} has {finished} finished trials: nothing to do for --trials "
            f"{options.trials}. For more: --trials +{options.trials}"
        )
    callback.prepared(context.data, finished, budget)
    for notice in context.tracking.notices():
        callback.notice(notice)
    return ParentRun(context).begin(saved), idle


def _queue_first_trials(options: SearchOptions, study: Study) -> None:
    study.enqueue_recipes(options.space)
    if options.warm_start is not None:
        paths = options.paths
        source = open_study(paths.storage, options.warm_start, paths.locks, seed=0, create=False)
        study.warm_start(source, options.space)


class _Search:
    """One search whose study is bound and has a budget."""

    def __init__(
        self,
        options: SearchOptions,
        context: StudyContext,
        callback: SearchCallback,
        interruptible: Interruptible,
        deadline: float,  # by time.monotonic()
        parent_run_id: str,
        idle: bool,
    ) -> None:
        self.options, self.context, self.callback, self.interruptible = options, context, callback, interruptible
        self.study, self.deadline, self.parent_run_id, self.idle = context.study, deadline, parent_run_id, idle
        self.champion_selector = ChampionSelector(context)
        self.mirror = open_mirror(options, context, parent_run_id, callback)

    def run(self) -> Outcome:
        """Run trials until the budget has finished, then promote the champion and draw the figures."""
        finished_before, interrupted = self._ended(), False
        try:
            self._reconcile()
            if not self.idle:
                self._run_trials()
        except KeyboardInterrupt:
            interrupted = True
        except OutOfTime as out_of_time:
            self.callback.notice(str(out_of_time))
        self.study.check_latest()  # a search of an older version would promote without knowing the later trials
        with self.study.locked("ending"):  # of several machines one promotes, and the others find it done
            interrupted = self._rerun_top_trials(interrupted)
            self._reconcile()
            interrupted = self._promote_average(interrupted)
            self._finish(finished_before, interrupted)
        return Outcome(
            self.study,
            self.context.data,
            self.parent_run_id,
            interrupted,
            self.idle,
            self.options.timeout_seconds,
        )

    def _run_trials(self) -> None:
        """Let an executor's workers run trials until the budget has finished, and report each trial that ends."""
        executor = build_executor(SearchJob(self.options, self.deadline, self._run_here))
        reported = self._ended()
        try:
            executor.start()
            while not self._is_finished() and executor.supervise():
                self._report_ended(reported)
                if self.options.workers > 1:
                    self.callback.workers(executor.n_alive, self.study.counts())
                self.interruptible.check()
        finally:
            executor.stop()
        self._report_ended(reported)

    def _run_here(self) -> Iterator[TrialRecord]:
        worker = TrialWorker(
            self.context,
            self.options.space,
            self.champion_selector,
            self.mirror,
            self.callback,
            self.interruptible,
            self.deadline,
        )
        return worker.run()

    def _report_ended(self, reported: set[int]) -> None:
        for trial in self.study.trials():
            if trial.is_finished and trial.number not in reported:
                reported.add(trial.number)
                self.callback.trial_ended(trial, self.study.counts(), self.study.best())

    def _ended(self) -> set[int]:
        return {trial.number for trial in self.study.trials() if trial.is_finished}

    def _is_finished(self) -> bool:
        return self.study.counts().finished >= self.study.budget

    def _rerun_top_trials(self, interrupted: bool) -> bool:
        """Run the top trials again on fresh seeds, where there is time; return whether the search was interrupted."""
        if interrupted or not self.options.confirm or not self._is_finished():
            return interrupted
        try:
            with timeline.stage("promoting"):
                self.champion_selector.confirm(
                    self.callback.notice, self.deadline - time.monotonic(), self.interruptible.check
                )
        except KeyboardInterrupt:
            return True
        return False

    def _promote_average(self, interrupted: bool) -> bool:
        """Let an average of trials take the alias where it is better; return whether the search was interrupted."""
        if interrupted or self.idle:
            return interrupted
        try:
            self.mirror.promote(
                lambda: promote_average(self.context, self.parent_run_id, self.callback.bar, self.callback.notice)
            )
        except KeyboardInterrupt:
            return True
        return False

    def _reconcile(self) -> None:
        """Repair what kills left: lost trials, runs that are missing or wrong, the champion."""
        self.study.requeue_lost()
        self.mirror.sync()
        self.mirror.promote(self.champion_selector.settle)

    def _finish(self, finished_before: set[int], interrupted: bool) -> None:
        """Delete weights that cannot be needed, draw the figures, end the study's run, and write the report."""
        parent_run = ParentRun(self.context)
        self.mirror.attempt(lambda: self._collect_garbage(finished_before))
        self.mirror.attempt(lambda: parent_run.draw(self.parent_run_id))
        self.mirror.attempt(lambda: parent_run.close(self.parent_run_id, interrupted))
        self._note_time()
        self.mirror.attempt(self.mirror.report)

    def _collect_garbage(self, finished_before: set[int]) -> None:
        """Raise TrackingError where MLflow does not answer."""
        spool = self.options.paths.spool(self.study.name)
        with suppress(StudyError):  # no trial has left probabilities: nothing was kept that could be deleted
            free_after_search(self.context, spool, finished_before)

    def _note_time(self) -> None:
        """Say in one line where the time went, here and in the report."""
        if self.options.profile is not None:
            spent = timeline.in_a_sentence(timeline.seconds_by_stage(self.options.profile))
            self.study.note_time(spent)
            self.callback.notice(f"Time: {spent}. ui.perfetto.dev shows {self.options.profile}.")
