"""The whole search on real posters, as a person types it: `python -m benchmarks.search [movie-posters|anime-covers]`.

From empty caches, 50 trials; then a second study on the same posters. Figures: wall-clock, peak memory, what a trial
costs beside its training, seconds until the second study's first trial starts, and what the exported champion claims.
"""

from __future__ import annotations

import datetime
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna

from benchmarks.machine import log, shared_posters

HPO = [sys.executable, "-m", "hpo"]


def main() -> None:
    """Measure and log."""
    name = sys.argv[1] if len(sys.argv) > 1 else "movie-posters"
    csv, images = shared_posters(name)
    with tempfile.TemporaryDirectory() as folder:
        words = ["search", "--data", f"{csv}", "--images", f"{images}", "--cache-dir", "cache", "--trials"]
        wall = _run(folder, *words, "50", "--study", "cold")
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        started = datetime.datetime.now()
        _run(folder, *words, "1", "--study", "warm")
        _run(folder, "export-best", "--study", "cold", "--out", "best", "--cache-dir", "cache")
        trials = _trials(folder, "cold")
        until_first = next(t.datetime_start - started for t in _trials(folder, "warm") if t.datetime_start)
        metrics = json.loads((Path(folder) / "best" / "bundle.json").read_text())["metrics"]
    overheads, training = _costs(trials)
    pruned = sum(trial.state == optuna.trial.TrialState.PRUNED for trial in trials)
    lines = [
        f"- {name}, 50 trials from empty caches: {wall / 60:.1f} minutes, peak memory {memory:.2f} GB, {pruned} pruned",
        f"- a trial: {statistics.median(training):.2f} s of training, {statistics.median(overheads):.2f} s of all "
        "else (medians of complete trials)",
        f"- a second study on the same posters starts its first trial after {until_first.total_seconds():.1f} s",
        *(_claim(part, metrics) for part in metrics["baselines"]),
    ]
    log(f"a search of {name}", f"python -m benchmarks.search {name}", lines)


def _run(folder: str, *words: str) -> float:
    started = time.perf_counter()
    subprocess.run([*HPO, *words], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _trials(folder: str, study: str) -> list[optuna.trial.FrozenTrial]:
    storage = f"sqlite:///{folder}/mlruns/optuna.db"
    return optuna.load_study(study_name=study, storage=storage).trials


def _costs(trials: list[optuna.trial.FrozenTrial]) -> tuple[list[float], list[float]]:
    """Return, for each complete trial, what it cost beside features and training, and its training, in seconds."""
    complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
    spent = [trial.user_attrs["seconds"] for trial in complete]
    overheads = [
        trial.duration.total_seconds() - seconds["features"] - seconds["training"]
        for trial, seconds in zip(complete, spent, strict=True)
        if trial.duration
    ]
    return overheads, [seconds["training"] for seconds in spent]


def _claim(part: str, metrics: dict) -> str:
    scores = metrics[part]
    low, high = scores["ci95"]["f1_macro"]
    constant = max(values["f1_macro"] for values in metrics["baselines"][part].values())
    return (
        f"- {part}: f1_macro {scores['f1_macro']:.3f} [{low:.3f}, {high:.3f}] on {scores['n_posters']:,} posters, "
        f"best constant {constant:.3f}"
    )


if __name__ == "__main__":
    main()
