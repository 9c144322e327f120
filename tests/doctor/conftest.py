from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.doctor.result import PlannedSearch
from hpo.model.backbones.architectures import check_known
from hpo.settings import Paths
from hpo.space.load import load_space

SPACE = """
parameters:
  backbone: {backbone}
  image_size: native
  features: final
  hidden_layers: 0
  input_dropout: 0.0
  weight_decay: 0.01
  label_smoothing: 0.0
  focal_gamma: 0.0
  focal_alpha: 0.5
  learning_rate: 1e-3
  schedule: constant
  batch_size: 64
"""
EPOCHS = "  epochs: 20\n  patience: 5\n"


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., PlannedSearch]:
    """A plan whose everything is in the test's folder, with what the test says instead."""

    def made(
        *, storage: str = "", tracking_uri: str = "", backbone: str = "tf_efficientnet_lite0", more: str = EPOCHS,
        workers: int = 1, trials: int = 50, n_posters: int = 2000,
        folds: int | None = None, pruner: str | None = None,
    ) -> PlannedSearch:  # fmt: skip
        file = tmp_path / "mine.yaml"
        file.write_text(SPACE.format(backbone=backbone) + more)
        paths = Paths(
            storage or f"sqlite:///{tmp_path}/optuna.db",
            tracking_uri or f"sqlite:///{tmp_path}/mlflow.db",
            tmp_path / "state",
            tmp_path / "cache",
        )
        return PlannedSearch(paths, load_space(file, check_known), workers, trials, n_posters, folds, pruner)

    return made
