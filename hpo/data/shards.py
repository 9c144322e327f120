"""Rows of one shape, kept on disk by content: written once, memory-mapped ever after.

A shard is a pair of immutable files: ``<name>.npy`` holds up to a few hundred rows, ``<name>.keys.npy`` the digest of
the poster that each row was made from. The keys are renamed into place last, so a shard without keys does not exist:
a process that is killed, or a disk that fills, loses at most the shard in hand. Nothing is ever rewritten, so readers
need no lock; writers take one only so that two processes do not compute the same rows.

The trade-off: a shard is never compacted. Rows that nobody asks for stay until the folder is deleted, which is safe
at any time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from numpy.lib.format import open_memmap

from hpo.errors import DataError

Array = np.ndarray[Any, np.dtype[Any]]

DIGEST_BYTES = 16
_KEYS = ".keys.npy"
_TEMPORARY = ".tmp"
_ALL = slice(None)


class ShardStore:
    """The rows of one kind (say: 224 px RGB, or one backbone's features), found by poster digest."""

    def __init__(self, folder: Path, row_shape: tuple[int, ...], dtype: np.dtype[Any] | type) -> None:
        self.folder = folder
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self._known: set[str] = set()  # names of the shards that were looked at
        self._places: dict[bytes, tuple[str, int]] = {}  # poster digest -> (shard name, row)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error
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
        except (OSError, ValueError):
            return  # a damaged shard counts as absent: its rows are made again
        if rows.shape != (len(keys), *self.row_shape) or rows.dtype != self.dtype:
            return
        self._known.add(name)
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
            for leftover in self.folder.glob(f"*{_TEMPORARY}"):
                leftover.unlink(missing_ok=True)
            self.refresh()
            yield

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Return the positions in ``digests`` that have no row yet; of equal posters only the first counts."""
        first_seen = {digest: position for position, digest in reversed(list(enumerate(digests)))}
        return [position for digest, position in sorted(first_seen.items(), key=lambda item: item[1])
                if digest not in self._places]  # fmt: skip

    def append(self, digests: Sequence[bytes], rows: Array) -> None:
        """Write ``rows`` (n, *row_shape) as one immutable shard. Raises DataError when the disk refuses."""
        keys = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), DIGEST_BYTES)
        name = blake2b(keys.tobytes(), digest_size=8).hexdigest()
        try:
            write_array(self.folder / f"{name}.npy", np.asarray(rows, dtype=self.dtype))
            write_array(self.folder / f"{name}{_KEYS}", keys)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self._take_in(name)

    def gather(self, digests: Sequence[bytes], columns: Array | slice = _ALL) -> Array:
        """Return the rows of ``digests`` in their order, as a new array (N, *row_shape); KeyError if one is missing.

        ``columns`` takes only some entries of each row, so that a narrow choice never holds the wide rows.
        """
        by_shard: dict[str, list[tuple[int, int]]] = {}  # shard -> (position in digests, row in the shard)
        for position, digest in enumerate(digests):
            name, row = self._places[digest]
            by_shard.setdefault(name, []).append((position, row))
        gathered: Array | None = None
        for name, places in by_shard.items():
            positions, rows = np.array(places).T
            taken = self._map(name)[rows][:, columns]
            if gathered is None:
                gathered = np.empty((len(digests), *taken.shape[1:]), self.dtype)
            gathered[positions] = taken
        return np.empty((0, *self.row_shape), self.dtype) if gathered is None else gathered


def write_array(path: Path, array: Array) -> None:
    """Save ``array`` under ``path`` so that the file is either absent or whole."""
    with _appearing_whole(path) as file:
        np.save(file, array, allow_pickle=False)


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, with its folders, so that the file is either as before or whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _appearing_whole(path) as file:
        file.write(content)


@contextmanager
def _appearing_whole(path: Path) -> Iterator[IO[bytes]]:
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=_TEMPORARY)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _cannot_write(folder: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    return DataError(
        f"The cache folder {folder} could not be written ({reason}): "
        "free some space, or name another folder with --cache-dir."
    )
