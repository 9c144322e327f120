"""Read a table into rows of id, labels, title and image, by its columns.

Columns are found by name, or named by the user.

Labels stand in one column of lists, or in many columns of 0 and 1 (one-hot), which are recognised by holding
nothing else and by no name of a flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hpo.data.labels.cells import tidy
from hpo.data.table.columns import (
    FILE_COLUMNS,
    ID_COLUMNS,
    LABELS_COLUMNS,
    LAST_LABELS_COLUMNS,
    MORE_LABELS_COLUMNS,
    PICTURE_COLUMNS,
    URL_COLUMNS,
    find_id,
    first_column,
    required,
)
from hpo.data.table.image_files import ImageFiles
from hpo.data.table.packed_images import PackedImages
from hpo.data.table.records import UNREADABLE, Record, fitted, read_records
from hpo.data.table.rules import ColumnNames
from hpo.errors import DataError

_KNOWN_COLUMNS = {  # these may be absent
    "title": ("name", "title"),
    "other_title": ("english name", "title_english", "english_title", "original_title"),
    "type": ("type",),
    "rating": ("rating",),
    "adult": ("adult", "is_adult", "nsfw"),
    "image_url": (*URL_COLUMNS, *PICTURE_COLUMNS),
    "file": (*FILE_COLUMNS, *PICTURE_COLUMNS),
    "group": ("franchise", "franchise_id", "collection", "belongs_to_collection"),
}
_MORE_TITLES = ("primary_title", "movie_title", "title_romaji", "movie_name", "anime_title")
_FLAGS = frozenset(
    {"video", "adult", "nsfw", "explicit", "train", "test", "val", "valid", "validation", "split", "dev", "holdout"}
    | {"seen", "watched", "unseen", "liked", "disliked", "favorite", "favourite", "bookmarked", "selected", "checked"}
    | {"airing", "completed", "finished", "released", "active", "deleted", "approved", "verified", "public", "locked"}
    | {"published", "streaming", "licensed", "available", "missing", "duplicate", "poster", "image", "usable", "flag"}
    | {"sequel", "prequel", "remake", "reboot", "colour", "color", "english", "dubbed", "subbed", "outlier"}
    | {"oscar", "oscars", "award", "awards", "nominated", "winner", "won"}
    | {"fold", "subset", "partition", "cluster", "season", "spoiler", "favorites", "favourites", "popular", "found"}
    | {"validated", "labelled", "labeled", "annotated", "reviewed", "downloaded", "corrupt", "clean", "ok", "sample"}
    | {"include", "included", "exclude", "excluded", "keep", "drop", "use", "used", "rewatched", "blockbuster"}
    | {"premium", "free", "ongoing", "based_on_book", "book_adaptation", "votes", "bestseller", "trainset", "testset"}
)
_AN_ID = re.compile(r"_[iI][dD]$|[a-z]I[dD]$")
_FLAG = re.compile(
    r"(?i:is_|is |has_|has |was_|in_)\w+|(is|has|was)[A-Z]\w+|(?i:unnamed: ?\d+|top_?\d+|(train|test|val)[/_ ]\w+)"
    r"|(?i:\w+_(split|set|subset|fold|found|exists|valid|ok|count|flag|votes)|(valid|good|bad)_\w+)"
)
_LABEL_PREFIX = re.compile(r"(genres?|labels?|tags?|category|categories)[_.:/ -]+\S", re.I)
_NUMBERED = re.compile(r"(genre|label|tag|category)s?[_. ]?\d+", re.I)
_YES = frozenset({"1", "1.0", "true", "yes", "y", "t", "x", "on", "✓", "✔"})
_NO = frozenset(
    {"", "0", "0.0", "false", "no", "n", "f", "-1", "-1.0", "-", "off", "nan", "null", "none", "na", "n/a", "<na>"}
)
_MOSTLY_CAPITAL = 0.75  # of the columns of yes and no
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
    note: str = ""  # what a person should know of the column of ids
    padded: bool = False  # rows end in delimiters that the header lacks

    @cached_property
    def one_hot(self) -> tuple[str, ...]:
        """The columns that are a label each, as their rows mark them; none where labels are a column of lists."""
        return tuple(dict.fromkeys(label for row in self.rows for label in row.marked))


def read_table(path: Path, names: ColumnNames, images: ImageFiles | None = None) -> Table:
    """Read the cells that matter of a CSV or Parquet file; among several columns of ids, that which names the images.

    Raises DataError when the file cannot be read, has no usable row, or lacks a column.
    """
    header, records = _open(path)
    columns = _Columns.find(path, header, names, images)
    rows: list[Row] = []
    lines: list[int] = []
    broken_lines: list[int] = []
    padded, other_width = False, ""
    for line, record in records:
        cells = None if record is None else fitted(record, len(header))
        padded = padded or (cells is not None and cells is not record)
        if cells is None or columns.has_unreadable(cells):
            broken_lines.append(line)
            if record is not None and cells is None:
                other_width = other_width or f", line {line} of {len(record)} cells under a header of {len(header)}"
        else:  # the rest of a row, most of it synopsis, is dropped at once
            rows.append(columns.row(cells))
            lines.append(line)
    if not rows:
        broken = f" among {len(broken_lines)} broken ones" if broken_lines else ""
        raise DataError(
            f"{path} has no usable row{broken}{other_width}: expected a table with a header and one poster a row"
        )
    named = columns.named(header)
    rows, named = _distinguish_pictures(rows, named)
    if isinstance(images, PackedImages):
        rows, named = _with_packed(rows, lines, named, images)
    return Table(path, named, rows, broken_lines, columns.flags, columns.note, padded)


def _distinguish_pictures(rows: list[Row], columns: dict[str, str | None]) -> tuple[list[Row], dict[str, str | None]]:
    """Distinguish addresses from file names where one column of pictures, such as "Poster", can hold either."""
    if columns["image_url"] is None or columns["image_url"] != columns["file"]:
        return rows, columns
    if any("://" in row.image_url for row in rows):
        return [row._replace(file="") for row in rows], columns | {"file": None}
    return [row._replace(image_url="") for row in rows], columns | {"image_url": None}


def _with_packed(
    rows: list[Row], lines: list[int], columns: dict[str, str | None], images: PackedImages
) -> tuple[list[Row], dict[str, str | None]]:
    """Name each row's own image; where the table has no other id, that is the image's path, or the row's number."""
    rows = [row._replace(image=images.names[line - 1], file="") for row, line in zip(rows, lines, strict=True)]
    if columns["id"] == images.column:
        named = {(row.id, row.image) for row in rows}
        if not all(row.id for row in rows) or len({id_ for id_, _ in named}) < len(named):
            rows = [row._replace(id=str(line)) for row, line in zip(rows, lines, strict=True)]
            columns = columns | {"id": None}
    return rows, columns | {"image": images.column, "file": None}


