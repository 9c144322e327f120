"""Find the columns of a table by name, and the id column by whether its cells name the images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hpo.data.table.image_files import ImageFiles, canonical_id, spellings_of
from hpo.data.table.image_names import parts_of, stem_of
from hpo.errors import DataError, did_you_mean

ID_COLUMNS = (
    *("anime_id", "mal_id", "imdb_id", "id", "poster_id", "tconst", "uid", "movie_id", "const", "tmdb_id", "title_id"),
    *("show_id", "*_id", "id_mal", "id_anime", "id_movie", "appid", "isbn13", "isbn", "isbn10", "asin", "uuid", "guid"),
    *("mid", "gid", "imdb", "tmdb", "slug"),
)
URL_COLUMNS = ("image url", "poster url", "poster_link", "img_url", "image_link", "cover_url", "picture_url")
PICTURE_COLUMNS = ("poster", "image", "img", "cover", "cover_image", "main_picture", "picture", "thumbnail")
FILE_COLUMNS = (
    *("file_name", "image_path", "img_path", "poster_path", "poster_file", "image_file", "file", "path", "image_name"),
    *("img_name", "image_filename", "poster_name", "file_path", "img_file", "fname"),
)
LABELS_COLUMNS = ("genres", "genre", "labels", "label", "tags", "tag")
MORE_LABELS_COLUMNS = ("genre_names", "genre_name", "genre_list", "genres_list", "categories", "listed_in", "ジャンル")
LAST_LABELS_COLUMNS = (  # words of many meanings: only where nothing else can be labels
    *("genre(s)", "movie_genres", "movie_genre", "anime_genres", "game_genres", "target", "targets", "class_names"),
    *("classes", "class", "class_name", "category", "category_name", "themes", "topics", "subjects", "shelves"),
    *("popular_tags", "steamspy_tags", "keywords", "annotations", "attributes", "género", "géneros", "genero"),
    *("generos", "gênero", "gêneros", "genere", "generi", "жанр", "жанры", "类型", "類型", "장르", "genre_ids"),
)

_NO_POSTERS_ID = re.compile(r"(genre|label|tag|user|collection|franchise|director|studio|rater|category)s?_?id", re.I)


def first_column(header: Iterable[str], known: Iterable[str]) -> int | None:
    """Return where the earliest of the known names stands, in any case and with any space, hyphen or underscore.

    `*_id` is any name that ends so, or in camel case, unless it is the id of something else than a poster.
    """
    return next(known_columns(header, known), None)


def known_columns(header: Iterable[str], known: Iterable[str]) -> Iterator[int]:
    """Yield where the known names stand, the earliest known first."""
    names = list(header)
    exact, plain = [name.casefold() for name in names], [_plain(name) for name in names]
    for wanted in known:
        if wanted == "*_id":
            yield from (
                at
                for at, n in enumerate(names)
                if (re.search(r"_id$|[a-z]I[dD]$", n) or n.casefold().endswith("_id"))
                and not _NO_POSTERS_ID.fullmatch(names[at])
            )
        elif wanted.casefold() in exact:
            yield exact.index(wanted.casefold())
        elif _plain(wanted) in plain:
            yield plain.index(_plain(wanted))


def required(path: Path, header: list[str], role: str, asked: str | None, known: Sequence[str]) -> int:
    """Return the column that was asked for, or else one of a known name. Raises DataError when there is none."""
    found = first_column(header, known if asked is None else (asked,))
    if found is None:
        wanted = f"by a known name ({', '.join(known)})" if asked is None else repr(asked)
        hint = did_you_mean(asked or known[0], header)
        names = [name if len(name) <= 60 else f"{name[:60]}..." for name in header]
        raise DataError(
            f"{path} has no {role} column {wanted}{hint}, only {shown(names)}: name one of these with --{role}-column"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def shown(words: Sequence[str], most: int = 12) -> str:
    """Join words for a message, and count those beyond the first ``most``."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


# Which column of a table identifies the posters: by its name, and by whether its cells are the names of images.

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
