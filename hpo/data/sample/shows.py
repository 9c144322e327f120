"""Invented shows of the sample: correlated genres, titles, and whether cleaning keeps them.

Genres follow a multivariate probit (Ashford & Sowden, Biometrics 1970): genre g is present where
``loadings_g · taste + sqrt(1 - |loadings_g|²) · noise_g > Φ⁻¹(1 - share_g)``, with taste (3,) and noise (L,)
standard normal. Each genre's share is exact and the shared taste correlates them; then shows without any
genre or with more than four are drawn again, which shifts the shares by a few points.

Every row has random streams of its own, made from (seed, row, purpose): the first shows of a large sample
are those of a small one, and a poster is the same whichever process draws it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum
from pathlib import Path
from statistics import NormalDist
from typing import TypeVar

import numpy as np

FIRST_ID = 900_001  # above every real id, so that an invented show cannot be taken for a real one
MOST_GENRES = 4
USABLE_SHARE = 11 / 12
T = TypeVar("T")


class Purpose(IntEnum):
    """What a random stream is for; one more draw for one purpose leaves the others as they were."""

    SHOW = 0
    LISTING = 1
    POSTER = 2


def stream(seed: int, row: int, purpose: Purpose) -> np.random.Generator:
    """Return the random stream of one row for one purpose, independent of every other."""
    return np.random.default_rng([seed, row, purpose])


def one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Pick an option; a repeated one is likelier."""
    return options[int(rng.integers(len(options)))]


# ---------------------------------------------------------------- genres


@dataclass(frozen=True)
class Tendency:
    """How common a genre is (0..1), and how it loads on spectacle, heart and wonder."""

    share: float
    loadings: tuple[float, float, float]


TENDENCIES: dict[str, Tendency] = {
    "Action": Tendency(0.39, (0.75, -0.3, 0.1)),
    "Adventure": Tendency(0.24, (0.65, 0.0, 0.35)),
    "Comedy": Tendency(0.41, (-0.25, 0.2, -0.3)),
    "Drama": Tendency(0.25, (-0.1, 0.65, 0.0)),
    "Fantasy": Tendency(0.29, (0.35, 0.0, 0.7)),
    "Mystery": Tendency(0.085, (0.0, 0.15, 0.45)),
    "Romance": Tendency(0.17, (-0.2, 0.75, 0.1)),
    "Sci-Fi": Tendency(0.20, (0.6, -0.2, -0.2)),
    "Slice of Life": Tendency(0.11, (-0.5, 0.5, -0.4)),
    "Supernatural": Tendency(0.14, (0.05, 0.1, 0.75)),
}
GENRES = tuple(TENDENCIES)
LOADINGS = np.array([tendency.loadings for tendency in TENDENCIES.values()])  # (L, 3)
OWN_SHARE = np.sqrt(1 - (LOADINGS**2).sum(axis=1))  # (L,) what a genre does not have in common with the others
CUTS = np.array([NormalDist().inv_cdf(1 - tendency.share) for tendency in TENDENCIES.values()])  # (L,)


