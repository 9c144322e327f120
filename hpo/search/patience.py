"""Optuna's storage, behind a database that may go away for a while and is shared by many workers.

A trial takes minutes, and a database server that is restarted is away for one. So every question and every answer is
tried again until the server is back, for ten minutes, instead of failing the trial in hand. What was asked may then
have been done already, its acknowledgement lost: whoever ends a trial has to expect that it has ended (`Study._end`),
and a trial that was created twice has no worker and is swept up (`claims.py`).

A file needs no patience: what sqlite refuses, such as a full disk, stays refused. Whatever the database still refuses
then becomes one sentence here, so that no caller has to know the errors of Optuna, SQLAlchemy and the drivers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import optuna
import sqlalchemy
from filelock import FileLock
from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from hpo.errors import StudyError
from hpo.masking import masked, without_secrets

PATIENCE_SECONDS = 600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_REFUSED = (optuna.exceptions.StorageInternalError, SQLAlchemyError)
_GONE = (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError, sqlalchemy.exc.PendingRollbackError)
_CURES = {  # what a refusal says → what to do about it; the first that fits
    "is locked": "let the other process that writes to it finish",
    "is full": "free some space there",
    "disk I/O error": "free some space there",
    "readonly": "make the file and its folder writable",
    "unable to open": "make the file and its folder readable and writable",
    "malformed": "hpo doctor says how to get the studies back",
    "not a database": "hpo doctor says how to get the studies back",
}
_CURE = "see that the database can be reached, with hpo doctor"

T = TypeVar("T")
Held = Callable[[], bool]  # whether a lock is still held


class StorageError(StudyError):
    """The database of the studies refuses, or is damaged: nothing that a trial could be blamed for."""


def refusal(url: str, error: Exception) -> str:
    """Return in one sentence what a database refuses, without secrets, and what to do about it."""
    reason = without_secrets(driver_words(error), url)
    cure = next((cure for sign, cure in _CURES.items() if sign in reason), _CURE)
    return (
        f"Expected the database of studies at {masked(url)} to answer, which it refuses ({reason}): {cure}, and then "
        "type the command again; what was written is kept."
    )


def damage(url: str, error: Exception) -> str:
    """Return in one sentence that a row of a database cannot be read."""
    return (
        f"Expected a sound database of studies at {masked(url)}, got a row that cannot be read "
        f"({without_secrets(driver_words(error), url)}): hpo doctor says which, and how to get the studies back."
    )


def driver_words(error: BaseException) -> str:
    """Return the words of the driver itself in a line, without classes, SQL and links."""
    while error.__cause__ is not None:
        error = error.__cause__
    words = str(getattr(error, "orig", None) or error).partition("\n(Background")[0]
    return " ".join(words.split())[:200] or type(error).__name__


class PatientStorage(BaseStorage):
    """Every method of Optuna's storage, by way of ``_ask``; they are filled in below."""

    def __init__(self, storage: RDBStorage, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.engine: sqlalchemy.Engine = storage.engine
        self._url = storage.engine.url.render_as_string(hide_password=False)
        self.outages = 0  # how often the database was away: time in which nobody could give a sign of life
        self._cached = optuna.storages.get_storage(storage)
        self._patience_seconds = 0.0 if self.is_file else patience_seconds

    @property
    def is_file(self) -> bool:
        """Whether the database is a sqlite file."""
        return self.engine.dialect.name == "sqlite"

    def close(self) -> None:
        """Let go of every connection; a server counts them."""
        self.remove_session()
        self.engine.dispose()

    def _ask(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self.patiently(lambda: getattr(self._cached, method)(*args, **kwargs))

    def patiently(self, ask: Callable[[], T]) -> T:
        """Return what ``ask`` returns, tried again while the database is away. Raises StorageError."""
        deadline, pause = time.monotonic() + self._patience_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return ask()
            except _REFUSED as error:
                if time.monotonic() > deadline or not _is_away(error):
                    raise StorageError(refusal(self._url, error)) from error
                with suppress(*_REFUSED):  # a session whose connection broke refuses everything until it is let go
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
        connection = self.patiently(lambda: self._take(what))
        try:
            yield lambda: _answers(connection)
        finally:
            with suppress(SQLAlchemyError):  # the server was restarted: no lock is left to let go
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
    def ask(self: PatientStorage, *args: Any, **kwargs: Any) -> Any:
        return self._ask(method, *args, **kwargs)

    return ask


for _method in (name for name, value in vars(BaseStorage).items() if callable(value)):
    setattr(PatientStorage, _method, _by_way_of_ask(_method))
PatientStorage.__abstractmethods__ = frozenset()


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
