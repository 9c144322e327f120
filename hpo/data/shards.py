"""Shards: cached rows of one shape on disk, keyed by content, written once and memory-mapped.

A shard is a pair of immutable files: ``<name>.npy`` holds up to a few hundred rows, ``<name>.keys.npy`` the digest of
the poster that each row was made from, and last a checksum of both files. Each process checks a shard before it first
uses it, and removes one that has changed on the disk, so that its rows are made again.

The keys are renamed into place last, so a shard without keys does not exist:
a process that is killed, or a disk that fills, loses at most the shard in hand. Nothing is ever rewritten, so readers
need no lock; writers take one only so that two processes do not compute the same rows.

The trade-off: a shard is never compacted. Rows that are not asked for stay until the folder is deleted, which is safe
at any time.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from hpo.errors import DataError, HpoError, ResourceError, disk_cure
from hpo.runtime.atomic import TEMPORARY, Array, write_array

DIGEST_BYTES = 16
_KEYS = ".keys.npy"
_BLOCK_BYTES = 2**20
_ALL = slice(None)


class ShardStore:
    """The rows of one kind (say: 224 px RGB, or one backbone's features), found by poster digest."""

    def __init__(self, folder: Path, row_shape: tuple[int, ...], dtype: np.dtype[Any] | type) -> None:
        self.folder = folder
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self._known: set[str] = set()  # names of the shards that were looked at
        self._checksums: dict[str, bytes] = {}  # of the shards that were not checked yet
        self._places: dict[bytes, tuple[str, int]] = {}  # poster digest -> (shard name, row)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        self.refresh()

    def refresh(self) -> None:
        """Take in the shards that any process has finished since the last look."""
        for keys_path in sorted(self.folder.glob(f"*{_KEYS}")):
            name = keys_path.name.removesuffix(_KEYS)
            if name not in self._known:
                self._take_in(name)

    def _take_in(self, name: str) -> None:
        try:
            keys = np.array(open_memmap(self.folder / f"{name}{_KEYS}", mode="r"))
            rows = self._map(name)
        except Exception:  # NumPy raises anything at a damaged header
            return  # a damaged shard counts as absent: its rows are made again
        n_rows = rows.shape[0] if rows.ndim else 0
        if rows.shape != (n_rows, *self.row_shape) or rows.dtype != self.dtype or keys.dtype != np.uint8:
            return
        if keys.shape == (n_rows + 1, DIGEST_BYTES):
            self._checksums[name] = keys[-1].tobytes()
        elif keys.shape != (n_rows, DIGEST_BYTES):  # a shard of an older version has no checksum
            return
        self._known.add(name)
        keys = keys[:n_rows]
        for row, key in enumerate(keys):
            self._places[key.tobytes()] = (name, row)

    def _map(self, name: str) -> Array:
        """Map a shard's rows (n, *row_shape). Maps are not kept, or what was once read would count as our memory."""
        return open_memmap(self.folder / f"{name}.npy", mode="r")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of the one writer, so that a second one waits and then finds the rows of the first.

        What is half written when the lock can be had was left by a writer that was killed, and is removed.
        """
        with FileLock(self.folder / "writer.lock"):
            for leftover in self.folder.glob(f"*{TEMPORARY}"):
                leftover.unlink(missing_ok=True)
            self.refresh()
            yield

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Return the positions in ``digests`` that have no row yet; of equal posters only the first counts."""
        self._remove_damaged({self._places[digest][0] for digest in digests if digest in self._places})
        first_seen = {digest: position for position, digest in reversed(list(enumerate(digests)))}
        return [position for digest, position in sorted(first_seen.items(), key=lambda item: item[1])
                if digest not in self._places]  # fmt: skip

    def append(self, digests: Sequence[bytes], rows: Array) -> None:
        """Write ``rows`` (n, *row_shape) as one immutable shard. Raises DataError when the disk refuses."""
        keys = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), DIGEST_BYTES)
        name = blake2b(keys.tobytes(), digest_size=8).hexdigest()
        try:
            write_array(self.folder / f"{name}.npy", np.asarray(rows, dtype=self.dtype))
            checksum = np.frombuffer(self._checksum(name, keys), dtype=np.uint8)
            write_array(self.folder / f"{name}{_KEYS}", np.vstack([keys, checksum]))
        except OSError as error:
            raise cannot_write(self.folder, error) from error
        self._take_in(name)
        self._checksums.pop(name, None)  # of what was just written

    def _checksum(self, name: str, keys: Array) -> bytes:
        """Hash a shard's keys and its file of rows, whose header counts too, without holding the rows in memory."""
        summed = blake2b(keys.tobytes(), digest_size=DIGEST_BYTES)
        with (self.folder / f"{name}.npy").open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                summed.update(block)
        return summed.digest()

    def _remove_damaged(self, names: set[str]) -> None:
        """Check the shards that this process has not used yet, and forget and remove those that have changed."""
        unchecked = sorted(names & self._checksums.keys())
        if not unchecked:
            return
        keys_of: dict[str, list[bytes]] = {name: [] for name in unchecked}
        for digest, (name, _) in self._places.items():
            if name in keys_of:
                keys_of[name].append(digest)
        with ThreadPoolExecutor() as pool:  # hashing holds no lock of Python's
            sound = list(pool.map(self._is_sound, unchecked))
        for name, is_sound in zip(unchecked, sound, strict=True):
            del self._checksums[name]
            if not is_sound:
                self._known.discard(name)
                for digest in keys_of[name]:
                    del self._places[digest]
                with suppress(OSError):  # a folder that cannot be written is reported when it is written
                    (self.folder / f"{name}{_KEYS}").unlink(missing_ok=True)

    def _is_sound(self, name: str) -> bool:
        try:
            keys = np.load(self.folder / f"{name}{_KEYS}", allow_pickle=False)[:-1]
            return self._checksum(name, keys) == self._checksums[name]
        except (OSError, ValueError, EOFError):
            return False

    def gather(self, digests: Sequence[bytes], columns: Array | slice = _ALL) -> Array:
        """Return the rows of ``digests`` in their order, as a new array (N, *row_shape); KeyError if one is missing.

        ``columns`` takes only some entries of each row, so that a narrow choice never holds the wide rows.
        """
        by_shard: dict[str, list[tuple[int, int]]] = {}  # shard -> (position in digests, row in the shard)
        for position, digest in enumerate(digests):
            name, row = self._places[digest]
            by_shard.setdefault(name, []).append((position, row))
        gathered: Array | None = None
        for name, paths in by_shard.items():
            positions, rows = np.array(paths).T
            try:
                taken = self._map(name)[rows][:, columns]
            except (OSError, ValueError) as error:
                raise DataError(
                    f"The cache folder {self.folder} was changed while it was in use ({name}.npy: {error}): "
                    "type the command again, which makes what is missing."
                ) from error
            if gathered is None:
                gathered = np.empty((len(digests), *taken.shape[1:]), self.dtype)
            gathered[positions] = taken
        return np.empty((0, *self.row_shape), self.dtype) if gathered is None else gathered


def cannot_write(folder: Path, error: OSError) -> HpoError:
    """Return a ResourceError for a full disk, which may be freed while a search runs, a DataError otherwise."""
    kind = ResourceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else DataError
    full = "the disk is full, " if kind is ResourceError else ""
    return kind(
        f"The cache folder {folder} could not be written ({full}{error.strerror or error}): "
        f"{disk_cure(error)}, or name another folder with --cache-dir."
    )
