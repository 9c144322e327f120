from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from hpo.data.decoding import Framing
from hpo.data.images import DecodedImages, read_posters
from hpo.data.sample.drawing import draw_poster
from hpo.data.sample.shows import GENRES
from hpo.data.splits.groups import group_posters
from hpo.data.splits.near_duplicates import REASON, THUMBNAIL_PX, agreement, look_alike_links

N_DRAWN = 24


def together(folder: Path, paths: Sequence[Path]) -> np.ndarray:
    """Which posters ended up in one group, bool (N, N)."""
    posters = read_posters(paths)
    thumbnails = DecodedImages(folder / "cache", Framing(THUMBNAIL_PX))
    assert not thumbnails.ensure(posters)
    links = look_alike_links(thumbnails, posters)
    assert links.reason == REASON
    of_poster = group_posters(len(posters), [links]).of_poster
    return of_poster[:, None] == of_poster


@pytest.fixture(scope="module")
def drawings() -> list[Image.Image]:
    """Posters of the built-in sample: one template, other genres, characters, colours and titles."""
    return [
        draw_poster(f"{GENRES[at % 10]} {at}", (GENRES[at % 10], GENRES[at % 7]), np.random.default_rng(at))
        for at in range(N_DRAWN)
    ]


@pytest.fixture(scope="module")
def originals(drawings, tmp_path_factory) -> list[Path]:
    return saved(drawings, tmp_path_factory.mktemp("originals"))


def saved(images: Sequence[Image.Image], folder: Path) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{at}.png" for at in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    return paths


def reencoded(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def framed(image: Image.Image, colour: str) -> Image.Image:
    frame = Image.new("RGB", (image.width + 8, image.height + 8), colour)
    frame.paste(image, (4, 4))
    return frame


def with_logo(image: Image.Image) -> Image.Image:
    marked = image.copy()
    ImageDraw.Draw(marked).ellipse((image.width - 28, image.height - 28, image.width - 4, image.height - 4), fill="red")
    return marked


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 40": reencoded,
    "half as large": lambda image: image.resize((image.width // 2, image.height // 2)),
    "cropped by 2 %": lambda image: cropped(image, 0.02, 0.02, 0.02, 0.02),
    "cropped by 3 %": lambda image: cropped(image, 0.03, 0.03, 0.03, 0.03),
    "cropped at two sides": lambda image: cropped(image, 0.03, 0.02, 0, 0),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "a black frame": lambda image: framed(image, "black"),
    "a white frame": lambda image: framed(image, "white"),
    "a small logo": with_logo,
    "cropped, brighter and compressed": lambda image: reencoded(
        ImageEnhance.Brightness(cropped(image, 0.02, 0.01, 0.02, 0.01)).enhance(1.1)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_copy_is_found_and_no_other_drawing_is_taken_for_it(change, drawings, originals, tmp_path):
    copies = saved([change(image) for image in drawings], tmp_path / "copies")
    assert np.array_equal(together(tmp_path, [*originals, *copies]), np.tile(np.eye(N_DRAWN, dtype=bool), (2, 2)))


def test_plain_posters_are_linked_only_if_their_files_are_equal(tmp_path):
    plain = [Image.new("RGB", (60, 90), colour) for colour in ("black", "red", "#800000", "white")]
    lettered = [image.copy() for image in plain[:2]]
    for image in lettered:  # the same small logo on another ground
        ImageDraw.Draw(image).rectangle((26, 80, 34, 86), fill="yellow")
    paths = saved([*plain, *lettered], tmp_path / "plain")
    twin = Path(shutil.copy(paths[0], tmp_path / "twin.png"))
    expected = np.eye(7, dtype=bool)
    expected[0, 6] = expected[6, 0] = True
    assert np.array_equal(together(tmp_path, [*paths, twin]), expected)


def test_another_figure_on_one_ground_is_another_poster(drawings, tmp_path):
    ground = drawings[0]
    others = []
    for figure in drawings[1:6]:
        other = ground.copy()
        other.paste(figure.crop((45, 90, 180, 290)), (45, 90))  # 40 % of the poster
        others.append(other)
    assert np.array_equal(together(tmp_path, saved(others, tmp_path / "others")), np.eye(5, dtype=bool))


def test_permuted_posters_give_permuted_groups(drawings, originals, tmp_path):
    copies = saved([with_logo(reencoded(image)) for image in drawings[:8]], tmp_path / "copies")
    paths = [*originals, *copies]
    order = np.random.default_rng(0).permutation(len(paths))
    expected = together(tmp_path, paths)
    assert expected.sum() == len(paths) + 16
    assert np.array_equal(together(tmp_path, [paths[at] for at in order]), expected[np.ix_(order, order)])


def test_many_copies_of_one_poster_are_one_group(drawings, tmp_path):
    copies = [ImageEnhance.Brightness(drawings[3]).enhance(0.8 + 0.01 * at) for at in range(40)]  # 780 pairs
    assert together(tmp_path, saved(copies, tmp_path / "copies")).all()


def test_no_posters_give_no_links(tmp_path):
    assert len(look_alike_links(DecodedImages(tmp_path, Framing(THUMBNAIL_PX)), read_posters([]))) == 0


def test_agreement_allows_a_shift_and_needs_contrast():
    rng = np.random.default_rng(0)
    noise = rng.normal(128, 40, (3, 64, 64)).astype(np.float32)
    moved = np.roll(noise, (2, -3), axis=(1, 2))
    assert agreement(noise, moved).tolist() == agreement(moved, noise).tolist() == [1, 1, 1]
    assert agreement(noise, noise[::-1])[[0, 2]].tolist() == [0, 0]
    assert agreement(np.full_like(noise, 9), np.full_like(noise, 9)).tolist() == [0, 0, 0]


def test_the_copies_among_real_posters(shared_data: Path, tmp_path):
    folder = shared_data / "movie-posters" / "images"
    some = sorted(folder.glob("*.jpg"))[::25]
    pairs = [("tt0402577", "tt0420286"), ("tt2546294", "tt2546300")]  # one is the other in blue
    paths = [*some, *(folder / f"{name}.jpg" for pair in pairs for name in pair)]
    expected = np.eye(len(paths), dtype=bool)
    for at in (len(some), len(some) + 2):
        expected[at : at + 2, at : at + 2] = True
    assert np.array_equal(together(tmp_path, paths), expected)
