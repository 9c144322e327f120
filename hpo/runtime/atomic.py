"""Write files atomically: they appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


_TEMPORARY = ".tmp"


def write_array(path: Path, array: Array) -> None:
    """Save ``array`` under ``path`` so that the file is either absent or whole."""
    with _appearing_whole(path) as file:
        np.save(file, array, allow_pickle=False)


def write_whole(path: Path, content: bytes | memoryview) -> None:
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
