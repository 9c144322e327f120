"""The only training loop: features that are already in memory → one EpochResult per epoch.

The loop knows nothing of metrics, thresholds or pruning. It yields the validation probabilities after each epoch and
whoever iterates decides when to stop, which is how one loop serves early stopping, the pruner and the tests.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters
from hpo.model.losses import focal_loss

_WARM_UP = 0.3  # share of one_cycle that climbs to the peak (Smith & Topin 2018, as in torch's OneCycleLR)


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int  # from 1
    train_loss: float
    val_probabilities: np.ndarray[Any, np.dtype[np.float32]]  # (N_val, L)
    learning_rate: float
    seconds: float


def train(
    head: Head, features: Tensor, targets: Tensor, val_features: Tensor, chosen: Hyperparameters, seed: int
) -> Iterator[EpochResult]:
    """Train ``head`` in place on ``features`` (N, D) and ``targets`` (N, L), and yield after every epoch.

    ``val_features`` (N_val, D) are only looked at. Deterministic by ``seed`` on one machine. The head is in evaluation
    mode whenever the caller has control.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout draws from the global generator
    head.fit_statistics(features, targets)
    with torch.no_grad():
        features, val_features = head.standardise(features), head.standardise(val_features)
    optimizer = build_optimizer(head, chosen)
    schedule = build_schedule(optimizer, chosen, steps_per_epoch=_n_steps(len(features), chosen.batch_size))
    for epoch in range(1, chosen.epochs + 1):
        started = time.perf_counter()
        loss = _train_epoch(head, features, targets, optimizer, schedule, chosen, generator)
        probabilities = predict_probabilities(head, val_features)
        rate = optimizer.param_groups[0]["lr"]
        yield EpochResult(epoch, loss, probabilities, rate, time.perf_counter() - started)


def _train_epoch(
    head: Head,
    features: Tensor,
    targets: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
    chosen: Hyperparameters,
    generator: torch.Generator,
) -> float:
    head.train()
    total = torch.zeros(())
    order = torch.randperm(len(features), generator=generator)
    n_steps = _n_steps(len(features), chosen.batch_size)
    for rows in order.tensor_split(
        n_steps
    ):  # near-equal batches: none is left with one poster, which BatchNorm refuses
        loss = focal_loss(
            head.classify(features[rows]),
            targets[rows],
            chosen.focal_gamma,
            chosen.focal_alpha,
            chosen.label_smoothing,
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += loss.detach() * len(rows)
    head.eval()
    return float(total) / len(features)


def _n_steps(n_posters: int, batch_size: int) -> int:
    return max(1, min(round(n_posters / batch_size), n_posters // 2))


def predict_probabilities(head: Head, standardised: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return float32 probabilities (N, L) of standardised features (N, D)."""
    with torch.inference_mode():
        probabilities: np.ndarray[Any, np.dtype[np.float32]] = torch.sigmoid(head.classify(standardised)).numpy()
    return probabilities


def build_optimizer(head: nn.Module, chosen: Hyperparameters) -> torch.optim.AdamW:
    """AdamW with decoupled weight decay on matrices alone: decaying biases and norms only costs fit."""
    decayed = [p for p in head.parameters() if p.ndim > 1]
    free = [p for p in head.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": chosen.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=chosen.learning_rate, fused=True)


def build_schedule(optimizer: torch.optim.Optimizer, chosen: Hyperparameters, steps_per_epoch: int) -> LambdaLR:
    """The learning rate's factor by step: constant, half a cosine to zero, or a linear climb and a cosine."""
    total = chosen.epochs * steps_per_epoch

    def cosine(progress: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * progress))

    def one_cycle(progress: float) -> float:
        climb = 0.04 + 0.96 * progress / _WARM_UP
        return climb if progress < _WARM_UP else cosine((progress - _WARM_UP) / (1 - _WARM_UP))

    shapes = {"constant": lambda _: 1.0, "cosine": cosine, "one_cycle": one_cycle}
    shape = shapes[chosen.schedule]
    return LambdaLR(optimizer, lambda step: shape(min(1.0, step / total)))
