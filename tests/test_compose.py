"""What docker-compose.yml promises, as far as it can be known without an engine, and its set-up run for real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
import yaml

from tests.postgres import PASSWORD, USER, Postgres

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8")
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
# ${NAME}, ${NAME:-default} or ${NAME:?what is missing}; a doubled dollar is a literal one.
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}")
WORKERS = ("search", "search-gpu")
every_service = pytest.mark.parametrize("name", SERVICES)
every_worker = pytest.mark.parametrize("name", WORKERS)


def filled(word: str) -> str:
    """A word of a command with the defaults of its variables, as an empty .env leaves it."""
    return VARIABLE.sub(lambda match: match["word"] or "", word)


def example_environment() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def stages() -> dict[str, str]:
    """Dockerfile's targets, each with its own lines."""
    parts = re.split(r"^FROM (\S+) AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    return dict(zip(parts[2::3], parts[3::3], strict=True))


def test_it_is_valid_compose():
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, REPOSITORY / "docker-compose.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_variables_and_the_example_agree():
    assert {match["name"] for match in VARIABLE.finditer(TEXT)} == set(example_environment())


def test_no_secret_has_a_value():
    assert set(example_environment().values()) == {""}
    secrets = [match for match in VARIABLE.finditer(TEXT) if "PASSWORD" in match["name"]]
    assert secrets
    assert all(match["kind"] == "?" for match in secrets)
    given = re.findall(r"PASSWORD: *(\S+)", TEXT)
    assert all(value.startswith("${POSTGRES_PASSWORD:?") for value in given)
    assert not re.search(r"://\w+:[^@/\s]*@", TEXT)


def test_git_and_docker_leave_the_environment_file_alone():
    assert "/.env" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
    sent = [line for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert sent[0] == "*"
    assert all((REPOSITORY / line[1:]).exists() for line in sent if line.startswith("!"))


@every_service
def test_the_password_is_in_no_command_line(name: str):
    service = SERVICES[name]
    words = [
        *service.get("command", []),
        *service.get("entrypoint", []),
        *service.get("healthcheck", {}).get("test", []),
    ]
    assert not [word for word in words if "PASSWORD" in word]


@every_service
def test_ports_are_published_on_loopback_only(name: str):
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert "network_mode" not in SERVICES[name]


@every_service
def test_images_are_pinned(name: str):
    if "build" in SERVICES[name]:
        assert SERVICES[name]["build"]["target"] in stages()
        assert "image" not in SERVICES[name]  # a name that a registry could answer before we build
    else:
        assert re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", SERVICES[name]["image"])


def test_the_base_of_our_images_is_pinned():
    froms = re.findall(r"^FROM (\S+) AS", DOCKERFILE, flags=re.MULTILINE)
    assert [image for image in froms if image not in stages()] == ["python:${PYTHON}"]
    assert re.search(r"^ARG PYTHON=\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, flags=re.MULTILINE)


@every_service
def test_nothing_runs_as_root_or_may_become_it(name: str):
    service = SERVICES[name]
    lines = stages()[service["build"]["target"]] if "build" in service else ""
    users = [service["user"]] if "user" in service else re.findall(r"^USER (\S+)$", lines, flags=re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service.get("privileged", False) is False


@pytest.mark.parametrize("name", ["db", "mlflow"])
def test_servers_are_asked_for_their_health(name: str):
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@every_worker
def test_workers_wait_for_what_they_need(name: str):
    conditions = {other: wait["condition"] for other, wait in SERVICES[name]["depends_on"].items()}
    assert conditions == {
        "db": "service_healthy",
        "databases": "service_completed_successfully",
        "mlflow": "service_healthy",
    }


@every_worker
def test_posters_are_read_only(name: str):
    [posters] = [volume for volume in SERVICES[name]["volumes"] if isinstance(volume, dict)]
    assert posters["target"] == "/posters"
    assert posters["read_only"] is True


def test_a_gpu_is_asked_for_by_its_profile_alone():
    assert "profiles" not in SERVICES["search"]
    assert SERVICES["search-gpu"]["profiles"] == ["gpu"]
    [device] = SERVICES["search-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert SERVICES["search"]["build"]["args"] == {"TORCH_INDEX_URL": "${HPO_TORCH_INDEX_URL:-}"}


@every_worker
def test_a_worker_s_command_is_one_of_ours(name: str):
    from hpo.cli.app import app

    verb, *options = map(filled, SERVICES[name]["command"])
    command = typer.main.get_command(app).commands[verb]
    context = command.make_context(verb, options, resilient_parsing=False)
    assert context.params["study"] == "posters"
    assert context.params["data"] == Path("/posters/posters.csv")
    assert {"HPO_STORAGE", "MLFLOW_TRACKING_URI"} <= {
        option.envvar for option in command.params if isinstance(option.envvar, str)
    } & set(SERVICES[name]["environment"])


def test_the_server_s_command_is_one_of_mlflow_s():
    from mlflow.cli import cli

    verb, *options = SERVICES["mlflow"]["command"]
    context = cli.commands[verb].make_context(verb, options)
    assert context.params["artifacts_destination"] == "/artifacts"
    worker = SERVICES["search"]["environment"]["MLFLOW_TRACKING_URI"]
    assert worker == f"http://mlflow:{context.params['port']}"
    assert "mlflow:*" in context.params["allowed_hosts"].split(",")


def test_the_databases_are_made_once_and_found_again(postgres: Postgres):
    server = Postgres(postgres.binaries)  # of its own: the names are the ones that others may have taken
    server.start()
    try:
        for _ in range(2):
            run_databases(server)
        address = {"host": "127.0.0.1", "port": server.port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
        with psycopg.connect(**address) as connection:
            names = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        assert names == {"postgres", "template0", "template1", "optuna", "mlflow"}
    finally:
        server.stop()
        server.remove()


def run_databases(server: Postgres) -> None:
    """The service ``databases`` without its container: the same shell, script and environment."""
    service = SERVICES["databases"]
    script = [word.replace("$$", "$") for word in service["command"]]
    here = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": PASSWORD}
    path = f"{server.binaries}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([*service["entrypoint"], *script], env={**service["environment"], **here, "PATH": path}, check=True)
