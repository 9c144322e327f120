"""A search from end to end: posters → study → trials, each logged, the best of them registered.

Whatever happens, three records agree: Optuna knows every trial, MLflow shows every trial, and the registry's alias
``champion`` is a trial at least as good as the best that Optuna calls complete. The champion moves *before* its trial
is told complete, so a search killed at any moment leaves a usable model; what a kill tears apart in between is put
together again when the same command is typed.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from hpo.bundle.card import model_card
from hpo.data.account import group_rows, split_rows
from hpo.data.images import Progress
from hpo.data.prepare import PreparedData, SavedSplit, prepare_data, save_split
from hpo.decision.baselines import constant_baselines
from hpo.errors import BackboneError
from hpo.model.backbones import check_image_size, check_weights
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.claims import Counts
from hpo.search.coronation import Coronation
from hpo.search.describe import describe, save_trial, study_note, trial_metrics
from hpo.search.figures.decisions import decision_figures
from hpo.search.figures.progress import progress_figure
from hpo.search.forecast import Work, predict_seconds
from hpo.search.interrupt import Interruptible
from hpo.search.options import SearchOptions
from hpo.search.pool import BUNDLE, POOL, is_worth_keeping, load_probabilities, save_probabilities
from hpo.search.space.search_space import SearchSpace
from hpo.search.study import OutOfTime, Pruned, RunningTrial, Study, open_study
from hpo.search.tracking import Tracking, TrialRun, open_tracking
from hpo.search.trainer import Trainer
from hpo.search.trial import EpochReport, TrialResult
from hpo.search.work import WorkCounter


class Watch(Protocol):
    """Who looks on: a progress bar, or nobody."""

    def notice(self, text: str, /) -> None: ...  # noqa: D102
    def phase(self, what: str, total: int, /) -> AbstractContextManager[Progress]: ...  # noqa: D102
    def prepared(self, data: PreparedData, finished: int) -> None: ...  # noqa: D102
    def trial_started(self, number: int, chosen: Hyperparameters) -> None: ...  # noqa: D102
    def epoch(self, report: EpochReport) -> None: ...  # noqa: D102
    def trial_ended(self, trial: FrozenTrial, counts: Counts, best: FrozenTrial | None) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Outcome:
    """How a search ended."""

    study: Study
    data: PreparedData
    parent_run_id: str
    interrupted: bool


def search(options: SearchOptions, watch: Watch) -> Outcome:
    """Run the search that ``options`` describe, or go on with it. Raises HpoError."""
    options = replace(options, space=available_space(options, watch))
    with Interruptible() as interruptible:
        return _search(options, watch, interruptible)


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


def _search(options: SearchOptions, watch: Watch, interruptible: Interruptible) -> Outcome:
    phase = interruptible.watching(watch.phase)
    data = prepare_data(options.data, options.places.cache_dir, phase)
    saved = save_split(data, options.places.splits)
    study = open_study(
        options.places.storage, options.study, options.places.locks, options.seed, create=True, n_folds=options.n_folds
    )
    study.bind(_identity(options, data), _memory(options, data, saved))
    study.enqueue_recipes(options.space)
    tracking = open_tracking(options.places.tracking_uri, options.places.artifacts)
    watch.prepared(data, study.counts().finished)
    return _Searching(options, data, saved, study, tracking, watch, interruptible).run()


def _identity(options: SearchOptions, data: PreparedData) -> dict[str, str]:
    fingerprints = data.fingerprints
    return {
        "data set": fingerprints["labels"] + fingerprints["images"],
        "split": fingerprints["split"],
        "search space": options.space.fingerprint,
        "metric": options.metric,
        "objective": f"{options.objective.kind} at {options.objective.strategy} thresholds",
        "folds": f"{options.n_folds} {options.fold_model if options.n_folds > 1 else ''}".strip(),
    }


def _memory(options: SearchOptions, data: PreparedData, saved: SavedSplit) -> dict[str, Any]:
    """What later commands (export, leaderboard) need to know of a study.

    A split that was given is remembered by its copy, since the user's own file may change.
    """
    given = options.data.split_file is not None
    posters = options.data.model_copy(update={"split_file": saved.file}) if given else options.data
    return {
        "metric": options.metric,
        "objective": options.objective.kind,
        "thresholds": options.objective.strategy,
        "folds": options.n_folds,
        "fold_model": options.fold_model,
        "space": options.space.name,
        "weights": dict(options.space.weights),
        "data": posters.model_dump(mode="json"),
        "seed": options.seed,
        "synthetic": options.synthetic,
        "backbones": list(options.space.backbones),
        "fingerprints": data.fingerprints,
    }


class _Searching:
    """The state of one running search."""

    def __init__(
        self,
        options: SearchOptions,
        data: PreparedData,
        saved: SavedSplit,
        study: Study,
        tracking: Tracking,
        watch: Watch,
        interruptible: Interruptible,
    ) -> None:
        self.options, self.data, self.saved, self.study, self.tracking = options, data, saved, study, tracking
        self.watch, self.interruptible = watch, interruptible
        phase = interruptible.watching(watch.phase)
        self.trainer = Trainer.of(_memory(options, data, saved), data, options.places.cache_dir, phase)
        train, judged_on = self.trainer.train, self.trainer.judged_on
        self.baselines = constant_baselines(train.targets, judged_on.targets)
        self.work = WorkCounter(self.trainer.source, train, self.trainer.val)
        self.coronation = Coronation(data, self.baselines, study, tracking, self.trainer)
        self.deadline = time.monotonic() + (options.timeout_seconds or float("inf"))
        self.parent_run_id = self._open_parent_run()

    def _open_parent_run(self) -> str:
        return self.tracking.study_run(
            self.study.name,
            params=_memory(self.options, self.data, self.saved),
            tags={"hpo.metric": self.options.metric, "hpo.synthetic": str(self.options.synthetic).lower()},
            note_markdown=study_note(self.study, self.data, self.baselines, self.options.synthetic),
            tables={"splits": split_rows(self.data), "groups": group_rows(self.data)},
            files={"split": [self.saved.file, self.saved.picture]},
        )

    def run(self) -> Outcome:
        interrupted = False
        try:
            self._mend()
            trials = self.study.run(self.options.space, self._objective, self._in_time)
            for trial in trials:
                self.watch.trial_ended(trial, self.study.counts(), self.study.best())
            self._confirm()
        except KeyboardInterrupt:
            interrupted = True
        except OutOfTime as out_of_time:
            self.watch.notice(str(out_of_time))
        self._mend()
        self._draw()
        self._close_parent_run(interrupted)
        return Outcome(self.study, self.data, self.parent_run_id, interrupted)

    def _confirm(self) -> None:
        if self.options.confirm and self.study.counts().finished >= self.options.trials:
            left = self.deadline - time.monotonic()
            self.coronation.confirm(self.watch.notice, left, self.interruptible.check)

    def _in_time(self) -> bool:
        self.interruptible.check()
        return time.monotonic() < self.deadline

    def _objective(self, trial: RunningTrial) -> float:
        chosen = trial.choose()
        forecast = self._forecast(trial, chosen)
        self.watch.trial_started(trial.number, chosen)
        run = self.tracking.start_trial(self.parent_run_id, trial.number, chosen.model_dump(), {})
        trial.note(run_id=run.run_id, chosen=chosen.model_dump())
        try:
            result = self._train(trial, chosen, run)
        except Pruned as pruned:
            run.prune(pruned.where, str(pruned))
            raise
        except BaseException as error:
            run.fail(f"{type(error).__name__}: {error}")
            raise
        self._record(trial, run, result, forecast)
        return result.value

    def _forecast(self, trial: RunningTrial, chosen: Hyperparameters) -> float:
        """Return the seconds that a trial should take. Raises OutOfTime where that is more than is left.

        Without a finished trial the forecast is too rough to refuse the first one.
        """
        work = self.work.count(chosen)
        history = [
            (Work.model_validate(past.user_attrs["work"]), _seconds_by_phase(past.user_attrs["seconds"]))
            for past in self.study.trials()
            if past.state == TrialState.COMPLETE and "work" in past.user_attrs
        ]
        seconds = predict_seconds(work, history)
        left = self.deadline - time.monotonic()
        if history and seconds > left:
            raise OutOfTime(
                f"The next trial ({chosen.backbone}, unfreeze {chosen.unfreeze}) would take about {seconds:.0f} s and "
                f"{max(0.0, left):.0f} s are left: it waits for the next search of this study."
            )
        trial.note(work=work.model_dump(mode="json"), forecast_seconds=seconds)
        return seconds

    def _train(self, trial: RunningTrial, chosen: Hyperparameters, run: TrialRun) -> TrialResult:
        n_folds = self.options.n_folds

        def report(fold: int, epoch: EpochReport) -> None:
            under = "" if n_folds == 1 else f"fold_{fold + 1}/"
            val = {f"{under}val/{name}": value for name, value in epoch.scores.headline().items()}
            rates = {f"{under}train/loss": epoch.train_loss, f"{under}train/learning_rate": epoch.learning_rate}
            run.epoch(epoch.epoch, {**rates, **val})
            self.watch.epoch(epoch)
            self.interruptible.check()
            if n_folds == 1:
                trial.report(epoch.value, epoch.step, f"epoch {epoch.epoch}")

        def report_fold(fold: int, value: float) -> None:
            trial.report(value, fold, f"fold {fold + 1}")

        return self.trainer.run(chosen, self.options.seed, report, report_fold)

    def _record(self, trial: RunningTrial, run: TrialRun, result: TrialResult, forecast_seconds: float) -> None:
        trial.note(
            phase=result.phase,
            best_epoch=result.best_epoch,
            n_epochs=result.n_epochs,
            seconds=result.seconds,
            scores={name: judged.scores.headline() for name, judged in result.strategies.items()},
        )
        self._keep(run, result)
        run.complete(trial_metrics(result, self.data.catalogue.label_names, forecast_seconds))
        best = self.study.best()
        if best is None or result.value > (best.value or 0.0):
            self.coronation.lead(trial.number, run.run_id, result)

    def _keep(self, run: TrialRun, result: TrialResult) -> None:
        """Leave what ensembles and comparisons need of this trial."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            save_probabilities(folder, result)
            run.keep(folder, POOL)
            if is_worth_keeping(result):
                described = describe(self.study.attributes, self.data, self.baselines, result)
                save_trial(folder / "bundle", described, result, model_card(described))
                run.keep(folder / "bundle", BUNDLE)

    def _mend(self) -> None:
        """Make MLflow agree with Optuna: no stale runs, and the study's leader is the champion."""
        self.study.requeue_lost()
        states = {trial.number: _state_name(trial) for trial in self.study.trials() if trial.state.is_finished()}
        self.tracking.close_stale(self.parent_run_id, states)
        self.coronation.settle()

    def _draw(self) -> None:
        """Log how the study went, and how its leader decides."""
        leader = self.study.leader()
        if leader is None:
            return
        judged_on, metric = self.trainer.judged_on, self.options.metric
        constant = {name: values[metric] for name, values in self.baselines.items()}
        ended = [trial for trial in self.study.trials() if trial.state.is_finished()]
        figure = progress_figure([trial.value for trial in ended], [_state_name(t) for t in ended], metric, constant)
        self.tracking.show(self.parent_run_id, {"progress": figure})
        run_id = leader.user_attrs["run_id"]
        probabilities = load_probabilities(self.tracking, run_id, judged_on)
        if probabilities is not None:
            _, judged = self.trainer.objective.judge(probabilities, judged_on.targets)
            names = self.data.catalogue.label_names
            figures = decision_figures(probabilities, judged_on.targets, judged.thresholds, names)
            self.tracking.show(run_id, figures)

    def _close_parent_run(self, interrupted: bool) -> None:
        counts, best = self.study.counts(), self.study.best()
        done = counts.finished >= self.options.trials
        metrics = {f"best/{self.options.metric}": best.value} if best is not None and best.value else {}
        self.tracking.finish_study(
            self.parent_run_id,
            "FINISHED" if done else ("KILLED" if interrupted else "FINISHED"),
            study_note(self.study, self.data, self.baselines, self.options.synthetic),
            metrics,
        )


def _seconds_by_phase(seconds: dict[str, float]) -> dict[str, float]:
    """Both kinds of cached rows are one phase of a forecast: passes of frozen networks."""
    return {**seconds, "features": seconds["features"] + seconds.get("activations", 0.0)}


def _state_name(trial: FrozenTrial) -> str:
    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    return names[trial.state]
