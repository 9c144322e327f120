"""Optuna's storage and MLflow's database: reachable, writable, of this version's schema, and not one and the same."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import mlflow.store.db_migrations
import optuna
import sqlalchemy
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from hpo.masking import masked
from hpo.search.health.database import (
    Refused,
    check_can_be_made,
    check_sound,
    check_writable,
    file_of,
    is_same,
    opened,
    parse,
)
from hpo.search.health.finding import Finding, Plan, ok, problem
from hpo.search.moved_store import moved_from
from hpo.search.storage import SUPPORTED

_STORAGE, _TRACKING = "--storage", "--tracking-uri"
_OPTUNA_TABLE, _MLFLOW_TABLE = "studies", "experiments"  # of which each has one from its first version on
_TWO_DATABASES = (
    "give each its own: --storage postgresql+psycopg://USER:PASSWORD@HOST/optuna and --tracking-uri "
    "postgresql+psycopg://USER:PASSWORD@HOST/mlflow"
)


def check_storage(plan: Plan) -> Finding:
    """Say whether studies can be kept where ``--storage`` says."""
    url = plan.places.storage
    shown = masked(url)
    try:
        parsed = parse(url, _STORAGE)
        return ok("storage", f"{shown}: {_examine_storage(parsed)}")
    except Refused as refused:
        words = f"{shown}: {refused.reason}" if "://" in url else refused.reason
        return problem("storage", words, refused.cure)


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
            check_sound(connection, file, option)
        check_writable(connection, table if table in tables else None, option)
        if table not in tables:
            _check_nobodys(tables, option, program)
            return "empty, tables will be made"
        _check_schema(connection, url, program)
        before = moved_from(connection, file) if program == "MLflow" and file is not None else None
    moved = "" if before is None else f"; moved or copied from {before}, whose files the next command looks for here"
    return f"writable, with the tables of this {program}{moved}"


def _check_nobodys(tables: Collection[str], option: str, program: str) -> None:
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
            f"stop every search, make a copy, then type {upgrade} {masked(url.render_as_string(hide_password=False))}",
        )
    raise Refused(f"{found}, which does not know that", f"pip install --upgrade {program.lower()}, as whoever made it")


_MIGRATIONS = {  # where a program keeps the steps from schema to schema, and how it takes them
    "Optuna": (Path(optuna.storages.__file__).parent / "_rdb" / "alembic", "optuna storage upgrade --storage"),
    "MLflow": (Path(mlflow.store.db_migrations.__file__).parent, "mlflow db upgrade"),
}


def check_tracking_database(plan: Plan) -> Finding | None:
    """Say whether MLflow can keep runs where ``--tracking-uri`` says; None where that is a server."""
    uri = plan.places.tracking_uri
    if uri.startswith(("http://", "https://")):
        return None
    if "://" not in uri or uri.startswith("file:"):
        cure = "use --tracking-uri sqlite:///mlruns/mlflow.db"
        return problem("tracking", f"{masked(uri)} is a folder of files, which MLflow refuses", cure)
    shown = masked(uri)
    try:
        return ok("tracking", f"{shown}: {_examine(parse(uri, _TRACKING), _TRACKING, _MLFLOW_TABLE, 'MLflow')}")
    except Refused as refused:
        return problem("tracking", f"{shown}: {refused.reason}", refused.cure)


def check_two_databases(plan: Plan) -> Finding | None:
    """Say whether Optuna and MLflow share a database: both own a table ``alembic_version``, and one breaks."""
    try:
        one, other = parse(plan.places.storage, _STORAGE), parse(plan.places.tracking_uri, _TRACKING)
    except Refused:
        return None  # which the check of that URL says
    if is_same(one, other):
        words = "Optuna and MLflow are given the same one, and both own a table alembic_version"
        return problem("two databases", words, _TWO_DATABASES)
    return ok("two databases", "Optuna and MLflow have one each")
