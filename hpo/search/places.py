"""Where the state of a search lives."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from sqlalchemy import URL

from hpo.data.options import at_home


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
            storage=_at_home(storage or os.environ.get("HPO_STORAGE") or "") or _sqlite(state_dir / "optuna.db"),
            tracking_uri=_at_home(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "")
            or _sqlite(state_dir / "mlflow.db"),
            state_dir=state_dir,
            cache_dir=at_home(cache_dir or Path(os.environ.get("HPO_CACHE_DIR") or user_cache_path("hpo"))),
        )

    @property
    def artifacts(self) -> Path:
        """The folder of MLflow's artifacts when its database is a local file."""
        return self.state_dir / "artifacts"

    @property
    def splits(self) -> Path:
        """The folder of the splits that were made, each under its fingerprint."""
        return self.state_dir / "splits"

    def spool(self, study: str) -> Path:
        """The folder of files that wait for MLflow to take them."""
        return self.state_dir / "spool" / re.sub(r"[^\w-]+", "-", study)

    @property
    def locks(self) -> Path:
        """The folder of the locks that living workers hold."""
        return self.state_dir / "workers"


def _at_home(url: str) -> str:
    """Return a SQLite URL with ~ as the home folder: no shell sees it there."""
    scheme, slashes, path = url.partition(":///")
    return f"{scheme}{slashes}{at_home(Path(path))}" if path.startswith("~") and scheme.startswith("sqlite") else url


def _sqlite(file: Path) -> str:
    """The URL of a file, whose folders may have ``%`` or ``?`` in their names."""
    return URL.create("sqlite", database=str(file)).render_as_string()
