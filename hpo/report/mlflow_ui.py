"""`hpo ui`: start an MLflow server on loopback and link to a study's runs.

MLflow's runs page opens without columns, and its comparison on parameters of its own choice. Both can be set by
what its Share button makes: a view, kept as a tag of the experiment, that a link names by its key.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import webbrowser
from collections.abc import Callable, Mapping
from typing import Any

from hpo.errors import TrackingError
from hpo.evaluation.metrics import METRICS
from hpo.runtime.commands import command
from hpo.runtime.masking import MASK, masked
from hpo.settings import Paths
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.runs import STATE_TAG, Tracking, open_tracking

_START_SECONDS = 90.0
_STOP_SECONDS = 10.0
_TOP = 10  # MLflow draws the first ten runs of a list
_MAX_AXES = 8  # more of them cannot be distinguished
_MAX_COLUMNS = 16  # of parameters; a tag of an experiment holds 5,000 characters
_WORKFLOW = "workflowType=machine_learning"  # or MLflow's pages are about chat models
_SECTION = "hpo-top-trials"
# Runs the server, and ends it with all of its children once the process at its standard input has died.
_GUARD = """
import os, signal, subprocess, sys, threading
def follow():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=follow, daemon=True).start()
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""


def serve(
    paths: Paths, study: Study | None, port: int, say: Callable[[str], None], *, open_browser: bool = False
) -> None:
    """Serve until Ctrl-C; with a remote MLflow only print the links. Raises TrackingError when it does not start.

    ``open_browser`` opens the first link once it can be opened.
    """
    remote = paths.tracking_uri.startswith(("http://", "https://"))
    port = 0 if remote else _free_port(port)
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    if remote:
        address = masked(paths.tracking_uri).replace(f"{MASK}@", "").rstrip("/")
        _announce(_links(address, tracking, study), [], say, open_browser)
        return
    address = f"http://127.0.0.1:{port}"
    links = _links(address, tracking, study)
    server = _start(paths, port)
    try:
        _wait_until_it_answers(server, address)
        _announce(links, ["Ctrl-C stops the server."], say, open_browser)
        server.wait()
    except KeyboardInterrupt:
        say("")
    finally:
        _stop(server)


def study_link(address: str, experiment_id: str, run_id: str, metric: str) -> str:
    """Return the link to the trials of the study whose parent run is ``run_id``, best first by ``metric``.

    It asks for nothing that has to be kept in MLflow, and so cannot choose columns.
    """
    facets = {**_best_first(run_id, metric), "orderByAsc": "false"}
    query = urllib.parse.urlencode(facets, quote_via=urllib.parse.quote)
    return f"{address}/#/experiments/{experiment_id}/runs?{_WORKFLOW}&{query}"


def trials_view(run_id: str, metric: str, params: list[str]) -> dict[str, Any]:
    """Return the view of all trials, best first: state, metrics, cost, and the searched ``params``."""
    metrics = [metric, *(name for name in METRICS if name != metric)]
    columns = [
        f"tags.`{STATE_TAG}`",
        *(f"metrics.`val/{name}`" for name in metrics),
        *(f"params.`{name}`" for name in params[:_MAX_COLUMNS]),
        "metrics.`time/training_seconds`",
    ]
    name = "attributes.`Run Name`"
    return {
        **_best_first(run_id, metric),
        "selectedColumns": columns,
        "columnOrder": [name, *columns],
        "columnWidths": {name: 320},  # pixels: a trial's name says what it is
    }


def top_view(run_id: str, metric: str, params: list[str], axes: list[str]) -> dict[str, Any]:
    """Return the view of the complete trials as charts: ``axes`` in parallel, the metric as bars, what differs."""
    view = trials_view(run_id, metric, params)
    section = {"uuid": _SECTION, "name": "Top trials", "display": True, "columns": 1, "cardHeight": 420}
    return {
        **view,
        "searchFilter": f"{view['searchFilter']} AND tags.`{STATE_TAG}` = 'complete'",
        "runsHiddenMode": f"FIRST_{_TOP}_RUNS",
        "compareRunCharts": _charts(metric, axes),
        "compareRunSections": [{**section, "isReordered": False, "isGenerated": False}],
        "isAccordionReordered": True,  # or the sections that MLflow adds come first, by the alphabet
    }


