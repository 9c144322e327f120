"""Digests of the posters that a bundle was trained on, so that evaluating on them is noticed.

They lie beside the weights as a sorted NumPy array of 8 bytes a poster. The trial and its thresholds were chosen on the
validation posters, so these count as well as those of training.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hpo.data.images import read_posters
from hpo.errors import BundleError

TRAINED_ON_FILE = "trained_on.npy"
_BYTES = 8  # of each digest: two of a million posters share one with probability 3e-8
_MOST_BYTES = 2**29  # 67 million posters

Digests = NDArray[np.uint64]  # (M,) ascending


def of_posters(digests: Sequence[bytes]) -> Digests:
    """Return the digests of posters (``Posters.digests``) as they are stored."""
    return np.unique(np.frombuffer(b"".join(digest[:_BYTES] for digest in digests), "<u8").astype(np.uint64))


def write_digests(folder: Path, digests: Digests) -> None:
    """Write the digests into the bundle in ``folder``. Raises OSError."""
    np.save(folder / TRAINED_ON_FILE, digests.astype("<u8"), allow_pickle=False)


def read_digests(folder: Path) -> Digests | None:
    """Return the digests of the bundle in ``folder``; None where it has none, as older bundles. Raises BundleError."""
    file = folder / TRAINED_ON_FILE
    try:
        if not file.exists():
            return None
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            raise ValueError("not a file of digests")
        with file.open("rb") as stream:  # the header's word on the size is checked before anything is allocated
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("another version of the format")
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            content = stream.read()
        if dtype != np.dtype("<u8") or len(shape) != 1 or len(content) != 8 * shape[0]:
            raise ValueError(f"{shape} of {dtype}")
    except Exception as error:  # NumPy reads the header as Python, with all that Python says of what is none
        why = textwrap.shorten(str(error) or type(error).__name__, 160)
        raise BundleError(
            f"Expected digests of the training posters in {file}, got something else ({why}): export the bundle "
            "again, or remove that file."
        ) from error
    return np.sort(np.frombuffer(content, "<u8").astype(np.uint64))


def trained_on(digests: Digests, files: Sequence[Path]) -> NDArray[np.bool_]:
    """Return for each file (N,) whether it is one of the posters that ``digests`` are of."""
    asked = read_posters(files).digests
    return np.isin(np.frombuffer(b"".join(digest[:_BYTES] for digest in asked), "<u8"), digests)
