"""Invented shows of the sample: correlated genres, titles, and whether cleaning keeps them; and their table.

Genres follow a multivariate probit (Ashford & Sowden, Biometrics 1970): genre g is present where
``loadings_g · taste + sqrt(1 - |loadings_g|²) · noise_g > Φ⁻¹(1 - share_g)``, with taste (3,) and noise (L,) standard
normal: the shares are exact, the taste correlates the genres. Shows of no or more than four genres are drawn again.

Every row has random streams of its own: the first shows of a large sample are those of a small one, and a poster is the
same whichever process draws it.
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

from hpo.data.sample.genres import RECORDS

FIRST_ID = 900_001  # above every real id, so that an invented show cannot be taken for a real one
MOST_GENRES = 4
T = TypeVar("T")

GENRES = tuple(RECORDS)
LOADINGS = np.array([genre.loadings for genre in RECORDS.values()])  # (L, 3)
OWN_SHARE = np.sqrt(1 - (LOADINGS**2).sum(axis=1))  # (L,) what a genre does not have in common with the others
CUTS = np.array([NormalDist().inv_cdf(1 - genre.share) for genre in RECORDS.values()])  # (L,)

OPENINGS, SUBJECTS = (words.split() for words in (
    """Amber Ashen Azure Borrowed Brass Broken Clockwork Cloudless Copper Crimson Crystal Distant Drowsy Eternal
    Fading Feathered Fearless Forgotten Frozen Gentle Gilded Glass Golden Hidden Hollow Indigo Iron Ivory Jade Last
    Little Lonely Lunar Midnight Misty Moonlit Nameless Painted Paper Quiet Radiant Restless Runaway Scarlet Secret
    Seventh Silent Silver Sleepless Starlit Stolen Stray Sunlit Thousandth Twilight Unwritten Velvet Wandering Winter
    Zero""",
    """Academy Alchemist Arcade Archive Atlas Bakery Ballad Blade Bouquet Butterfly Carnival Chronicle Circuit
    Comet Compass Constellation Courier Detective Diary Dragon Echo Emperor Engine Festival Fox Frontier Garden Ghost
    Guild Harbor Horizon Island Kingdom Knight Labyrinth Lantern Letter Library Lighthouse Melody Mirror Orbit Orchard
    Pilot Postcard Promise Puppet Railway Rebellion River Samurai Satellite Serenade Shrine Signal Sky Spirit Station
    Summer Symphony Tavern Throne Umbrella Valley Voyage Waltz Wizard""",
))  # fmt: skip
PATTERNS = ("{a} {b}", "{a} {b}", "The {a} {b}", "My {a} {b}", "{b} of the {a} {c}", "{a} {b} and {c}", "{b} no {c}")

Purpose = IntEnum("Purpose", ["SHOW", "LISTING", "POSTER"], start=0)  # of a random stream; each has its own


def stream(seed: int, row: int, purpose: Purpose) -> np.random.Generator:
    """Return the random stream of one row for one purpose, independent of every other."""
    return np.random.default_rng([seed, row, purpose])


def one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Pick an option; a repeated one is likelier."""
    return options[int(rng.integers(len(options)))]


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
    while n_usable > 0:
        shows.append(_draw_show(len(shows), stream(seed, len(shows), Purpose.SHOW), taken))
        taken.add(shows[-1].title)
        n_usable -= shows[-1].is_usable
    return shows


def _draw_show(row: int, rng: np.random.Generator, taken: set[str]) -> Show:
    genres, title = draw_genres(rng), _draw_title(rng, taken)
    extras = tuple(extra for extra in ("Award Winning", "Horror", "Sports") if rng.random() < 0.02)
    if rng.random() < 11 / 12:
        return Show(row, title, genres, tuple(sorted(genres + extras)), one_of(rng, ("TV", "TV", "Movie")), True)
    kind = one_of(rng, ("OVA", "ONA", "Special", "Music", "TV", "UNKNOWN"))  # cleaning drops it for its type ...
    if kind in ("TV", "Music"):
        genres = one_of(rng, ((), (), ("Avant Garde",)))  # ... or since it has none of the ten genres
    return Show(row, title, genres, genres, kind, False)


