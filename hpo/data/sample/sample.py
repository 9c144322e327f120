"""Write the built-in sample: an invented catalogue in Kaggle's columns with a drawn poster for each usable show.

It is synthetic, and every poster says so. It exists so that a search runs on any machine without a download,
and is shaped like the real thing: imbalanced, correlated genres, rows that the cleaning must drop, and
posters that show only part of the truth. Scores on it say that the machinery works, not how well posters
reveal genres.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from hpo.data.sample.drawing import draw_poster
from hpo.data.sample.shows import Purpose, Show, invent_shows, stream, write_listing
from hpo.errors import DataError

VERSION = 2  # raise it with every change that alters a pixel or a row: old samples are then not taken for new ones
DEFAULT_POSTERS = 2000
MARKER = "sample.json"
CATALOGUE = "anime.csv"
JPEG_QUALITY = 85
POSTERS_PER_PROCESS = 100  # fewer are drawn sooner than another process has started

Progress: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class Recipe:
    """What makes one sample: equal recipes give equal bytes (under one version of Pillow and NumPy)."""

    n_posters: int
    seed: int
    version: int = VERSION


def write_sample(out: Path, n_posters: int = DEFAULT_POSTERS, seed: int = 0, progress: Progress | None = None) -> Path:
    """Draw the sample into ``out`` and return the path of its ``anime.csv``; an identical one stays.

    ``out/images/<anime_id>.jpg`` holds ``n_posters`` RGB posters of 225 x 320 px. The CSV has their shows,
    all of which survive the default cleaning, and about a twelfth more, without a poster, which do not.
    ``progress`` is called with the number of posters drawn so far. Everything is drawn beside ``out`` and
    renamed at the end, so that ``out`` is complete or not there at all.

    Raises: DataError: ``n_posters`` or ``seed`` is out of range, ``out`` holds anything else, or cannot be
    written.
    """
    if n_posters < 1 or seed < 0:
        raise DataError(
            f"Expected at least 1 sample poster and a seed of 0 or more, got {n_posters} and {seed}; "
            "type hpo data sample OUT --posters 2000."
        )
    recipe, out = Recipe(n_posters, seed), out.resolve()
    if not _is_complete(out, recipe):
        _refuse_foreign(out)
        _publish(out, recipe, progress)
    return out / CATALOGUE


def _is_complete(out: Path, recipe: Recipe) -> bool:
    try:
        found = json.loads((out / MARKER).read_text(encoding="utf-8"))
        n_images = sum(1 for _ in (out / "images").iterdir())
    except (OSError, ValueError):
        return False
    return found == asdict(recipe) and n_images == recipe.n_posters and (out / CATALOGUE).is_file()


def _refuse_foreign(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"Expected a new or empty folder, or this very sample, at {out}, got other contents; "
            "name another folder, or remove this one first."
        )


def _publish(out: Path, recipe: Recipe, progress: Progress | None) -> None:
    """Draw the sample in a scratch folder beside ``out``, then rename it; the scratch goes in any case."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            draft = Path(scratch) / out.name
            _draw_sample(draft, recipe, progress)
            draft.replace(out)
    except OSError as error:
        if not _is_complete(out, recipe):  # else another process has just published the very same sample
            raise DataError(
                f"Expected to write sample posters to {out}, got '{error.strerror or error}'; "
                "make room there, or name another folder."
            ) from error


def _draw_sample(draft: Path, recipe: Recipe, progress: Progress | None) -> None:
    (draft / "images").mkdir(parents=True)
    shows = invent_shows(recipe.n_posters, recipe.seed)
    write_listing(draft / CATALOGUE, shows, recipe.seed)
    draw = partial(_draw_file, images=draft / "images", seed=recipe.seed)
    for n_drawn, _ in enumerate(_on_every_core(draw, [show for show in shows if show.is_usable]), start=1):
        if progress:
            progress(n_drawn)
    (draft / MARKER).write_text(json.dumps(asdict(recipe)) + "\n", encoding="utf-8")


def _draw_file(show: Show, images: Path, seed: int) -> None:
    poster = draw_poster(show.title, show.genres, stream(seed, show.row, Purpose.POSTER))
    poster.save(images / f"{show.anime_id}.jpg", quality=JPEG_QUALITY)


def _on_every_core(draw: Callable[[Show], None], shows: list[Show]) -> Iterator[None]:
    """Yield once for every show drawn, in order."""
    n_processes = min(os.cpu_count() or 1, len(shows) // POSTERS_PER_PROCESS)
    if n_processes < 2:
        yield from map(draw, shows)
        return
    # Spawned, not forked: the caller may hold torch's threads, whose locks a fork would copy in any state.
    pool = ProcessPoolExecutor(n_processes, get_context("spawn"), initializer=_leave_ctrl_c_to_the_parent)
    try:
        yield from pool.map(draw, shows, chunksize=25)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
