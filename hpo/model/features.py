"""Cached features: each poster goes through each backbone once, ever.

The cache is keyed by content (the poster's bytes, how they are decoded, the backbone's weights and preprocessing, and
the precision), so it is right across searches, data sets and renamed files, and nothing ever needs to be invalidated.
A search of the same posters next week starts training at once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpo.data.decoding import DECODING_VERSION, Fit
from hpo.data.images import DecodedImages, Posters, Progress, one_ahead
from hpo.data.shards import Array, ShardStore
from hpo.errors import DataError
from hpo.model.backbones import Backbone
from hpo.model.forward import fastest_forward, precision

_SHARD_POSTERS = 256  # what a kill can cost: a few seconds of forward passes


@dataclass(frozen=True)
class FeatureCache:
    """The features of one backbone at one size and fit: float32 (N, backbone.layout.width), memory-mapped."""

    store: ShardStore
    images: DecodedImages
    backbone: Backbone

    @classmethod
    def open(cls, cache_dir: Path, backbone: Backbone, fit: Fit = "squash") -> FeatureCache:
        """Open, or begin, the cache of ``backbone`` on posters of that ``fit`` under ``cache_dir``."""
        pixels = f"{fit}-{backbone.image_size}-v{DECODING_VERSION}"
        key = f"{backbone.name}-{pixels}-{backbone.fingerprint()}-{precision()}"
        store = ShardStore(cache_dir / "features" / key, (backbone.layout.width,), np.float32)
        return cls(store, DecodedImages(cache_dir, backbone.image_size, fit), backbone)

    def missing(self, posters: Posters) -> int:
        """Return how many posters have not been through the backbone."""
        return len(self.store.missing(posters.digests))

    def ensure(self, posters: Posters, progress: Progress = lambda _: None) -> None:
        """Compute what is missing. Raises DataError when the disk refuses."""
        if not self.missing(posters):
            return
        with self.store.writing():
            todo = posters.take(self.store.missing(posters.digests))
            if todo:
                self._compute(todo, progress)

    def _compute(self, todo: Posters, progress: Progress) -> None:
        forward = fastest_forward(self.backbone, self.backbone.image_size)
        with ThreadPoolExecutor(1) as decoder:
            blocks = todo.blocks(_SHARD_POSTERS)
            for block, pixels in one_ahead((block, decoder.submit(self._decode, block)) for block in blocks):
                self.store.append(block.digests, forward.over(pixels.result(), progress))

    def _decode(self, block: Posters) -> Array:
        broken = self.images.ensure(block)
        for row, reason in broken.items():
            raise DataError(
                f"Expected posters that stay as they were, got {block.paths[row]}, which cannot be decoded any more "
                f"({reason}): put it back, or type the command again to go on without it."
            )
        return self.images.load(block)

    def load(self, posters: Posters, columns: Array) -> Array:
        """Return float32 (N, len(columns)) in the order of ``posters``, each of which must have been computed."""
        return self.store.gather(posters.digests, columns)
