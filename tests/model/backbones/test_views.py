from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.model.backbones.views import FLIP, PLAIN, View, views_of

digests = st.binary(min_size=8, max_size=20)
scales = st.floats(0.05, 0.99)


def noise(n_posters: int = 4, height: int = 24, width: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n_posters, height, width, 3), np.uint8)


def four_digests() -> list[bytes]:
    return [bytes([number]) * 16 for number in range(4)]


@pytest.mark.parametrize(
    ("flip", "crops", "keys"),
    [
        ("none", 0, ["plain"]),
        ("train", 0, ["plain", "flip"]),
        ("none", 2, ["plain", "crop1-0.60", "crop2-0.60"]),
        ("average", 3, ["plain", "flip", "crop1-0.60", "crop2-0.60-flip", "crop3-0.60"]),
    ],
)
def test_the_views_that_were_chosen(config, flip, crops, keys):
    views = views_of(config.model_copy(update={"flip": flip, "crops": crops}))
    assert [view.key for view in views] == keys


@given(scale=scales, other=scales)
def test_views_of_one_key_are_equal(config, scale, other):
    first, second = (views_of(config.model_copy(update={"crops": 1, "crop_scale": s}))[1] for s in (scale, other))
    assert (first.key == second.key) == (first == second)


def test_the_plain_view_is_the_array_itself_and_a_flip_mirrors_left_and_right():
    images = noise()
    assert PLAIN.apply(images, four_digests()) is images
    flipped = FLIP.apply(images, four_digests())
    assert flipped.flags.c_contiguous
    np.testing.assert_array_equal(flipped[:, :, 0], images[:, :, -1])
    np.testing.assert_array_equal(FLIP.apply(flipped, four_digests()), images)


@given(digest=digests, number=st.integers(1, 8), scale=scales)
def test_a_crop_has_the_area_and_the_shape_that_were_promised(digest, number, scale):
    left, top, right, bottom = View(number, scale).box(digest)
    width, height = right - left, bottom - top
    assert 0 <= left < right <= 1 + 1e-9
    assert 0 <= top < bottom <= 1 + 1e-9
    assert scale - 1e-9 <= width * height <= 1 + 1e-9
    assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9


def test_crops_vary_over_the_whole_range():
    boxes = [View(1, 0.2).box(number.to_bytes(16, "big")) for number in range(300)]
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in boxes]
    ratios = [math.log((box.right - box.left) / (box.bottom - box.top)) for box in boxes]
    assert min(areas) < 0.25
    assert max(areas) > 0.85
    assert abs(np.mean(ratios)) < 0.05  # as many wide crops as tall ones


def test_a_poster_s_crop_depends_on_its_digest_alone():
    images, digests, view = noise(), four_digests(), View(1, 0.5)
    together = view.apply(images, digests)
    backwards = view.apply(images[::-1], digests[::-1])
    np.testing.assert_array_equal(backwards[::-1], together)
    assert view.box(digests[0]) != view.box(digests[1])
    assert view.box(digests[0]) != View(2, 0.5).box(digests[0])


def test_a_crop_is_the_same_for_ever_or_caches_would_lie():
    expected = (0.1142, 0.2660, 0.8590, 0.9482)
    assert View(1, 0.4).box(bytes(range(16))) == pytest.approx(expected, abs=1e-4)


def test_a_crop_shows_its_box_at_the_poster_s_size():
    column = np.linspace(0, 255, 64).astype(np.uint8)  # brightness is the place in the poster
    images = np.broadcast_to(column[None, None, :, None], (1, 64, 64, 3)).copy()
    view, digests = View(1, 0.3), [b"poster"]
    cropped, box = view.apply(images, digests), view.box(digests[0])
    assert (cropped.shape, cropped.dtype) == ((1, 64, 64, 3), np.uint8)
    np.testing.assert_allclose(cropped[0, 32, [1, -2], 0], [255 * box.left, 255 * box.right], atol=8)
    np.testing.assert_array_equal(View(1, 0.3, mirrored=True).apply(images, digests), cropped[:, :, ::-1])


def test_no_posters_and_posters_that_are_not_square():
    assert View(1, 0.5).apply(noise(0), []).shape == (0, 24, 24, 3)
    assert View(1, 0.5).apply(noise(4, 30, 20), four_digests()).shape == (4, 30, 20, 3)
