"""What worker processes are started with: GPUs from those that the search may use (fault G6), and signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from hpo.search.executors import processes as workers
from hpo.search.executors.base import SearchJob
from hpo.search.executors.processes import ProcessExecutor, _without_ctrl_c, parse_workers, visible_gpus

ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
MIG = ["MIG-1a2b", "MIG-3c4d", "MIG-5e6f"]


@dataclass(frozen=True)
class Options:
    """What an executor needs of a search's options, and a folder for what its workers see."""

    folder: Path
    workers: int
    timeout_seconds: float | None = None


def note_environment(options: Options, _callback: object, _should_stop: object) -> None:
    """What a worker of this test does: write down which GPUs it may use."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    (options.folder / str(os.getpid())).write_text(seen)


def run_to_the_end(options: Options) -> None:
    executor = ProcessExecutor(SearchJob(options, float("inf"), lambda: iter(())), note_environment)
    executor.start()
    for process in multiprocessing.active_children():
        process.join()
    executor.stop()


@pytest.mark.parametrize(
    ("inherited", "n_visible", "gpus"),
    [
        (None, 0, []),
        (None, 2, ["0", "1"]),
        ("2,3", 2, ["2", "3"]),
        (" 3 , 1", 2, ["3", "1"]),
        ("5", 1, ["5"]),
        ("GPU-8932f937,GPU-4cfe", 2, ["GPU-8932f937", "GPU-4cfe"]),
        (",".join(MIG), 1, MIG),  # CUDA shows a process one instance, however many it may use
        ("0,9,1", 1, ["0"]),  # 9 is none of this machine, and what follows it does not count
        ("1,-1,0", 1, ["1"]),
        ("", 0, []),
        ("-1", 0, []),
        ("NoDevFiles", 0, []),
    ],
)
def test_g6_gpus_are_those_of_the_inherited_list(monkeypatch, inherited, n_visible, gpus):
    monkeypatch.setattr(workers, "n_gpus", lambda: n_visible)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if inherited is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    assert visible_gpus() == gpus
    if gpus:
        assert parse_workers("auto") == len(gpus)
    else:
        assert parse_workers("auto") >= 1


def test_g6_workers_share_the_inherited_gpus(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "n_gpus", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    run_to_the_end(Options(tmp_path, 3))
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["2", "2", "3"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,3"


def test_g6_without_gpus_workers_inherit_an_empty_list(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "n_gpus", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    run_to_the_end(Options(tmp_path, 1))
    assert [file.read_text() for file in tmp_path.iterdir()] == [""]


def test_a23_a_process_is_deaf_to_ctrl_c_while_it_imports() -> None:
    with _without_ctrl_c():
        resource_tracker.getfd()  # as multiprocessing does before it spawns: its first call lets Ctrl-C through
        started = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "True"
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
