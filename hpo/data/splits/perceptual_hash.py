"""64 bits that tell what a poster looks like, and a search for all hashes that differ in few of them.

The hash is the DCT hash of Zauner 2010 ("Implementation and Benchmarking of Perceptual Image Hash Functions", known as
pHash): which of the 8 × 8 lowest frequencies, the constant ones apart, are above their median. It ignores size,
compression, brightness and contrast. The search is multi-index hashing (Norouzi, Punjani & Fleet 2012, "Fast Search in
Hamming Space with Multi-Index Hashing", CVPR): hashes that differ in at most 10 bits differ in at most 2, 2, 2 or 1
bits of their first, second, third or fourth quarter, or it would be 3 + 3 + 3 + 2. So it is enough to look, quarter
by quarter, into the buckets of the few keys that are so near.

The trade-off: exact, but the number of those keys grows steeply with the distance. And a hash alone mistakes posters of
one layout for each other, so that what it finds are candidates for a closer look (hpo/data/splits/look_alikes.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from hpo.data.splits.leakage import Rows

Hashes: TypeAlias = npt.NDArray[np.uint64]
Luminance: TypeAlias = npt.NDArray[np.float32]
_Keys: TypeAlias = npt.NDArray[np.uint16]
_Places: TypeAlias = npt.NDArray[np.int32]

_SIDE = 8  # frequencies in each direction
_QUARTERS = 4
_KEYS = np.arange(2**16, dtype=np.uint16)
_PAIRS_AT_ONCE = 2**22  # 100 MB of candidates


def perceptual_hashes(luminance: Luminance) -> Hashes:
    """Hash N pictures of one even size, (N, height, width); one without any contrast hashes to 0."""
    n, height, width = luminance.shape
    halved = luminance.reshape(n, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    frequencies = dctn(halved, axes=(1, 2), norm="ortho")[:, 1 : 1 + _SIDE, 1 : 1 + _SIDE].reshape(n, -1)  # (N, 64)
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    hashes: Hashes = np.packbits(bits, axis=1).view(np.uint64)[:, 0]
    return hashes


def near_pairs(hashes: Hashes, others: Hashes, max_distance: int) -> Rows:
    """Return all (i, j), (P, 2) and sorted, for which `hashes[i]` and `others[j]` differ in at most that many bits.

    Memory grows with N and P, not with N².
    """
    found = [np.empty((0, 2), np.int64)]
    for quarter in range(_QUARTERS):
        keys, other_keys = (each.view(np.uint16)[quarter::_QUARTERS] for each in (hashes, others))
        radius = (max_distance + _QUARTERS - quarter) // _QUARTERS - 1  # Σ (radius + 1) = max_distance + 1
        for left, right in _bucket_mates(keys, other_keys, radius):
            is_near = np.bitwise_count(hashes[left] ^ others[right]) <= max_distance
            found.append(np.stack([left[is_near], right[is_near]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _bucket_mates(keys: _Keys, other_keys: _Keys, radius: int) -> Iterator[tuple[_Places, _Places]]:
    """Yield, some millions at a time, all (i, j) of which `keys[i]` and `other_keys[j]` are within `radius` bits."""
    by_key = np.argsort(other_keys, kind="stable").astype(np.int32)
    sizes = np.bincount(other_keys, minlength=len(_KEYS)).astype(np.int32)  # (65536,), of each bucket in by_key
    ends = np.cumsum(sizes, dtype=np.int32)
    for flip in _KEYS[np.bitwise_count(_KEYS) <= radius]:
        buckets = keys ^ flip
        n_mates = sizes[buckets]  # (N,)
        for rows in _portions(n_mates):
            mates = n_mates[rows]
            left = np.repeat(rows, mates)
            last = np.repeat(ends[buckets[rows]] - np.cumsum(mates, dtype=np.int32), mates)
            yield left, by_key[last + np.arange(len(left), dtype=np.int32)]


def _portions(n_mates: _Places) -> list[_Places]:
    """Split the rows that have any mates so that a portion has about _PAIRS_AT_ONCE of them."""
    rows = np.flatnonzero(n_mates).astype(np.int32)
    portion = np.cumsum(n_mates[rows], dtype=np.int64) // _PAIRS_AT_ONCE
    return np.split(rows, np.flatnonzero(np.diff(portion)) + 1)
