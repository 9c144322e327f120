"""Which cells of a table matter: ids, labels, titles, images. Columns are found by name, or named by the user.

Labels stand in one column of lists, or in many columns of 0 and 1 (one-hot), which are recognised by holding
nothing else and by no name of a flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hpo.data.catalogue.labels import tidy
from hpo.data.catalogue.records import UNREADABLE, Record, read_records
from hpo.data.catalogue.rules import ColumnNames
from hpo.errors import DataError, did_you_mean

_ID_COLUMNS = (
    *("anime_id", "mal_id", "imdb_id", "id", "poster_id", "tconst", "uid", "movie_id", "const", "tmdb_id", "title_id"),
    *("show_id", "*_id"),
)
_LABELS_COLUMNS = ("genres", "genre", "labels", "label", "tags", "tag")
_MORE_LABELS_COLUMNS = ("genre_names", "genre_name", "genre_list", "genres_list", "categories", "listed_in", "ジャンル")
_URL_COLUMNS = ("image url", "poster url", "poster_link", "img_url", "image_link", "cover_url", "picture_url")
_PICTURE_COLUMNS = ("poster", "image", "img", "cover", "cover_image", "main_picture", "picture", "thumbnail")
_FILE_COLUMNS = ("file_name", "image_path", "img_path", "poster_path", "poster_file", "image_file", "file", "path")
_KNOWN_COLUMNS = {  # these may be absent
    "title": ("name", "title"),
    "other_title": ("english name", "title_english", "english_title", "original_title"),
    "type": ("type",),
    "rating": ("rating",),
    "adult": ("adult", "is_adult", "nsfw"),
    "image_url": (*_URL_COLUMNS, *_PICTURE_COLUMNS),
    "file": (*_FILE_COLUMNS, *_PICTURE_COLUMNS),
    "group": ("franchise", "franchise_id", "collection", "belongs_to_collection"),
}
_MORE_TITLES = ("primary_title", "movie_title", "title_romaji", "movie_name", "anime_title")
_NO_POSTERS_ID = re.compile(r"(genre|label|tag|user|collection|franchise|director|studio|rater|category)s?_?id", re.I)
_FLAGS = frozenset(
    {"video", "adult", "nsfw", "explicit", "train", "test", "val", "valid", "validation", "split", "dev", "holdout"}
    | {"seen", "watched", "unseen", "liked", "disliked", "favorite", "favourite", "bookmarked", "selected", "checked"}
    | {"airing", "completed", "finished", "released", "active", "deleted", "approved", "verified", "public", "locked"}
    | {"published", "streaming", "licensed", "available", "missing", "duplicate", "poster", "image", "usable", "flag"}
    | {"sequel", "prequel", "remake", "reboot", "colour", "color", "english", "dubbed", "subbed", "outlier"}
    | {"oscar", "oscars", "award", "awards", "nominated", "winner", "won"}
)
_AN_ID = re.compile(r"_[iI][dD]$|[a-z]I[dD]$")
_FLAG = re.compile(r"(?i:is_|is |has_|has |was_|in_)\w+|(is|has|was)[A-Z]\w+")
_LABEL_PREFIX = re.compile(r"(genres?|labels?|tags?|category|categories)[_.:/ -]+\S", re.I)
_NUMBERED = re.compile(r"(genre|label|tag|category)s?[_. ]?\d+", re.I)
_YES = frozenset({"1", "1.0", "true", "yes", "y", "t", "x", "✓", "✔"})
_NO = frozenset({"", "0", "0.0", "false", "no", "n", "f", "-1", "-1.0", "-"})
_MIN_ONE_HOT = 2  # a single column of 0 and 1 is some flag

Records: TypeAlias = Iterator[Record]


class Row(NamedTuple):
    """The cells that matter, stripped; empty where the table has no such column."""

    id: str
    labels: str  # a list of labels as text
    title: str
    other_title: str  # in another language
    type: str
    rating: str
    adult: str  # a flag
    image: str
    image_url: str
    file: str  # what a column of a known name says of the image's file, unless `image` does
    group: str
    marked: tuple[str, ...]  # the one-hot columns that say yes


@dataclass(frozen=True)
class Table:
    """The rows of a table that are as wide as its header, and the lines where the others begin."""

    path: Path
    columns: dict[str, str | None]  # field of Row -> the table's own name for it
    rows: list[Row]
    broken_lines: list[int]
    flags: tuple[str, ...] = ()  # columns of yes and no that were not taken for labels

    @cached_property
    def one_hot(self) -> tuple[str, ...]:
        """The columns that are a label each, as their rows mark them; none where labels are a column of lists."""
        return tuple(dict.fromkeys(label for row in self.rows for label in row.marked))


def read_table(path: Path, names: ColumnNames) -> Table:
    """Read the cells that matter of a CSV or Parquet file.

    Raises DataError when the file cannot be read, has no usable row, or lacks a column.
    """
    header, records = _open(path)
    columns = _Columns.find(path, header, names)
    rows: list[Row] = []
    broken_lines: list[int] = []
    for line, cells in records:
        if cells is None or len(cells) != len(header) or columns.has_unreadable(cells):
            broken_lines.append(line)
        else:  # the rest of a row, most of it synopsis, is let go at once
            rows.append(columns.row(cells))
    if not rows:
        broken = f" among {len(broken_lines)} broken ones" if broken_lines else ""
        raise DataError(f"{path} has no usable row{broken}: expected a table with a header and one poster a row")
    named = columns.named(header)
    rows, named = _told_apart(rows, named)
    return Table(path, named, rows, broken_lines, columns.flags)


def _told_apart(rows: list[Row], columns: dict[str, str | None]) -> tuple[list[Row], dict[str, str | None]]:
    """Tell addresses from file names where one column of pictures, such as "Poster", can hold either."""
    if columns["image_url"] is None or columns["image_url"] != columns["file"]:
        return rows, columns
    if any("://" in row.image_url for row in rows):
        return [row._replace(file="") for row in rows], columns | {"file": None}
    return [row._replace(image_url="") for row in rows], columns | {"image_url": None}


def _open(path: Path) -> tuple[list[str], Records]:
    records = read_records(path)
    _, header = next(records, (0, None))
    if not header:
        raise DataError(f"{path} has no usable row: expected a table with a header and one poster a row")
    return [name.strip() for name in header], records


@dataclass(frozen=True)
class _Columns:
    """Where each field of `Row` stands in a record; a field without a column stands right behind the last cell."""

    at: tuple[int, ...]  # in the order of Row's fields, without `marked`
    one_hot: dict[str, int]  # label -> column
    flags: tuple[str, ...] = ()
    joined: bool = False  # the columns are no flags: each holds a label, as genre1, genre2 ... do

    @classmethod
    def find(cls, path: Path, header: list[str], names: ColumnNames) -> _Columns:
        found: dict[str, int | None] = {field: _first_column(header, known) for field, known in _KNOWN_COLUMNS.items()}
        if found["title"] is None:
            found["title"] = _first_column(header, _MORE_TITLES)
        found["image"] = _required(path, header, "image", names.image, ()) if names.image else None
        if names.group:
            found["group"] = _required(path, header, "group", names.group, ())
        if names.image_url:
            found["image_url"] = _required(path, header, "image-url", names.image_url, ())
        found["id"] = _find_id(path, header, names.id, found)
        labels = _find_labels(path, header, names.labels, found["image"])
        found["labels"] = labels.column
        places = (found[field] for field in Row._fields[:-1])
        at = tuple(len(header) if at is None else at for at in places)
        return cls(at, labels.one_hot, labels.flags, labels.joined)

    def has_unreadable(self, cells: list[str]) -> bool:
        """Tell whether a cell that matters could not be read."""
        used = [*self.at, *self.one_hot.values()]
        return UNREADABLE in cells and any(at < len(cells) and cells[at] == UNREADABLE for at in used)

    def row(self, cells: list[str]) -> Row:
        cells.append("")
        if self.joined:
            texts = [cells[at].strip() for at in self.at]
            texts[1] = json.dumps([cells[at] for at in self.one_hot.values() if cells[at].strip()])
            return Row._make([tidy(texts[0]), *texts[1:], ()])
        marked = tuple([label for label, at in self.one_hot.items() if cells[at].strip().lower() in _YES])
        texts = [cells[at].strip() for at in self.at]
        return Row._make([tidy(texts[0]), *texts[1:], marked])

    def named(self, header: list[str]) -> dict[str, str | None]:
        names = [*header, None]
        columns = {field: names[at] for field, at in zip(Row._fields, self.at, strict=False)}
        return columns | {"labels": ", ".join(self.one_hot)} if self.one_hot else columns


def _find_id(path: Path, header: list[str], asked: str | None, found: dict[str, int | None]) -> int:
    """Return the column of ids; without one, that of the images' file names, which then is also `image`."""
    known = _first_column(header, _ID_COLUMNS) if asked is None else None
    if known is not None:
        return known
    if asked is None and found["image"] is None:
        found["image"] = _first_column(header, _FILE_COLUMNS)
    if asked is None and found["image"] is not None:
        return found["image"]
    return _required(path, header, "id", asked, _ID_COLUMNS)


