from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.report.ui import serve, study_link
from hpo.search.places import Places
from hpo.search.study import Study, open_study
from hpo.search.tracking import open_tracking

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
def places(tmp_path_factory) -> Places:
    """A study by mean average precision, begun and in MLflow."""
    state = tmp_path_factory.mktemp("ui") / "mlruns"
    places = Places(f"sqlite:///{state}/optuna.db", f"sqlite:///{state}/mlflow.db", state, state / "cache")
    study = open_study(places.storage, STUDY, places.locks, seed=0, create=True)
    study.bind({}, {"metric": "mean_ap"})
    open_tracking(places.tracking_uri, places.artifacts).study_run(STUDY, {}, {}, {}, {})
    return places


@pytest.fixture
def study(places) -> Study:
    return open_study(places.storage, STUDY, places.locks, seed=0, create=False)


@pytest.fixture
def ui(places) -> Iterator[subprocess.Popen[str]]:
    """``hpo ui`` in the folder of that search."""
    command = [sys.executable, "-m", "hpo", "ui", "--storage", places.storage, "--tracking-uri", places.tracking_uri]
    with subprocess.Popen(command, cwd=places.state_dir.parent, text=True, stdout=subprocess.PIPE) as process:
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


def test_it_serves_this_machine_alone_until_ctrl_c(ui, places, study):
    trials, report, champion, how_to_stop = (ui.stdout.readline().rstrip() for _ in range(4))
    assert "Ctrl-C" in how_to_stop
    [port] = {int(found) for found in re.findall(r"http://127\.0\.0\.1:(\d+)/#/", trials + report + champion)}
    tracking = open_tracking(places.tracking_uri, places.artifacts)
    run_id = tracking.find_study_run(STUDY)
    assert run_id in trials
    assert "metrics.`val/mean_ap`" in unquote(trials)
    assert report.endswith(f"/#/experiments/{tracking.experiment_id}/runs/{run_id}")
    assert unquote(champion).endswith(f"/#/models/{STUDY}")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
        assert (answer.status, answer.read()) == (200, b"OK")
    with pytest.raises(OSError):  # noqa: PT011 - refused on Linux, no such address elsewhere
        socket.create_connection(("127.0.0.2", port), timeout=1)

    said: list[str] = []
    serve(replace(places, tracking_uri=f"http://127.0.0.1:{port}/"), study, 0, said.append)
    assert said == ["\n".join((trials, report, champion))]  # of a server that runs already, the links alone

    started = descendants(ui.pid)
    assert started
    ui.send_signal(signal.SIGINT)
    assert ui.wait(timeout=15) == 0
    assert started & living().keys() == set()
