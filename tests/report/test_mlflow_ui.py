from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.errors import TrackingError
from hpo.report.mlflow_ui import comparable_params, serve, study_link, top_view
from hpo.settings import Paths
from hpo.study.study import Study, open_study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.runs import open_tracking

STUDY = "posters & more #1"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(["f1_macro", "mean_ap"]))
def test_a_browser_reads_from_the_link_what_was_put_in(run_id, metric):
    link = study_link("http://127.0.0.1:5000", "7", run_id, metric)
    route, _, query = link.removeprefix("http://127.0.0.1:5000/#").partition("?")
    assert route == "/experiments/7/runs"
    assert "+" not in query  # a space to some readers only
    assert parse_qs(query, strict_parsing=True) == {
        "workflowType": ["machine_learning"],
        "searchFilter": [f"tags.mlflow.parentRunId = '{run_id}'"],
        "orderByKey": [f"metrics.`val/{metric}`"],
        "orderByAsc": ["false"],
    }


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> Paths:
    """A study by mean average precision, begun and in MLflow."""
    state = tmp_path_factory.mktemp("ui") / "mlruns"
    paths = Paths(f"sqlite:///{state}/optuna.db", f"sqlite:///{state}/mlflow.db", state, state / "cache")
    study = open_study(paths.storage, STUDY, paths.locks, seed=0, create=True)
    study.bind({}, {"metric": "mean_ap"})
    open_tracking(paths.tracking_uri, paths.artifacts).study_run(STUDY, {}, {}, {}, {})
    return paths


@pytest.fixture
def study(paths) -> Study:
    return open_study(paths.storage, STUDY, paths.locks, seed=0, create=False)


@pytest.fixture
def ui(paths) -> Iterator[subprocess.Popen[str]]:
    """``hpo ui`` in the folder of that search."""
    command = [sys.executable, "-m", "hpo", "ui", "--storage", paths.storage, "--tracking-uri", paths.tracking_uri]
    with subprocess.Popen(command, cwd=paths.state_dir.parent, text=True, stdout=subprocess.PIPE) as process:
        yield process
        process.send_signal(signal.SIGINT)


def living() -> dict[int, int]:
    """The parent of every process that lives."""
    listed = subprocess.check_output(["ps", "-A", "-o", "pid=,ppid=,stat="], text=True).splitlines()
    return {int(pid): int(parent) for pid, parent, state in map(str.split, listed) if not state.startswith("Z")}


def descendants(pid: int) -> set[int]:
    """The children of a process, theirs, and so on."""
    parents, found, generation = living(), set[int](), {pid}
    while generation:
        generation = {child for child, parent in parents.items() if parent in generation}
        found |= generation
    return found


def test_it_serves_this_machine_alone_until_ctrl_c(ui, paths, study):
    trials, report, how_to_stop = (ui.stdout.readline().rstrip() for _ in range(3))
    assert "Ctrl-C" in how_to_stop
    [port] = {int(found) for found in re.findall(r"http://127\.0\.0\.1:(\d+)/#/", trials + report)}
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    run_id = tracking.find_study_run(STUDY)
    runs = f"http://127.0.0.1:{port}/#/experiments/{tracking.experiment_id}/runs"
    assert trials == (
        f"Trials, best first:  {runs}?workflowType=machine_learning&viewStateShareKey=hpo-trials-{run_id}"
    )
    assert report == f"The study's report:  {runs}/{run_id}?workflowType=machine_learning"

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=120) as answer:
        assert (answer.status, answer.read()) == (200, b"OK")
    with pytest.raises(OSError):  # noqa: PT011 - refused on Linux, no such address elsewhere
        socket.create_connection(("127.0.0.2", port), timeout=60)

    said: list[str] = []
    serve(replace(paths, tracking_uri=f"http://127.0.0.1:{port}/"), study, 0, said.append)
    assert said == ["\n".join((trials, report))]  # of a server that runs already, the links alone

    started = descendants(ui.pid)
    assert started
    ui.send_signal(signal.SIGINT)
    assert ui.wait(timeout=120) == 0
    assert started & living().keys() == set()


def test_a19_a_terminal_that_closes_leaves_no_server(ui):
    while "Ctrl-C" not in ui.stdout.readline():
        assert ui.poll() is None
    servers = [os.pidfd_open(pid) for pid in descendants(ui.pid)]
    assert servers
    ui.send_signal(signal.SIGHUP)
    ui.wait(timeout=120)
    for server in servers:  # can be read from once the process has ended
        assert select.select([server], [], [], 120)[0]
        os.close(server)


def test_u4_a_port_that_is_taken_is_refused(paths, study):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(TrackingError, match=rf"port {port} is taken: choose another --port"):
            serve(paths, study, port, lambda _: None)


@pytest.mark.parametrize("there_is_a_browser", [True, False])
def test_the_first_link_is_opened_where_that_is_asked_for(monkeypatch, paths, study, there_is_a_browser):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda link: opened.append(link) or there_is_a_browser)
    server = replace(paths, tracking_uri="http://127.0.0.1:1")
    monkeypatch.setattr(
        "hpo.report.mlflow_ui.open_tracking", lambda *_: open_tracking(paths.tracking_uri, paths.artifacts)
    )
    said: list[str] = []
    serve(server, study, 0, said.append, open_browser=True)
    assert opened == [said[0].splitlines()[0].removeprefix("Trials, best first:  ")]
    assert [words.partition(" could")[0] for words in said[1:]] == ([] if there_is_a_browser else ["No browser"])


def test_an_mlflow_that_only_lets_us_read_shows_the_trials_all_the_same(monkeypatch, paths, study):
    def refuse(*_):
        raise TrackingError("read only")

    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    monkeypatch.setattr(tracking, "share_view", refuse)
    monkeypatch.setattr("hpo.report.mlflow_ui.open_tracking", lambda *_: tracking)
    said: list[str] = []
    serve(replace(paths, tracking_uri="http://mlflow.example"), study, 0, said.append)
    run_id = tracking.find_study_run(STUDY)
    link = study_link("http://mlflow.example", tracking.experiment_id, run_id, "mean_ap")
    assert said[0].splitlines()[0] == f"Trials, best first:  {link}"


def test_the_views_name_the_studys_metric_first_and_fit_into_a_tag():
    params = [f"finetune_head_learning_rate_{place:02}" for place in range(60)]
    view = top_view("0" * 32, "mean_ap", params, params)
    assert next(column for column in view["selectedColumns"] if "val/" in column) == "metrics.`val/mean_ap`"
    assert "hpo.state` = 'complete'" in view["searchFilter"]
    assert view["compareRunCharts"][0]["selectedMetrics"] == ["val/mean_ap"]
    assert len({chart["uuid"] for chart in view["compareRunCharts"]}) == 3
    assert len(json.dumps(view)) <= 5000  # MLflow's limit


def test_axes_are_what_all_trials_drew_and_not_alike():
    drawn = [
        {"rate": 0.1, "backbone": "a", "width": 16, "same": 1, "mixed": "none", "flag": True},
        {"rate": 0.2, "backbone": "b", "same": 1, "mixed": 0.5, "flag": False},
    ]
    trials = [TrialRecord(number, "complete", 0.0, params) for number, params in enumerate(drawn)]
    asked = ["same", "width", "mixed", "rate", "flag", "backbone"]
    assert comparable_params(asked, trials) == ["rate", "flag", "backbone"]