class _LabelColumns(NamedTuple):
    column: int | None  # of lists
    one_hot: dict[str, int] = {}  # noqa: RUF012 - it is never changed
    flags: tuple[str, ...] = ()
    joined: bool = False


def _find_labels(path: Path, header: list[str], asked: str | None, image: int | None) -> _LabelColumns:
    """Return the column of label lists, or the one-hot columns and the flags among them, or genre1, genre2 ..."""
    found = _first_column(header, (*_LABELS_COLUMNS, *_MORE_LABELS_COLUMNS) if asked is None else (asked,))
    if found is not None and found != image:
        return _LabelColumns(found)
    flags: tuple[str, ...] = ()
    if asked is None:
        one_hot, flags = _without_flags(_one_hot_columns(path, header))
    else:
        one_hot = {name: header.index(name) for name in map(str.strip, asked.split(",")) if name in header}
        one_hot = one_hot if len(one_hot) == len(asked.split(",")) else {}
    if len(one_hot) >= _MIN_ONE_HOT:
        return _LabelColumns(None, one_hot, flags)
    numbered = {name: at for at, name in enumerate(header) if _NUMBERED.fullmatch(name)} if asked is None else {}
    if len(numbered) >= _MIN_ONE_HOT:
        return _LabelColumns(None, numbered, joined=True)
    return _LabelColumns(_required(path, header, "labels", asked, _LABELS_COLUMNS))


