"""Near-duplicate detection: posters that show the same picture, re-encoded, resized, cropped or brightened.

Two looks. The first takes every poster's perceptual hash twice, whole and without its rim, so that a crop or a frame
of 2 to 3 % changes few bits; pairs within a few bits are candidates. The second compares the candidates' thumbnails
block by block: a block of one must reappear in the other, at most a few pixels away, by normalised cross-correlation
(Lewis 1995, "Fast Normalized Cross-Correlation"). Copies agree in almost all blocks; posters of one template with
another figure or title agree in most, and posters of one layout in half.

The trade-off: a copy that lost more than about 5 % of a side, or was mirrored, is missed. Colour is no evidence: the
same picture in another hue is the same picture. Blocks without contrast are none either, so that plain posters are
linked only if their files are equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from hpo.data.images import DecodedImages, Posters
from hpo.data.splits.groups import Links, group_posters, linked_by_value
from hpo.data.splits.stratify import Rows

# 64 bits that describe what a poster looks like, and a search for all hashes that differ in few of them.
#
# The hash is the DCT hash of Zauner 2010 ("Implementation and Benchmarking of Perceptual Image Hash Functions", known
# as pHash): which of the 8 × 8 lowest frequencies, the constant ones apart, are above their median. It ignores size,
# compression, brightness and contrast. The search is multi-index hashing (Norouzi, Punjani & Fleet 2012, "Fast Search
# in Hamming Space with Multi-Index Hashing", CVPR): hashes that differ in at most 10 bits differ in at most 2, 2, 2 or
# 1 bits of their first, second, third or fourth quarter, or it would be 3 + 3 + 3 + 2. So it is enough to look, quarter
# by quarter, into the buckets of the few keys that are so near.
#
# The trade-off: exact, but the number of those keys grows steeply with the distance. And a hash alone mistakes posters
# of one layout for each other, so that what it finds are candidates for a closer look
# (hpo/data/splits/near_duplicates.py).

Hashes: TypeAlias = npt.NDArray[np.uint64]
Luminance: TypeAlias = npt.NDArray[np.float32]
_Keys: TypeAlias = npt.NDArray[np.uint16]
_Places: TypeAlias = npt.NDArray[np.int32]

_SIDE = 8  # frequencies in each direction
_QUARTERS = 4
_KEYS = np.arange(2**16, dtype=np.uint16)
_MATES_AT_ONCE = 2**22  # 100 MB of candidates


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
    """Split the rows that have any mates so that a portion has about _MATES_AT_ONCE of them."""
    rows = np.flatnonzero(n_mates).astype(np.int32)
    portion = np.cumsum(n_mates[rows], dtype=np.int64) // _MATES_AT_ONCE
    return np.split(rows, np.flatnonzero(np.diff(portion)) + 1)


THUMBNAIL_PX = 64
REASON = "poster"
MAX_DISTANCE = 10  # bits of 64: reaches crops and frames of 3 %, and one unrelated pair of posters in millions
MIN_CORRELATION = 0.6  # of a block with its place in the other poster, -1..1
MIN_AGREEMENT = 7 / 8  # of the blocks: copies reach 15 of 16, drawn posters of one template 13, unrelated ones 11
MIN_CONTRAST = 4.0  # standard deviation in grey levels, 0..255: below it lies the noise of compression
MIN_BLOCKS = 4  # of 16: fewer with contrast are a logo on a plain ground

_RIM_PX = 2  # cut off for the second hash
_REACH_PX = 4  # how far a block may have moved
_GRID = 4  # blocks in each direction
_POSTERS_AT_ONCE = 1024
_PAIRS_AT_ONCE = 128
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def look_alike_links(thumbnails: DecodedImages, posters: Posters) -> Links:
    """Link posters with equal files, and posters that show the same picture.

    `thumbnails` holds every poster, squashed to THUMBNAIL_PX.
    """
    equal = linked_by_value(REASON, [digest.hex() for digest in posters.digests])
    first_rows = {digest: row for row, digest in reversed(list(enumerate(posters.digests)))}
    rows = np.array(sorted(first_rows.values()), dtype=np.int64)
    pairs = rows[_candidates(thumbnails, posters.take(rows))]  # (P, 2)
    alike = equal.pairs
    while len(pairs):
        portion, pairs = pairs[:_PAIRS_AT_ONCE], pairs[_PAIRS_AT_ONCE:]
        alike = np.concatenate([alike, portion[_are_alike(thumbnails, posters, portion)]])
        # What is linked already needs no look: a thousand copies of one picture are half a million pairs.
        group = group_posters(len(posters), [Links(REASON, alike)]).of_poster
        pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
    return Links(REASON, alike)


def _candidates(thumbnails: DecodedImages, posters: Posters) -> Rows:
    """Return the pairs (P, 2) of which one poster, whole, hashes like the other, whole or without its rim."""
    whole, rimless, has_contrast = _hash_all(thumbnails, posters)
    rows = np.flatnonzero(has_contrast)
    found = [near_pairs(whole[rows], other[rows], MAX_DISTANCE) for other in (whole, rimless)]
    pairs = np.sort(rows[np.concatenate(found)], axis=1)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def _hash_all(thumbnails: DecodedImages, posters: Posters) -> tuple[Hashes, Hashes, npt.NDArray[np.bool_]]:
    """Return each poster's hash, that of its picture without the rim, and whether there is a picture to speak of."""
    whole, rimless = np.empty((2, len(posters)), np.uint64)
    has_contrast = np.empty(len(posters), dtype=bool)
    start = 0
    for block in posters.blocks(_POSTERS_AT_ONCE):
        luminance = _luminance(thumbnails, block)
        at = slice(start, start := start + len(block))
        whole[at] = perceptual_hashes(luminance)
        rimless[at] = perceptual_hashes(luminance[:, _RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX])
        has_contrast[at] = luminance.std(axis=(1, 2)) >= MIN_CONTRAST
    return whole, rimless, has_contrast


