"""Check Optuna's and MLflow's databases: reachable, writable, current schema, undamaged, and separate."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from email.utils import parsedate_to_datetime

import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from hpo.doctor.result import CheckResult, PlannedSearch, ok, problem, warning
from hpo.runtime.commands import quoted
from hpo.runtime.database import (
    Refused,
    check_can_be_made,
    check_sound,
    check_writable,
    file_of,
    is_same,
    opened,
    parse,
    url_of_server,
)
from hpo.runtime.masking import masked
from hpo.study.storage import MIGRATIONS as OPTUNA_MIGRATIONS
from hpo.study.storage import SUPPORTED, TRIAL_STATES
from hpo.tracking.moved_store import moved_from
from hpo.tracking.server import MIGRATIONS as MLFLOW_MIGRATIONS
from hpo.tracking.server import ask, is_server

# Clocks: a server's against this machine's. Heartbeats and durations of several machines are compared by them.
#
# The server's answer is taken to have been written half-way between question and answer, so the error is at most half
# of that, and a second for HTTP, whose dates have no fractions.

_NOTICED_SECONDS, _HARMFUL_SECONDS = 5.0, 60.0
_FIX = "let both machines keep time by NTP: timedatectl set-ntp true"


def check_database_clock(plan: PlannedSearch) -> CheckResult | None:
    """Compare with the clock of the storage's server; None for a file."""
    url = url_of_server(plan.paths.storage)
    if url is None:
        return None

    def ahead() -> float:
        with opened(url, "--storage") as connection:
            asked = time.time()
            seconds = connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())"))
            return float(seconds) - (asked + time.time()) / 2

    return _judge("clock of the database", ahead)


def check_tracking_clock(plan: PlannedSearch) -> CheckResult | None:
    """Compare with the clock of the MLflow server; None for a database."""
    uri = plan.paths.tracking_uri
    if not is_server(uri):
        return None

    def ahead() -> float:
        asked = time.time()
        date = ask(uri, "/version").headers.get("Date")
        if date is None:
            raise Refused("its answers have no date", "")
        return parsedate_to_datetime(date).timestamp() + 0.5 - (asked + time.time()) / 2

    return _judge("clock of MLflow", ahead)


def _judge(name: str, measure: Callable[[], float]) -> CheckResult:
    """``measure`` returns how many seconds a server is ahead of this machine."""
    try:
        ahead = measure()
    except Refused as refused:
        return warning(name, f"cannot be read: {refused.reason}", "fix what is said of that server first")
    message = f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > _HARMFUL_SECONDS:
        return problem(name, f"{message}: running workers would be taken for dead", _FIX)
    if abs(ahead) > _NOTICED_SECONDS:
        return warning(name, message, _FIX)
    return ok(name, f"within {_NOTICED_SECONDS:.0f} s of this machine's")


_STORAGE, _TRACKING = "--storage", "--tracking-uri"
_OPTUNA_TABLE, _MLFLOW_TABLE = "studies", "experiments"  # of which each has one from its first version on
_TWO_DATABASES = (
    "give each its own: --storage postgresql+psycopg://USER:PASSWORD@HOST/optuna and --tracking-uri "
    "postgresql+psycopg://USER:PASSWORD@HOST/mlflow"
)


def check_storage(plan: PlannedSearch) -> CheckResult:
    """Say whether studies can be kept where ``--storage`` says."""
    url = plan.paths.storage
    shown = masked(url)
    try:
        parsed = parse(url, _STORAGE)
        return ok("storage", f"{shown}: {_examine_storage(parsed)}")
    except Refused as refused:
        message = f"{shown}: {refused.reason}" if "://" in url else refused.reason
        return problem("storage", message, refused.fix)


def _examine_storage(url: sqlalchemy.URL) -> str:
    backend = url.get_backend_name()
    if backend not in SUPPORTED:
        raise Refused(
            f"expected a database of {' or '.join(SUPPORTED)}, got {backend}",
            "use --storage postgresql+psycopg://USER:PASSWORD@HOST/optuna, or leave it out for a file in ./mlruns",
        )
    if backend == "sqlite" and file_of(url) is None:
        raise Refused("expected a file, got a database in memory", "use --storage sqlite:///mlruns/optuna.db")
    return _examine(url, _STORAGE, _OPTUNA_TABLE, "Optuna")


