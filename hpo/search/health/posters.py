"""How many posters a search would be about: counted, not cleaned: a forecast needs no more."""

from __future__ import annotations

from pathlib import Path

from hpo.commands import command
from hpo.data.catalogue.image_names import IMAGE_SUFFIXES
from hpo.data.catalogue.records import read_records
from hpo.data.sample import DEFAULT_POSTERS
from hpo.errors import DataError
from hpo.search.health.finding import Finding, ok, problem


def count_posters(csv: Path | None, images: Path | None) -> tuple[int, Finding]:
    """Return the posters of a table and its folder (``images`` beside it by default), and a word on them.

    Without a table, or where it cannot be read, they are those of the built-in sample.
    """
    if csv is None and images is not None:
        return DEFAULT_POSTERS, problem("posters", "--images without a table of its posters", "name one with --data")
    if csv is None:
        return DEFAULT_POSTERS, ok("posters", f"no --data: the {DEFAULT_POSTERS:,} of the built-in sample")
    folder = images or csv.parent / "images"
    try:
        rows = sum(1 for _, cells in read_records(csv) if cells is not None) - 1
    except DataError as error:
        words, _, cure = str(error).rstrip(".").rpartition(": ")
        return DEFAULT_POSTERS, problem("posters", words, cure)
    if not folder.is_dir():
        return rows, problem("posters", f"{rows:,} rows in {csv}, and no folder {folder}", "name it with --images")
    files = sum(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.rglob("*"))
    words = f"{rows:,} rows in {csv}, {files:,} images in {folder}"
    if not min(rows, files):
        return rows, problem("posters", words, f"{command('data check', csv, images=folder)} says why")
    return min(rows, files), ok("posters", words)
