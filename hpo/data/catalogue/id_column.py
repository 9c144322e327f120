"""Which column of a table identifies the posters: by its name, and by whether its cells are the names of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hpo.data.catalogue.columns import FILE_COLUMNS, ID_COLUMNS, PICTURE_COLUMNS, first_column, known_columns, required
from hpo.data.catalogue.image_files import ImageFiles, canonical_id, spellings_of
from hpo.data.catalogue.image_names import parts_of, stem_of

_ASKED_NAMES = ID_COLUMNS[: ID_COLUMNS.index("*_id") + 1]  # what a message lists
_LEAST_SHARE = 0.5  # of the rows that must name an image where no column's name says that it is the id


class IdColumn(NamedTuple):
    """The column of ids, the column that names the images where that is known, and why it is not the first known."""

    at: int
    image: int | None
    note: str = ""


class _Tally(NamedTuple):
    matches: int  # rows whose cell is the name of an image
    n_different: int
    n_rows: int


Rows = Callable[[], Iterable[Sequence[str]]]


def find_id(
    path: Path, header: list[str], asked: str | None, image: int | None, rows: Rows, images: ImageFiles | None
) -> IdColumn:
    """Return the column of ids; `rows` yields those as wide as the header, `image` is the column asked for.

    Without images, or where a person names a column, names decide. With images, a column of a known name that names
    none of them, or that only numbers the rows of a long table, gives way to one that does.
    """
    if asked is not None:
        return IdColumn(required(path, header, "id", asked, ID_COLUMNS), image)
    candidates = list(dict.fromkeys(known_columns(header, ID_COLUMNS)))
    file_at = first_column(header, (*FILE_COLUMNS, *PICTURE_COLUMNS))
    if image is None and images is not None and images.usable:
        found = _by_content(header, candidates, file_at, rows(), images)
        if found is not None:
            return found
    if candidates:
        return IdColumn(candidates[0], image)
    image = file_at if image is None else image
    return IdColumn(required(path, header, "id", None, _ASKED_NAMES) if image is None else image, image)


def _by_content(
    header: list[str], candidates: list[int], file_at: int | None, rows: Iterable[Sequence[str]], images: ImageFiles
) -> IdColumn | None:
    """Return the column whose cells name images, where the first known name is not it; else None."""
    tallies = _tallies(len(header), rows, images)
    first = candidates[0] if candidates else None
    best = max(range(len(header)), key=lambda at: (tallies[at].matches, at in candidates, -at))
    if first is not None:
        is_number = tallies[first].n_different == tallies[first].n_rows  # and so the number of a row, if others repeat
        others = [at for at in (*candidates, *([] if file_at is None else [file_at])) if tallies[at].matches]
        repeated = [at for at in others if tallies[at].n_different < tallies[at].n_rows]
        longer = [at for at in repeated if tallies[at].matches > tallies[first].matches] if is_number else []
        if longer:
            best = longer[0]
        elif tallies[first].matches or not tallies[best].matches:
            return None
        elif best == file_at:
            return None  # the ids stay, and the column names the images
    if first is None and file_at is not None:
        return None
    least = 1 if best in candidates else max(1, _LEAST_SHARE * tallies[best].n_rows)
    if tallies[best].matches < least:
        return None
    named = f"column {header[best]!r} is taken for the id, since its cells name images"
    why = f"{named}, and not {header[first]!r}." if first is not None else f"{named}."
    return IdColumn(best, best if best == file_at else None, why[0].upper() + why[1:])


def _tallies(width: int, rows: Iterable[Sequence[str]], images: ImageFiles) -> list[_Tally]:
    known = {name.casefold() for file in images.usable for name in spellings_of(file)}
    matches = [0] * width
    different: list[set[str]] = [set() for _ in range(width)]
    n_rows = 0
    for cells in rows:
        n_rows += 1
        for at, cell in enumerate(cells[:width]):
            different[at].add(cell)
            matches[at] += bool(cell) and _is_named(cell, known)
    return [_Tally(n, len(cells), n_rows) for n, cells in zip(matches, different, strict=True)]


def _is_named(cell: str, known: set[str]) -> bool:
    if len(cell) > 300:  # a synopsis
        return False
    text = canonical_id(cell.strip()).casefold()
    if text in known:
        return True
    parts = parts_of(cell) if "/" in cell or "\\" in cell else (cell,)
    return bool(parts) and stem_of(parts[-1]).casefold() in known
