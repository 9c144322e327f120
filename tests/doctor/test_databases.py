from __future__ import annotations

import shutil
import sqlite3
import subprocess

import psycopg
import pytest
import sqlalchemy
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from hpo.doctor.databases import check_storage, check_tracking_database, check_two_databases
from hpo.runtime.commands import quoted
from hpo.runtime.database import parse, rescue
from hpo.study.storage import study_names
from hpo.tracking.client import connect
from tests.postgres import PASSWORD, free_port


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A database of this Optuna and one of this MLflow, to be copied."""
    folder = tmp_path_factory.mktemp("made")
    study_names(f"sqlite:///{folder}/optuna.db")
    SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", folder.as_uri()).engine.dispose()
    return folder


@pytest.fixture
def copies(made, tmp_path):
    for name in ("optuna.db", "mlflow.db"):
        shutil.copy(made / name, tmp_path)
    return tmp_path


def migrate(file, revision):
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    connection.close()


CHECKS = {"optuna.db": check_storage, "mlflow.db": check_tracking_database}


def test_databases_that_are_not_there_will_be_made_and_are_not_made_by_looking(plan, tmp_path):
    found = [check(plan()) for check in CHECKS.values()]
    assert [(finding.state, finding.message.rpartition(": ")[2]) for finding in found] == [("ok", "will be made")] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(("name", "program"), [("optuna.db", "Optuna"), ("mlflow.db", "MLflow")])
def test_databases_of_the_installed_programs_are_fine(plan, copies, name, program):
    before = (copies / name).read_bytes()
    found = CHECKS[name](plan())
    assert (found.state, found.fix) == ("ok", "")
    assert found.message.endswith(f"writable, with the tables of this {program}")
    assert (copies / name).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "revision", "fix"),
    [
        ("optuna.db", "v2.6.0.a", "then type optuna storage upgrade --storage sqlite:///"),
        ("optuna.db", "v9.0.0.a", "pip install --upgrade optuna"),
        ("mlflow.db", "451aebb31d03", "then type mlflow db upgrade sqlite:///"),
        ("mlflow.db", "ffffffffffff", "pip install --upgrade mlflow"),
    ],
)
def test_an_older_and_a_newer_schema_are_told_apart(plan, copies, name, revision, fix):
    migrate(copies / name, revision)
    found = CHECKS[name](plan())
    assert found.state == "problem"
    assert f"its tables are of version {revision}, and this" in found.message
    assert fix in found.fix


def test_tables_of_the_other_program_are_named(plan, copies):
    swapped = plan(storage=f"sqlite:///{copies}/mlflow.db", tracking_uri=f"sqlite:///{copies}/optuna.db")
    assert "the tables of MLflow and none of Optuna" in check_storage(swapped).message
    assert "the tables of Optuna and none of MLflow" in check_tracking_database(swapped).message


def test_a_file_that_is_no_database(plan, tmp_path):
    (tmp_path / "optuna.db").write_text("a poster, perhaps" * 100)
    found = check_storage(plan())
    assert (found.state, found.fix) == ("problem", "name another file with --storage")
    assert "not a database" in found.message


def test_a_locked_file(plan, copies, monkeypatch):
    monkeypatch.setattr("hpo.runtime.database.PATIENCE_SECONDS", 0)
    with sqlite3.connect(copies / "optuna.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        found = check_storage(plan())
    other.close()
    assert found.state == "problem"
    assert found.fix.startswith("let the other process that writes to it finish")


def test_a_folder_that_is_a_file(plan, tmp_path):
    (tmp_path / "text").write_text("no folder")
    found = check_storage(plan(storage=f"sqlite:///{tmp_path}/text/optuna.db"))
    assert found.state == "problem"
    assert "is a file, where a folder is expected" in found.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "--storage is no URL of a database"),
        ("postgresql://user:secret@host:port/x", "--storage is no URL of a database"),
        ("mysql://user:secret@host/optuna", "expected a database of sqlite or postgresql, got mysql"),
        ("postgres://user:secret@host/optuna", "expected a database of sqlite or postgresql, got postgres"),
        ("postgresql+nosuch://user:secret@host/optuna", "Can't load plugin"),
        ("postgresql+pg8000://user:secret@host/optuna", "No module named 'pg8000'"),
        ("sqlite://", "expected a file, got a database in memory"),
    ],
)
def test_what_is_no_storage_is_told_without_its_password(plan, url, words):
    found = check_storage(plan(storage=url))
    assert found.state == "problem"
    assert words in found.message
    assert found.fix
    assert "secret" not in found.message + found.fix


@pytest.mark.parametrize("uri", ["./mlruns", "file:///somewhere/mlruns"])
def test_a_file_store_is_refused(plan, uri):
    found = check_tracking_database(plan(tracking_uri=uri))
    assert (found.state, found.fix) == ("problem", "use --tracking-uri sqlite:///mlruns/mlflow.db")


def test_a_server_is_not_a_tracking_database(plan):
    assert check_tracking_database(plan(tracking_uri="http://localhost:5000")) is None


@pytest.mark.parametrize(
    ("storage", "tracking", "state"),
    [
        ("sqlite:///one.db", "sqlite:///./one.db", "problem"),
        ("sqlite:///one.db", "sqlite:///other.db", "ok"),
        ("postgresql://a:b@localhost/hpo", "postgresql+psycopg://c:d@127.0.0.1:5432/hpo", "problem"),
        ("postgresql://a:b@localhost/hpo", "postgresql://a:b@localhost:5433/hpo", "ok"),
        ("postgresql://a:b@localhost/optuna", "postgresql://a:b@localhost/mlflow", "ok"),
    ],
)
def test_one_database_for_both(plan, storage, tracking, state):
    assert check_two_databases(plan(storage=storage, tracking_uri=tracking)).state == state


def test_nobody_listens(plan):
    found = check_storage(plan(storage=f"postgresql+psycopg://hpo:secret@127.0.0.1:{free_port()}/optuna"))
    assert (found.state, found.fix) == ("problem", "start that server, or correct host and port in --storage")
    assert "secret" not in found.message


def test_postgresql_from_empty_to_used(plan, postgres):
    empty = postgres.create_database("doctor_empty")
    assert check_storage(plan(storage=empty)).message.endswith("empty, tables will be made")
    assert check_tracking_database(plan(tracking_uri=empty)).message.endswith("empty, tables will be made")
    study_names(empty)
    found = check_storage(plan(storage=empty))
    assert (found.state, PASSWORD in found.message) == ("ok", False)
    assert check_tracking_database(plan(tracking_uri=empty)).state == "problem"


@pytest.mark.parametrize(
    ("replaced", "by", "words", "fix"),
    [
        ("loop%20back", "guessed", "password authentication failed", "written as %40"),
        ("/doctor", "/nowhere", 'database "nowhere" does not exist', "createdb"),
    ],
)
def test_postgresql_refuses(plan, postgres, replaced, by, words, fix):
    found = check_storage(plan(storage=postgres.url("doctor").replace(replaced, by)))
    assert found.state == "problem"
    assert words in found.message
    assert fix in found.fix
    assert "back" not in found.message + found.fix


def test_postgresql_may_not_be_written(plan, postgres):
    owner = postgres.create_database("doctor_guests")
    guest = postgres.url("doctor_guests").replace("//hpo:", "//guest:")
    with psycopg.connect(owner.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE guest LOGIN PASSWORD '{PASSWORD}'")
    assert "the user guest may not create tables" in check_storage(plan(storage=guest)).message
    study_names(owner)
    assert "the user guest may not write into its tables" in check_storage(plan(storage=guest)).message
    with psycopg.connect(owner.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ALTER DATABASE doctor_guests SET default_transaction_read_only = on")
    assert "only lets it be read" in check_storage(plan(storage=owner)).message


def test_the_database_that_a_search_makes_is_fine(plan, tmp_path):
    connect(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts", "hpo")
    assert check_tracking_database(plan()).state == "ok"


@pytest.mark.parametrize(
    ("damage", "words", "fix"),
    [
        ("UPDATE studies SET study_name = 'x'", "", ""),
        ("INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (1, 'x', '{odb')", "no", "json_valid"),
        ("INSERT INTO trials (number, study_id, state) VALUES (0, 1, 'ODD')", "trial 0 has a state", ".recover"),
    ],
)
def test_a2_a_damaged_row_is_found_with_a_cure(plan, copies, damage, words, fix):
    with sqlite3.connect(copies / "optuna.db") as connection:
        connection.execute(damage)
    connection.close()
    found = check_storage(plan())
    assert (found.state == "problem") == bool(words)
    assert words in found.message
    assert fix in found.fix


def test_a2_a_damaged_page_is_found_with_a_cure(plan, copies):
    file = copies / "optuna.db"
    content = bytearray(file.read_bytes())
    for page in range(2, len(content) // 4096):
        content[page * 4096 : page * 4096 + 300] = b"\xff" * 300
    file.write_bytes(content)
    found = check_storage(plan())
    assert found.state == "problem"
    assert "malformed" in found.message or "damaged" in found.message
    assert f"sqlite3 {quoted(str(file))} .recover" in found.fix


def test_a2_a_flipped_header_is_found_and_its_cure_works(plan, copies):
    file = copies / "optuna.db"
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 0xFF]) + content[1:])
    found = check_storage(plan())
    assert "damaged" in found.message
    typed = found.fix.partition("again: ")[2].partition("; then")[0]
    subprocess.run(["sh", "-c", typed], check=True, capture_output=True)
    assert file.read_bytes() == content
    assert check_storage(plan()).state == "ok"


def test_f10_a_shell_reads_the_cure_of_a_damaged_file_as_it_is_meant(tmp_path):
    file = tmp_path / "it's my (1) study.db"
    typed, _, option = (
        rescue(file, "--storage").partition("save what can be read: ")[2].partition(", and then name that: ")
    )
    show = """sqlite3() { printf '%s\\0' "$@"; }; hpo() { printf '%s\\0' "$@"; }; """
    saved = tmp_path / f"recovered-{file.name}"
    for line, words in (
        (typed.partition(" | ")[0], [str(file), ".recover"]),
        (typed.partition(" | ")[2], [str(saved)]),
        (f"hpo status {option}", ["status", "--storage", str(sqlalchemy.URL.create("sqlite", database=str(saved)))]),
    ):
        done = subprocess.run(["bash", "-c", show + line], capture_output=True, check=True)
        assert done.stdout.decode().split("\0")[:-1] == words
    assert parse(option.partition(" ")[2].strip("'"), "--storage").database == str(saved)
