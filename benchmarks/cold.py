"""A search from empty caches beside the least that it has to do: `python -m benchmarks.cold [hpo search options]`.

50 trials of the default space on the movie posters, as a person types it. Beside it stand bare loops of the same work:
every poster decoded and passed through each backbone that the trials chose, once, and 50 heads trained in plain
PyTorch, without thresholds, records, pruning or confirmation: those of the trials that completed, as often as makes 50.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from optuna.trial import FrozenTrial, TrialState
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from benchmarks.machine import log, shared_posters
from hpo.data.images import Posters, Progress, n_cores
from hpo.data.options import DataOptions
from hpo.data.prepare import Part, prepare_data
from hpo.model.backbones import default_image_size, load_backbone
from hpo.model.forward import fastest_forward
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.source import FeatureSource, predicted_views
from hpo.search.study import open_study

TRIALS, TIMED_EPOCHS = 50, 3  # epochs of each head; the others take as long
_NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
_ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def main() -> None:
    """Measure and log."""
    csv, images = shared_posters("movie-posters")
    words = ["--data", f"{csv}", "--images", f"{images}", "--cache-dir", "cache", "--study", "cold"]
    words += ["--trials", f"{TRIALS}"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        began = time.perf_counter()
        command = [sys.executable, "-m", "hpo", "search", "--profile", "profile.json", *words, *sys.argv[1:]]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": f"{Path(__file__).parents[1]}"})
        whole = time.perf_counter() - began
        study = open_study("sqlite:///mlruns/optuna.db", "cold", Path(), 0, create=False)
        remembered, trials = study.attributes, study.trials()
        data = prepare_data(DataOptions.model_validate(remembered["data"]), Path("cache"), _phase)
        train, n_folds = data.part("train"), remembered["folds"]
        everything = train + data.part("val")
        n_train = len(train) if n_folds == 1 else len(everything) * (n_folds - 1) // n_folds
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        backbones = sorted({trial.user_attrs["chosen"]["backbone"] for trial in complete})
        passes = sum(_bare_passes(name, everything.posters) for name in backbones)
        source = FeatureSource(Path("cache"), remembered["weights"], _phase)
        heads = [_bare_head(trial, source, everything, n_train) for trial in complete]
    heads_50 = TRIALS * statistics.fmean(heads)
    n_pruned = sum(trial.state == TrialState.PRUNED for trial in trials)
    lines = [
        f"movie-posters, {len(everything):,} posters in train and val, {n_folds} folds, {TRIALS} trials, "
        f"{n_pruned} of them pruned.\n",
        f"- the whole search {whole:.0f} s; bare passes {passes:.0f} s, {TRIALS} bare heads {heads_50:.0f} s",
        f"- whole : bare = {whole / (passes + heads_50):.2f} (cost; 1.25 is the goal)",
        f"- where it went: {remembered['time_spent']}",
    ]
    log(
        "a cold search beside the least it has to do",
        shlex.join(["python", "-m", "benchmarks.cold", *sys.argv[1:]]),
        lines,
    )


def _bare_passes(name: str, posters: Posters) -> float:
    """Return the seconds of decoding all posters and passing them through a backbone; its graph is built beforehand."""
    backbone = load_backbone(name, default_image_size(name))
    forward = fastest_forward(backbone, backbone.image_size)
    starts = range(0, len(posters), forward.batch_posters)

    def run(start: int) -> None:
        paths = posters.paths[start : start + forward.batch_posters]
        forward.run(np.stack([_decode(path, backbone.image_size) for path in paths]))

    began = time.perf_counter()
    with ThreadPoolExecutor(n_cores()) as pool:
        list(pool.map(run, starts))
    return time.perf_counter() - began


def _decode(path: Path, size: int) -> np.ndarray:
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


def _bare_head(trial: FrozenTrial, source: FeatureSource, everything: Part, n_train: int) -> float:
    """Return the seconds of a plain loop over as many epochs as the trial had, in all of its folds."""
    chosen = Hyperparameters.model_validate(trial.user_attrs["chosen"])
    features = source.examples(chosen, everything, predicted_views(chosen)).features
    targets = torch.from_numpy(everything.targets[:n_train]).float()
    return _epochs(trial.user_attrs["curve"]) * _bare_epoch(features[:n_train], targets, chosen)


def _epochs(curve: Mapping[str, Sequence[object]]) -> int:
    return sum(len(points) for name, points in curve.items() if name.endswith("train/loss"))


def _bare_epoch(features: Tensor, targets: Tensor, chosen: Hyperparameters) -> float:
    """Return the median seconds of an epoch of the trial's head, loss and optimiser."""
    head = _head(features.shape[1], targets.shape[1], chosen)
    optimizer = torch.optim.AdamW(head.parameters(), chosen.learning_rate, weight_decay=chosen.weight_decay, fused=True)
    features = (features - features.mean(0)) / features.std(0).clamp_min(1e-3)
    targets = targets * (1 - chosen.label_smoothing) + chosen.label_smoothing / 2
    spent = []
    for _ in range(TIMED_EPOCHS):
        began = time.perf_counter()
        for rows in torch.randperm(len(features)).split(chosen.batch_size):
            optimizer.zero_grad()
            loss = sigmoid_focal_loss(
                head(features[rows]), targets[rows], chosen.focal_alpha, chosen.focal_gamma, "mean"
            )
            loss.backward()
            optimizer.step()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def _head(n_features: int, n_labels: int, chosen: Hyperparameters) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(chosen.input_dropout)]
    width = n_features
    for _ in range(chosen.hidden_layers):
        layers.append(nn.Linear(width, chosen.width))
        width = chosen.width
        if chosen.norm in _NORMS:
            layers.append(_NORMS[chosen.norm](width))
        layers += [_ACTIVATIONS[chosen.activation](), nn.Dropout(chosen.dropout)]
    return nn.Sequential(*layers, nn.Linear(width, n_labels))


@contextmanager
def _phase(what: str, n_posters: int) -> Iterator[Progress]:
    yield lambda _: None


if __name__ == "__main__":
    main()
