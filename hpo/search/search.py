"""Run a search from end to end: prepare data, open the study, run trials, promote a champion.

Whatever happens, three records agree: Optuna knows every trial, MLflow shows every trial, and the registry's alias
``champion`` is a trial at least as good as the best that Optuna calls complete. What a kill tears apart in between is
put together by any process of the study, at the latest when the command is typed again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from hpo.data.dataset import PreparedData, prepare_data, save_split
from hpo.errors import BackboneError, StudyError, TrackingError
from hpo.model.backbones.backbone import check_image_size, check_weights
from hpo.runtime import profiling as timeline
from hpo.runtime.interrupt import Interruptible
from hpo.runtime.masking import masked
from hpo.runtime.progress import Progress
from hpo.search.config import SearchOptions, default_folds, identity, study_setup
from hpo.search.worker import Runner, TrialWatch
from hpo.search.worker_pool import WorkerPool
from hpo.selection.champion import ChampionSelector
from hpo.selection.context import StudyContext
from hpo.selection.garbage_collection import free_after_search
from hpo.selection.study_run import ParentRun
from hpo.space.space import SearchSpace
from hpo.study import migration as versions
from hpo.study.attributes import SPACE
from hpo.study.running_trial import OutOfTime
from hpo.study.study import Study, open_study
from hpo.study.trial_queue import TrialCounts
from hpo.study.trial_record import TrialRecord
from hpo.tracking.mirror import MlflowMirror
from hpo.tracking.runs import open_tracking
from hpo.trial.provenance import code_version
from hpo.trial.trainer import Trainer


class Watch(TrialWatch, Protocol):
    """Callbacks of a search: a progress bar, or none."""

    def notice(self, text: str, /) -> None: ...  # noqa: D102
    def phase(self, what: str, total: int, /) -> AbstractContextManager[Progress]: ...  # noqa: D102
    def prepared(self, data: PreparedData, finished: int, budget: int) -> None: ...  # noqa: D102
    def trial_ended(self, trial: TrialRecord, counts: TrialCounts, best: TrialRecord | None) -> None: ...  # noqa: D102
    def workers(self, alive: int, counts: TrialCounts) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    study: Study
    data: PreparedData
    parent_run_id: str
    interrupted: bool
    idle: bool = False  # as many trials as were asked for had finished before
    timeout_seconds: float | None = None  # that was asked for


def search(options: SearchOptions, watch: Watch) -> Outcome:
    """Run the search that ``options`` describe, or continue with it. Raises HpoError."""
    options = replace(options, space=available_space(options, watch))
    if options.profile is not None:
        timeline.begin(options.profile)
    with Interruptible() as interruptible, _profiled(options, "search"):
        searching = _Searching(options, watch, interruptible)
        searching.begin()
        return searching.run()


def work_on(options: SearchOptions, watch: Watch, parent_pid: int) -> None:
    """Run trials of a study that a search in the process ``parent_pid`` has begun, for as long as that lives."""
    with (
        Interruptible(parent_pid) as interruptible,
        _profiled(options, f"worker {os.getpid()}"),
        suppress(KeyboardInterrupt, OutOfTime),
    ):
        searching = _Searching(options, watch, interruptible)
        searching.join()
        for _ in searching.work(searching.mirror()):
            pass


@contextmanager
def _profiled(options: SearchOptions, who: str) -> Iterator[None]:
    """Append what this process does inside to the timeline, where one was asked for."""
    if options.profile is not None:
        timeline.join(options.profile, who)
    try:
        yield
    finally:
        timeline.leave()


def available_space(options: SearchOptions, watch: Watch) -> SearchSpace:
    """Return the space with the backbones whose weights can be had; all of them, unless told to leave some out.

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
        watch.notice(f"Left out {name}: {reason}")
    return options.space.without_backbones(missing) if missing else options.space


_LOOK_SECONDS = 0.5  # at what workers have done


