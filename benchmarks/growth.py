"""How a search grows with posters, labels, trials and workers: `python -m benchmarks.growth`, an hour on two cores.

Posters and labels by whole searches of `hpo search`, from empty caches, on drawn posters (patches of colour, which the
labels are made of) through a real backbone at 64 px. Trials and workers by studies whose trials train nothing, so that
what remains is Optuna, MLflow and ours. For each series stand the exponents of seconds, memory and disk between the
first and the last size, and between the last two: 1 is linear. `--only posters` measures one series; with `--most`
it is a try, which is not logged.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.machine import ROOT, log
from benchmarks.peers.usage import disk_bytes, watch
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import open_study
from hpo.tracking.mirror import MlflowMirror
from hpo.tracking.runs import open_tracking

POSTERS, LABELS, TRIALS, WORKERS = (1_000, 10_000, 100_000), (5, 20, 200), (50, 500, 5_000), (1, 2, 4, 8)
POSTERS_OF_LABELS, TRIALS_OF_WORKERS, SECONDS_OF_WORKERS = 4_000, 160, 0.5
PATCHES = 12, 8  # of colour, down and across: fewer, and most posters would look alike to a perceptual hash
SEED = 0
EVERY = 10**9
SPACE = """
parameters:
  backbone: tf_efficientnet_lite0
  image_size: 64
  features: last_two_stages
  pooling: avg
  hidden_layers: {type: int, low: 0, high: 1}
  width: {type: categorical, choices: [128, 256], when: {hidden_layers: [1]}}
  dropout: {type: float, low: 0.0, high: 0.5, when: {hidden_layers: [1]}}
  input_dropout: 0.2
  weight_decay: 0.01
  label_smoothing: 0.0
  focal_gamma: 1.0
  focal_alpha: 0.5
  learning_rate: {type: float, low: 3e-4, high: 3e-3, log: true}
  schedule: constant
  batch_size: 512
  epochs: 10
  patience: 3
"""


@dataclass(frozen=True)
class Point:
    """What one size took."""

    size: int
    seconds: float
    memory_bytes: float = math.nan
    disk_bytes: float = math.nan


def main() -> None:
    """Measure; log what was measured at full length."""
    series: dict[str, tuple[Sequence[int], Callable[[int], Point]]] = {
        "posters": (POSTERS, lambda n: Point(n, *_search(n, 10))),
        "labels": (LABELS, lambda n: Point(n, *_search(POSTERS_OF_LABELS, n))),
        "trials": (TRIALS, _trials),
        "workers": (WORKERS, _workers),
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=list(series))
    parser.add_argument("--most", type=int, default=EVERY, help="leave larger sizes out")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        _work(Path(asked.worker))
        return
    lines = []
    for name, (sizes, measure) in series.items():
        if asked.only in (None, name):
            points = []
            for size in (size for size in sizes if size <= asked.most):
                points.append(measure(size))
                print(name, points[-1], file=sys.stderr, flush=True)
            lines += _table(name, points)
    if asked.most == EVERY:
        given = f" --only {asked.only}" if asked.only else ""
        log(f"growth with {asked.only or ', '.join(series)}", f"python -m benchmarks.growth{given}", lines)
    else:
        print("\n".join(lines))


def _search(n_posters: int, n_labels: int) -> tuple[float, int, int]:
    """Return the seconds, the peak memory and the disk of a whole search, in bytes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _draw(folder / "posters", n_posters, n_labels)
        (folder / "space.yaml").write_text(SPACE)
        work = folder / "work" / "here"
        work.mkdir(parents=True)
        words = ["search", "--data", f"{folder}/posters/posters.csv", "--images", f"{folder}/posters/images"]
        words += ["--space", f"{folder}/space.yaml", "--labels", f"{n_labels}", "--trials", "4", "--folds", "1"]
        command = [sys.executable, "-m", "hpo", *words, "--cache-dir", f"{work}/cache", "--no-confirm"]
        usage = watch(command, work, {**os.environ, "PYTHONPATH": f"{ROOT}"}, 7200)
        if usage.code:
            raise RuntimeError((folder / "work" / "output.txt").read_text()[-2000:])
        return usage.seconds, usage.peak_rss_bytes, disk_bytes(work)


