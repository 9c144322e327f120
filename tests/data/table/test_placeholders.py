from __future__ import annotations

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hpo.data.table.cleaning import MIN_POSTER_SIDE_PX, is_placeholder_address, why_placeholder


@pytest.mark.parametrize(
    "address",
    [
        "https://cdn.myanimelist.net/img/sp/icon/apple-touch-icon-256.png",
        "https://cdn.myanimelist.net/images/qm_50.gif",
        "http://elsewhere.example/images/QM_50.gif?s=1#top",
        "https://example.org/apple-touch-icon-180x180-precomposed.png",
        "https://example.org/covers/no-image.jpg",
        "https://example.org/covers/no_image_available.svg",
        "https://example.org/default%5Fcover.webp",
        "https://example.org/placeholder.min.png",
        " https://example.org/poster-not-found.png ",
    ],
)
def test_addresses_of_placeholders(address):
    assert is_placeholder_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://cdn.myanimelist.net/images/anime/4/19644.jpg",
        "https://cdn.myanimelist.net/images/anime/4/19644l.jpg",
        "https://example.org/no-image/19644.jpg",
        "https://example.org/no-image-today-the-movie.jpg",
        "https://example.org/blank-check-1994.jpg",
        "https://example.org/images/qm.jpg",
        "https://example.org/",
        "https://[broken",
        "",
    ],
)
def test_addresses_of_posters(address):
    assert not is_placeholder_address(address)


def test_the_real_catalogue_has_two_in_its_quirks_and_none_in_its_sample(shared_data):
    n_placeholders = {}
    for part in ("quirks", "sample"):
        with (shared_data / "mal-catalogue" / f"anime-dataset-2023-{part}.csv").open(encoding="utf-8") as file:
            n_placeholders[part] = sum(is_placeholder_address(row["Image URL"]) for row in csv.DictReader(file))
    assert n_placeholders == {"quirks": 2, "sample": 0}


@given(st.text())
def test_any_text_is_judged(text):
    assert is_placeholder_address(text) in (True, False)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"])
def test_one_colour_is_a_placeholder_and_two_are_not(mode):
    page = Image.new(mode, (200, 300))
    assert why_placeholder(page) == "one single colour"
    page.paste(Image.new(mode, (20, 20), 1 if mode in "1PIFI;16" else "white"), (0, 0))
    assert why_placeholder(page) is None


@pytest.mark.parametrize("size", [(1, 1), (50, 50), (MIN_POSTER_SIDE_PX - 1, 900), (900, MIN_POSTER_SIDE_PX - 1)])
def test_an_icon_is_a_placeholder(size):
    assert "64 each way" in why_placeholder(Image.effect_noise(size, 50))


def test_a_small_poster_is_not():
    assert why_placeholder(Image.effect_noise((MIN_POSTER_SIDE_PX, MIN_POSTER_SIDE_PX), 50)) is None
