"""Open a database for inspection, and explain a refusal in one sentence.

Neither Optuna nor MLflow is let in before that, because either creates its tables in whatever it is pointed at, and
MLflow continues trying for minutes. What a database refuses becomes one sentence with a fix; a URL is never shown with
its password.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from hpo.runtime.commands import command, quoted
from hpo.runtime.masking import without_secrets

PATIENCE_SECONDS = 5
_POSTGRES_PORT = 5432
_LOCAL = ("localhost", "127.0.0.1", "::1")
_FIXES = {  # what a refusal says → what to do about it; the first that fits
    "password": "correct user and password in {option}, with @ : / and % in them written as %40 %3A %2F %25",
    "Connection refused": "start that server, or correct host and port in {option}",
    "resolve host": "correct the host in {option}",
    "translate host": "correct the host in {option}",
    "timeout": "check that this machine may reach the server, or correct host and port in {option}",
    "does not exist": "create it (createdb NAME), or correct the name in {option}",
    "not a database": "name another file with {option}",
    "readonly": "make the file writable, or name another with {option}",
    "locked": "let the other process that writes to it finish, then type {doctor} again",
    "No module": "install the driver: pip install 'psycopg[binary]'",
    "load plugin": "write postgresql+psycopg:// in {option}",
}
_FIX = "correct {option}"
_HEADERS_END, _AT = b"\x40\x20\x20", 21  # bytes that the header of every file of sqlite has
_JSON = {  # what Optuna keeps as JSON
    "study_user_attributes": "value_json",
    "study_system_attributes": "value_json",
    "trial_user_attributes": "value_json",
    "trial_system_attributes": "value_json",
    "trial_params": "distribution_json",
}


class Refused(Exception):
    """A database cannot be used: why, and what to do."""

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def parse(url: str, option: str) -> sqlalchemy.URL:
    """Return ``url`` in its parts. Raises Refused, without a word of it: it may hold a password anywhere."""
    try:
        return sqlalchemy.make_url(url)
    except (SQLAlchemyError, ValueError):
        wanted = "postgresql+psycopg://USER:PASSWORD@HOST/NAME or sqlite:///FILE"
        raise Refused(f"{option} is no URL of a database", f"write it as {wanted}") from None


@contextmanager
def opened(url: sqlalchemy.URL, option: str) -> Iterator[Connection]:
    """Connect to a database that is there. Raises Refused within seconds, also for what is refused inside."""
    waiting = "timeout" if url.get_backend_name() == "sqlite" else "connect_timeout"
    try:
        engine = sqlalchemy.create_engine(url, connect_args={waiting: PATIENCE_SECONDS}, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, ImportError, OSError) as error:
        reason = without_secrets(_reason(error), url.render_as_string(hide_password=False))
        fix = next((fix for sign, fix in _FIXES.items() if sign in reason), _FIX).format(
            option=option, doctor=command("doctor")
        )
        file = file_of(url)
        if file is not None and "malformed" in reason:
            fix = rescue(file, option)
        if file is not None and "not a database" in reason and _has_headers_end(file):
            reason, fix = "the database is damaged: its first bytes are not those of sqlite", _header_again(file)
        raise Refused(reason, fix) from error


def check_sound(connection: Connection, file: Path, option: str, states: Collection[str]) -> None:
    """Raise Refused where a file of sqlite is damaged: a page, a trial's state that is none, or a text that is no JSON.

    ``states`` are those that a trial can have, as its database spells them.
    """
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        raise Refused(f"the database is damaged ({'; '.join(found)[:200]})", rescue(file, option))
    tables = sqlalchemy.inspect(connection).get_table_names()
    known = ", ".join(f"'{state}'" for state in states)
    if "trial_values" in tables:
        odd = connection.exec_driver_sql(f"SELECT number FROM trials WHERE state NOT IN ({known})").scalars().first()
        if odd is not None:
            raise Refused(f"the database is damaged: trial {odd} has a state that is none", rescue(file, option))
    for table, column in _JSON.items():
        if table not in tables:
            continue
        select = f"SELECT count(*), min(rowid) FROM {table} WHERE NOT json_valid({column})"
        n_rows, first = connection.exec_driver_sql(select).one()
        if n_rows:
            raise Refused(
                f"the database is damaged: rows of {table} that should be JSON are not ({n_rows}, the first {first})",
                f"stop every search, make a copy of the file, then type sqlite3 {quoted(str(file))} "
                f'"DELETE FROM {table} WHERE NOT json_valid({column})", or take an older copy of the file',
            )


def _has_headers_end(file: Path) -> bool:
    with file.open("rb") as opened_file:
        return opened_file.read(100)[_AT : _AT + len(_HEADERS_END)] == _HEADERS_END


def _header_again(file: Path) -> str:
    return (
        "stop every search and take an older copy of the file, or make a copy and write its first bytes again: "
        f"printf 'SQLite format 3\\0' | dd of={quoted(str(file))} conv=notrunc; "
        f"then type {command('doctor')} again"
    )


def rescue(file: Path, option: str) -> str:
    """Return how to get what can be read out of a damaged file."""
    saved = file.with_name(f"recovered-{file.name}")
    return (
        "stop every search and take an older copy of the file, or save what can be read: "
        f"sqlite3 {quoted(str(file))} .recover | sqlite3 {quoted(str(saved))}, and then name that: {option} "
        f"{quoted(sqlalchemy.URL.create('sqlite', database=str(saved)).render_as_string())}"
    )


def _reason(error: Exception) -> str:
    """The driver's own words, without its class, SQL and links."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split("\n(Background")[0].split())[:200]