class _Searching:
    """One running search: this process, and the workers that it may have started."""

    def __init__(self, options: SearchOptions, watch: Watch, interruptible: Interruptible) -> None:
        self.options, self.watch, self.interruptible = options, watch, interruptible
        self.deadline = time.monotonic() + (options.timeout_seconds or float("inf"))
        phase = interruptible.watching(watch.phase)
        with timeline.stage("posters"):
            self.data = prepare_data(options.data, options.places.cache_dir, phase)
            self.saved = save_split(self.data, options.places.splits)
        self.options = options = replace(options, n_folds=self._folds())
        self.setup = study_setup(options, self.data, self.saved)
        self.study = _open_study(options)
        self.tracking = open_tracking(options.places.tracking_uri, options.places.artifacts)
        self.trainer = Trainer.of(self.setup, self.data, options.places.cache_dir, phase)
        self.context = StudyContext(self.study, self.tracking, self.data, self.trainer)
        self.parent_run = ParentRun(self.context)
        self.champion_selector = ChampionSelector(self.context)

    def _folds(self) -> int:
        """What was asked for, or what the study was begun with, or what suits the posters and the space."""
        if self.options.n_folds is not None:
            return self.options.n_folds
        begun = _open_study(self.options)
        if begun.memory:
            return begun.attributes.folds
        n_posters = len(self.data.split.train) + len(self.data.split.val)
        finetunes = self.options.space.values_of("unfreeze") not in ([], ["none"])
        return default_folds(n_posters, finetunes, self.options.pruner)

    def begin(self) -> None:
        """Bind the study to what it is about, queue what comes first, and head its MLflow run."""
        written = {SPACE: versions.write_space(self.options.space)}
        grown = self.study.bind(identity(self.options, self.data), {**self.setup.model_dump(mode="json"), **written})
        if grown is not None:
            self.watch.notice(grown)
        self.study.take_code(code_version(), self.watch.notice)
        self.study.enqueue_recipes(self.options.space)
        if self.options.warm_start is not None:
            places = self.options.places
            source = open_study(places.storage, self.options.warm_start, places.locks, seed=0, create=False)
            self.study.warm_start(source, self.options.space)
        budget = self.study.set_budget(self.options.trials, more=self.options.adds_trials)
        finished = self.study.counts().finished
        self.idle = not self.options.adds_trials and self.options.trials <= finished
        if self.idle and self.options.trials < finished:
            self.watch.notice(
                f"Study {self.study.name!r} has {finished} finished trials: nothing to do for --trials "
                f"{self.options.trials}. For more: --trials +{self.options.trials}"
            )
        self.watch.prepared(self.data, finished, budget)
        for notice in self.tracking.notices():
            self.watch.notice(notice)
        self.parent_run_id = self.parent_run.begin(self.saved)

    def join(self) -> None:
        """Find the MLflow run of a study that another process has begun. Raises TrackingError."""
        found = self.tracking.find_study_run(self.study.name)
        if found is None:
            raise TrackingError(
                f"Expected the run of study {self.study.name!r} at {masked(self.tracking.uri)}, got none: "
                "begin the study with hpo search."
            )
        self.parent_run_id = found

    def mirror(self) -> MlflowMirror:
        """Return what writes this study's runs."""
        spool = self.options.places.spool(self.study.name)
        watched = self.options.system_metrics
        return MlflowMirror(self.study, self.tracking, self.parent_run_id, spool, self.watch.notice, watched)

    def run(self) -> Outcome:
        """Run trials until the budget has finished, here or in workers of this machine; then champion and draw."""
        mirror, interrupted = self.mirror(), False
        finished_before = {trial.number for trial in self.study.trials() if trial.is_finished}
        try:
            self._reconcile(mirror)
            self._run_trials(mirror)
        except KeyboardInterrupt:
            interrupted = True
        except OutOfTime as out_of_time:
            self.watch.notice(str(out_of_time))
        self.study.check_latest()  # who ends in an older version would champion without knowing the later trials
        with self.study.locked("ending"):  # of several machines one promotes, and the others find it done
            interrupted = self._promote(interrupted)
            self._reconcile(mirror)
            mirror.attempt(lambda: self._free(finished_before))
            mirror.attempt(lambda: self.parent_run.draw(self.parent_run_id))
            mirror.attempt(lambda: self.parent_run.close(self.parent_run_id, interrupted))
            self._note_time()
            mirror.attempt(mirror.report)
        return Outcome(self.study, self.data, self.parent_run_id, interrupted, self.idle, self.options.timeout_seconds)

    def _run_trials(self, mirror: MlflowMirror) -> None:
        if self.idle:
            return
        if self.options.workers > 1:
            with timeline.stage(timeline.LOOKING_ON):
                self._supervise()
            return
        for trial in self.work(mirror):
            self.watch.trial_ended(trial, self.study.counts(), self.study.best())

    def _supervise(self) -> None:
        """Let workers run the trials, and show how they get on."""
        shown = {trial.number for trial in self.study.trials() if trial.is_finished}
        with WorkerPool(self.options, self.deadline, work_on) as pool:
            while self.study.counts().finished < self.study.budget and pool.supervise():
                self.interruptible.check()
                time.sleep(_LOOK_SECONDS)
                self._show_ended(shown)
                self.watch.workers(pool.alive, self.study.counts())
            self._show_ended(shown)

    def _show_ended(self, shown: set[int]) -> None:
        for trial in self.study.trials():
            if trial.is_finished and trial.number not in shown:
                shown.add(trial.number)
                self.watch.trial_ended(trial, self.study.counts(), self.study.best())

    def work(self, mirror: MlflowMirror) -> Iterator[TrialRecord]:
        """Run trials in this process and yield each as it ends."""
        runner = Runner(
            self.context,
            self.champion_selector,
            mirror,
            self.watch,
            self.interruptible,
            self.deadline,
        )
        for trial in self.study.run(self.options.space, runner.objective, runner.in_time, self.watch.notice):
            self.trainer.forget()
            mirror.end(trial)
            yield trial

    def _promote(self, interrupted: bool) -> bool:
        """Run the top trials again on fresh seeds, where there is time; return whether that was interrupted."""
        if interrupted or not self.options.confirm or self.study.counts().finished < self.study.budget:
            return interrupted
        try:
            with timeline.stage("promoting"):
                self.champion_selector.confirm(
                    self.watch.notice, self.deadline - time.monotonic(), self.interruptible.check
                )
        except KeyboardInterrupt:
            return True
        return False

    def _note_time(self) -> None:
        """Say in one line where the time went, here and in the report."""
        if self.options.profile is not None:
            spent = timeline.in_a_sentence(timeline.seconds_by_stage(self.options.profile))
            self.study.note_time(spent)
            self.watch.notice(f"Time: {spent}. ui.perfetto.dev shows {self.options.profile}.")

    def _free(self, finished_before: set[int]) -> None:
        """Let go of the weights that nothing will ask for. Raises TrackingError."""
        spool = self.options.places.spool(self.study.name)
        with suppress(StudyError):  # no trial has left probabilities: nothing was kept that could be freed
            free_after_search(self.context, spool, finished_before)

    def _reconcile(self, mirror: MlflowMirror) -> None:
        """Put together what kills tore apart: lost trials, runs that are missing or wrong, the champion."""
        self.study.requeue_lost()
        mirror.sync()
        mirror.promote(self.champion_selector.settle)


def _open_study(options: SearchOptions) -> Study:
    places = options.places
    return open_study(
        places.storage,
        options.study,
        places.locks,
        options.seed,
        create=True,
        n_folds=options.n_folds or 1,
        sampler=options.sampler,
        pruner=options.pruner,
    )