def _without_flags(one_hot: dict[str, int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the columns that are labels, and the names of those that are known flags, such as is_train."""
    prefixed = {name for name in one_hot if _LABEL_PREFIX.match(name)}
    if len(prefixed) >= _MIN_ONE_HOT:  # as pandas.get_dummies names them
        labels = prefixed
    else:
        labels = {name for name in one_hot if name.casefold() not in _FLAGS and not _FLAG.fullmatch(name)}
    return {name: at for name, at in one_hot.items() if name in labels}, tuple(n for n in one_hot if n not in labels)


def _one_hot_columns(path: Path, header: list[str]) -> dict[str, int]:
    """Return the columns of a table that hold yes and no alone, and each of them at least once."""
    candidates = set(range(len(header)))
    marked: set[int] = set()
    _, records = _open(path)
    for _, cells in records:
        if cells is None or len(cells) != len(header):
            continue
        for at in list(candidates):
            cell = cells[at].strip().lower()
            if cell in _YES:
                marked.add(at)
            elif cell not in _NO:
                candidates.discard(at)
    return {header[at]: at for at in sorted(candidates & marked)}


def _required(path: Path, header: list[str], role: str, asked: str | None, known: Sequence[str]) -> int:
    found = _first_column(header, known if asked is None else (asked,))
    if found is None:
        wanted = f"by a known name ({', '.join(known)})" if asked is None else repr(asked)
        hint = did_you_mean(asked or known[0], header)
        raise DataError(
            f"{path} has no {role} column {wanted}{hint}, only {shown(header)}: name one of these with --{role}-column"
        )
    return found


def _first_column(header: Iterable[str], known: Iterable[str]) -> int | None:
    """Return where the earliest of the known names stands, in any case and with any space, hyphen or underscore.

    `*_id` is any name that ends so, or in camel case, unless it is the id of something else than a poster.
    """
    names = list(header)
    exact, plain = [name.casefold() for name in names], [_plain(name) for name in names]
    for wanted in known:
        if wanted == "*_id":
            ids = (
                at for at, n in enumerate(names) if re.search(r"_id$|[a-z]I[dD]$", n) or n.casefold().endswith("_id")
            )
            found = next((at for at in ids if not _NO_POSTERS_ID.fullmatch(names[at])), None)
            if found is not None:
                return found
        elif wanted.casefold() in exact:
            return exact.index(wanted.casefold())
        elif _plain(wanted) in plain:
            return plain.index(_plain(wanted))
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def shown(words: Sequence[str], most: int = 12) -> str:
    """Join words for a message, and count those beyond the first ``most``."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
