"""What a search is asked to do, and where its state lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict

from hpo.data.catalogue import CatalogueRules
from hpo.search.space import SearchSpace


class DataOptions(BaseModel):
    """What decides the posters of a search and their split; a study remembers it, to prepare them again."""

    model_config = ConfigDict(frozen=True)

    csv: Path
    images: Path
    rules: CatalogueRules
    val_size: int | float  # a number of posters, or a share of them
    test_size: int | float  # a number of posters, or a share of them
    seed: int


@dataclass(frozen=True)
class Places:
    """Where a study, its runs and the caches are: local by default, wherever the user says otherwise."""

    storage: str  # Optuna's database
    tracking_uri: str  # MLflow's
    state_dir: Path  # worker locks, and the databases when they are local
    cache_dir: Path

    @classmethod
    def of(cls, storage: str | None, tracking_uri: str | None, cache_dir: Path | None) -> Places:
        """Fill in what was not given: options, then environment variables, then ``./mlruns``."""
        state_dir = Path("mlruns").resolve()
        return cls(
            storage=storage or os.environ.get("HPO_STORAGE") or f"sqlite:///{state_dir / 'optuna.db'}",
            tracking_uri=tracking_uri
            or os.environ.get("MLFLOW_TRACKING_URI")
            or f"sqlite:///{state_dir / 'mlflow.db'}",
            state_dir=state_dir,
            cache_dir=cache_dir or Path(os.environ.get("HPO_CACHE_DIR") or user_cache_path("hpo")),
        )

    @property
    def artifacts(self) -> Path:
        """The folder of MLflow's artifacts when its database is a local file."""
        return self.state_dir / "artifacts"

    @property
    def locks(self) -> Path:
        """The folder of the locks that living workers hold."""
        return self.state_dir / "workers"


@dataclass(frozen=True)
class SearchOptions:
    """Everything that ``hpo search`` is told."""

    data: DataOptions
    space: SearchSpace
    study: str
    metric: str
    trials: int
    timeout_seconds: float | None
    places: Places
    synthetic: bool = False  # the built-in sample: said wherever its numbers stand

    @property
    def seed(self) -> int:
        """Of the split, the sampler and the training."""
        return self.data.seed
