"""A search from empty caches beside the least that it has to do: `python -m benchmarks.cold [hpo search options]`.

50 trials of the default space on the movie posters, as a person types it. Beside it stand bare loops of the same work:
every poster decoded and passed through each backbone that the trials chose, once, and the heads of all trials trained
in plain PyTorch for as many epochs as they had, without validation, thresholds, records or confirmation.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.decode import bare_decode
from benchmarks.heads import bare_epochs
from benchmarks.machine import ROOT, log, phase, shared_posters
from hpo.data.dataset import Part, prepare_data
from hpo.data.images import Posters
from hpo.model.backbones.backbone import default_image_size, load_backbone
from hpo.model.backbones.inference import fastest_forward
from hpo.model.config import TrialConfig
from hpo.runtime.progress import n_cores
from hpo.study.study import open_study
from hpo.study.trial_record import TrialRecord
from hpo.trial.features import FeatureSource, predicted_views

TRIALS, TIMED_EPOCHS = 50, 3  # epochs of each head; the others take as long


def main() -> None:
    """Measure and log."""
    csv, images = shared_posters("movie-posters")
    words = ["--data", f"{csv}", "--images", f"{images}", "--cache-dir", "cache", "--study", "cold"]
    words += ["--trials", f"{TRIALS}"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        began = time.perf_counter()
        command = [sys.executable, "-m", "hpo", "search", "--profile", "profile.json", *words, *sys.argv[1:]]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": f"{ROOT}"})
        whole = time.perf_counter() - began
        lines = _beside_the_least(whole)
    command_line = shlex.join(["python", "-m", "benchmarks.cold", *sys.argv[1:]])
    log("a cold search beside the least it has to do", command_line, lines)


def _beside_the_least(whole: float) -> list[str]:
    """Measure the bare loops of the search that has ended in this folder, after ``whole`` seconds."""
    study = open_study("sqlite:///mlruns/optuna.db", "cold", Path(), 0, create=False)
    setup = study.setup
    data = prepare_data(setup.data, Path("cache"), phase)
    train, n_folds = data.part("train"), setup.folds
    everything = train + data.part("val")
    n_train = len(train) if n_folds == 1 else len(everything) * (n_folds - 1) // n_folds
    trials = [trial for trial in study.trials() if trial.state in ("complete", "pruned")]
    backbones = sorted({trial.configuration["backbone"] for trial in trials})
    passes = sum(_bare_passes(name, everything.posters) for name in backbones)
    source = FeatureSource(Path("cache"), setup.weights, phase)
    heads = sum(_bare_head(trial, source, everything, n_train) for trial in trials)
    counts = study.counts()
    return [
        f"movie-posters, {len(everything):,} posters in train and val, {n_folds} folds, {counts.finished} trials, "
        f"{counts.pruned} of them pruned.\n",
        f"- the whole search {whole:.0f} s; bare passes {passes:.0f} s, bare heads {heads:.0f} s",
        f"- whole : bare = {whole / (passes + heads):.2f} (cost; 1.25 is the goal)",
        f"- where it went: {study.attributes.time_spent}",
    ]


def _bare_passes(name: str, posters: Posters) -> float:
    """Return the seconds of decoding all posters and passing them through a backbone; its graph is built beforehand."""
    backbone = load_backbone(name, default_image_size(name))
    forward = fastest_forward(backbone, backbone.image_size)
    starts = range(0, len(posters), forward.batch_posters)

    def run(start: int) -> None:
        paths = posters.paths[start : start + forward.batch_posters]
        forward.run(np.stack([bare_decode(path, backbone.image_size) for path in paths]))

    began = time.perf_counter()
    with ThreadPoolExecutor(n_cores()) as pool:
        list(pool.map(run, starts))
    return time.perf_counter() - began


def _bare_head(trial: TrialRecord, source: FeatureSource, everything: Part, n_train: int) -> float:
    """Return the seconds of a plain loop over as many epochs as the trial had, in all of its folds."""
    config = TrialConfig.model_validate({**trial.configuration, "epochs": TIMED_EPOCHS})
    features = source.examples(config, everything, predicted_views(config)).features
    targets = torch.from_numpy(everything.targets[:n_train]).float()
    return _epochs(trial.curve or {}) * statistics.median(bare_epochs(features[:n_train], targets, config))


def _epochs(curve: Mapping[str, Sequence[object]]) -> int:
    return sum(len(points) for name, points in curve.items() if name.endswith("train/loss"))


if __name__ == "__main__":
    main()
