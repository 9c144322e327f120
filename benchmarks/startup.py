"""How long until something happens: `python -m benchmarks.startup`.

Commands as a person types them, in turn with what their work needs at least, a Python that imports the same packages;
and the first trial of a search whose posters, features and study are there already. Medians of five.
"""

from __future__ import annotations

import datetime
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna

from benchmarks.machine import ROOT, log, shared_posters

REPEATS = 5
HPO = [sys.executable, "-m", "hpo"]
SEARCH = "import torch, timm, optuna, mlflow, pandas, sklearn.linear_model, onnxruntime, iterstrat.ml_stratifiers"


def main() -> None:
    """Measure and log."""
    csv, images = shared_posters("movie-posters")
    poster = f"{min(images.iterdir())}"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        search = ["search", "--data", f"{csv}", "--images", f"{images}", "--cache-dir", "cache", "--no-confirm"]
        _hpo(*search, "--study", "s", "--trials", "2", "--folds", "1")
        for bundle, option in (("graph", ["--onnx"]), ("weights", [])):
            _hpo("export-best", "--study", "s", "--cache-dir", "cache", "--out", bundle, *option)
        more = [*search, "--study", "s", "--folds", "1", "--trials", "+1"]
        rows: list[tuple[str, Callable[[], float], str]] = [
            ("hpo --help", _command("--help"), "import typer"),
            ("hpo status", _command("status", "--study", "s"), "import typer, rich, optuna, sqlalchemy"),
            (
                "hpo predict, an ONNX bundle",
                _command("predict", "graph", poster),
                "import onnxruntime, pydantic, PIL.Image",
            ),
            ("hpo predict, weights", _command("predict", "weights", poster), "import torch, timm, safetensors"),
            ("the first trial of a warm search", lambda: _first_trial(more), SEARCH),
        ]
        lines = ["| until | seconds | bare imports | ours : bare |", "| --- | --- | --- | --- |"]
        for what, ours, imports in rows:
            pairs = [(ours(), _seconds([sys.executable, "-c", imports])) for _ in range(REPEATS)]
            mine, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
            lines.append(f"| {what} | {mine:.2f} | {bare:.2f} | {mine / bare:.2f} |")
    log("until something happens", "python -m benchmarks.startup", lines)


def _hpo(*words: str) -> float:
    return _seconds([*HPO, *words])


def _command(*words: str) -> Callable[[], float]:
    return lambda: _hpo(*words)


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - began


def _first_trial(words: Sequence[str]) -> float:
    """Return the seconds from the start of the process until its trial starts."""
    began = datetime.datetime.now()
    _hpo(*words)
    trials = optuna.load_study(study_name="s", storage=f"sqlite:///{Path('mlruns/optuna.db')}").trials
    return (max(trial.datetime_start for trial in trials if trial.datetime_start) - began).total_seconds()


if __name__ == "__main__":
    main()
