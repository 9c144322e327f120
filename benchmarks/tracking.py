"""What MLflow costs a trial: `python -m benchmarks.tracking`, on sqlite and through the server, beside bare MLflow.

Each trial opens its run, notes what a trial of five folds notes (epochs, metrics of every label), ends, leaves its
probabilities, and brings the study's report up to date. Bare is the loop that a user writes: a nested run, one
``log_metric`` a metric and epoch, ``log_artifact``. Numbers are medians over trials, writing to MLflow alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.machine import Gap, log
from hpo.report.mlflow_ui import _free_port, _start, _stop, _wait_until_it_answers
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import open_study
from hpo.tracking.mirror import MlflowMirror
from hpo.tracking.runs import open_tracking

# isort: split

from mlflow import MlflowClient

TRIALS, BARE_TRIALS = 60, 10
FOLDS, EPOCHS, LABELS, POSTERS = 5, 20, 10, 5500
METRICS = {
    f"val/{name}/{label}": 0.5 for name in ("f1", "precision", "recall", "support") for label in range(LABELS)
} | {f"val/average_{at}": 0.5 for at in range(60)}


def main() -> None:
    """Measure and log."""
    lines = []
    for where in ("sqlite", "HTTP"):
        with tempfile.TemporaryDirectory() as folder, _mlflow(Path(folder), where) as paths:
            ours, bare = _ours(Path(folder), paths), _bare(Path(folder), paths)
        lines.append(
            f"- {where}: {1000 * ours:.0f} ms a trial (150 ms is the goal), bare MLflow {1000 * bare:.0f} ms; "
            f"ours : bare = {ours / bare:.3f}"
        )
    log("MLflow a trial", "python -m benchmarks.tracking", lines)


def gap() -> Gap:
    """Return the gap to the loop that a user writes, on sqlite."""
    with tempfile.TemporaryDirectory() as folder, _mlflow(Path(folder), "sqlite") as paths:
        ours, bare = _ours(Path(folder), paths), _bare(Path(folder), paths)
    return Gap("MLflow, a trial", ours, bare, "the study's report")


@contextmanager
def _mlflow(folder: Path, where: str) -> Iterator[Paths]:
    paths = Paths(f"sqlite:///{folder}/optuna.db", f"sqlite:///{folder}/mlflow.db", folder, folder / "cache")
    open_tracking(paths.tracking_uri, paths.artifacts)
    if where == "sqlite":
        yield paths
        return
    port = _free_port(0)
    server: subprocess.Popen[bytes] = _start(paths, port)
    try:
        _wait_until_it_answers(server, f"http://127.0.0.1:{port}")
        yield Paths(paths.storage, f"http://127.0.0.1:{port}", folder, folder / "cache")
    finally:
        _stop(server)


def _curve() -> dict[str, list[tuple[int, float]]]:
    names = [f"fold_{fold}/{name}" for fold in range(1, FOLDS + 1) for name in ("train/loss", "val/f1_macro")]
    return {name: [(epoch, 0.4) for epoch in range(1, EPOCHS + 1)] for name in names}


def _ours(folder: Path, paths: Paths) -> float:
    study = open_study(paths.storage, "s", folder / "locks", 0, create=True)
    study.bind({}, {"metric": "f1_macro", "synthetic": True})
    study.set_budget(TRIALS)
    tracking = open_tracking(paths.tracking_uri, paths.artifacts)
    parent = tracking.study_run("s", {}, {}, {}, {})
    mirror = MlflowMirror(study, tracking, parent, folder / "spool", lambda text: print(text, file=sys.stderr))
    begun: dict[int, float] = {}

    def objective(trial: RunningTrial) -> float:
        config = trial.choose().model_dump()
        trial.note(chosen=config)
        started = time.perf_counter()
        mirror.begin(trial, config)
        begun[trial.number] = time.perf_counter() - started
        trial.note(curve=_curve(), metrics=METRICS, seconds={"training": 5.0})
        pool = mirror.spooled(trial.number) / "pool"
        pool.mkdir()
        save_file({"probabilities": np.zeros((POSTERS, LABELS), np.float32)}, pool / "probabilities.safetensors")
        return 0.4

    seconds = []
    for trial in study.run(load_space(Path("default")), objective, lambda: True):
        started = time.perf_counter()
        mirror.end(trial)
        seconds.append(time.perf_counter() - started + begun[trial.number])
    return statistics.median(seconds)


def _bare(folder: Path, paths: Paths) -> float:
    client = MlflowClient(paths.tracking_uri, paths.tracking_uri)
    experiment = client.create_experiment(
        "bare", (folder / "bare").as_uri() if "sqlite" in paths.tracking_uri else None
    )
    table = folder / "probabilities.npy"
    np.save(table, np.zeros((POSTERS, LABELS), np.float32))
    seconds = []
    for number in range(BARE_TRIALS):
        started = time.perf_counter()
        run_id = client.create_run(experiment, run_name=f"{number}").info.run_id
        for key, points in _curve().items():
            for epoch, value in points:
                client.log_metric(run_id, key, value, step=epoch)
        for key, value in METRICS.items():
            client.log_metric(run_id, key, value)
        client.log_artifact(run_id, str(table))
        client.set_terminated(run_id)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
