"""Train and evaluate a configuration for a study: on one split or in folds.

Searches and exports share it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from optuna.trial import FrozenTrial

from hpo.data.dataset import Part, PreparedData
from hpo.evaluation.thresholds import DEFAULT_STRATEGY
from hpo.model.config import Hyperparameters
from hpo.model.training.checkpoint import Checkpoints
from hpo.runtime.progress import ProgressFactory
from hpo.trial.cross_validation import FoldModel, run_folds
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport, Pruned, TrialResult, run_trial

THREADS = "threads"  # what a trial notes of the process that trained it


@dataclass(frozen=True)
class Trainer:
    """Posters, features and objective of one study."""

    train: Part
    val: Part
    source: FeatureSource
    objective: Objective
    n_folds: int = 1
    fold_model: FoldModel = "average"
    checkpoint_folder: Path | None = None  # without one, a trial that is killed begins again from nothing
    _finished: list[Checkpoints] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, attributes: Mapping[str, Any], data: PreparedData, cache_dir: Path, phase: ProgressFactory) -> Trainer:
        """Return the trainer of the study that remembers ``attributes``; studies of before there were folds have none.

        Caches are filled when a trial first asks, and ``phase`` shows it.
        """
        strategy = attributes.get("thresholds", DEFAULT_STRATEGY)
        return cls(
            data.part("train"),
            data.part("val"),
            FeatureSource(cache_dir, attributes["weights"], phase),
            Objective(attributes["metric"], attributes.get("objective", "calibrated"), strategy),
            attributes.get("folds", 1),
            attributes.get("fold_model", "average"),
            cache_dir / "checkpoints",
        )

    @cached_property
    def judged_on(self) -> Part:
        """The posters whose probabilities a trial keeps: val, or train and val out of fold."""
        return self.val if self.n_folds == 1 else self.train + self.val

    def run(
        self,
        chosen: Hyperparameters,
        seed: int,
        report: Callable[[int, EpochReport], None] = lambda *_: None,
        report_fold: Callable[[int, float], None] = lambda *_: None,
    ) -> TrialResult:
        """Run one trial. Equal values and seeds give equal results on one machine; what a report raises stops it.

        A trial that was interrupted continues from its checkpoints when it is run again. They are removed when it is
        pruned, and by ``forget`` when it has completed; after anything else it may be tried again, so that they stay.
        """
        checkpoints = Checkpoints(self.checkpoint_folder)
        try:
            result = self._run(chosen, seed, report, report_fold, checkpoints)
        except Pruned:
            checkpoints.discard()
            raise
        self._finished.append(checkpoints)
        return result

    def forget(self) -> None:
        """Remove the checkpoints of completed trials, once Optuna knows these: killed before, they are run again."""
        while self._finished:
            self._finished.pop().discard()

    def repeat(self, trial: FrozenTrial, seed: int) -> TrialResult:
        """Train a complete trial of the study again, on as many threads as it had, and so to the same result.

        Another number of threads adds up floats in another order, and training makes that visible.
        """
        n_threads = torch.get_num_threads()
        torch.set_num_threads(trial.user_attrs.get(THREADS, n_threads))
        try:
            return self.run(Hyperparameters.model_validate(trial.user_attrs["chosen"]), seed)
        finally:
            torch.set_num_threads(n_threads)
            self.forget()

    def _run(
        self,
        chosen: Hyperparameters,
        seed: int,
        report: Callable[[int, EpochReport], None],
        report_fold: Callable[[int, float], None],
        checkpoints: Checkpoints,
    ) -> TrialResult:
        if self.n_folds == 1:
            return run_trial(
                chosen,
                self.train,
                self.val,
                self.source,
                self.objective,
                seed,
                partial(report, 0),
                checkpoints=checkpoints,
            )
        return run_folds(
            chosen,
            self.judged_on,
            self.source,
            self.objective,
            seed,
            self.n_folds,
            self.fold_model,
            report,
            report_fold,
            checkpoints,
        )
