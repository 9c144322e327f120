"""Batches of training examples: features in memory, maps or activations from the cache.

Every poster comes in one or several views (plain, mirrored, cropped). Row ``v * n_posters + n`` is poster n in view v,
so that a batch of any views is one lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpo.data.images import Posters
from hpo.runtime.atomic import Array
from hpo.runtime.progress import one_ahead

Load = Callable[[Posters], Array]  # posters → their rows in one view


@dataclass(frozen=True)
class StoredRows:
    """Rows that are too large to hold: read from the cache when a batch asks for them."""

    posters: Posters
    views: tuple[Load, ...]

    def take(self, rows: Array) -> Tensor:
        """Return the rows (B, ...) in the type that they are stored in."""
        view, poster = np.divmod(rows, len(self.posters))
        taken: Array | None = None
        for v in np.unique(view):
            at = np.flatnonzero(view == v)
            part = self.views[v](self.posters.take(poster[at]))
            if taken is None:
                taken = np.empty((len(rows), *part.shape[1:]), part.dtype)
            taken[at] = part
        if taken is None:
            raise ValueError("expected at least one row")
        return torch.from_numpy(taken)

    def select(self, rows: Array) -> StoredRows:
        """Return the posters at ``rows`` (M,) alone."""
        return StoredRows(self.posters.take(rows), self.views)


@dataclass(frozen=True, eq=False)
class Examples:
    """N posters in V views."""

    n_posters: int
    features: Tensor  # (V * N, D) float32
    stored: tuple[StoredRows, ...] = ()  # for each backbone: its maps, activations or posters

    @property
    def n_views(self) -> int:
        """How many rows each poster has."""
        return len(self.features) // self.n_posters

    def take(self, rows: Tensor) -> list[Tensor]:
        """Return what the network is called with for ``rows`` (B,): features (B, D), then each stored row (B, ...)."""
        return [self.features[rows], *(stored.take(rows.numpy()) for stored in self.stored)]

    def batches(self, batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield (rows, inputs) for each batch of rows; what must be read is read while the last one trains."""
        if not self.stored:
            yield from ((rows, self.take(rows)) for rows in batches)
            return
        with ThreadPoolExecutor(1) as reader:
            started = ((rows, reader.submit(self.take, rows)) for rows in batches)
            yield from ((rows, inputs.result()) for rows, inputs in one_ahead(started))

    def with_features(self, features: Tensor) -> Examples:
        """Return the same posters with other features (V * N, D)."""
        return Examples(self.n_posters, features, self.stored)

    def first_views(self, n_views: int) -> Examples:
        """Return the same posters in the first of their views alone."""
        return Examples(self.n_posters, self.features[: n_views * self.n_posters], self.stored)

    def select(self, rows: Tensor) -> Examples:
        """Return the posters at ``rows`` (M,) alone, in every view."""
        by_view = self.features.view(self.n_views, self.n_posters, -1)[:, rows]
        return Examples(len(rows), by_view.flatten(0, 1), tuple(stored.select(rows.numpy()) for stored in self.stored))


def joined(first: Examples, second: Examples) -> Examples:
    """Return the posters of both, which have the same views."""
    parts = [examples.features.view(examples.n_views, examples.n_posters, -1) for examples in (first, second)]
    stored = [
        StoredRows(Posters(a.posters.paths + b.posters.paths, a.posters.digests + b.posters.digests), a.views)
        for a, b in zip(first.stored, second.stored, strict=True)
    ]
    return Examples(first.n_posters + second.n_posters, torch.cat(parts, 1).flatten(0, 1), tuple(stored))