def _examine(url: sqlalchemy.URL, option: str, table: str, program: str) -> str:
    """Return what a usable database is like. Raises Refused."""
    file = file_of(url)
    if file is not None and not file.exists():
        check_can_be_made(file, option)
        return "will be made"
    with opened(url, option) as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        if file is not None:
            check_sound(connection, file, option, TRIAL_STATES)
        check_writable(connection, table if table in tables else None, option)
        if table not in tables:
            _check_free(tables, option, program)
            return "empty, tables will be made"
        _check_schema(connection, url, program)
        before = moved_from(connection, file) if program == "MLflow" and file is not None else None
    moved = "" if before is None else f"; moved or copied from {before}, whose files the next command looks for here"
    return f"writable, with the tables of this {program}{moved}"


def _check_free(tables: Collection[str], option: str, program: str) -> None:
    if "alembic_version" in tables:
        other = {_OPTUNA_TABLE: "Optuna", _MLFLOW_TABLE: "MLflow"}
        owner = next((name for table, name in other.items() if table in tables), "another program")
        raise Refused(
            f"it has the tables of {owner} and none of {program}, and both would call one alembic_version",
            f"name a database of its own with {option}",
        )


def _check_schema(connection: Connection, url: sqlalchemy.URL, program: str) -> None:
    """Compare the schema with the one that the installed ``program`` has. Raises Refused where they differ."""
    current = MigrationContext.configure(connection).get_current_revision()
    package, upgrade = _MIGRATIONS[program]
    script = ScriptDirectory(str(package))
    head = script.get_current_head()
    if current == head:
        return
    found = f"its tables are of version {current}, and this {program} has {head}"
    if current is None or current in {revision.revision for revision in script.walk_revisions()}:
        raise Refused(
            f"{found}, a newer one",
            f"stop every search, make a copy, then type {upgrade} "
            f"{quoted(masked(url.render_as_string(hide_password=False)))}",
        )
    raise Refused(
        f"{found}, which does not know that", f"pip install --upgrade {program.lower()}, as on the machine that made it"
    )


_MIGRATIONS = {  # where a program keeps the steps from schema to schema, and how it takes them
    "Optuna": (OPTUNA_MIGRATIONS, "optuna storage upgrade --storage"),
    "MLflow": (MLFLOW_MIGRATIONS, "mlflow db upgrade"),
}


def check_tracking_database(plan: PlannedSearch) -> CheckResult | None:
    """Say whether MLflow can keep runs where ``--tracking-uri`` says; None where that is a server."""
    uri = plan.paths.tracking_uri
    if uri.startswith(("http://", "https://")):
        return None
    if "://" not in uri or uri.startswith("file:"):
        fix = "use --tracking-uri sqlite:///mlruns/mlflow.db"
        return problem("tracking", f"{masked(uri)} is a folder of files, which MLflow refuses", fix)
    shown = masked(uri)
    try:
        return ok("tracking", f"{shown}: {_examine(parse(uri, _TRACKING), _TRACKING, _MLFLOW_TABLE, 'MLflow')}")
    except Refused as refused:
        return problem("tracking", f"{shown}: {refused.reason}", refused.fix)


def check_two_databases(plan: PlannedSearch) -> CheckResult | None:
    """Say whether Optuna and MLflow share a database: both own a table ``alembic_version``, and one breaks."""
    try:
        one, other = parse(plan.paths.storage, _STORAGE), parse(plan.paths.tracking_uri, _TRACKING)
    except Refused:
        return None  # which the check of that URL says
    if is_same(one, other):
        message = "Optuna and MLflow are given the same one, and both own a table alembic_version"
        return problem("two databases", message, _TWO_DATABASES)
    return ok("two databases", "Optuna and MLflow have one each")
