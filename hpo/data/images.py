"""Posters as pixels: how one is decoded, and the cache that decodes each only once per size.

Decoding is the same function for training and for prediction: RGB as a person sees it (orientation applied,
transparency on white), squashed to a square with bicubic resampling and antialiasing. The cache holds uint8, since
float32 would be four times as large and the backbone normalises anyway.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hpo.data.shards import DIGEST_BYTES, Array, ShardStore
from hpo.errors import DataError

MAX_BROKEN_SHARE = 0.1  # above this the folder is wrong, not a few posters
SHARD_POSTERS = 256

Progress = Callable[[int], None]  # called with the number of posters that were just finished
Phase = Callable[[str, int], AbstractContextManager[Progress]]  # (what, how many posters) → their progress


def decode(source: Path | bytes | Image.Image, size_px: int) -> Array:
    """Return one poster as uint8 (size_px, size_px, 3).

    Raises OSError or ValueError for anything that is not a whole image, and for one of more pixels than Pillow's
    limit against decompression bombs.
    """
    if isinstance(source, Image.Image):
        return _squash(source, size_px)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                image.draft("RGB", (2 * size_px, 2 * size_px))  # JPEG only: skips detail that is thrown away anyway
                return _squash(image, size_px)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning, SyntaxError, EOFError) as error:
            raise OSError(str(error)) from error


def _squash(image: Image.Image, size_px: int) -> Array:
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        opaque = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(opaque, upright.convert("RGBA"))
    return np.asarray(upright.convert("RGB").resize((size_px, size_px), Image.Resampling.BICUBIC))


@dataclass(frozen=True)
class Posters:
    """Image files and the digest of each file's bytes: what the caches are keyed by."""

    paths: tuple[Path, ...]
    digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Sequence[int] | Array) -> Posters:
        """Return the posters at ``rows``, in that order."""
        return Posters(tuple(self.paths[row] for row in rows), tuple(self.digests[row] for row in rows))


def read_posters(paths: Sequence[Path]) -> Posters:
    """Read every file once for its digest. An unreadable file gets the digest of nothing and fails at decoding."""
    with ThreadPoolExecutor(n_cores()) as pool:
        return Posters(tuple(paths), tuple(pool.map(_digest, paths)))


def _digest(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class DecodedImages:
    """The decoded posters of one size: uint8 (N, size_px, size_px, 3), memory-mapped."""

    def __init__(self, cache_dir: Path, size_px: int) -> None:
        self.size_px = size_px
        self._store = ShardStore(cache_dir / "images" / f"squash-{size_px}", (size_px, size_px, 3), np.uint8)

    def missing(self, posters: Posters) -> int:
        """Return how many posters have not been decoded at this size."""
        return len(self._store.missing(posters.digests))

    def ensure(self, posters: Posters, progress: Progress = lambda _: None) -> list[int]:
        """Decode what is missing and return the rows of the posters that cannot be decoded.

        Raises DataError when more than a tenth of the posters are broken, or when the disk refuses.
        """
        with self._store.lock():
            self._store.refresh()
            self._decode_missing(posters, progress)
        broken = [row for row, digest in enumerate(posters.digests) if digest not in self._store]
        if len(broken) > MAX_BROKEN_SHARE * len(posters):
            raise DataError(
                f"Expected posters that can be decoded, got {len(broken)} broken ones among {len(posters)} "
                f"(the first is {posters.paths[broken[0]]}): mend or remove them, then type the command again."
            )
        return broken

    def _decode_missing(self, posters: Posters, progress: Progress) -> None:
        todo = self._store.missing(posters.digests)
        with ThreadPoolExecutor(n_cores()) as pool:
            for start in range(0, len(todo), SHARD_POSTERS):
                rows = todo[start : start + SHARD_POSTERS]
                decoded = list(pool.map(self._decode_or_none, (posters.paths[row] for row in rows)))
                whole = [(posters.digests[row], image) for row, image in zip(rows, decoded, strict=True)
                         if image is not None]  # fmt: skip
                if whole:
                    self._store.append([digest for digest, _ in whole], np.stack([image for _, image in whole]))
                progress(len(rows))

    def _decode_or_none(self, path: Path) -> Array | None:
        try:
            return decode(path, self.size_px)
        except (OSError, ValueError):
            return None

    def load(self, posters: Posters) -> Array:
        """Return uint8 (N, size_px, size_px, 3) in the order of ``posters``, each of which must have been decoded."""
        return self._store.gather(posters.digests)
