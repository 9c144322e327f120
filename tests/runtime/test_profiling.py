"""Where the time of a search goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from hpo.errors import DataError
from hpo.runtime import profiling as timeline


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = psutil.Process().create_time() + 1.5  # of this process, which is a second and a half old

    def time(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timeline, "time", clock)
    return clock


@pytest.fixture
def file(clock, tmp_path):
    file = tmp_path / "deep" / "timeline.json"
    timeline.begin(file)
    timeline.join(file, "worker")
    yield file
    timeline.leave()


def whole(file):
    return json.loads(file.read_text().rstrip().rstrip(",") + "]")


def test_a_stage_counts_without_those_within_it(file, clock):
    with timeline.stage("promoting", trial=3):
        with timeline.stage("training"):
            clock.sleep(0.2)
        clock.sleep(0.05)
    clock.sleep(0.1)
    with pytest.raises(KeyError), timeline.stage("training"):
        raise KeyError
    with timeline.stage(timeline.SUPERVISING):
        clock.sleep(0.4)
    seconds = timeline.seconds_by_stage(file)
    expected = {"starting": 1.5, "training": 0.2, "the rest": 0.1, "promoting": 0.05}
    assert seconds == pytest.approx(expected, abs=1e-5)  # events are in whole microseconds
    assert list(seconds) == list(expected)  # longest first


def test_it_is_what_a_trace_viewer_reads(file, clock):
    with timeline.stage("features", posters=2):
        clock.sleep(0.25)
    name, born, features = whole(file)
    assert (name["ph"], name["args"]) == ("M", {"name": "worker"})
    assert (born["ph"], born["name"], born["pid"]) == ("X", "starting", os.getpid())
    assert features["args"] == {"posters": 2}
    assert features["dur"] == 250_000
    assert features["ts"] == pytest.approx(born["ts"] + born["dur"], abs=2)
    assert features["ts"] / 1e6 == pytest.approx(clock.now - 0.25, abs=1e-5)


def test_times_are_those_of_the_wall_clock(tmp_path):
    began = time.time()
    timeline.begin(tmp_path / "timeline.json")
    timeline.join(tmp_path / "timeline.json", "worker")
    timeline.leave()
    [_, born] = whole(tmp_path / "timeline.json")
    assert began - 1e-5 <= (born["ts"] + born["dur"]) / 1e6 <= time.time() + 1e-5


def test_processes_share_a_file_and_a_kill_cuts_off_the_last_event_alone(file):
    code = (
        "import sys, pathlib; from hpo.runtime import profiling as timeline\n"
        "timeline.join(pathlib.Path(sys.argv[1]), 'w')\n"
        "for _ in range(500):\n    with timeline.stage('training'): pass\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(file)]) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    events = whole(file)
    assert sum(event["name"] == "training" for event in events) == 1500
    assert len({event["pid"] for event in events}) == 4
    with file.open("a") as half:
        half.write('{"name": "training", "ph": "X", "ts": 1')
    with timeline.stage("features"):  # on the same line: lost
        pass
    with timeline.stage("Optuna"):
        pass
    assert {"training", "Optuna"} <= timeline.seconds_by_stage(file).keys()


def test_a_full_disk_costs_no_trial(file):
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, timeline._file)
    os.close(full)
    with timeline.stage("training"):
        done = True
    assert done


def test_in_a_sentence():
    spent = {"training": 82.0, "features": 11.0, "MLflow": 4.0, "the rest": 2.5, "posters": 0.5}
    assert timeline.in_a_sentence(spent) == "82 % training, 11 % features, 4 % MLflow, 3 % the rest"


def test_nothing_is_noted_where_no_timeline_is_kept(file):
    with timeline.stage("features"):
        pass
    noted = file.read_text()
    timeline.leave()
    with timeline.stage("training"):
        done = True
    assert done
    assert file.read_text() == noted
    assert timeline.seconds_by_stage(file).keys() == {"starting", "features", "the rest"}


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="name another file with --profile"):
        timeline.begin(tmp_path / "file" / "timeline.json")
