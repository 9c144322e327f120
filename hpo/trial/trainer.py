"""Train and evaluate a configuration for a study: on one split or in folds.

Searches and exports share it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from hpo.data.dataset import Part, PreparedData
from hpo.model.config import TrialConfig
from hpo.model.training.checkpoint import Checkpoints
from hpo.runtime.progress import ProgressFactory
from hpo.trial.cross_validation import FoldModel, run_folds
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.setup import StudySetup
from hpo.trial.trial import Pruned, Report, ReportFold, TrialInputs, TrialResult, run_trial

MOST_HELD = 8  # results in memory: some 10 MB each where backbones are frozen


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
    _best: dict[str, TrialResult] = field(default_factory=dict, repr=False, compare=False)  # by _key

    @classmethod
    def of(cls, setup: StudySetup, data: PreparedData, cache_dir: Path, phase: ProgressFactory) -> Trainer:
        """Return the trainer of a study; caches are filled when a trial first asks, and ``phase`` shows it."""
        return cls(
            data.part("train"),
            data.part("val"),
            FeatureSource(cache_dir, setup.weights, phase),
            Objective(setup.metric, setup.objective, setup.thresholds),
            setup.folds,
            setup.fold_model,
            cache_dir / "checkpoints",
        )

    @cached_property
    def judged_on(self) -> Part:
        """The posters whose probabilities a trial keeps: val, or train and val out of fold."""
        return self.val if self.n_folds == 1 else self.train + self.val

    def inputs(self, seed: int) -> TrialInputs:
        """Return the inputs of a trial without callbacks or checkpoints."""
        return TrialInputs(self.train, self.val, self.source, self.objective, seed)

    def run(
        self,
        config: TrialConfig,
        seed: int,
        report: Report = lambda _: None,
        report_fold: ReportFold = lambda *_: None,
    ) -> TrialResult:
        """Run one trial. Equal values and seeds give equal results on one machine; what a report raises stops it.

        A trial that was interrupted continues from its checkpoints when it is run again. They are removed when it is
        pruned, and by ``forget`` when it has completed; after anything else it may be tried again, so that they stay.
        """
        checkpoints = Checkpoints(self.checkpoint_folder)
        try:
            inputs = replace(self.inputs(seed), report=report, report_fold=report_fold, checkpoints=checkpoints)
            if self.n_folds == 1:
                result = run_trial(config, inputs)
            else:
                result = run_folds(config, inputs, self.n_folds, self.fold_model)
        except Pruned:
            checkpoints.discard()
            raise
        self._finished.append(checkpoints)
        self._hold(_key(config, seed, torch.get_num_threads()), result)
        return result

    def _hold(self, key: str, result: TrialResult) -> None:
        """Hold the best few results in memory, so that a champion or an average of them need not train them again."""
        self._best[key] = result
        if len(self._best) > MOST_HELD:
            del self._best[min(self._best, key=lambda held: self._best[held].value)]

    def holds(self, config: TrialConfig, seed: int, threads: int | None) -> bool:
        """Say whether ``repeat`` has the result at hand."""
        return _key(config, seed, threads or torch.get_num_threads()) in self._best

    def forget(self) -> None:
        """Remove the checkpoints of completed trials, once Optuna knows these: killed before, they are run again."""
        while self._finished:
            self._finished.pop().discard()

    def repeat(self, config: TrialConfig, seed: int, threads: int | None) -> TrialResult:
        """Return the result of a complete trial, trained again on as many ``threads`` as it had, and so the same.

        What this process has trained and still holds is not trained again. Another number of threads adds up floats in
        another order, and training makes that visible.
        """
        n_threads = torch.get_num_threads()
        if self.holds(config, seed, threads):
            return self._best[_key(config, seed, threads or n_threads)]
        torch.set_num_threads(threads or n_threads)
        try:
            return self.run(config, seed)
        finally:
            torch.set_num_threads(n_threads)
            self.forget()


def _key(config: TrialConfig, seed: int, threads: int) -> str:
    return f"{config.model_dump_json()} {seed} {threads}"
