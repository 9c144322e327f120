"""Rewrite the artifact addresses of a local MLflow store whose folder was moved or copied.

MLflow records absolute addresses of files. In a folder that was moved they name nothing, and in a copy they name the
original's files, which the copy would write to and delete. So the folder of the database is noted in the database, and
where that is another one than the database is opened in, every address is rewritten, in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import sqlalchemy
from filelock import FileLock
from sqlalchemy import Connection, text

FOLDER_TAG = "hpo.folder"  # of an experiment: the folder in which the database was last opened
_ADDRESSES = (  # table and column, of whatever schema the database has
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("trace_tags", "value"),
    ("workspaces", "default_artifact_root"),
)
_SAMPLE = 100  # runs, of which one with a folder shows whose artifacts these are

_log = logging.getLogger("hpo")


def follow_folder(engine: sqlalchemy.Engine, experiment_id: str) -> None:
    """Let the store in the sqlite file of ``engine`` name the files of the folder that it lies in, and say so once."""
    file = Path(str(engine.url.database))
    with engine.connect() as connection:
        if _noted(connection) == file.resolve().parent:
            return
    with FileLock(f"{file}.lock"), engine.begin() as connection:  # of two processes the second finds it done
        before, home = moved_from(connection, file), file.resolve().parent
        if before is not None:
            for old, new in _moves(connection, before, home, file.name):
                _rewrite(connection, old, new)
        _note(connection, home, experiment_id)
    if before is not None:
        _log.warning(
            "The MLflow store was moved or copied from %s to %s: from now on its runs keep and find their files there.",
            before,
            home,
        )


def moved_from(connection: Connection, file: Path) -> Path | None:
    """Return the folder that the store in ``file`` was moved or copied from; None where it is in its own."""
    home = file.resolve().parent
    before = _noted(connection) or _guessed(connection, file, home)
    if before is None or before == home or (before.exists() and before.samefile(home)):  # a second name of one folder
        return None
    return before


def _noted(connection: Connection) -> Path | None:
    if not _has(connection, "experiment_tags", "value"):
        return None
    noted = connection.execute(
        text("SELECT value FROM experiment_tags WHERE key = :key ORDER BY experiment_id LIMIT 1"), {"key": FOLDER_TAG}
    ).scalar()
    return None if noted is None else Path(noted)


def _guessed(connection: Connection, file: Path, home: Path) -> Path | None:
    """The folder of a store of an older hpo, which noted none: by default its artifacts lay beside the database."""
    named = text("SELECT artifact_location FROM experiments WHERE name = 'hpo' OR name LIKE 'hpo %' LIMIT 1")
    if not _has(connection, "experiments", "artifact_location"):
        return None
    root = _as_path(connection.execute(named).scalar())
    if root is None or root.parent == home:
        return None
    runs = connection.execute(text(f"SELECT run_uuid FROM runs LIMIT {_SAMPLE}")).scalars()
    original = root.parent / file.name
    same_layout = root.parent.name == home.name and (not root.exists() or _is_another(original, file))
    return root.parent if same_layout or any((home / root.name / run).is_dir() for run in runs) else None


def _moves(connection: Connection, before: Path, home: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Yield each folder of artifacts that came along, and where it is now."""
    roots = connection.execute(text("SELECT DISTINCT artifact_location FROM experiments")).scalars()
    copied = _is_another(before / name, home / name)
    for old in sorted(path for root in roots if (path := _as_path(root)) is not None):
        if old.is_relative_to(before):
            new = home / old.relative_to(before)
            if copied or new.exists() or not old.exists():  # otherwise the database alone was moved
                yield old, new
        elif (elsewhere := _alongside(old, before, home)) is not None and elsewhere.exists():
            yield old, elsewhere


def _alongside(path: Path, before: Path, home: Path) -> Path | None:
    """Where ``path`` is after the folder that holds both it and the database was moved."""
    while before.name == home.name and before.name:
        before, home = before.parent, home.parent
    return home / path.relative_to(before) if path.is_relative_to(before) else None


def _rewrite(connection: Connection, old: Path, new: Path) -> None:
    for before, after in ((old.as_uri(), new.as_uri()), (f"file://{old}", f"file://{new}"), (str(old), str(new))):
        for table, column in _ADDRESSES:
            if _has(connection, table, column):
                connection.execute(
                    text(
                        f"UPDATE {table} SET {column} = :after || substr({column}, :rest) "
                        f"WHERE {column} = :before OR substr({column}, 1, :rest) = :before || '/'"
                    ),
                    {"before": before, "after": after, "rest": len(before) + 1},
                )


def _note(connection: Connection, home: Path, experiment_id: str) -> None:
    connection.execute(text("DELETE FROM experiment_tags WHERE key = :key"), {"key": FOLDER_TAG})
    connection.execute(
        text("INSERT INTO experiment_tags (key, value, experiment_id) VALUES (:key, :value, :experiment)"),
        {"key": FOLDER_TAG, "value": str(home), "experiment": int(experiment_id)},
    )


def _has(connection: Connection, table: str, column: str) -> bool:
    return any(row[1] == column for row in connection.exec_driver_sql(f"PRAGMA table_info({table})"))


def _is_another(one: Path, other: Path) -> bool:
    return one.is_file() and not one.samefile(other)


def _as_path(location: object) -> Path | None:
    """The folder of an address; None for one that is not of this machine."""
    parsed = urlparse(str(location or ""))
    if parsed.scheme not in ("", "file") or not parsed.path.startswith("/"):
        return None
    return Path(unquote(parsed.path) if parsed.scheme else str(location))
