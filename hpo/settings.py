"""Locations of databases, artifacts, caches and locks."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import HpoError, StudyError


def at_home(path: Path) -> Path:
    """Return a path with ~ as the home folder, where a shell left it: in quotes, after =, in a variable."""
    try:
        return path.expanduser()
    except RuntimeError:  # no home is known
        return path


@dataclass(frozen=True)
class Paths:
    """Where a study, its runs and the caches are: local by default, wherever the user says otherwise."""

    storage: str  # Optuna's database
    tracking_uri: str  # MLflow's
    state_dir: Path  # worker locks, and the databases when they are local
    cache_dir: Path

    @classmethod
    def of(cls, storage: str | None, tracking_uri: str | None, cache_dir: Path | None) -> Paths:
        """Fill in what was not given: options, then environment variables, then ``./mlruns``."""
        state_dir = Path("mlruns").resolve()
        return cls(
            storage=_at_home(storage or os.environ.get("HPO_STORAGE") or "") or _sqlite(state_dir / "optuna.db"),
            tracking_uri=_at_home(tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or "")
            or _sqlite(state_dir / "mlflow.db"),
            state_dir=state_dir,
            cache_dir=_cache_dir(cache_dir or os.environ.get("HPO_CACHE_DIR")),
        )

    def check_writable(self) -> None:
        """Raise StudyError where the studies' database is a file that cannot be written: SQLite would wait for it."""
        with suppress(SQLAlchemyError, ValueError):  # what is no URL is refused where it is opened
            url = make_url(self.storage)
            if url.get_backend_name() == "sqlite" and url.database:
                _check_writable(Path(url.database))

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


def _check_writable(file: Path) -> None:
    existing = next((place for place in (file, *file.parents) if os.path.exists(place)), file)  # noqa: PTH110  # a name may be too long
    if not os.access(existing, os.W_OK):
        raise StudyError(
            f"Expected a database for studies at {file}, which cannot be used ({existing} is read-only): "
            "check --storage."
        )


def _cache_dir(given: Path | str | None) -> Path:
    """The folder that was given, ~ included, or the user's own. Raises HpoError where there is no home to be found."""
    try:
        folder = Path(given).expanduser() if given else user_cache_path("hpo").expanduser()
    except RuntimeError as error:
        raise HpoError(
            f"Expected a folder for caches, but the home of {given or 'this user'} cannot be found: "
            "name a folder with --cache-dir."
        ) from error
    return folder
