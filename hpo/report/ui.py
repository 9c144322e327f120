"""``hpo ui``: the MLflow server on loopback, and a link that opens on the study's trials, sorted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable

from hpo.errors import TrackingError
from hpo.search.places import Places
from hpo.search.study import Study
from hpo.search.tracking import Tracking, open_tracking

_START_SECONDS = 90.0
_STOP_SECONDS = 10.0


def serve(places: Places, study: Study | None, port: int, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C; with a remote MLflow only print the links. Raises TrackingError when it does not start."""
    tracking = open_tracking(places.tracking_uri, places.artifacts)
    if places.tracking_uri.startswith(("http://", "https://")):
        say("\n".join(_links(places.tracking_uri.rstrip("/"), tracking, study)))
        return
    port = port or _free_port()
    address = f"http://127.0.0.1:{port}"
    links = _links(address, tracking, study)
    server = _start(places, port)
    try:
        _wait_until_it_answers(server, address)
        say("\n".join([*links, "Ctrl-C stops the server."]))
        server.wait()
    except KeyboardInterrupt:
        say("")
    finally:
        _stop(server)


def study_link(address: str, experiment_id: str, run_id: str, metric: str) -> str:
    """Return the link to the trials of the study whose parent run is ``run_id``, best first by ``metric``."""
    query = {
        "searchFilter": f"tags.mlflow.parentRunId = '{run_id}'",
        "orderByKey": f"metrics.`val/{metric}`",
        "orderByAsc": "false",
    }
    return f"{_runs_link(address, experiment_id)}&{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"


def _runs_link(address: str, experiment_id: str) -> str:
    """The link to all runs; without the workflow type the UI opens on another page."""
    return f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def _links(address: str, tracking: Tracking, study: Study | None) -> list[str]:
    experiment_id = tracking.experiment_id
    run_id = None if study is None else tracking.find_study_run(study.name)
    if study is None or run_id is None:
        return [f"All runs:  {_runs_link(address, experiment_id)}"]
    return [
        f"Trials, best first:  {study_link(address, experiment_id, run_id, study.metric)}",
        f"The study's report:  {address}/#/experiments/{experiment_id}/runs/{run_id}",
        f"The champion:        {address}/#/models/{urllib.parse.quote(study.name, safe='')}",
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(places: Places, port: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    stores = [
        "--backend-store-uri",
        places.tracking_uri,
        "--default-artifact-root",
        places.artifacts.as_uri(),
    ]
    lean = {
        "MLFLOW_DISABLE_TELEMETRY": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes and 1.3 GB, for evaluations of chat models
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    }
    return subprocess.Popen(
        [*command, *stores],
        env={**os.environ, **lean},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that Ctrl-C reaches us first and we stop it with all of its children
    )


def _wait_until_it_answers(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TrackingError(
        f"The MLflow server did not answer at {address}: try another --port, or start it by hand with mlflow server."
    )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers."""
    for stop in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, stop)
            server.wait(_STOP_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