def _charts(metric: str, axes: list[str]) -> list[dict[str, Any]]:
    """The charts of the top trials; MLflow adds one for every metric below them."""
    parallel = {"type": "PARALLEL", "selectedParams": axes[:_MAX_AXES], "selectedMetrics": [f"val/{metric}"]}
    bars = {"type": "BAR", "metricKey": f"val/{metric}", "runsCountToCompare": _TOP}
    differences = {
        "type": "DIFFERENCE",
        "chartName": "Parameters that differ",
        "compareGroups": ["Parameters"],
        "showDifferencesOnly": True,
        "showChangeFromBaseline": False,
        "baselineColumnUuid": "",
    }
    common = {"metricSectionId": _SECTION, "isGenerated": False, "deleted": False}
    charts: list[dict[str, Any]] = [parallel, bars, differences]
    return [{**chart, **common, "uuid": f"{_SECTION}-{place}"} for place, chart in enumerate(charts)]


def searched_params(study: Study) -> list[str]:
    """Return what the top trials were searched over: what matters most first, as far as that is known."""
    names = dict.fromkeys(name for trial in study.top(_TOP) for name in trial.params)
    shares = study.importances()
    return sorted(names, key=lambda name: -shares.get(name, 0.0))


def comparable_params(params: list[str], trials: list[TrialRecord]) -> list[str]:
    """Return those of ``params`` in which ``trials`` can be drawn side by side.

    That is what all of them drew and not alike. Of a parameter that is a number here and a word there MLflow leaves
    out the trials of the rarer kind.
    """

    def can_be_drawn(name: str) -> bool:
        values = [trial.params.get(name) for trial in trials]
        kinds = {isinstance(value, (int, float)) and not isinstance(value, bool) for value in values}
        return None not in values and len(kinds) == 1 and len(set(values)) > 1

    return [name for name in params if can_be_drawn(name)]


def _best_first(run_id: str, metric: str) -> dict[str, Any]:
    return {
        "searchFilter": f"tags.mlflow.parentRunId = '{run_id}'",
        "orderByKey": f"metrics.`val/{metric}`",
        "orderByAsc": False,
    }


def _links(address: str, tracking: Tracking, study: Study | None) -> dict[str, str]:
    """The links by what they lead to."""
    runs = f"{address}/#/experiments/{tracking.experiment_id}/runs"
    run_id = None if study is None else tracking.find_study_run(study.name)
    if study is None or run_id is None:
        return {"All runs": f"{runs}?{_WORKFLOW}"}
    return {
        **_trial_links(address, tracking, study, run_id),
        "The study's report": f"{runs}/{run_id}?{_WORKFLOW}",
        **_model_links(address, tracking, study.name),
    }


def _trial_links(address: str, tracking: Tracking, study: Study, run_id: str) -> dict[str, str]:
    top, params = study.top(_TOP), searched_params(study)
    trials = trials_view(run_id, study.metric, params)
    compared = top_view(run_id, study.metric, params, comparable_params(params, top))
    runs = f"{address}/#/experiments/{tracking.experiment_id}/runs?{_WORKFLOW}&viewStateShareKey="
    try:
        links = {"Trials, best first": runs + tracking.share_view(f"hpo-trials-{run_id}", trials)}
        if top:
            link = runs + tracking.share_view(f"hpo-top-{run_id}", compared)
            links["The top trials"] = f"{link}&compareRunsMode=CHART"
    except TrackingError:  # an MLflow that only lets us read
        return {"Trials, best first": study_link(address, tracking.experiment_id, run_id, study.metric)}
    return links


def _model_links(address: str, tracking: Tracking, model_name: str) -> dict[str, str]:
    champion = tracking.registry.champion(model_name)
    if champion is None:
        return {}
    model = f"{address}/#/models/{urllib.parse.quote(model_name, safe='')}"
    return {
        "The champion": f"{model}/versions/{champion.version}?{_WORKFLOW}",
        "All its versions": f"{model}?{_WORKFLOW}",
    }


def _announce(links: Mapping[str, str], more: list[str], say: Callable[[str], None], open_browser: bool) -> None:
    width = max(map(len, links)) + 1
    say("\n".join([*(f"{name + ':':{width}}  {link}" for name, link in links.items()), *more]))
    if open_browser and not webbrowser.open(next(iter(links.values()))):
        say("No browser could be opened here: copy a link into one.")


def _free_port(port: int) -> int:
    """Return ``port``, or any free one for 0. Raises TrackingError where another server has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a server that just ended would count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            fix = command("ui", port=None)
            raise TrackingError(
                f"Expected a free port, but port {port} {why}: choose another --port, or type {fix}."
            ) from error
        return int(probe.getsockname()[1])


def _start(paths: Paths, port: int) -> subprocess.Popen[bytes]:
    server = [
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
        paths.tracking_uri,
        "--default-artifact-root",
        paths.artifacts.as_uri(),
    ]
    lean = {
        "MLFLOW_DISABLE_TELEMETRY": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes and 1.3 GB, for evaluations of chat models
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-c", _GUARD, *server, *stores],
        env={**os.environ, **lean},
        stdin=subprocess.PIPE,  # open for as long as this process lives
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
