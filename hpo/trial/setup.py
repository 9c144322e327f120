"""What a study was begun with: all that decides how its trials are trained and evaluated."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from hpo.data.dataset import DataOptions
from hpo.evaluation.thresholds import DEFAULT_STRATEGY
from hpo.trial.cross_validation import FoldModel
from hpo.trial.objective import ObjectiveKind


class StudySetup(BaseModel):
    """The options and posters of a study, which hold for every trial of it."""

    model_config = ConfigDict(frozen=True)

    metric: str  # what is maximised
    objective: ObjectiveKind = "calibrated"
    thresholds: str = DEFAULT_STRATEGY
    folds: int = 1  # 1: trials are judged on val; more: on train and val, out of fold
    fold_model: FoldModel = "average"
    confirm: bool = True  # whether the top trials are run again on fresh seeds
    sampler: str = "tpe"
    pruner: str | None = None  # the one that suits
    space: str
    space_file: str | None = None  # None: one that ships
    weights: dict[str, str]  # backbone → weight file or source, where that is not timm's own
    data: DataOptions
    seed: int
    synthetic: bool = False  # the built-in sample
    backbones: tuple[str, ...] = ()
    fingerprints: dict[str, str]  # of labels, images and split
