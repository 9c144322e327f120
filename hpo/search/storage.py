"""Optuna's storage: a database that is there, in a state to be used, or one sentence about why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import StudyError
from hpo.masking import masked, without_secrets
from hpo.search.patience import PatientStorage, driver_words
from hpo.search.versions import plain_name

SUPPORTED = ("sqlite", "postgresql")


def study_names(storage_url: str) -> list[str]:
    """Return the names of the studies in a storage, each once. Raises StudyError when it is unusable."""
    with open_storage(storage_url) as storage, closing(storage):
        return list(dict.fromkeys(map(plain_name, optuna.get_all_study_names(storage=storage))))


def latest_study_name(storage_url: str) -> str:
    """Return the study that was begun last. Raises StudyError when there is none."""
    with open_storage(storage_url) as storage, closing(storage):
        studies = storage.get_all_studies()  # optuna.get_all_study_summaries would read every trial of each
    if not studies:
        raise StudyError(f"There is no study in {masked(storage_url)} yet: begin one with hpo search.")
    return plain_name(max(studies, key=lambda study: study._study_id).study_name)


def no_such_study(storage_url: str, name: str) -> StudyError:
    """Return what to raise where there is no study ``name``."""
    known = study_names(storage_url)
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    return StudyError(
        f"Expected a study called {name!r}, but {there}: choose one with --study, or begin one with hpo search."
    )


@contextmanager
def open_storage(url: str) -> Iterator[PatientStorage]:
    """Open a storage, and turn what its database, its driver or the disk refuses into one sentence."""
    try:
        storage = _connect(url)
    except RuntimeError as error:  # Optuna's word for tables of another version than its own
        raise _unusable(url, error, "hpo doctor says what to type") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, OSError, CommandError) as error:
        raise _unusable(url, error, "check --storage") from error
    yield PatientStorage(storage)  # type: ignore[abstract]  # its methods are made in a loop


def _unusable(url: str, error: Exception, cure: str) -> StudyError:
    reason = without_secrets(driver_words(error), url).rstrip(".")
    if "malformed" in reason or "not a database" in reason:
        cure += ", and hpo doctor says how to get studies back from a damaged file"
    return StudyError(f"Expected a database for studies at {masked(url)}, which cannot be used ({reason}): {cure}.")


def _parse(url: str) -> sqlalchemy.URL:
    try:
        return sqlalchemy.make_url(url)
    except ValueError as error:  # a port that is no number, which may be the end of a password
        raise StudyError(
            f"Expected a database for studies at {masked(url)}, which cannot be used (its port is no number, or its "
            "password holds @ : / or %, which are written as %40 %3A %2F %25): check --storage."
        ) from error


def _connect(url: str) -> optuna.storages.RDBStorage:
    dialect = _parse(url).get_backend_name()
    if dialect not in SUPPORTED:
        raise StudyError(
            f"Expected a database for studies at {masked(url)}, which cannot be used (it is {dialect}, and "
            f"hpo knows {' and '.join(SUPPORTED)}): check --storage."
        )
    return _connect_file(url) if dialect == "sqlite" else _connect_server(url)


# Two processes that create the tables of one database at once break both, so they take turns.


def _connect_file(url: str) -> optuna.storages.RDBStorage:
    database = _parse(url).database
    if database is None or database in ("", ":memory:"):
        raise StudyError(
            f"Expected a database for studies at {masked(url)}, which cannot be used (it is in memory, and gone with "
            "its process): check --storage."
        )
    file = Path(database)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = Path(f"{file}.lock")
    lock.touch()  # raises where no file can be made, in which case FileLock would try without end
    with FileLock(lock):
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})
        _write_ahead(storage)
    return storage


def _connect_server(url: str) -> optuna.storages.RDBStorage:
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtextextended('hpo tables', 0))"))
        return optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def _write_ahead(storage: optuna.storages.RDBStorage) -> None:
    """WAL with synchronous=NORMAL: six times as fast as sqlite's default, and a kill -9 loses nothing."""

    @event.listens_for(storage.engine, "connect")
    def _set_pragmas(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.engine.dispose()
    storage.engine.connect().close()  # the first one turns the file over, which it does not wait for a turn to do
