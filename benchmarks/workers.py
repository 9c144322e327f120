"""What many workers cost and bring: `python -m benchmarks.workers`.

Two workers beside one on a search of cached features; eight workers on PostgreSQL whose trials train nothing, so that
all that is left is claiming, sampling and recording; and a study of 2,000 trials: how long a claim with its first
parameter takes then, and `hpo status`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna

from benchmarks.machine import log, shared_posters
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import open_study
from tests.postgres import Postgres, find_binaries

HPO = [sys.executable, "-m", "hpo"]
SEEDS = 3
WORKERS, TRIALS, MANY = 8, 240, 2000
EPOCHS = 10  # reported by a trial that trains nothing


def main() -> None:
    """Measure and log."""
    if len(sys.argv) > 2 and sys.argv[1] == "worker":
        _work(sys.argv[2])
        return
    lines = [*_two_beside_one(), *_eight_on_postgresql(), *_a_long_study()]
    log("many workers", "python -m benchmarks.workers", lines)


def _two_beside_one() -> list[str]:
    """Search on val alone, as folds would make it three times as long and leave the ratio."""
    csv, images = shared_posters("movie-posters")
    words = ["search", "--data", f"{csv}", "--images", f"{images}", "--no-confirm", "--folds", "1"]
    cache = os.environ.get("HPO_CACHE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        words += ["--cache-dir", cache or "cache"]
        for backbone in ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2"):
            _run(folder, *words, "--trials", "1", "--study", f"warm {backbone}", "--space", _only(folder, backbone))
        split = next(Path(folder, "mlruns", "splits").glob("*.json"))
        seconds: dict[int, list[float]] = {1: [], 2: []}
        best: dict[int, list[float]] = {1: [], 2: []}
        for seed in range(SEEDS):  # of sampler and training; the split is that of seed 0 for all
            for n_workers in (1, 2):
                name = f"workers{n_workers}seed{seed}"
                given = ["--study", name, "--workers", str(n_workers), "--seed", str(seed), "--split", f"{split}"]
                seconds[n_workers].append(_run(folder, *words, "--trials", "50", *given))
                best[n_workers].append(_best(folder, name))
    ratios = [two / one for one, two in zip(seconds[1], seconds[2], strict=True)]
    return [
        f"- 50 trials on cached features, start to end, {SEEDS} seeds: one worker {_each(seconds[1], '.0f')} s, two "
        f"{_each(seconds[2], '.0f')} s; two : one = {statistics.median(ratios):.2f} in the median (0.65 is the goal); "
        f"best f1_macro on val {_each(best[1], '.3f')} and {_each(best[2], '.3f')}, in the mean "
        f"{statistics.mean(best[2]) - statistics.mean(best[1]):+.4f}"
    ]


def _best(folder: str, study: str) -> float:
    words = [*HPO, "status", "--study", study, "--json"]
    found = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
    return float(json.loads(found.stdout)["best"]["value"])


def _each(values: list[float], form: str) -> str:
    return ", ".join(f"{value:{form}}" for value in values)


def _only(folder: str, backbone: str) -> str:
    """A space of one backbone, to fill the cache with all of its depths."""
    text = Path("search_spaces/default.yaml").read_text()
    choices = "[tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2]"
    file = Path(folder) / f"{backbone}.yaml"
    file.write_text(text.replace(choices, f"[{backbone}]").partition("# Tried first")[0])
    return f"{file}"


def _run(folder: str, *words: str) -> float:
    started = time.perf_counter()
    subprocess.run([*HPO, *words], cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _eight_on_postgresql() -> list[str]:
    binaries = find_binaries()
    if binaries is None:
        return ["- PostgreSQL is absent: nothing measured on it"]
    server = Postgres(binaries)
    server.start()
    try:
        url = server.create_database("workers")
        with tempfile.TemporaryDirectory() as folder:
            study = open_study(url, "s", Path(folder), 0, create=True)
            study.set_budget(TRIALS)
            command = [sys.executable, "-m", "benchmarks.workers", "worker", url]
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(lambda _: subprocess.run(command, check=True), range(WORKERS)))
            trials = study.trials()
    finally:
        server.stop()
        server.remove()
    # From where all are at it to where the first has nothing left, so that starting processes does not count.
    ends = sorted(trial.ended for trial in trials if trial.ended)
    began = sorted(trial.started for trial in trials if trial.started)[WORKERS]
    ended = ends[-WORKERS]
    n_between = sum(began < end <= ended for end in ends)
    each = (ended - began).total_seconds() / n_between
    return [
        f"- {WORKERS} workers on PostgreSQL, {TRIALS} trials that train nothing but report {EPOCHS} epochs: one every "
        f"{each:.3f} s (0.3 s a trial is the goal), {each * WORKERS:.2f} s of a worker's time on 2 cores that "
        f"{WORKERS} share; {len(trials)} trials in all, none too many"
    ]


def _work(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(url, "s", Path(folder), 0, create=False)
        for _ in study.run(load_space(Path("default")), _nothing, lambda: True):
            pass


def _nothing(trial: RunningTrial) -> float:
    config = trial.choose()
    trial.note(chosen=config.model_dump(), work={}, run_id="0" * 32)
    for epoch in range(1, EPOCHS + 1):
        trial.report(0.4, epoch, f"epoch {epoch}")
    trial.note(
        curve={}, phase="frozen", best_epoch=1, seconds={}, scores={}, metrics={f"val/{n}": 0.5 for n in range(110)}
    )
    return 0.4


def _a_long_study() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "mlruns").mkdir()
        url = f"sqlite:///{folder}/mlruns/optuna.db"
        study, space = open_study(url, "s", Path(folder), 0, create=True), load_space(Path("default"))
        study.bind({}, {"metric": "f1_macro"})
        study.set_budget(MANY)
        for _ in study.run(space, _nothing, lambda: True):
            pass
        study.set_budget(MANY + 20)
        asked = []

        def timed(trial: RunningTrial) -> float:
            started = time.perf_counter()
            trial.choose()
            asked.append(time.perf_counter() - started + claim_seconds[-1])
            return 0.4

        claim_seconds: list[float] = []
        claim = study._queue.claim

        def timed_claim(*arguments: Any) -> optuna.Trial | None:
            started = time.perf_counter()
            claimed = claim(*arguments)
            claim_seconds.append(time.perf_counter() - started)
            return claimed

        study._queue.claim = timed_claim  # type: ignore[method-assign, assignment]
        for _ in study.run(space, timed, lambda: True):
            pass
        environment = {**os.environ, "HPO_STORAGE": url}
        _status(folder, environment)  # makes MLflow's database
        status = statistics.median(_status(folder, environment) for _ in range(3))
    return [
        f"- a study of {MANY:,} trials on sqlite: claim and parameters {1000 * statistics.median(asked):.0f} ms (100 "
        f"ms is the goal), `hpo status` {status:.1f} s (2 s is the goal)"
    ]


def _status(folder: str, environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run([*HPO, "status", "--json"], cwd=folder, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
