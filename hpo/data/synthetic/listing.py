"""The invented catalogue: one row per show in the 24 columns of the Kaggle file ``anime-dataset-2023.csv``.

It keeps the real file's habits, so that whatever reads the sample reads the real one: ``UNKNOWN`` for what
is missing, ``Unknown`` in Source, numbers as ``12.0``, genres joined by a comma and a space, synopses over
several lines.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from hpo.data.synthetic.shows import Purpose, Show, one_of, stream

COLUMNS = (
    "anime_id", "Name", "English name", "Other name", "Score", "Genres", "Synopsis", "Type", "Episodes",
    "Aired", "Premiered", "Status", "Producers", "Licensors", "Studios", "Source", "Duration", "Rating",
    "Rank", "Popularity", "Favorites", "Scored By", "Members", "Image URL",
)  # fmt: skip
STUDIOS = ("Studio Tanuki", "Kumo Works", "Hoshizora Animation", "Paper Crane", "Ninth Gate Films")
SOURCES = ("Manga", "Original", "Light novel", "Game", "Web manga", "Unknown")
RATINGS = ("PG-13 - Teens 13 or older", "R - 17+ (violence & profanity)", "PG - Children", "G - All Ages")
SEASONS = ("winter", "spring", "summer", "fall")
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"  # strftime would follow the locale
PLACEHOLDER_URL = "https://cdn.myanimelist.net/img/sp/icon/apple-touch-icon-256.png"  # the real file's "no image"


def write_listing(path: Path, shows: Iterable[Show], seed: int) -> None:
    """Write the catalogue as UTF-8 CSV with a header of ``COLUMNS``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_listing(show, stream(seed, show.row, Purpose.LISTING)) for show in shows)


def _listing(show: Show, rng: np.random.Generator) -> dict[str, object]:
    return {
        "anime_id": show.anime_id,
        "Name": show.title,
        "English name": show.title if rng.random() < 0.6 else "UNKNOWN",
        "Other name": "UNKNOWN",
        "Genres": ", ".join(show.listed_genres) or "UNKNOWN",
        "Synopsis": "Synthetic sample data: no such show exists.\n\nIt was drawn to try the search on.",
        "Type": show.kind,
        "Status": "Finished Airing",
        "Producers": "UNKNOWN",
        "Licensors": "UNKNOWN",
        "Studios": one_of(rng, STUDIOS),
        "Source": one_of(rng, SOURCES),
        "Rating": one_of(rng, RATINGS),
        "Image URL": _image_url(show),
        **_airing(show.kind, rng),
        **_reception(show, rng),
    }


def _image_url(show: Show) -> str:
    """Return an address that can never resolve (RFC 2606): the sample's posters are drawn, not fetched."""
    return f"https://example.invalid/images/anime/{show.anime_id}.jpg" if show.is_usable else PLACEHOLDER_URL


def _airing(kind: str, rng: np.random.Generator) -> dict[str, object]:
    """Return when and how long a show ran: a series for weeks, everything else once."""
    start = date(1985, 1, 1) + timedelta(days=int(rng.integers(14_000)))
    if kind != "TV":
        minutes = int(rng.integers(75, 130) if kind == "Movie" else rng.integers(3, 45))
        length = f"{minutes // 60} hr {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
        return {"Episodes": 1.0, "Aired": _day(start), "Premiered": "UNKNOWN", "Duration": length}
    episodes = one_of(rng, (12, 12, 13, 24, 26))
    return {
        "Episodes": float(episodes),
        "Aired": f"{_day(start)} to {_day(start + timedelta(weeks=episodes - 1))}",
        "Premiered": f"{SEASONS[(start.month - 1) // 3]} {start.year}",
        "Duration": "24 min per ep",
    }


def _day(day: date) -> str:
    return f"{MONTHS.split()[day.month - 1]} {day.day}, {day.year}"


def _reception(show: Show, rng: np.random.Generator) -> dict[str, object]:
    """Return how many people listed and rated a show; few listings mean no score."""
    members = int(10 ** rng.uniform(2, 6))
    is_scored = members > 300
    return {
        "Score": f"{rng.normal(6.6, 0.8):.2f}" if is_scored else "UNKNOWN",
        "Scored By": float(members // 3) if is_scored else "UNKNOWN",
        "Members": members,
        "Favorites": members // 200,
        "Popularity": show.row + 1,
        "Rank": "UNKNOWN",
    }
