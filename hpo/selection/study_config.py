"""What a study is opened with: where it is, what its trials are trained on and scored by, and how it searches."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.data.dataset import DataOptions, PreparedData
from hpo.settings import Paths
from hpo.space.load import SearchSpace
from hpo.study.pruners import BY_EPOCH
from hpo.study.study import Study, open_study
from hpo.trial.cross_validation import FoldModel
from hpo.trial.objective import Objective
from hpo.trial.setup import StudySetup

MANY_POSTERS = 20_000  # of train and val, from which a validation part is enough to choose by


_FOLDS = 5


def default_folds(n_posters: int, finetunes: bool, pruner: str | None = None) -> int:
    """Return in how many folds trials are judged by default: five, unless posters are many or fine-tuned on.

    A tenth of the posters is too little to choose trials, thresholds and ensembles by, and the mean of five networks is
    better than one: on 618 posters of others, five folds gained 0.013 for the champion and 0.012 for the ensemble, at
    some three times the time of a search (`benchmarks/LOG.md`). Fine-tuning five times takes hours, and a ``pruner``
    that compares epochs has none to compare where trials report folds. In a space with stages, fine-tuned trials are
    compared with frozen ones, so that they are judged in the same folds.
    """
    return _FOLDS if n_posters < MANY_POSTERS and not finetunes and pruner not in BY_EPOCH else 1


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """What ``StudyContext.open`` needs to know of a study."""

    study: str  # its name
    paths: Paths
    data: DataOptions
    space: SearchSpace
    objective: Objective
    n_folds: int | None = 1  # 1: trials are judged on val; more: on train and val, out of fold; None: what suits
    fold_model: FoldModel = "average"
    sampler: str = "tpe"
    pruner: str | None = None  # the one that suits: median, with folds a signed-rank test

    @property
    def metric(self) -> str:
        """What is maximised."""
        return self.objective.metric

    @property
    def seed(self) -> int:
        """Of the split, the sampler and the training."""
        return self.data.seed

    def open_study(self, n_folds: int) -> Study:
        """Open the study, or create it; ``n_folds`` decides the pruner where none is named. Raises StudyError."""
        return open_study(
            self.paths.storage,
            self.study,
            self.paths.locks,
            self.seed,
            create=True,
            n_folds=n_folds,
            sampler=self.sampler,
            pruner=self.pruner,
        )

    def resolved_folds(self, n_posters: int) -> int:
        """Return ``n_folds``, or what the study was begun with, or what suits so many posters of train and val."""
        if self.n_folds is not None:
            return self.n_folds
        begun = self.open_study(n_folds=1)
        if begun.memory:
            return begun.attributes.folds
        return default_folds(n_posters, self.space.finetunes_at_once, self.pruner)

    def setup(self, data: PreparedData, n_folds: int) -> StudySetup:
        """Return what a study of these posters is begun with."""
        return StudySetup(
            metric=self.metric,
            objective=self.objective.kind,
            thresholds=self.objective.strategy,
            folds=n_folds,
            fold_model=self.fold_model,
            sampler=self.sampler,
            pruner=self.pruner,
            space=self.space.name,
            weights=dict(self.space.weights),
            data=self.data,
            seed=self.seed,
            backbones=self.space.backbones,
            fingerprints=data.fingerprints,
        )
