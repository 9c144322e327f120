"""A study together with its posters, trainer and MLflow.

A search and each of its workers open one by its options; a command that works on a study afterwards (an export, a
comparison, a report) opens it by what the study says, and can train any trial again, to the same result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hpo.bundle.description import Description
from hpo.data.dataset import DataOptions, PreparedData, prepare_data
from hpo.errors import StudyError
from hpo.evaluation.baselines import constant_baselines
from hpo.runtime import profiling as timeline
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFactory
from hpo.selection.study_config import StudyConfig
from hpo.settings import Paths
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.runs import Tracking, open_tracking
from hpo.trial.description import Baselines, describe
from hpo.trial.trainer import Trainer
from hpo.trial.trial import TrialResult


@dataclass(frozen=True)
class StudyContext:
    """One study, its posters, the trainer of its trials, and the MLflow that shows them."""

    study: Study
    tracking: Tracking
    data: PreparedData
    trainer: Trainer

    @classmethod
    def open(cls, config: StudyConfig, phase: ProgressFactory) -> StudyContext:
        """Prepare a study's posters, and open the study, which is created where there is none, and its MLflow.

        Raises DataError, StudyError or TrackingError.
        """
        with timeline.stage("posters"):
            data = prepare_data(config.data, config.paths.cache_dir, phase)
        n_folds = config.resolved_folds(len(data.split.train) + len(data.split.val))
        study = config.open_study(n_folds)
        tracking = open_tracking(config.paths.tracking_uri, config.paths.artifacts)
        trainer = Trainer.of(config.setup(data, n_folds), data, config.paths.cache_dir, phase)
        return cls(study, tracking, data, trainer)

    @classmethod
    def reopen(cls, study: Study, tracking: Tracking, paths: Paths, phase: ProgressFactory) -> StudyContext:
        """Prepare the posters of a study that was begun. Raises DataError or StudyError if they have changed."""
        options = _found(study.setup.data, paths.state_dir.parent)
        data = prepare_data(options, paths.cache_dir, phase)
        if data.fingerprints != study.setup.fingerprints:
            raise StudyError(f"The posters of study {study.name!r} in {options.csv} have changed since the search.")
        return cls(study, tracking, data, Trainer.of(study.setup, data, paths.cache_dir, phase))

    @cached_property
    def baselines(self) -> Baselines:
        """Constant decisions, scored on the posters that trials are judged by."""
        return constant_baselines(self.trainer.train.targets, self.trainer.judged_on.targets)

    def probabilities(self, number: int) -> Array | None:
        """Return the probabilities (N, L) that a trial gave the posters that it was evaluated on, or None."""
        return self.study.predictions.load(number, self.trainer.judged_on)

    def averaged(self, weights: Mapping[int, float]) -> Array | None:
        """Return the weighted mean (N, L) of several trials' probabilities, or None where one has kept none."""
        mean = np.zeros(self.trainer.judged_on.targets.shape)
        for number, weight in weights.items():
            probabilities = self.probabilities(number)
            if probabilities is None:
                return None
            mean += weight * probabilities
        return np.clip(mean, 0.0, 1.0)  # the weights sum to 1 up to rounding

    def train_again(self, trial: TrialRecord, seed: int | None = None) -> TrialResult:
        """Train a trial with its own seed: it comes out the same."""
        seed = self.study.seed if seed is None else seed
        return self.trainer.repeat(trial.hyperparameters, seed, trial.threads)

    def describe(self, result: TrialResult) -> Description:
        """Describe a trial's network as a bundle does."""
        return describe(self.study.setup, self.data, self.baselines, result)


def _found(options: DataOptions, project: Path) -> DataOptions:
    """Return where a study's posters are if they were moved with the project; digests show if they are equal."""
    if Path(options.csv).exists():
        return options
    moved = {
        name: here
        for name in ("csv", "images")
        if (path := getattr(options, name)) is not None and (here := _alongside(Path(path), project)) is not None
    }
    return options.model_copy(update=moved) if "csv" in moved else options


def _alongside(path: Path, project: Path) -> Path | None:
    """The longest end of ``path`` that exists below ``project``."""
    ends = (project.joinpath(*path.parts[at:]) for at in range(1, len(path.parts)))
    return next((end for end in ends if end.exists()), None)
