"""The built-in sample: an invented anime catalogue in the Kaggle columns, with a drawn poster for every usable show.

It is synthetic and says so on every poster. It exists so that a search runs on any machine without a download, and
it is shaped like the real thing: ten imbalanced, correlated genres, rows that the cleaning must drop, and posters
that tell only part of the truth. Scores on it say that the machinery works, not how well posters reveal genres.

Genres follow a multivariate probit (Ashford & Sowden 1970): genre g is present where
``loadings_g · taste + sqrt(1 - |loadings_g|²) · noise > Φ⁻¹(1 - share_g)`` with standard normal taste (3,) and noise,
so each genre's share is set exactly and the shared taste correlates them, before shows without any genre or with
more than four are drawn again. Every row has random streams of its own, made from (seed, row): the first posters of
a large sample are those of a small one, whatever the number of processes.
"""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np

from hpo.data.drawing import draw_poster
from hpo.errors import DataError

VERSION = (
    1  # raise it with every change that alters a pixel or a row: old samples are then not taken for new ones
)
MARKER = "sample.json"
COLUMNS = (
    "anime_id", "Name", "English name", "Other name", "Score", "Genres", "Synopsis", "Type", "Episodes", "Aired",
    "Premiered", "Status", "Producers", "Licensors", "Studios", "Source", "Duration", "Rating", "Rank", "Popularity",
    "Favorites", "Scored By", "Members", "Image URL",
)  # fmt: skip
FIRST_ID = 900_001  # above every real id, so that an invented show cannot be taken for a real one
PLACEHOLDER_URL = (
    "https://cdn.myanimelist.net/img/sp/icon/apple-touch-icon-256.png"  # what the real file has for "none"
)
T = TypeVar("T")


# ---------------------------------------------------------------- genres


@dataclass(frozen=True)
class Tendency:
    """How common a genre is (0..1), and how it loads on spectacle, heart and wonder."""

    share: float
    loadings: tuple[float, float, float]


TENDENCIES: dict[str, Tendency] = {
    "Action": Tendency(0.39, (0.75, -0.3, 0.1)),
    "Adventure": Tendency(0.23, (0.65, 0.0, 0.35)),
    "Comedy": Tendency(0.43, (-0.25, 0.2, -0.3)),
    "Drama": Tendency(0.24, (-0.1, 0.65, 0.0)),
    "Fantasy": Tendency(0.29, (0.35, 0.0, 0.7)),
    "Mystery": Tendency(0.065, (0.0, 0.15, 0.45)),
    "Romance": Tendency(0.17, (-0.2, 0.75, 0.1)),
    "Sci-Fi": Tendency(0.19, (0.6, -0.2, -0.2)),
    "Slice of Life": Tendency(0.11, (-0.5, 0.5, -0.4)),
    "Supernatural": Tendency(0.13, (0.05, 0.1, 0.75)),
}
GENRES = tuple(TENDENCIES)
MOST_GENRES = 4
LOADINGS = np.array([t.loadings for t in TENDENCIES.values()])  # (L, 3)
SPECIFICITY = np.sqrt(1 - (LOADINGS**2).sum(axis=1))  # (L,) what a genre does not share with the others
CUTS = np.array([NormalDist().inv_cdf(1 - t.share) for t in TENDENCIES.values()])  # (L,)