def draw_genres(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw one to four of the ten genres, in alphabetical order as the real catalogue has them."""
    while True:
        affinity = LOADINGS @ rng.standard_normal(3) + OWN_SHARE * rng.standard_normal(len(GENRES))  # (L,)
        genres = tuple(genre for genre, present in zip(GENRES, affinity > CUTS, strict=True) if present)
        if 1 <= len(genres) <= MOST_GENRES:
            return genres


# ---------------------------------------------------------------- titles

OPENINGS = (
    "Amber", "Ashen", "Azure", "Borrowed", "Brass", "Broken", "Clockwork", "Cloudless", "Copper", "Crimson",
    "Crystal", "Distant", "Drowsy", "Eternal", "Fading", "Feathered", "Fearless", "Forgotten", "Frozen",
    "Gentle", "Gilded", "Glass", "Golden", "Hidden", "Hollow", "Indigo", "Iron", "Ivory", "Jade", "Last",
    "Little", "Lonely", "Lunar", "Midnight", "Misty", "Moonlit", "Nameless", "Painted", "Paper", "Quiet",
    "Radiant", "Restless", "Runaway", "Scarlet", "Secret", "Seventh", "Silent", "Silver", "Sleepless",
    "Starlit", "Stolen", "Stray", "Sunlit", "Thousandth", "Twilight", "Unwritten", "Velvet", "Wandering",
    "Winter", "Zero",
)  # fmt: skip
SUBJECTS = (
    "Academy", "Alchemist", "Arcade", "Archive", "Atlas", "Bakery", "Ballad", "Blade", "Bouquet",
    "Butterfly", "Carnival", "Chronicle", "Circuit", "Comet", "Compass", "Constellation", "Courier",
    "Detective", "Diary", "Dragon", "Echo", "Emperor", "Engine", "Festival", "Fox", "Frontier", "Garden",
    "Ghost", "Guild", "Harbor", "Horizon", "Island", "Kingdom", "Knight", "Labyrinth", "Lantern", "Letter",
    "Library", "Lighthouse", "Melody", "Mirror", "Orbit", "Orchard", "Pilot", "Postcard", "Promise",
    "Puppet", "Railway", "Rebellion", "River", "Samurai", "Satellite", "Serenade", "Shrine", "Signal",
    "Sky", "Spirit", "Station", "Summer", "Symphony", "Tavern", "Throne", "Umbrella", "Valley", "Voyage",
    "Waltz", "Wizard",
)  # fmt: skip
PATTERNS = (
    "{a} {b}",
    "{a} {b}",
    "The {a} {b}",
    "My {a} {b}",
    "{b} of the {a} {c}",
    "{a} {b} and {c}",
    "{b} no {c}",
)


def _draw_title(rng: np.random.Generator, taken: set[str]) -> str:
    """Draw a title that no earlier show has: equal names would be taken for one franchise."""
    while True:
        a, (b, c) = one_of(rng, OPENINGS), rng.choice(SUBJECTS, size=2, replace=False)
        title = one_of(rng, PATTERNS).format(a=a, b=b, c=c)
        if title not in taken:
            return title


# ---------------------------------------------------------------- shows


@dataclass(frozen=True)
class Show:
    """One row of the catalogue."""

    row: int
    title: str
    genres: tuple[str, ...]  # what its poster shows
    listed_genres: tuple[str, ...]  # what its row says; empty is UNKNOWN
    kind: str
    is_usable: bool  # survives the default cleaning (TV and Movie, one of the ten genres), and has a poster

    @property
    def anime_id(self) -> int:
        """The id of its row and of its image."""
        return FIRST_ID + self.row


def invent_shows(n_usable: int, seed: int = 0) -> list[Show]:
    """Invent shows until ``n_usable`` of them are usable: about a twelfth more rows, no title twice."""
    shows: list[Show] = []
    taken: set[str] = set()
    missing = n_usable
    while missing:
        row = len(shows)
        shows.append(_draw_show(row, stream(seed, row, Purpose.SHOW), taken))
        taken.add(shows[-1].title)
        missing -= shows[-1].is_usable
    return shows


def _draw_show(row: int, rng: np.random.Generator, taken: set[str]) -> Show:
    genres, title = draw_genres(rng), _draw_title(rng, taken)
    extras = tuple(extra for extra in ("Award Winning", "Horror", "Sports") if rng.random() < 0.02)
    if rng.random() < USABLE_SHARE:
        return Show(row, title, genres, tuple(sorted(genres + extras)), one_of(rng, ("TV", "TV", "Movie")), True)
    return _unusable_show(row, title, genres, rng)


def _unusable_show(row: int, title: str, genres: tuple[str, ...], rng: np.random.Generator) -> Show:
    """Return a show that the cleaning drops: of another type, or without any of the ten genres."""
    kind = one_of(rng, ("OVA", "ONA", "Special", "Music", "TV", "UNKNOWN"))
    if kind in ("TV", "Music"):
        genres = one_of(rng, ((), (), ("Avant Garde",)))
    return Show(row, title, genres, genres, kind, False)


# The invented catalogue: one row per show in the 24 columns of the Kaggle file ``anime-dataset-2023.csv``.
#
# It keeps the real file's habits, so that whatever reads the sample reads the real one: ``UNKNOWN`` for what
# is missing, ``Unknown`` in Source, numbers as ``12.0``, genres joined by a comma and a space, synopses over
# several lines.

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
