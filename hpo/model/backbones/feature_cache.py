"""Feature cache: each poster and view passes each frozen network once.

Two kinds of rows are kept: the pooled features of a backbone, which heads train on, and the activations at a freeze
point (or the deepest map), which the stages behind it train on. The cache is keyed by content (the poster's bytes, how
they are decoded and viewed, the backbone's weights and preprocessing, and the precision), so it is right across
searches, data sets and renamed files, and nothing ever needs to be invalidated.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hpo.data.decoding import DECODING_VERSION, Fit
from hpo.data.images import DecodedImages, Posters
from hpo.data.shards import ShardStore
from hpo.errors import DataError
from hpo.model.backbones.backbone import Backbone
from hpo.model.backbones.freeze_points import FreezePoint, Stem
from hpo.model.backbones.inference import fastest_forward, precision
from hpo.model.backbones.views import PLAIN, View
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFn, one_ahead

ALL_COLUMNS = slice(None)
_SHARD_POSTERS = 256  # what a kill can cost: a few seconds of forward passes


@dataclass(frozen=True)
class NetworkCache:
    """What a frozen network says of posters in one view: rows (N, *store.row_shape), memory-mapped."""

    store: ShardStore
    images: DecodedImages
    network: nn.Module  # uint8 (B, H, W, 3) → (B, *row_shape)
    view: View

    def missing(self, posters: Posters) -> int:
        """Return how many posters have not been through the network."""
        return len(self.store.missing(posters.digests))

    def ensure(self, posters: Posters, progress: ProgressFn = lambda _: None) -> None:
        """Compute what is missing. Raises DataError when the disk refuses."""
        if not self.missing(posters):
            return
        with self.store.writing():
            todo = posters.take(self.store.missing(posters.digests))
            if todo:
                self._compute(todo, progress)

    def _compute(self, todo: Posters, progress: ProgressFn) -> None:
        forward = fastest_forward(self.network, self.images.framing.size_px)
        with ThreadPoolExecutor(1) as decoder:
            blocks = todo.blocks(_SHARD_POSTERS)
            for block, pixels in one_ahead((block, decoder.submit(self._decode, block)) for block in blocks):
                self.store.append(block.digests, forward.over(pixels.result(), progress, full_batches=True))

    def _decode(self, block: Posters) -> Array:
        return self.view.apply(decoded(self.images, block), block.digests)

    def load(self, posters: Posters, columns: Array | slice = ALL_COLUMNS) -> Array:
        """Return the rows of ``posters`` in their order, each of which must have been computed; or some columns."""
        return self.store.gather(posters.digests, columns)


def decoded(images: DecodedImages, posters: Posters) -> Array:
    """Return the pixels of ``posters``, decoding what is missing. Raises DataError for one that is broken by now."""
    for row, reason in images.ensure(posters).items():
        raise DataError(
            f"Expected posters that stay as they were, got {posters.paths[row]}, which cannot be decoded any more "
            f"({reason}): put it back, or type the command again to continue without it."
        )
    return images.load(posters)


def feature_cache(cache_dir: Path, backbone: Backbone, fit: Fit = "squash", view: View = PLAIN) -> NetworkCache:
    """Open, or begin, the cache of pooled features, float32 (N, backbone.layout.width)."""
    rows = _rows(cache_dir / "features", backbone, fit, view, (backbone.layout.width,), np.float32)
    return NetworkCache(rows, DecodedImages(cache_dir, backbone.framing(fit)), backbone, view)


def activation_cache(
    cache_dir: Path, backbone: Backbone, point: FreezePoint, fit: Fit = "squash", view: View = PLAIN
) -> NetworkCache:
    """Open, or begin, the cache of activations at a freeze point, float16 (N, *point.activation_shape).

    Half precision halves the disk and the reading; what is behind the freeze point is trained and does not notice.
    """
    rows = _rows(cache_dir / "activations" / point.module, backbone, fit, view, point.activation_shape, np.float16)
    return NetworkCache(rows, DecodedImages(cache_dir, backbone.framing(fit)), Stem(backbone, point), view)


def map_cache(cache_dir: Path, backbone: Backbone, fit: Fit = "squash", view: View = PLAIN) -> NetworkCache:
    """Open, or begin, the cache of deepest maps, float16 (N, C, H, W)."""
    network = _DeepestMap(backbone)
    blank = torch.zeros(1, backbone.image_size, backbone.image_size, 3, dtype=torch.uint8)
    with torch.inference_mode():
        shape = tuple(network(blank).shape[1:])
    rows = _rows(cache_dir / "maps", backbone, fit, view, shape, np.float16)
    return NetworkCache(rows, DecodedImages(cache_dir, backbone.framing(fit)), network, view)


class _DeepestMap(nn.Module):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        deepest: Tensor = self.backbone.represent(images)[1]
        return deepest


def _rows(
    folder: Path, backbone: Backbone, fit: Fit, view: View, row_shape: tuple[int, ...], dtype: type
) -> ShardStore:
    name = re.sub(r"[^\w.-]", "-", backbone.name)  # a hub's name has a colon and a slash
    seen = backbone.framing(fit).key if view == PLAIN else f"{backbone.framing(fit).key}-{view.key}"
    key = f"{name}-{seen}-v{DECODING_VERSION}-{backbone.fingerprint()}-{precision()}"
    return ShardStore(folder / key, row_shape, dtype)
