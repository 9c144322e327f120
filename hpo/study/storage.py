"""Open Optuna's storage (SQLite or PostgreSQL) and retry its transient errors; raise StudyError if unusable."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from alembic.util import CommandError
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import StudyError
from hpo.runtime.commands import command
from hpo.runtime.masking import masked, without_secrets
from hpo.study.migration import base_name

# Optuna's storage, behind a database that may go away for a while and is shared by many workers.
#
# A trial takes minutes, and a database server that is restarted is away for one. So every question and every answer is
# tried again until the server is back, for ten minutes, instead of failing the trial in hand. What was asked may then
# have been done already, its acknowledgement lost: the code that ends a trial has to expect that it has ended
# (`Study._end`), and a trial that was created twice has no worker and is swept up (`trial_queue.py`).
#
# A file needs no patience: what sqlite refuses, such as a full disk, stays refused. Whatever the database still refuses
# then becomes one sentence here, so that no caller has to know the errors of Optuna, SQLAlchemy and the drivers.

PATIENCE_SECONDS = 600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
DATABASE_ERRORS = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
_GONE = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.PendingRollbackError)
_FIXES = {  # what a refusal says → what to do about it; the first that fits
    "is locked": "let the other process that writes to it finish",
    "is full": "free some space there",
    "disk I/O error": "free some space there",
    "readonly": "make the file and its folder writable",
    "unable to open": "make the file and its folder readable and writable",
    "malformed": "{doctor} says how to get the studies back",
    "not a database": "{doctor} says how to get the studies back",
}
_FIX = "see that the database can be reached, with {doctor}"

TRIAL_STATES = tuple(state.name for state in TrialState)  # as the database spells them
MIGRATIONS = Path(optuna.storages.__file__).parent / "_rdb" / "alembic"  # the steps from schema to schema

T = TypeVar("T")
Held = Callable[[], bool]  # whether a lock is still held


class StorageError(StudyError):
    """The database of the studies refuses, or is damaged: nothing that a trial could be blamed for."""


def refusal(url: str, error: Exception) -> str:
    """Return in one sentence what a database refuses, without secrets, and what to do about it."""
    reason = without_secrets(driver_words(error), url)
    fix = next((fix for sign, fix in _FIXES.items() if sign in reason), _FIX).format(doctor=command("doctor"))
    return (
        f"Expected the database of studies at {masked(url)} to answer, which it refuses ({reason}): {fix}, and then "
        "type the command again; what was written is kept."
    )


def damage(url: str, error: Exception) -> str:
    """Return in one sentence that a row of a database cannot be read."""
    return (
        f"Expected a sound database of studies at {masked(url)}, got a row that cannot be read "
        f"({without_secrets(driver_words(error), url)}): {command('doctor')} says which, and how to get the "
        "studies back."
    )


def driver_words(error: BaseException) -> str:
    """Return the words of the driver itself in a line, without classes, SQL and links."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = str(getattr(error, "orig", None) or error).partition("\n(Background")[0]
    return " ".join(words.split())[:200] or type(error).__name__


class RetryingStorage(BaseStorage):
    """Every method of Optuna's storage, by way of ``_ask``; they are filled in below."""

    def __init__(self, storage: RDBStorage, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.engine: sqlalchemy.Engine = storage.engine
        self._url = storage.engine.url.render_as_string(hide_password=False)
        self.outages = 0  # how often the database was away: time in which no worker could send a heartbeat
        self._cached = optuna.storages.get_storage(storage)
        self._patience_seconds = 0.0 if self.is_file else patience_seconds

    @property
    def is_file(self) -> bool:
        """Whether the database is a sqlite file."""
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Close every connection; a server counts them."""
        self.remove_session()
        self.engine.dispose()

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.retry(lambda: getattr(self._cached, method)(*args, **kwargs))

    def retry(self, ask: Callable[[], T]) -> T:
        """Return what ``ask`` returns, tried again while the database is away. Raises StorageError."""
        deadline, pause = time.monotonic() + self._patience_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return ask()
            except DATABASE_ERRORS as error:
                if time.monotonic() > deadline or not _is_away(error):
                    raise StorageError(refusal(self._url, error)) from error
                with suppress(*DATABASE_ERRORS):  # until then, a session whose connection broke refuses everything
                    self._cached.remove_session()
            except Exception as error:
                if not _is_damage(error):
                    raise
                raise StorageError(damage(self._url, error)) from error
            self.outages += 1
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def locked(self, what: str) -> AbstractContextManager[Held]:
        """Hold a lock that all processes with this database respect; the system lets it go when its holder dies.

        The value says whether it is still held: a server that was restarted has forgotten it.
        """
        if self.is_file:
            return _file_lock(Path(f"{self.engine.url.database}.{what}.lock"))
        return self._advisory_lock(what)

    @contextmanager
    def _advisory_lock(self, what: str) -> Iterator[Held]:
        connection = self.retry(lambda: self._take(what))
        try:
            yield lambda: _answers(connection)
        finally:
            with suppress(SQLAlchemyError):  # the server was restarted: no lock is left to release
                connection.rollback()
            with suppress(SQLAlchemyError):
                connection.close()

    def _take(self, what: str) -> sqlalchemy.Connection:
        connection = self.engine.connect()
        try:
            take = sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 0))")
            connection.execute(take, {"what": f"hpo {what}"})
        except BaseException:
            connection.close()
            raise
        return connection


def _by_way_of_ask(method: str) -> Callable[..., Any]:
    def ask(self: RetryingStorage, *args: Any, **kwargs: Any) -> Any:
        return self._ask(method, *args, **kwargs)

    return ask


for _method in (name for name, value in vars(BaseStorage).items() if callable(value)):
    setattr(RetryingStorage, _method, _by_way_of_ask(_method))
RetryingStorage.__abstractmethods__ = frozenset()


@contextmanager
def _file_lock(file: Path) -> Iterator[Held]:
    with FileLock(file):
        yield lambda: True


def _answers(connection: sqlalchemy.Connection) -> bool:
    try:
        connection.execute(sqlalchemy.text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _is_away(error: BaseException | None) -> bool:
    """Whether the server was not there, as against a statement that it refused.

    Also where the rollback that followed broke as well, which hides what came first behind an error of its own.
    """
    while error is not None:
        if isinstance(error, _GONE) or (isinstance(error, sqlalchemy.exc.DBAPIError) and error.connection_invalidated):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_damage(error: Exception) -> bool:
    """Whether a row holds what neither Optuna nor we have written: text that is no JSON, an unknown state."""
    return isinstance(error, json.JSONDecodeError) or type(error) is LookupError


SUPPORTED = ("sqlite", "postgresql")


def study_names(storage_url: str) -> list[str]:
    """Return the names of the studies in a storage, each once. Raises StudyError when it is unusable."""
    with open_storage(storage_url) as storage, closing(storage):
        return list(dict.fromkeys(map(base_name, optuna.get_all_study_names(storage=storage))))


def latest_study_name(storage_url: str) -> str:
    """Return the study that was begun last. Raises StudyError when there is none."""
    with open_storage(storage_url) as storage, closing(storage):
        studies = storage.get_all_studies()  # optuna.get_all_study_summaries would read every trial of each
    if not studies:
        raise StudyError(f"There is no study in {masked(storage_url)} yet: begin one with hpo search.")
    return base_name(max(studies, key=lambda study: study._study_id).study_name)


def no_such_study(storage_url: str, name: str) -> StudyError:
    """Return what to raise where there is no study ``name``."""
    known = study_names(storage_url)
    there = f"there are {', '.join(known)}" if known else "there is none yet"
    return StudyError(
        f"Expected a study called {name!r}, but {there}: choose one with --study, or begin one with hpo search."
    )


@contextmanager
def open_storage(url: str) -> Iterator[RetryingStorage]:
    """Open a storage, and turn what its database, its driver or the disk refuses into one sentence."""
    try:
        storage = _connect(url)
    except RuntimeError as error:  # Optuna's word for tables of another version than its own
        raise _unusable(url, error, f"{command('doctor')} says what to type") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, ImportError, OSError, CommandError) as error:
        raise _unusable(url, error, "check --storage") from error
    yield RetryingStorage(storage)  # type: ignore[abstract]  # its methods are made in a loop


def _unusable(url: str, error: Exception, fix: str) -> StudyError:
    reason = without_secrets(driver_words(error), url).rstrip(".")
    if "malformed" in reason or "not a database" in reason:
        fix += f", and {command('doctor')} says how to get studies back from a damaged file"
    return StudyError(f"Expected a database for studies at {masked(url)}, which cannot be used ({reason}): {fix}.")


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
