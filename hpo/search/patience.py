"""Optuna's storage, behind a database that may go away for a while and is shared by many workers.

A trial takes minutes, and a database server that is restarted is away for one. So every question and every answer is
tried again until the server is back, for ten minutes, instead of failing the trial in hand. What was asked may then
have been done already, its acknowledgement lost: whoever ends a trial has to expect that it has ended (`Study._end`),
and a trial that was created twice has no worker and is swept up (`claims.py`).

A file needs no patience: what sqlite refuses, such as a full disk, does not mend itself.
"""

from __future__ import annotations

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

PATIENCE_SECONDS = 600.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_AWAY = (optuna.exceptions.StorageInternalError, SQLAlchemyError)

T = TypeVar("T")
Held = Callable[[], bool]  # whether a lock is still held


class PatientStorage(BaseStorage):
    """Every method of Optuna's storage, by way of ``_ask``; they are filled in below."""

    def __init__(self, storage: RDBStorage, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.engine: sqlalchemy.Engine = storage.engine
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
        """Return what ``ask`` returns, tried again while the database is away."""
        deadline, pause = time.monotonic() + self._patience_seconds, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return ask()
            except _AWAY as error:
                if time.monotonic() > deadline or not _is_away(error):
                    raise
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


def _is_away(error: Exception) -> bool:
    """Whether the server was not there, as against a statement that it refused."""
    cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
    return isinstance(cause, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError) or (
        isinstance(cause, sqlalchemy.exc.DBAPIError) and cause.connection_invalidated
    )
