from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from hpo.data.splits.near_duplicates import near_pairs, perceptual_hashes


def clouds(n: int, side: int = 64) -> np.ndarray:
    """Smooth random pictures (N, side, side), about 60..200."""
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((n, side, side)), (0, side / 10, side / 10))
    return (130 + 30 * noise / noise.std()).astype(np.float32)


def distances(hashes: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.bitwise_count(hashes ^ others)


@pytest.mark.parametrize(
    "change", [lambda picture: picture + 40, lambda picture: 0.4 * picture, lambda picture: 1.2 * picture - 20]
)
def test_brightness_and_contrast_change_no_bit(change):
    pictures = clouds(30)
    assert distances(perceptual_hashes(pictures), perceptual_hashes(change(pictures))).max() <= 2


def test_a_little_noise_changes_few_bits_and_another_picture_about_half():
    pictures = clouds(30)
    hashes = perceptual_hashes(pictures)
    noisy = pictures + np.random.default_rng(1).normal(0, 4, pictures.shape).astype(np.float32)
    assert distances(hashes, perceptual_hashes(noisy)).max() <= 8
    assert 24 < distances(hashes[1:], hashes[:-1]).mean() < 40


def test_a_hash_does_not_depend_on_the_pictures_beside_it():
    pictures = clouds(9)
    alone = np.concatenate([perceptual_hashes(picture[None]) for picture in pictures])
    assert np.array_equal(perceptual_hashes(pictures), alone)


def test_half_of_the_bits_are_set_and_none_of_a_flat_picture():
    assert (np.bitwise_count(perceptual_hashes(clouds(5))) == 32).all()
    assert perceptual_hashes(np.full((2, 64, 64), 77, np.float32)).tolist() == [0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 12), st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 60))
def test_the_search_finds_exactly_what_comparing_all_pairs_finds(max_distance, seed, n, n_others):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, n, dtype=np.uint64)
    flips = np.bitwise_and.reduce(rng.integers(0, 2**64, (3, n_others), dtype=np.uint64))  # 8 bits on average
    others = flips ^ (rng.choice(hashes, n_others) if n else np.uint64(0))
    expected = np.argwhere(np.bitwise_count(hashes[:, None] ^ others[None, :]) <= max_distance)
    assert np.array_equal(near_pairs(hashes, others, max_distance), expected)


def test_a_crowded_bucket_is_searched_in_portions(monkeypatch):
    monkeypatch.setattr("hpo.data.splits.near_duplicates._PAIRS_AT_ONCE", 50)
    assert len(near_pairs(np.zeros(40, np.uint64), np.zeros(30, np.uint64), 10)) == 1200
