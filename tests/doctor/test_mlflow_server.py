from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import mlflow
import pytest

from hpo.doctor.databases import check_database_clock, check_tracking_clock
from hpo.doctor.mlflow_server import check_tracking_server
from tests.postgres import free_port


@contextmanager
def serving(version=mlflow.__version__, status=200, artifacts=200, ahead_seconds=0):
    """A server on loopback that answers as an MLflow server does, on whatever is asked."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            asked_for_version = self.path == "/version"
            self.send_response(status if asked_for_version else artifacts)
            self.end_headers()
            self.wfile.write(version.encode() if asked_for_version else b"{}")

        def date_time_string(self, timestamp=None):
            return format_datetime(datetime.now(UTC) + timedelta(seconds=ahead_seconds), usegmt=True)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("answers", "state", "words", "fix"),
    [
        ({}, "ok", f"MLflow {mlflow.__version__}, takes artifacts", ""),
        ({"version": "2.9.1"}, "warning", "the server is MLflow 2.9.1, this machine has", "pip install mlflow==2.9.1"),
        ({"artifacts": 403}, "problem", "does not know itself by this host name", "--allowed-hosts NAME:PORT"),
        ({"artifacts": 503}, "problem", "takes no artifacts", "without --no-serve-artifacts"),
        ({"artifacts": 500}, "problem", "answers with status 500", "log"),
        ({"status": 401}, "problem", "asks who you are", "MLFLOW_TRACKING_USERNAME"),
        ({"status": 404}, "problem", "not as an MLflow server does", "correct --tracking-uri"),
        ({"version": "<html>It works!"}, "problem", "not as an MLflow server does", "correct --tracking-uri"),
    ],
)
def test_what_a_server_answers(plan, answers, state, words, fix):
    with serving(**answers) as uri:
        found = check_tracking_server(plan(tracking_uri=uri))
    assert found.state == state
    assert words in found.message
    assert fix in found.fix
    assert "secret" not in found.message + found.fix


def test_nobody_answers(plan):
    found = check_tracking_server(plan(tracking_uri=f"http://user:secret@127.0.0.1:{free_port()}"))
    assert found.state == "problem"
    assert found.message.endswith(": no answer")
    assert "secret" not in found.message


def test_a_database_is_no_server(plan):
    assert check_tracking_server(plan()) is None
    assert check_tracking_clock(plan()) is None
    assert check_database_clock(plan()) is None


@pytest.mark.parametrize(
    ("ahead_seconds", "state", "words"),
    [
        (0, "ok", "within 5 s"),
        (20, "warning", "s ahead of this machine's"),
        (-20, "warning", "s behind this machine's"),
        (3600, "problem", "3,600 s ahead of this machine's"),
    ],
)
def test_the_clock_of_mlflow(plan, ahead_seconds, state, words):
    with serving(ahead_seconds=ahead_seconds) as uri:
        found = check_tracking_clock(plan(tracking_uri=uri))
    assert found.state == state
    assert words in found.message


def test_the_clock_of_nobody(plan):
    found = check_tracking_clock(plan(tracking_uri=f"http://127.0.0.1:{free_port()}"))
    assert (found.state, found.message) == ("warning", "cannot be read: no answer")


def test_the_clock_of_a_database(plan, postgres):
    assert check_database_clock(plan(storage=postgres.url("postgres"))).state == "ok"
    gone = check_database_clock(plan(storage=f"postgresql+psycopg://a:secret@127.0.0.1:{free_port()}/x"))
    assert gone.state == "warning"
    assert "secret" not in gone.message
