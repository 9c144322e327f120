"""Write the built-in sample: an invented catalogue in Kaggle's columns with a drawn poster for each usable show.

It is synthetic, and every poster says so. It is for a search without a download, and shaped like the real thing:
imbalanced, correlated genres, rows that the cleaning must drop, and posters that show only part of the truth. Scores
on it say that the machinery works, not how well posters reveal genres.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from hpo.data.sample.drawing import draw_poster
from hpo.data.sample.shows import Purpose, Show, invent_shows, stream, write_listing
from hpo.errors import DataError

VERSION = 3  # raise it with every change that alters a pixel or a row: old samples are then not taken for new ones
DEFAULT_POSTERS = 2000
CATALOGUE, MARKER = "anime.csv", "sample.json"
POSTERS_PER_PROCESS = 100  # fewer are drawn sooner than another process has started
Progress = Callable[[int], None]


def write_sample(out: Path, n_posters: int = DEFAULT_POSTERS, seed: int = 0, progress: Progress | None = None) -> Path:
    """Draw the sample into ``out`` and return the path of its ``anime.csv``; an identical one stays.

    ``out/images/<anime_id>.jpg`` holds ``n_posters`` RGB posters of 225 x 320 px. The CSV has their shows, all of which
    survive the default cleaning, and about a twelfth more, without a poster, which do not. ``progress`` is called with
    the number of posters drawn so far. Everything is drawn beside ``out`` and renamed at the end, so that ``out`` is
    complete or not there at all. Equal arguments give equal bytes under one version of Pillow and NumPy.

    Raises: DataError: ``n_posters`` or ``seed`` is out of range, ``out`` holds anything else, or cannot be written.
    """
    if n_posters < 1 or seed < 0:
        raise DataError(
            f"Expected at least 1 sample poster and a seed of 0 or more, got {n_posters} and {seed}; "
            "type hpo data sample OUT --posters 2000."
        )
    out, marker = out.resolve(), json.dumps({"n_posters": n_posters, "seed": seed, "version": VERSION}) + "\n"
    if _is_complete(out, marker, n_posters):
        return out / CATALOGUE
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"Expected a new or empty folder, or this very sample, at {out}, got other contents; "
            "name another folder, or remove this one first."
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            draft = Path(scratch) / out.name
            _draw_sample(draft, n_posters, seed, progress)
            (draft / MARKER).write_text(marker, encoding="utf-8")
            draft.replace(out)
    except OSError as error:
        if not _is_complete(out, marker, n_posters):  # else another process has just published the very same sample
            raise DataError(
                f"Expected to write sample posters to {out}, got '{error.strerror or error}'; "
                "make room there, or name another folder."
            ) from error
    return out / CATALOGUE


def _is_complete(out: Path, marker: str, n_posters: int) -> bool:
    try:
        is_this = (out / MARKER).read_text(encoding="utf-8") == marker
        return is_this and (out / CATALOGUE).is_file() and len([*(out / "images").iterdir()]) == n_posters
    except (OSError, ValueError):
        return False


def _draw_sample(draft: Path, n_posters: int, seed: int, progress: Progress | None) -> None:
    (draft / "images").mkdir(parents=True)
    shows = invent_shows(n_posters, seed)
    write_listing(draft / CATALOGUE, shows, seed)
    draw = partial(_draw_file, images=draft / "images", seed=seed)
    for n_drawn, _ in enumerate(_on_every_core(draw, [show for show in shows if show.is_usable]), start=1):
        if progress:
            progress(n_drawn)


def _draw_file(show: Show, images: Path, seed: int) -> None:
    poster = draw_poster(show.title, show.genres, stream(seed, show.row, Purpose.POSTER))
    poster.save(images / f"{show.anime_id}.jpg", quality=85)


def _on_every_core(draw: Callable[[Show], None], shows: list[Show]) -> Iterator[None]:
    """Yield once for every show drawn, in order."""
    n_processes = min(os.cpu_count() or 1, len(shows) // POSTERS_PER_PROCESS)
    if n_processes < 2:
        yield from map(draw, shows)
        return
    leave_ctrl_c_to_the_parent = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    # Spawned, not forked: the caller may hold torch's threads, whose locks a fork would copy in any state.
    pool = ProcessPoolExecutor(n_processes, get_context("spawn"), initializer=leave_ctrl_c_to_the_parent)
    try:
        yield from pool.map(draw, shows, chunksize=25)
    finally:
        pool.shutdown(cancel_futures=True)
