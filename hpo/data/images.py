"""Posters identified by content digest, and the cache of decoded images.

The cache holds uint8, since float32 would be four times as large and the backbone normalises anyway.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import numpy as np

from hpo.data.decoding import DECODING_VERSION, Framing, content_of, decode
from hpo.data.shards import DIGEST_BYTES, ShardStore
from hpo.errors import DataError
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFn, n_cores, one_ahead

MAX_BROKEN_SHARE = 0.1  # above this the folder is wrong, not a few posters
SHARD_POSTERS = 256
_DIGESTS_A_THREAD = 64


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

    def blocks(self, n_posters: int) -> Iterator[Posters]:
        """Yield the posters in order, ``n_posters`` at a time."""
        for start in range(0, len(self), n_posters):
            yield self.take(range(start, min(start + n_posters, len(self))))


def read_posters(paths: Sequence[Path]) -> Posters:
    """Read every file once for its digest. An unreadable file gets one of its own and fails at decoding."""
    # A file in memory is read faster than a thread is handed it, so that threads get many; a disk likes them to queue.
    starts = range(0, len(paths), _DIGESTS_A_THREAD)
    with ThreadPoolExecutor(n_cores()) as pool:
        digests = pool.map(lambda start: [_digest(path) for path in paths[start : start + _DIGESTS_A_THREAD]], starts)
        return Posters(tuple(paths), tuple(chain.from_iterable(digests)))


def _digest(path: Path) -> bytes:
    try:
        content = content_of(path)
    except OSError:
        content = b"unreadable: " + os.fsencode(path)
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


class DecodedImages:
    """The decoded posters of one framing: uint8 (N, size_px, size_px, 3), memory-mapped."""

    def __init__(self, cache_dir: Path, framing: Framing) -> None:
        self.framing = framing
        folder = cache_dir / "images" / f"{framing.key}-v{DECODING_VERSION}"
        self._store = ShardStore(folder, (framing.size_px, framing.size_px, 3), np.uint8)

    def missing(self, posters: Posters) -> int:
        """Return how many posters have not been decoded so."""
        return len(self._store.missing(posters.digests))

    def ensure(self, posters: Posters, progress: ProgressFn = lambda _: None) -> dict[int, str]:
        """Decode what is missing, and return why for each row that cannot be decoded.

        Raises DataError when more than a tenth of the posters are broken, or when the disk refuses.
        """
        with self._store.writing():
            reasons = self._decode_missing(posters, progress)  # by digest: equal posters are equally broken
        broken = {row: reasons[digest] for row, digest in enumerate(posters.digests) if digest in reasons}
        if len(broken) > MAX_BROKEN_SHARE * len(posters):
            first = min(broken)
            raise DataError(
                f"Expected posters that can be decoded, got {len(broken)} broken ones among {len(posters)} (the first "
                f"is {posters.paths[first]}: {broken[first]}): fix or remove them, then type the command again."
            )
        return broken

    def _decode_missing(self, posters: Posters, progress: ProgressFn) -> dict[bytes, str]:
        todo = posters.take(self._store.missing(posters.digests))
        reasons: dict[bytes, str] = {}
        with ThreadPoolExecutor(n_cores()) as pool:
            for started in one_ahead(self._start(pool, block) for block in todo.blocks(SHARD_POSTERS)):
                reasons |= self._keep(*started)
                progress(len(started[0]))
        return reasons

    def _start(self, pool: ThreadPoolExecutor, block: Posters) -> tuple[Posters, Array, Iterator[str | None]]:
        """Begin to decode a block; the reasons come when they are known, None where the pixels are there."""
        pixels = np.empty((len(block), *self._store.row_shape), np.uint8)
        return block, pixels, pool.map(self._decode_into, pixels, block.paths)

    def _decode_into(self, pixels: Array, path: Path) -> str | None:
        try:
            pixels[:] = decode(path, self.framing)
        except (OSError, ValueError) as error:
            return str(error)
        return None

    def _keep(self, block: Posters, pixels: Array, answers: Iterator[str | None]) -> dict[bytes, str]:
        """Write what was decoded of a block as a shard, and return the reasons of the others by digest."""
        reasons = {digest: reason for digest, reason in zip(block.digests, answers, strict=True) if reason is not None}
        whole = [row for row, digest in enumerate(block.digests) if digest not in reasons]
        if whole:
            self._store.append(block.take(whole).digests, pixels[whole] if reasons else pixels)
        return reasons

    def load(self, posters: Posters) -> Array:
        """Return uint8 (N, size_px, size_px, 3) in the order of ``posters``, each of which must have been decoded."""
        return self._store.gather(posters.digests)
