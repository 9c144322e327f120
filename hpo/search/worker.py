"""A worker of a search: run trials, each forecast, trained, recorded, and its predictions stored.

The order of events decides what a kill can tear apart. A trial is noted with Optuna first; a better model than all
before is registered *before* its trial is recorded as complete, so that a champion exists at any moment; MLflow is
written last, from the record, by any process (`mirror.py`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from math import inf
from platform import python_version
from typing import Any

import torch

from hpo.bundle.model_card import model_card
from hpo.errors import TrackingError
from hpo.model.config import TrialConfig
from hpo.model.training.device import best_device
from hpo.runtime import profiling as timeline
from hpo.runtime.interrupt import Interruptible
from hpo.runtime.masking import masked
from hpo.search.callbacks import SearchCallback
from hpo.search.config import SearchOptions
from hpo.search.plan import Plan
from hpo.selection.average import reserve_seconds
from hpo.selection.champion import ChampionSelector
from hpo.selection.context import StudyContext
from hpo.space.space import SearchSpace
from hpo.study.running_trial import OutOfTime, RunningTrial
from hpo.study.trial_queue import QueuedTrial
from hpo.study.trial_record import TrialRecord
from hpo.tracking.artifacts import BUNDLE, is_worth_keeping
from hpo.tracking.mirror import MlflowMirror
from hpo.tracking.trial_run import CurveKeeper, rounded
from hpo.trial.cost_model import Work, WorkCounter, predict_seconds
from hpo.trial.description import reported_figure, save_trial, trial_metrics
from hpo.trial.provenance import code_version
from hpo.trial.trial import EpochReport, Pruned, Report, TrialResult

_LEAST_SECONDS = 60.0  # that a trial of a plan may take without a deadline, however short those before it were


def run_worker(options: SearchOptions, callback: SearchCallback, should_stop: Callable[[], bool]) -> None:
    """Run trials of a study that a search elsewhere has begun, until its budget has finished.

    An executor calls this in each of its workers. Ctrl-C, SIGTERM or ``should_stop``, which is asked after every epoch
    and batch, releases the current trial and returns. Raises HpoError, and what a third failing trial in a row raises.
    """
    with (
        Interruptible(should_stop) as interruptible,
        timeline.joined(options.profile, f"worker {os.getpid()}"),
        suppress(KeyboardInterrupt, OutOfTime),
    ):
        deadline = options.deadline()
        context = StudyContext.open(options, interruptible.watching(callback.bar))
        run_id = context.tracking.find_study_run(context.study.name)
        if run_id is None:
            raise TrackingError(
                f"Expected the run of study {context.study.name!r} at {masked(context.tracking.uri)}, got none: "
                "begin the study with hpo search."
            )
        mirror = open_mirror(options, context, run_id, callback)
        worker = TrialWorker(
            context, options.space, ChampionSelector(context), mirror, callback, interruptible, deadline
        )
        for _ in worker.run():
            pass


def open_mirror(
    options: SearchOptions, context: StudyContext, parent_run_id: str, callback: SearchCallback
) -> MlflowMirror:
    """Return what writes the study's trials to MLflow, below the run ``parent_run_id``."""
    spool = options.paths.spool(context.study.name)
    return MlflowMirror(context.study, context.tracking, parent_run_id, spool, callback.notice, options.system_metrics)