def draw_genres(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw one to four of the ten genres, in alphabetical order as the real catalogue has them."""
    while True:
        liking = LOADINGS @ rng.standard_normal(3) + SPECIFICITY * rng.standard_normal(len(GENRES))
        genres = tuple(genre for genre, likes, cut in zip(GENRES, liking, CUTS, strict=True) if likes > cut)
        if 1 <= len(genres) <= MOST_GENRES:
            return genres


# ---------------------------------------------------------------- shows


@dataclass(frozen=True)
class Show:
    """One row of the catalogue; only a show with ``has_poster`` survives the cleaning with its TV and Movie rule."""

    row: int
    title: str
    genres: tuple[str, ...]  # as drawn on the poster
    listed_genres: tuple[str, ...]  # as printed in the catalogue; empty is UNKNOWN
    kind: str
    has_poster: bool

    @property
    def anime_id(self) -> int:
        """The id that names the row and its image."""
        return FIRST_ID + self.row


OPENINGS = (
    "Amber Ashen Azure Borrowed Brass Broken Clockwork Cloudless Copper Crimson Crystal Distant Drowsy Eternal Fading "
    "Feathered Fearless Forgotten Frozen Gentle Gilded Glass Golden Hidden Hollow Indigo Iron Ivory Jade Last Little "
    "Lonely Lunar Midnight Misty Moonlit Nameless Painted Paper Quiet Radiant Restless Runaway Scarlet Secret Seventh "
    "Silent Silver Sleepless Starlit Stolen Stray Sunlit Thousandth Twilight Unwritten Velvet Wandering Winter Zero"
).split()
SUBJECTS = (
    "Academy Alchemist Arcade Archive Atlas Bakery Ballad Blade Bouquet Butterfly Carnival Chronicle Circuit Comet "
    "Compass Constellation Courier Detective Diary Dragon Echo Emperor Engine Festival Fox Frontier Garden Ghost Guild "
    "Harbor Horizon Island Kingdom Knight Labyrinth Lantern Letter Library Lighthouse Melody Mirror Orbit Orchard "
    "Pilot Postcard Promise Puppet Railway Rebellion River Samurai Satellite Serenade Shrine Signal Sky Spirit Station "
    "Summer Symphony Tavern Throne Umbrella Valley Voyage Waltz Wizard"
).split()
PATTERNS = (
    "{a} {b}",
    "{a} {b}",
    "The {a} {b}",
    "{b} of the {a} {c}",
    "{a} {b} and {c}",
    "My {a} {b}",
    "{b} no {c}",
)


def _one_of(rng: np.random.Generator, options: tuple[T, ...] | list[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _draw_title(rng: np.random.Generator) -> str:
    a, b, c = _one_of(rng, OPENINGS), _one_of(rng, SUBJECTS), _one_of(rng, SUBJECTS)
    return _one_of(rng, PATTERNS).format(a=a, b=b, c=c)


def _draw_show(row: int, rng: np.random.Generator, taken: set[str]) -> Show:
    """Invent one show: eleven in twelve are usable, the rest fail the cleaning in one of the usual ways."""
    genres = draw_genres(rng)
    title = next(title for title in iter(partial(_draw_title, rng), None) if title not in taken)
    usable = bool(rng.random() < 11 / 12)
    kind = _one_of(
        rng, ("TV", "TV", "TV", "Movie") if usable else ("OVA", "ONA", "Special", "Music", "TV", "UNKNOWN")
    )
    listed = set(genres) | {extra for extra in ("Award Winning", "Sports", "Horror") if rng.random() < 0.02}
    if kind == "Music" or (kind == "TV" and not usable):
        listed = {"Avant Garde"} if rng.random() < 0.3 else set()
    return Show(row, title, genres, tuple(sorted(listed)), kind, usable)


def invent_shows(n_posters: int, seed: int = 0) -> list[Show]:
    """Invent shows until ``n_posters`` of them are usable: about a twelfth more rows, no title twice."""
    shows: list[Show] = []
    taken: set[str] = set()
    n_usable = 0
    while n_usable < n_posters:
        shows.append(_draw_show(len(shows), _stream(seed, len(shows), "show"), taken))
        taken.add(shows[-1].title)
        n_usable += shows[-1].has_poster
    return shows


def _stream(seed: int, row: int, purpose: str) -> np.random.Generator:
    """Return the random stream of one row for one purpose, independent of every other row and purpose."""
    return np.random.default_rng([seed, row, ("show", "facts", "poster").index(purpose)])


# ---------------------------------------------------------------- catalogue

STUDIOS = ("Studio Tanuki", "Kumo Works", "Hoshizora Animation", "Paper Crane", "Ninth Gate Films")
SOURCES = ("Manga", "Original", "Light novel", "Game", "Web manga", "Unknown")
RATINGS = ("PG-13 - Teens 13 or older", "R - 17+ (violence & profanity)", "PG - Children", "G - All Ages")
SEASONS = ("winter", "spring", "summer", "fall")


def _day(day: date) -> str:
    return f"{day:%b} {day.day}, {day.year}"


def _airing(kind: str, rng: np.random.Generator) -> dict[str, object]:
    """Return when and how long a show ran: a series for weeks, everything else once."""
    start = date(1985, 1, 1) + timedelta(days=int(rng.integers(14_000)))
    if kind != "TV":
        minutes = int(rng.integers(75, 130)) if kind == "Movie" else int(rng.integers(3, 45))
        length = f"{minutes // 60} hr {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
        return {"Episodes": 1.0, "Aired": _day(start), "Premiered": "UNKNOWN", "Duration": length}
    episodes = _one_of(rng, (12, 12, 13, 24, 26))
    return {
        "Episodes": float(episodes),
        "Aired": f"{_day(start)} to {_day(start + timedelta(weeks=episodes - 1))}",
        "Premiered": f"{SEASONS[(start.month - 1) // 3]} {start.year}",
        "Duration": "24 min per ep",
    }


def _catalogue_row(show: Show, seed: int) -> dict[str, object]:
    """Return one row in the Kaggle catalogue's columns, ``UNKNOWN`` where that file would have it."""
    rng = _stream(seed, show.row, "facts")
    members = int(10 ** rng.uniform(2, 6))
    studio = _one_of(rng, STUDIOS)
    return {
        "anime_id": show.anime_id,
        "Name": show.title,
        "English name": show.title if rng.random() < 0.6 else "UNKNOWN",
        "Other name": "UNKNOWN",
        "Score": f"{rng.normal(6.6, 0.8):.2f}" if members > 300 else "UNKNOWN",
        "Genres": ", ".join(show.listed_genres) or "UNKNOWN",
        "Synopsis": f"Synthetic sample data: no such show exists.\n\nSomebody at {studio} dreamt of it, though.",
        "Type": show.kind,
        **_airing(show.kind, rng),
        "Status": "Finished Airing",
        "Producers": "UNKNOWN",
        "Licensors": "UNKNOWN",
        "Studios": studio,
        "Source": _one_of(rng, SOURCES),
        "Rating": _one_of(rng, RATINGS),
        "Rank": "UNKNOWN",
        "Popularity": show.row + 1,
        "Favorites": members // 200,
        "Scored By": f"{members * 0.4:.1f}",
        "Members": members,
        "Image URL": f"https://example.invalid/images/anime/{show.anime_id}.jpg"
        if show.has_poster
        else PLACEHOLDER_URL,
    }


# ---------------------------------------------------------------- writing


@dataclass(frozen=True)
class Recipe:
    """What makes one sample: equal recipes give equal bytes."""

    n_posters: int
    seed: int
    version: int = VERSION


def write_sample(
    out: Path, n_posters: int = 2000, seed: int = 0, progress: Callable[[int], None] | None = None
) -> Path:
    """Draw the sample into ``out`` and return the path of its ``anime.csv``; an earlier identical one is kept.

    ``out/images/<anime_id>.jpg`` holds ``n_posters`` RGB posters of 225 x 320 px; the CSV has these shows and about a
    twelfth more that the cleaning drops. ``progress`` is called with the number of posters drawn so far. Everything
    is drawn beside ``out`` and moved there at the end, so that ``out`` is complete or not there at all.

    Raises:
        DataError: ``n_posters`` is below 1, ``out`` holds anything else, or it cannot be written.
    """
    if n_posters < 1:
        raise DataError(f"Expected at least 1 sample poster, got {n_posters}; type --posters 2000.")
    recipe, out = Recipe(n_posters, seed), out.resolve()
    if not _is_complete(out, recipe):
        _refuse_foreign(out)
        try:
            _write_atomically(out, recipe, progress)
        except OSError as error:
            if not _is_complete(out, recipe):  # else another process was quicker with the very same sample
                reason = error.strerror or error
                raise DataError(
                    f"Expected to write the sample to {out}, got '{reason}'; name another folder."
                ) from error
    return out / "anime.csv"


def _is_complete(out: Path, recipe: Recipe) -> bool:
    try:
        found = json.loads((out / MARKER).read_text(encoding="utf-8"))
        n_images = sum(1 for _ in (out / "images").iterdir())
    except (OSError, ValueError):
        return False
    return found == asdict(recipe) and n_images == recipe.n_posters and (out / "anime.csv").is_file()


def _refuse_foreign(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"Expected a new or empty folder (or this very sample, complete) at {out}, got one with other contents; "
            "name another folder, or remove it first."
        )


def _write_atomically(out: Path, recipe: Recipe, progress: Callable[[int], None] | None) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        draft = Path(scratch) / out.name
        (draft / "images").mkdir(parents=True)
        shows = invent_shows(recipe.n_posters, recipe.seed)
        _write_catalogue(draft / "anime.csv", shows, recipe.seed)
        _draw_all([show for show in shows if show.has_poster], draft / "images", recipe.seed, progress)
        (draft / MARKER).write_text(json.dumps(asdict(recipe)) + "\n", encoding="utf-8")
        draft.rename(out)


def _write_catalogue(path: Path, shows: list[Show], seed: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_catalogue_row(show, seed) for show in shows)


def _draw_file(show: Show, images: Path, seed: int) -> None:
    poster = draw_poster(show.title, show.genres, _stream(seed, show.row, "poster"))
    poster.save(images / f"{show.anime_id}.jpg", quality=85)


def _draw_all(shows: list[Show], images: Path, seed: int, progress: Callable[[int], None] | None) -> None:
    draw = partial(_draw_file, images=images, seed=seed)
    for n_drawn, _ in enumerate(_mapped(draw, shows), start=1):
        if progress:
            progress(n_drawn)


def _mapped(draw: Callable[[Show], None], shows: list[Show]) -> Iterator[None]:
    """Draw on every core, or right here when starting processes would take longer than drawing."""
    n_processes = min(os.cpu_count() or 1, len(shows) // 100)
    if n_processes < 2:
        yield from map(draw, shows)
        return
    # Spawned, not forked: the caller may hold torch's threads, and a fork of those can hang.
    pool = ProcessPoolExecutor(
        n_processes, mp_context=get_context("spawn"), initializer=_leave_interrupts_to_parent
    )
    try:
        yield from pool.map(draw, shows, chunksize=20)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