def _draw(out: Path, n_posters: int, n_labels: int) -> None:
    """Patches of random colours; a label is where its random weighing of the colours of all rows is high."""
    (out / "images").mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    weights = rng.normal(size=(PATCHES[0], 3, n_labels))
    patches = rng.integers(0, 256, (n_posters, *PATCHES, 3), dtype=np.uint8)
    scores = np.einsum("nhc,hcl->nl", patches.mean(axis=2) - 127.5, weights)
    shares = np.geomspace(0.3, max(0.02, 60 / n_posters), n_labels)
    is_label = scores > [np.quantile(scores[:, at], 1 - share) for at, share in enumerate(shares)]

    def save(at: int) -> None:
        Image.fromarray(patches[at]).resize((120, 200), Image.Resampling.BICUBIC).save(out / "images" / f"{at}.jpg")

    with ThreadPoolExecutor() as pool:
        list(pool.map(save, range(n_posters)))
    rows = (f'{at},"{", ".join(f"L{label}" for label in np.flatnonzero(row))}"' for at, row in enumerate(is_label))
    (out / "posters.csv").write_text("\n".join(["id,labels", *rows]) + "\n")


def _nothing(trial: RunningTrial) -> float:
    """Choose and note as a trial does, and be worth something: 0.4 and what the learning rate gives."""
    config = trial.choose()
    trial.note(chosen=config.model_dump(), metrics={f"val/{n}": 0.5 for n in range(110)}, seconds={"training": 5.0})
    for fold in range(5):
        trial.report(0.4, fold, f"fold {fold + 1}")
    return 0.4 + 0.01 * math.log10(config.learning_rate)


def _trials(n_trials: int) -> Point:
    """A search's records of so many trials, in Optuna and MLflow on sqlite, by one worker."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = open_study(f"sqlite:///{folder}/optuna.db", "s", folder / "locks", SEED, create=True)
        study.bind({}, {"metric": "f1_macro", "synthetic": True})
        study.set_budget(n_trials)
        tracking = open_tracking(f"sqlite:///{folder}/mlflow.db", folder)
        parent = tracking.study_run("s", {}, {}, {}, {})
        mirror = MlflowMirror(study, tracking, parent, folder / "spool", lambda text: print(text, file=sys.stderr))

        def objective(trial: RunningTrial) -> float:
            mirror.begin(trial, {})
            return _nothing(trial)

        began = time.perf_counter()
        for trial in study.run(load_space(Path("default")), objective, lambda: True):
            mirror.end(trial)
        return Point(n_trials, time.perf_counter() - began, disk_bytes=disk_bytes(folder))


def _workers(n_workers: int) -> Point:
    """So many workers of one study on sqlite, whose trials wait for half a second: trials by workers is what counts."""
    with tempfile.TemporaryDirectory() as folder:
        study = open_study(f"sqlite:///{folder}/optuna.db", "s", Path(folder), SEED, create=True)
        study.set_budget(TRIALS_OF_WORKERS)
        command = [sys.executable, "-m", "benchmarks.growth", "--worker", folder]
        with ThreadPoolExecutor(n_workers) as pool:
            list(pool.map(lambda _: subprocess.run(command, check=True, cwd=ROOT), range(n_workers)))
        trials = study.trials()
    began = min(trial.started for trial in trials if trial.started)
    ended = max(trial.ended for trial in trials if trial.ended)
    return Point(n_workers, (ended - began).total_seconds())


def _work(folder: Path) -> None:
    study = open_study(f"sqlite:///{folder}/optuna.db", "s", folder, SEED, create=False)

    def waiting(trial: RunningTrial) -> float:
        time.sleep(SECONDS_OF_WORKERS)
        return _nothing(trial)

    for _ in study.run(load_space(Path("default")), waiting, lambda: True):
        pass


def _table(name: str, points: Sequence[Point]) -> list[str]:
    columns: dict[str, Callable[[Point], float]] = {
        "seconds": lambda point: point.seconds,
        "peak memory, GB": lambda point: point.memory_bytes / 2**30,
        "disk, GB": lambda point: point.disk_bytes / 2**30,
    }
    shown = {title: of for title, of in columns.items() if not math.isnan(of(points[0]))}
    rows = [f"| {point.size:,} | {' | '.join(f'{of(point):.2f}' for of in shown.values())} |" for point in points]
    lasts = [*pairwise(points)][-1:]
    exponents = [f"{_exponents(points[0], points[-1], shown)} in all", *(_exponents(*last, shown) for last in lasts)]
    return [
        f"\n| {name} | {' | '.join(shown)} |",
        f"| --- {'| --- ' * len(shown)}|",
        *rows,
        f"\nExponents: {', between the last two '.join(exponents)}.",
    ]


def _exponents(first: Point, last: Point, shown: dict[str, Callable[[Point], float]]) -> str:
    if first.size == last.size:
        return "none"
    span = math.log(last.size / first.size)
    exponents = {title.partition(",")[0]: math.log(of(last) / of(first)) / span for title, of in shown.items()}
    return ", ".join(f"{title} {exponent:.2f}" for title, exponent in exponents.items())


if __name__ == "__main__":
    main()
