"""An epoch of the last stage, from cached activations and otherwise: `python -m benchmarks.finetune`.

The same posters, batches, head, loss and optimiser three times: as a trial trains, through the whole backbone as any
tutorial does, and as a bare loop of the same layers on activations that lie in memory as float32. They take turns, and
the median epoch counts. The labels are drawn: what an epoch costs does not depend on them.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.machine import Gap, log, shared_posters
from hpo.data.images import read_posters
from hpo.model.backbones.backbone import Backbone, choose_columns, load_backbone
from hpo.model.backbones.feature_cache import activation_cache, decoded, feature_cache
from hpo.model.backbones.freeze_points import FreezePoint, find_freeze_point
from hpo.model.classifier import build_head
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head
from hpo.model.training.dataloader import Examples, StoredRows
from hpo.model.training.finetune import FineTuned
from hpo.model.training.loop import finetune_phase, train

BACKBONE, SIZE, POSTERS, LABELS, BATCH, EPOCHS, REPEATS, SEED = "tf_efficientnet_lite0", 224, 256, 19, 32, 2, 3, 0
CONFIG = TrialConfig.model_validate(
    {
        "backbone": BACKBONE, "image_size": SIZE, "features": "final", "hidden_layers": 0, "input_dropout": 0.0,
        "weight_decay": 0.0, "label_smoothing": 0.0, "focal_gamma": 0.0, "focal_alpha": 0.5, "learning_rate": 1e-3,
        "schedule": "constant", "batch_size": 256, "epochs": 1, "patience": 1, "unfreeze": "last_stage",
        "finetune_schedule": "constant", "warm_up": 0.0, "finetune_batch_size": BATCH, "finetune_epochs": EPOCHS,
    }
)  # fmt: skip

Epochs = Iterator[tuple[float, float]]  # the mean loss and the seconds of each


@dataclass(frozen=True)
class Cached:
    """What is there before the first epoch."""

    backbone: Backbone
    point: FreezePoint
    pixels: Tensor  # uint8 (N, H, W, 3)
    features: Tensor  # (N, D)
    activations: StoredRows
    targets: Tensor  # (N, L)


def main() -> None:
    """Measure and log."""
    runs = _measure((_ours, _whole, _bare))
    ours, whole, bare = (statistics.median(s for run in runs for _, s in run[at]) for at in range(3))
    losses = np.array([[loss for loss, _ in epochs] for epochs in runs[0]])
    apart = np.abs(losses[0] - losses[1]).max()
    parallel = f"{torch.get_num_threads()} threads"
    lines = [
        f"{BACKBONE}, {SIZE} px, {POSTERS} posters in batches of {BATCH}, {parallel}, {REPEATS} × {EPOCHS} epochs.\n",
        f"- an epoch of the last stage: ours {ours:.2f} s, through the whole backbone {whole:.2f} s, bare {bare:.2f} s",
        f"- ours is {whole / ours:.1f} × as fast as through the whole backbone (3 is the goal)",
        f"- ours : bare loop of the same layers = {bare / ours:.2f} (speed; 0.8 is the goal)",
        f"- losses of ours and of the whole backbone are apart by {apart:.1e} at most (1e-3 is the goal)",
    ]
    log("an epoch of the last stage", "python -m benchmarks.finetune", lines)


def gap() -> Gap:
    """Return the gap to a bare loop of the same layers."""
    runs = _measure((_ours, _bare))
    ours, bare = (statistics.median(s for run in runs for _, s in run[at]) for at in range(2))
    return Gap("an epoch of the last stage", ours, bare, "activations read from the cache in half precision")


def _measure(ways: Sequence[Callable[[Cached], Epochs]]) -> list[list[list[tuple[float, float]]]]:
    """Return, for each turn and way, the loss and the seconds of each epoch."""
    with tempfile.TemporaryDirectory() as folder:
        cached = _prepare(Path(folder))
        return [[list(epochs(cached)) for epochs in ways] for _ in range(REPEATS)]


def _prepare(folder: Path) -> Cached:
    _, images = shared_posters("movie-posters")
    posters = read_posters(sorted(images.iterdir())[:POSTERS])
    backbone = load_backbone(BACKBONE, SIZE)
    point = find_freeze_point(backbone, CONFIG.unfreeze)
    if point is None:
        raise RuntimeError(f"{BACKBONE} has no freeze point")
    features, activations = feature_cache(folder, backbone), activation_cache(folder, backbone, point)
    for cache in (features, activations):
        cache.ensure(posters)
    return Cached(
        backbone,
        point,
        torch.from_numpy(decoded(features.images, posters)),
        torch.from_numpy(features.load(posters, choose_columns(backbone, CONFIG))),
        StoredRows(posters, (activations.load,)),
        (torch.rand(POSTERS, LABELS, generator=torch.Generator().manual_seed(SEED)) < 0.15).float(),
    )


def _head(cached: Cached) -> Head:
    torch.manual_seed(SEED)
    head = build_head([cached.backbone], LABELS, CONFIG)
    head.fit_statistics(cached.features, cached.targets)
    return head


def _ours(cached: Cached) -> Epochs:
    network = FineTuned([cached.backbone], [cached.point], _head(cached), CONFIG)
    examples = Examples(POSTERS, cached.features, (cached.activations,))
    val = examples.select(torch.arange(2))  # a poster or two: the others do not validate at all
    phase = finetune_phase(network, CONFIG, SEED)
    for result in train(network, examples, cached.targets, val, phase, CONFIG, SEED):
        yield result.train_loss, result.seconds


def _whole(cached: Cached) -> Epochs:
    backbone, head = copy.deepcopy(cached.backbone).to(memory_format=torch.channels_last), _head(cached)
    columns = torch.from_numpy(choose_columns(backbone, CONFIG))
    frozen = (*cached.point.skipped, cached.point.module)
    behind = [
        p
        for name, p in backbone.network.named_parameters()
        if not name.startswith(tuple(f"{module}." for module in frozen))
    ]
    for parameter in behind:
        parameter.requires_grad_(True)
    yield from _loop(lambda rows: head(backbone(cached.pixels[rows])[:, columns]), behind, head, cached.targets)


def _bare(cached: Cached) -> Epochs:
    """The layers themselves, from float32 activations in memory."""
    network, head = copy.deepcopy(cached.backbone.network), _head(cached)
    tail = nn.Sequential(*(network.get_submodule(module) for stage in cached.point.trained for module in stage))
    tail = tail.requires_grad_(True).to(memory_format=torch.channels_last)
    activations = cached.activations.take(np.arange(POSTERS)).float().contiguous(memory_format=torch.channels_last)
    yield from _loop(
        lambda rows: head(tail(activations[rows]).flatten(1)), list(tail.parameters()), head, cached.targets
    )


def _loop(logits_of: Callable[[Tensor], Tensor], stages: list[nn.Parameter], head: Head, targets: Tensor) -> Epochs:
    rates = CONFIG.finetune_learning_rate, CONFIG.finetune_head_learning_rate
    groups = [{"params": p, "lr": lr} for p, lr in zip((stages, list(head.parameters())), rates, strict=True)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(EPOCHS):
        started, total = time.perf_counter(), 0.0
        for rows in torch.randperm(POSTERS, generator=generator).split(BATCH):
            loss = binary_cross_entropy_with_logits(logits_of(rows), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
        yield total / POSTERS, time.perf_counter() - started


if __name__ == "__main__":
    main()
