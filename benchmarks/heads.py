"""An epoch of a head on cached features beside a bare loop, and what watching it costs: `python -m benchmarks.heads`.

The features are drawn: 5,000 posters of 2,500 features and 10 labels, and 600 more to validate on. Ours and a bare
PyTorch loop of the same head, loss and optimiser take turns in one process, and the median epoch counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from benchmarks.machine import Gap, log
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import DEFAULT_STRATEGY, fit
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head
from hpo.model.training.dataloader import Examples
from hpo.model.training.loop import train_head
from hpo.runtime.atomic import Array

POSTERS, VAL, FEATURES, LABELS, REPEATS, SEED = 5000, 600, 2500, 10, 5, 0
SMALLEST_DEVIATION = 1e-3
NORMS = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
CONFIG = TrialConfig.model_validate(
    {
        "backbone": "tf_efficientnet_lite0", "image_size": 224, "features": "all_stages", "hidden_layers": 1,
        "width": 256, "norm": "batch", "dropout": 0.5, "input_dropout": 0.2, "weight_decay": 0.1,
        "label_smoothing": 0.05, "focal_gamma": 1.0, "focal_alpha": 0.5, "learning_rate": 1e-3, "schedule": "constant",
        "batch_size": 256, "epochs": 3, "patience": 5,
    }
)  # fmt: skip


def main() -> None:
    """Measure and log."""
    trained, validated, judged, by_hand = _measure()
    watched = (validated + judged) / trained
    lines = [
        f"{POSTERS:,} × {FEATURES:,} features, {LABELS} labels, batches of {CONFIG.batch_size}, a hidden layer of "
        f"{CONFIG.width}, {torch.get_num_threads()} threads, {REPEATS} × {CONFIG.epochs} epochs.\n",
        f"- an epoch: ours {1e3 * trained:.0f} ms, bare {1e3 * by_hand:.0f} ms; "
        f"ours : bare = {by_hand / trained:.2f} (speed; 0.8 is the goal)",
        f"- watching it on {VAL} posters: {1e3 * validated:.1f} ms of predictions, {1e3 * judged:.1f} ms of calibrated "
        f"thresholds and scores, {watched:.1%} of the epoch (10 % is the goal)",
    ]
    log("a head on cached features", "python -m benchmarks.heads", lines)


def gap() -> Gap:
    """Return the gap to a bare loop over the same batches."""
    trained, *_, by_hand = _measure()
    return Gap("an epoch of a head on cached features", trained, by_hand, "standardising, class weights, any optimiser")


def _measure() -> tuple[float, float, float, float]:
    """Return the seconds of an epoch: training, predicting val, judging it, and training by hand."""
    generator = torch.Generator().manual_seed(SEED)
    features = torch.randn(POSTERS + VAL, FEATURES, generator=generator)
    weights = torch.randn(FEATURES, LABELS, generator=generator) / FEATURES**0.5
    targets = (features @ weights + torch.randn(POSTERS + VAL, LABELS, generator=generator) > 1.4).float()
    ours, bare = [], []  # (training, validation, judging) and training, in seconds an epoch
    for _ in range(REPEATS):
        ours += list(_ours(features, targets))
        bare += list(bare_epochs(features[:POSTERS], targets[:POSTERS], CONFIG))
    trained, validated, judged = (statistics.median(column) for column in zip(*ours, strict=True))
    return trained, validated, judged, statistics.median(bare)


def _ours(features: Tensor, targets: Tensor) -> Iterator[tuple[float, float, float]]:
    torch.manual_seed(SEED)
    head = Head(FEATURES, LABELS, CONFIG)
    examples, val = Examples(POSTERS, features[:POSTERS]), Examples(VAL, features[POSTERS:])
    val_targets = targets[POSTERS:].numpy() > 0
    for result in train_head(head, examples, targets[:POSTERS], val, CONFIG, SEED):
        started = time.perf_counter()
        probabilities = result.predict_val()
        predicted = time.perf_counter()
        _judge(probabilities, val_targets)
        ended = time.perf_counter()
        yield result.seconds - (predicted - started), predicted - started, ended - predicted


def _judge(probabilities: Array, targets: np.ndarray) -> None:
    """What a trial does after every epoch."""
    thresholds = fit(DEFAULT_STRATEGY, probabilities, targets, "f1_macro")
    score(probabilities, targets, thresholds.values)


def bare_epochs(features: Tensor, targets: Tensor, config: TrialConfig) -> Iterator[float]:
    """Train a dense head on features (N, D) and targets (N, L) in plain PyTorch; yield the seconds of each epoch."""
    torch.manual_seed(SEED)
    head = _bare_head(features.shape[1], targets.shape[1], config)
    optimizer = torch.optim.AdamW(head.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)
    features = (features - features.mean(0)) / features.std(0).clamp_min(SMALLEST_DEVIATION)
    targets = targets * (1 - config.label_smoothing) + config.label_smoothing / 2
    for _ in range(config.epochs):
        started = time.perf_counter()
        for rows in torch.randperm(len(features)).split(config.batch_size):
            optimizer.zero_grad()
            logits = head(features[rows])
            sigmoid_focal_loss(logits, targets[rows], config.focal_alpha, config.focal_gamma, "mean").backward()
            optimizer.step()
        yield time.perf_counter() - started


def _bare_head(n_features: int, n_labels: int, config: TrialConfig) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(config.input_dropout)]
    width = n_features
    for _ in range(config.hidden_layers):
        layers.append(nn.Linear(width, config.width))
        width = config.width
        if config.norm in NORMS:
            layers.append(NORMS[config.norm](width))
        layers += [ACTIVATIONS[config.activation](), nn.Dropout(config.dropout)]
    return nn.Sequential(*layers, nn.Linear(width, n_labels))


if __name__ == "__main__":
    main()