def file_of(url: sqlalchemy.URL) -> Path | None:
    """Return where a sqlite database lies; None for a server's."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    return Path(url.database).resolve()


def is_same(one: sqlalchemy.URL, other: sqlalchemy.URL) -> bool:
    """Return whether two URLs name one database, whatever their users and drivers."""
    return _identity(one) == _identity(other)


def _identity(url: sqlalchemy.URL) -> tuple[object, ...]:
    backend = url.get_backend_name()
    if backend == "sqlite":
        return backend, file_of(url)
    host = "localhost" if (url.host or "localhost") in _LOCAL else url.host
    return backend, host, url.port or _POSTGRES_PORT, url.database


def check_can_be_made(file: Path, option: str) -> None:
    """Raise Refused unless a database could be made at ``file``, where there is none yet."""
    folder = nearest(file.parent)
    if not folder.is_dir():
        raise Refused(f"{folder} is a file, where a folder is expected", f"name another place with {option}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Refused(f"{folder} is not writable", f"make it writable, or name another place with {option}")


def nearest(path: Path) -> Path:
    """Return ``path``, or the first folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def check_writable(connection: Connection, table: str | None, option: str) -> None:
    """Raise Refused unless this user may write: into ``table``, or, where there is none yet, make one."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # takes the lock for writing, and gives it back
        connection.exec_driver_sql("ROLLBACK")
    elif connection.dialect.name == "postgresql":
        _check_privilege(connection, table, option)


def _check_privilege(connection: Connection, table: str | None, option: str) -> None:
    if connection.scalar(text("SELECT current_setting('transaction_read_only')")) == "on":
        raise Refused("the server only lets it be read, as a standby does", f"name the primary server with {option}")
    user = connection.scalar(text("SELECT current_user"))
    if table is None and not connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")):
        raise Refused(f"the user {user} may not create tables", f"GRANT CREATE ON SCHEMA public TO {user}")
    if table and not connection.scalar(text("SELECT has_table_privilege(:table, 'INSERT')"), {"table": table}):
        raise Refused(f"the user {user} may not write into its tables", f"make {user} the owner of the database")


def url_of_server(url: str) -> sqlalchemy.URL | None:
    """Return the parts of a PostgreSQL server's URL; None for anything else."""
    try:
        parsed = parse(url, "")
    except Refused:
        return None
    return parsed if parsed.get_backend_name() == "postgresql" else None
