"""Write files atomically: they appear whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

TEMPORARY = ".tmp"  # ends the names of files that a killed process leaves


def write_array(path: Path, array: Array) -> None:
    """Save ``array`` under ``path`` so that the file is either absent or whole."""
    with appearing_whole(path) as temporary, temporary.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write ``content`` to ``path``, with its folders, so that the file is either as before or whole."""
    with appearing_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def appearing_whole(path: Path, within: Path | None = None) -> Iterator[Path]:
    """Yield a path to write to, which takes the place of ``path`` at the end, or leaves no trace after an error.

    It lies beside ``path``, or in the folder ``within``, which must be on the same disk. Folders are made as needed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (within or path.parent) / f".{secrets.token_hex(8)}{TEMPORARY}"
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