class TrialWorker:
    """Runs trials of a study in this process."""

    def __init__(
        self,
        context: StudyContext,
        space: SearchSpace,
        champion_selector: ChampionSelector,
        mirror: MlflowMirror,
        callback: SearchCallback,
        interruptible: Interruptible,
        deadline: float,  # by time.monotonic()
    ) -> None:
        self._context, self._study, self._trainer, self._space = context, context.study, context.trainer, space
        self._champion_selector, self._mirror = champion_selector, mirror
        self._callback, self._interruptible, self._deadline = callback, interruptible, deadline
        trainer = self._trainer
        self._work = WorkCounter(trainer.source, trainer.train, trainer.val, trainer.n_folds)
        self._seed = self._study.seed
        self._plan = Plan(space, self._seed, self._seconds_of)
        self._entered: set[str] = set()  # stages that were announced

    def run(self) -> Iterator[TrialRecord]:
        """Run trials until the study's budget has finished or time is up, and yield each once it is in MLflow.

        Raises OutOfTime, KeyboardInterrupt, and what a third failing trial in a row raises.
        """
        run = self._study.run(self._space, self.objective, self.has_time_left, self._callback.notice, self._propose)
        for trial in run:
            self._trainer.forget()
            self._mirror.end(trial)
            yield trial

    def _propose(self, trials: Sequence[TrialRecord]) -> QueuedTrial | None:
        """Return the next trial of a space with stages. Raises OutOfTime where none would end in time."""
        if not self._space.stages:
            return None
        proposal = self._plan.next(trials, self._seconds_left())
        if proposal is None and self._deadline == inf:
            proposal = self._plan.next(trials)
        if proposal is None:
            raise OutOfTime(f"No trial of any stage would end in the {self._seconds_left():.0f} s that are left.")
        if proposal.stage not in self._entered:
            self._entered.add(proposal.stage)
            self._callback.notice(f"Stage {proposal.why}.")
        noted = {"stage": proposal.stage, "why": proposal.why, "params": dict(proposal.params)}
        recipe = {} if proposal.recipe is None else {"recipe": proposal.recipe}
        return QueuedTrial(proposal.params, {"proposal": noted, **recipe})

    def _seconds_left(self) -> float:
        """Return how long trials may still run: until the deadline, less what choosing and promoting an average takes.

        Without a deadline, a plan prefers trials that take no longer than all trials before them together.
        """
        if self._deadline == inf:
            trials = self._study.trials()
            return max(_LEAST_SECONDS, sum(trial.duration.total_seconds() for trial in trials if trial.duration))
        return max(0.0, self._deadline - time.monotonic() - reserve_seconds(self._context))

    def has_time_left(self) -> bool:
        """Say whether another trial may begin. Raises KeyboardInterrupt when a stop was requested."""
        self._interruptible.check()
        return self._deadline == inf or self._seconds_left() > 0

    def objective(self, trial: RunningTrial) -> float:
        """Run one trial and return its value. Raises Pruned, OutOfTime, KeyboardInterrupt and what training raises."""
        config = trial.choose()
        trial.note(chosen=config.model_dump(), made_with=self._made_with(), threads=torch.get_num_threads())
        forecast_seconds = self._forecast(trial, config)
        self._callback.trial_started(trial.number, config)
        self._mirror.begin(trial, config.model_dump())
        kept = CurveKeeper()
        with self._mirror.watching(trial), _noted(trial, kept):
            result = self._trainer.run(
                config,
                self._seed,
                self._reporter(trial, kept),
                lambda fold, value: trial.report(value, fold, f"fold {fold + 1}"),
            )
        self._record(trial, result, forecast_seconds)
        return result.value

    def _made_with(self) -> dict[str, str]:
        """What a trial's result depends on beside its parameters and posters; each is a tag of its run."""
        versions = {name: version(name) for name in ("torch", "timm")}
        machine = {"device": best_device().device.type, "threads": f"{torch.get_num_threads()}"}
        return {"code": code_version(), "seed": f"{self._seed}", "python": python_version(), **versions, **machine}

    def _forecast(self, trial: RunningTrial, config: TrialConfig) -> float:
        """Return the seconds that a trial should take. Raises OutOfTime where that is more than is left.

        Without a finished trial the forecast is too rough to refuse the first one.
        """
        work = self._work.count(config)
        seconds, left = predict_seconds(work, self._history()), self._seconds_left()
        if self._deadline < inf and self._history() and seconds > left:
            raise OutOfTime(
                f"The next trial ({config.backbone}, unfreeze {config.unfreeze}) would take about {seconds:.0f} s and "
                f"{left:.0f} s are left: it waits for the next search of this study."
            )
        trial.note(work=work.model_dump(mode="json"))
        return seconds

    def _seconds_of(self, configuration: Mapping[str, Any]) -> float:
        """Forecast a trial of a configuration that is complete, but may hold values that do not apply."""
        return predict_seconds(self._work.count(TrialConfig.model_validate(configuration)), self._history())

    def _history(self) -> list[tuple[Work, dict[str, float]]]:
        return [
            (Work.model_validate(past.work), _seconds_by_phase(past.seconds))
            for past in self._study.trials()
            if past.state == "complete" and past.work is not None
        ]

    def _reporter(self, trial: RunningTrial, kept: CurveKeeper) -> Report:
        """Return what keeps an epoch's scores, shows them, stops at Ctrl-C and, without folds, asks the pruner."""
        n_folds, metric = self._trainer.n_folds, self._study.metric

        def report(epoch: EpochReport) -> None:
            under = "" if n_folds == 1 else f"fold_{epoch.fold + 1}/"
            scores = epoch.scores.headline()
            shown = scores if n_folds == 1 else {metric: scores[metric]}  # of folds the rest would be a hundred curves
            val = {f"{under}val/{name}": value for name, value in shown.items()}
            rates = {f"{under}train/loss": epoch.train_loss}
            if n_folds == 1:
                rates["train/learning_rate"] = epoch.learning_rate
            kept.add(epoch.epoch, {**rates, **val})
            self._callback.epoch(epoch)
            self._interruptible.check()
            if n_folds == 1:
                trial.report(epoch.value, epoch.step, f"epoch {epoch.epoch}")

        return report

    def _record(self, trial: RunningTrial, result: TrialResult, forecast_seconds: float) -> None:
        metrics = trial_metrics(result, self._context.data.catalogue.label_names, forecast_seconds)
        trial.note(
            phase=result.phase,
            best_epoch=result.best_epoch,
            seconds=result.seconds,
            scores={name: judged.scores.headline() for name, judged in result.strategies.items()},
            metrics={key: rounded(value) for key, value in metrics.items()},
            reported=reported_figure(result),
        )
        with timeline.stage("keeping"):
            self._keep(trial.number, result)
        best, run_id = self._study.best(), trial.record().run_id
        if run_id is not None and (best is None or result.value > (best.value or 0.0)):
            self._mirror.promote(lambda: self._champion_selector.lead(trial.number, run_id, result))

    def _keep(self, number: int, result: TrialResult) -> None:
        """Leave what ensembles and comparisons need of this trial."""
        self._study.predictions.save(number, result.val_probabilities, result.judged_on)
        if is_worth_keeping(result):
            described, bundle = self._context.describe(result), self._mirror.spooled(number) / BUNDLE
            save_trial(bundle, described, result, model_card(described), self._context.data)


@contextmanager
def _noted(trial: RunningTrial, kept: CurveKeeper) -> Iterator[None]:
    """Note with the trial, however it ends, its curves, and why it was pruned."""
    try:
        yield
    except Pruned as pruned:
        trial.note(pruned_after=pruned.where, reason=str(pruned))
        raise
    finally:
        trial.note(curve=kept.curve)


def _seconds_by_phase(seconds: Mapping[str, float]) -> dict[str, float]:
    """Both kinds of cached rows are one phase of a forecast: passes of frozen networks."""
    return {**seconds, "features": seconds["features"] + seconds.get("activations", 0.0)}