def draw_genres(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw one to four of the ten genres, in alphabetical order as the real catalogue has them."""
    while True:
        affinity = LOADINGS @ rng.standard_normal(3) + OWN_SHARE * rng.standard_normal(len(GENRES))  # (L,)
        genres = tuple(genre for genre, present in zip(GENRES, affinity > CUTS, strict=True) if present)
        if 1 <= len(genres) <= MOST_GENRES:
            return genres


def _draw_title(rng: np.random.Generator, taken: set[str]) -> str:
    """Draw a title that no earlier show has: equal names would be taken for one franchise."""
    while True:
        a, (b, c) = one_of(rng, OPENINGS), rng.choice(SUBJECTS, size=2, replace=False)
        title = one_of(rng, PATTERNS).format(a=a, b=b, c=c)
        if title not in taken:
            return title


COLUMNS = (
    "anime_id", "Name", "English name", "Other name", "Score", "Genres", "Synopsis", "Type", "Episodes",
    "Aired", "Premiered", "Status", "Producers", "Licensors", "Studios", "Source", "Duration", "Rating",
    "Rank", "Popularity", "Favorites", "Scored By", "Members", "Image URL",
)  # fmt: skip
STUDIOS = ("Studio Tanuki", "Kumo Works", "Hoshizora Animation", "Paper Crane", "Ninth Gate Films")
RATINGS = ("PG-13 - Teens 13 or older", "R - 17+ (violence & profanity)", "PG - Children", "G - All Ages")
PLACEHOLDER_URL = "https://cdn.myanimelist.net/img/sp/icon/apple-touch-icon-256.png"  # the real file's "no image"


def write_listing(path: Path, shows: Iterable[Show], seed: int) -> None:
    """Write the catalogue as UTF-8 CSV with a header of ``COLUMNS``; what is missing is ``UNKNOWN``."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="UNKNOWN", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_listing(show, stream(seed, show.row, Purpose.LISTING)) for show in shows)


def _listing(show: Show, rng: np.random.Generator) -> dict[str, object]:
    row: dict[str, object] = {
        "anime_id": show.anime_id,
        "Name": show.title,
        "English name": show.title if rng.random() < 0.6 else "UNKNOWN",
        "Genres": ", ".join(show.listed_genres) or "UNKNOWN",
        "Synopsis": "Synthetic sample data: no such show exists.\n\nIt was drawn to try the search on.",
        "Type": show.kind,
        "Status": "Finished Airing",
        "Studios": one_of(rng, STUDIOS),
        "Source": one_of(rng, ("Manga", "Original", "Light novel", "Game", "Web manga", "Unknown")),
        "Rating": one_of(rng, RATINGS),
        # An address that can never resolve (RFC 2606): the sample's posters are drawn, not fetched.
        "Image URL": f"https://example.invalid/images/anime/{show.anime_id}.jpg" if show.is_usable else PLACEHOLDER_URL,
        "Popularity": show.row + 1,
        **_airing(show.kind, rng),
    }
    members = int(10 ** rng.uniform(2, 6))
    row |= {"Members": members, "Favorites": members // 200}
    if members > 300:  # few listings mean no score
        row |= {"Score": f"{rng.normal(6.6, 0.8):.2f}", "Scored By": float(members // 3)}
    return row


def _airing(kind: str, rng: np.random.Generator) -> dict[str, object]:
    """Return when and how long a show ran: a series for weeks, everything else once."""
    start = date(1985, 1, 1) + timedelta(days=int(rng.integers(14_000)))
    if kind == "TV":
        episodes = one_of(rng, (12, 12, 13, 24, 26))
        days = [start, start + timedelta(weeks=episodes - 1)]
        premiered = f"{('winter', 'spring', 'summer', 'fall')[(start.month - 1) // 3]} {start.year}"
        run = {"Episodes": float(episodes), "Premiered": premiered, "Duration": "24 min per ep"}
    else:
        minutes, days = int(rng.integers(75, 130) if kind == "Movie" else rng.integers(3, 45)), [start]
        length = f"{minutes // 60} hr {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
        run = {"Episodes": 1.0, "Duration": length}
    in_words = (f"{day.ctime()[4:7]} {day.day}, {day.year}" for day in days)  # strftime would follow the locale
    return {**run, "Aired": " to ".join(in_words)}