def _luminance(thumbnails: DecodedImages, posters: Posters) -> Luminance:
    """Return grey levels, 0..255, (N, THUMBNAIL_PX, THUMBNAIL_PX)."""
    luminance: Luminance = thumbnails.load(posters).astype(np.float32) @ _LUMA
    return luminance


def _are_alike(thumbnails: DecodedImages, posters: Posters, pairs: Rows) -> npt.NDArray[np.bool_]:
    """Return (P,) which pairs show the same picture; the order of the two makes no difference."""
    by_digest = [sorted(pair, key=lambda row: posters.digests[row]) for pair in pairs.tolist()]
    still, moved = (_luminance(thumbnails, posters.take(rows)) for rows in zip(*by_digest, strict=True))
    return agreement(still, moved) >= MIN_AGREEMENT


def agreement(still: Luminance, moved: Luminance) -> npt.NDArray[np.float64]:
    """Return how well P pictures (P, THUMBNAIL_PX, THUMBNAIL_PX) reappear in P others, (P,) in 0..1.

    It is the share, among the blocks that have contrast in either, of those that correlate by MIN_CORRELATION or more
    with some place up to _REACH_PX away in the other picture; 0 with fewer than MIN_BLOCKS such blocks.
    """
    width = THUMBNAIL_PX - 2 * _REACH_PX
    centre = slice(_REACH_PX, _REACH_PX + width)
    blocks, contrast = _unit_blocks(still[:, centre, centre])
    has_contrast = np.maximum(contrast, _unit_blocks(moved[:, centre, centre])[1]) >= MIN_CONTRAST  # (P, 16)
    best = np.zeros_like(contrast)
    for top, left in product(range(2 * _REACH_PX + 1), repeat=2):
        others, _ = _unit_blocks(moved[:, top : top + width, left : left + width])
        np.maximum(best, np.einsum("pbk,pbk->pb", blocks, others), out=best)
    n_found = ((best >= MIN_CORRELATION) & has_contrast).sum(axis=1)
    n_blocks = has_contrast.sum(axis=1)
    return np.where(n_blocks >= MIN_BLOCKS, n_found / np.maximum(n_blocks, 1), 0.0)


def _unit_blocks(pictures: Luminance) -> tuple[Luminance, Luminance]:
    """Cut pictures into 16 blocks of zero mean and unit length (P, 16, K), and return their contrast (P, 16)."""
    n, height, width = pictures.shape
    grid = pictures.reshape(n, _GRID, height // _GRID, _GRID, width // _GRID)
    blocks = grid.transpose(0, 1, 3, 2, 4).reshape(n, _GRID**2, -1)  # (P, 16, K)
    blocks = blocks - blocks.mean(axis=2, keepdims=True)
    length = np.sqrt(np.einsum("pbk,pbk->pb", blocks, blocks))
    unit: Luminance = blocks / np.maximum(length, 1e-3)[:, :, None]
    contrast: Luminance = length / np.sqrt(np.float32(blocks.shape[2]))
    return unit, contrast
