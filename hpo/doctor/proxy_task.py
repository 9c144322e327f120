"""Proxy task for the check of unused parameters: drawn posters, tiny networks, a few steps an epoch.

A value of a search space is replaced where it is about size (backbones, pixels, posters a step, epochs, the steps over
which weights are averaged) and kept everywhere else. The replacements keep the order of the values and keep them
distinct, so what differs in the space differs here. Limitation: effects that appear only at scale are missed; a
parameter without effect here is not used by the code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np

from hpo.data.dataset import Part
from hpo.data.images import read_posters
from hpo.data.sample.sample import write_sample
from hpo.data.sample.shows import invent_shows
from hpo.model.config import FUSE, TrialConfig
from hpo.space.schema import Scalar
from hpo.trial.features import FeatureSource

Tried: TypeAlias = Mapping[str, Sequence[Scalar]]  # hyperparameter → the values that are tried of it

# timm's smallest, without those that scale their branches by 1e-6 at first: what is dropped of them shows nowhere.
NETWORKS = (
    "test_efficientnet", "test_resnet", "test_vit2", "test_efficientnet_gn", "test_byobnet", "test_mambaout",
)  # fmt: skip
TRAIN_POSTERS, VAL_POSTERS = 32, 16
LABELS = ("Action", "Comedy", "Drama", "Fantasy")  # the commonest of the sample
_NEED_MANY_EPOCHS = ("patience", "max_seconds", "averaging", "ema_decay")


@dataclass(frozen=True, eq=False)
class ProxyTask:
    """What every small trial shares."""

    train: Part
    val: Part
    source: FeatureSource


@contextmanager
def open_proxy_task(seed: int = 0) -> Iterator[ProxyTask]:
    """Draw the posters, and delete them with everything cached of them afterwards."""
    with TemporaryDirectory(prefix="hpo-doctor-") as folder:
        part = _draw(Path(folder), seed)
        parts = np.split(np.arange(TRAIN_POSTERS + VAL_POSTERS), [TRAIN_POSTERS])
        train, val = (Part(part.posters.take(rows), part.targets[rows]) for rows in parts)
        weights = dict.fromkeys(NETWORKS, "random")
        yield ProxyTask(train, val, FeatureSource(Path(folder) / "cache", weights, lambda *_: nullcontext(_ignore)))


def _draw(folder: Path, seed: int) -> Part:
    n_posters = TRAIN_POSTERS + VAL_POSTERS
    write_sample(folder / "sample", n_posters, seed)
    shows = [show for show in invent_shows(n_posters, seed) if show.is_usable]
    paths = [folder / "sample" / "images" / f"{show.anime_id}.jpg" for show in shows]
    return Part(read_posters(paths), np.array([[label in show.genres for label in LABELS] for show in shows]))


def _ignore(_n_posters: int) -> None:
    pass


class ProxyNetworks:
    """Configurations of a search space → configurations of the proxy task."""

    def __init__(self, tried: Tried) -> None:
        self._tried = tried
        singles = dict.fromkeys(name for choice in tried["backbone"] for name in str(choice).split(FUSE))
        self._networks = {name: NETWORKS[at % len(NETWORKS)] for at, name in enumerate(singles)}

    def shrink(self, config: TrialConfig, examined: str) -> TrialConfig:
        """Return ``config`` at the proxy task's size, ready to show the effect of the parameter ``examined``.

        Limits hold only where they are examined: a trial that ends before an effect shows would hide it.
        """
        smaller = {name: self._sized(name, getattr(config, name)) for name in _SIZES}
        smaller |= {limit: unlimited for limit, unlimited in _UNLIMITED.items() if limit != examined}
        if examined in _NEED_MANY_EPOCHS:
            smaller["epochs"] = 12 * len(self._tried[examined])
        return config.model_copy(update={**smaller, "backbone": self._network(config.backbone), "compile": False})

    def _network(self, backbone: str) -> str:
        return FUSE.join(dict.fromkeys(self._networks[name] for name in backbone.split(FUSE)))

    def _sized(self, name: str, value: Scalar) -> float:
        in_order = sorted({_as_number(name, value) for value in self._tried[name]})
        return _SIZES[name](in_order.index(_as_number(name, value)), len(in_order))


def _as_number(name: str, value: Scalar) -> float:
    if name == "max_seconds" and not value:
        return math.inf  # no limit
    return float(value) if isinstance(value, int | float) else 0.0  # native, here the smallest


def _batch(rank: int, n_values: int) -> int:
    """Half of the posters for the largest batch, a third for the next."""
    return TRAIN_POSTERS // (n_values - rank + 1)


def _epochs(rank: int, _n_values: int) -> int:
    return 1 + rank


_SIZES: dict[
    str, Callable[[int, int], float]
] = {  # rank of a value among those tried, and their number → its replacement
    "image_size": lambda rank, _: 48 + 32 * rank,
    "batch_size": _batch,
    "finetune_batch_size": _batch,
    "epochs": _epochs,
    "finetune_epochs": _epochs,
    "patience": lambda rank, _: 1 + 6 * rank,
    "ema_decay": lambda rank, _: 1 - 0.5 ** (rank + 1),
    "max_seconds": lambda rank, n_values: 0.0 if rank == n_values - 1 else 1e-6,
}
_UNLIMITED = {"patience": 10_000, "max_seconds": 0.0}