def _open(path: Path) -> tuple[list[str], Records]:
    records = read_records(path)
    _, header = next(records, (0, None))
    if not header:
        raise DataError(f"{path} has no usable row: expected a table with a header and one poster a row")
    return [name.strip() for name in header], records


def _whole_rows(path: Path, header: list[str]) -> Iterator[list[str]]:
    _, records = _open(path)
    fit = (fitted(cells, len(header)) for _, cells in records if cells is not None)
    return (cells for cells in fit if cells is not None)


@dataclass(frozen=True)
class _Columns:
    """Where each field of `Row` stands in a record; a field without a column stands right behind the last cell."""

    at: tuple[int, ...]  # in the order of Row's fields, without `marked`
    one_hot: dict[str, int]  # label -> column
    flags: tuple[str, ...] = ()
    joined: bool = False  # the columns are no flags: each holds a label, as genre1, genre2 ... do
    note: str = ""  # of the column of ids

    @classmethod
    def find(cls, path: Path, header: list[str], names: ColumnNames, images: ImageFiles | None) -> _Columns:
        found: dict[str, int | None] = {field: first_column(header, known) for field, known in _KNOWN_COLUMNS.items()}
        if found["title"] is None:
            found["title"] = first_column(header, _MORE_TITLES)
        found["image"] = required(path, header, "image", names.image, ()) if names.image else None
        if names.group:
            found["group"] = required(path, header, "group", names.group, ())
        if names.image_url:
            found["image_url"] = required(path, header, "image-url", names.image_url, ())
        id_name = names.id
        if isinstance(images, PackedImages):  # its files are named after no id
            no_id = id_name is None and first_column(header, ID_COLUMNS) is None
            id_name, images = images.column.strip() if no_id else id_name, None
        chosen = find_id(path, header, id_name, found["image"], lambda: _whole_rows(path, header), images)
        found["id"], found["image"] = chosen.at, chosen.image
        labels = _find_labels(path, header, names.labels, found["image"])
        found["labels"] = labels.column
        positions = (found[field] for field in Row._fields[:-1])
        at = tuple(len(header) if at is None else at for at in positions)
        return cls(at, labels.one_hot, labels.flags, labels.joined, chosen.note)

    def has_unreadable(self, cells: list[str]) -> bool:
        """Return whether a cell that matters could not be read."""
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


class _LabelColumns(NamedTuple):
    column: int | None  # of lists
    one_hot: dict[str, int] = {}  # noqa: RUF012 - it is never changed
    flags: tuple[str, ...] = ()
    joined: bool = False


def _find_labels(path: Path, header: list[str], asked: str | None, image: int | None) -> _LabelColumns:
    """Return the column of label lists, or the one-hot columns and the flags among them, or genre1, genre2 ..."""
    found = first_column(header, (*LABELS_COLUMNS, *MORE_LABELS_COLUMNS) if asked is None else (asked,))
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
    last = first_column(header, LAST_LABELS_COLUMNS) if asked is None else None
    if last is not None and last != image:
        return _LabelColumns(last)
    return _LabelColumns(required(path, header, "labels", asked, LABELS_COLUMNS))


def _without_flags(one_hot: dict[str, int]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the columns that are labels, and the names of those that are known flags, such as is_train."""
    prefixed = {name for name in one_hot if _LABEL_PREFIX.match(name)}
    if len(prefixed) >= _MIN_ONE_HOT:  # as pandas.get_dummies names them
        labels = prefixed
    else:
        labels = {name for name in one_hot if name.casefold() not in _FLAGS and not _FLAG.fullmatch(name)}
        capital = {name for name in labels if name[:1].isupper()}
        if len(capital) >= _MOSTLY_CAPITAL * len(labels):  # among Action, Comedy, Drama a column liked_by_me is a flag
            labels = {name for name in labels if name in capital or not name[:1].islower()}
    return {name: at for name, at in one_hot.items() if name in labels}, tuple(n for n in one_hot if n not in labels)


def _one_hot_columns(path: Path, header: list[str]) -> dict[str, int]:
    """Return the columns of a table that hold yes and no alone, and each of them at least once."""
    candidates = set(range(len(header)))
    marked: set[int] = set()
    for cells in _whole_rows(path, header):
        for at in list(candidates):
            cell = cells[at].strip().lower()
            if cell in _YES:
                marked.add(at)
            elif cell not in _NO:
                candidates.discard(at)
    return {header[at]: at for at in sorted(candidates & marked)}
