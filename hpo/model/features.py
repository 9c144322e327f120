"""Cached features: each poster goes through each backbone once, ever.

The cache is keyed by content (the poster's bytes, the backbone's weights, the preprocessing and the precision), so it
is right across searches, data sets and renamed files, and nothing ever needs to be invalidated. A search of the same
posters next week starts training at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.data.images import DecodedImages, Posters, Progress
from hpo.data.shards import Array, ShardStore
from hpo.model.backbones import Backbone
from hpo.model.forward import fastest_forward, precision

_SHARD_POSTERS = 256  # what a kill can cost: a few seconds of forward passes


@dataclass(frozen=True)
class FeatureCache:
    """The features of one backbone at one size: float32 (N, backbone.layout.width), memory-mapped."""

    store: ShardStore
    images: DecodedImages
    backbone: Backbone

    @classmethod
    def open(cls, cache_dir: Path, backbone: Backbone) -> FeatureCache:
        """Open, or begin, the cache of ``backbone`` under ``cache_dir``."""
        key = f"{backbone.name}-{backbone.image_size}-{backbone.fingerprint()}-{precision()}"
        store = ShardStore(cache_dir / "features" / key, (backbone.layout.width,), np.float32)
        return cls(store, DecodedImages(cache_dir, backbone.image_size), backbone)

    def missing(self, posters: Posters) -> int:
        """Return how many posters have not been through the backbone."""
        return len(self.store.missing(posters.digests))

    def ensure(self, posters: Posters, progress: Progress = lambda _: None) -> None:
        """Compute what is missing. Raises DataError when the disk refuses."""
        if not self.missing(posters):
            return
        with self.store.lock():
            self.store.refresh()
            todo = posters.take(self.store.missing(posters.digests))
            if todo:
                self._compute(todo, progress)

    def _compute(self, todo: Posters, progress: Progress) -> None:
        self.images.ensure(todo)
        forward = fastest_forward(self.backbone, self.backbone.image_size)
        for start in range(0, len(todo), _SHARD_POSTERS):
            block = todo.take(range(start, min(start + _SHARD_POSTERS, len(todo))))
            self.store.append(block.digests, forward.over(self.images.load(block), progress))

    def load(self, posters: Posters, columns: Array) -> Array:
        """Return float32 (N, len(columns)) in the order of ``posters``, each of which must have been computed."""
        return self.store.gather(posters.digests, columns)
