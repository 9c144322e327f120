"""Which cells of a table matter: ids, labels, titles, images. Columns are found by name, or named by the user.

Labels stand in one column of lists, or in many columns of 0 and 1 (one-hot), which are recognised by holding
nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hpo.data.catalogue.records import Record, read_records
from hpo.data.catalogue.rules import ColumnNames
from hpo.errors import DataError, did_you_mean

_ID_COLUMNS = ("anime_id", "mal_id", "imdb_id", "id", "poster_id", "*_id")
_LABELS_COLUMNS = ("genres", "genre", "labels", "label", "tags", "tag")
_KNOWN_COLUMNS = {  # these may be absent
    "title": ("name", "title"),
    "other_title": ("english name", "english_name", "title_english", "english_title", "original_title"),
    "type": ("type",),
    "rating": ("rating",),
    "image_url": ("image url", "image_url", "poster url", "poster_url", "poster_link", "img_url"),
    "group": ("franchise", "franchise_id", "collection", "belongs_to_collection"),
}
_YES = frozenset({"1", "1.0", "true", "yes"})
_NO = frozenset({"", "0", "0.0", "false", "no"})
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
    image: str
    image_url: str
    group: str
    marked: tuple[str, ...]  # the one-hot columns that say yes


@dataclass(frozen=True)
class Table:
    """The rows of a table that are as wide as its header, and the lines where the others begin."""

    path: Path
    columns: dict[str, str | None]  # field of Row -> the table's own name for it
    rows: list[Row]
    broken_lines: list[int]


def read_table(path: Path, names: ColumnNames) -> Table:
    """Read the cells that matter of a CSV or Parquet file.

    Raises DataError when the file cannot be read, has no usable row, or lacks a column.
    """
    header, records = _open(path)
    columns = _Columns.find(path, header, names)
    rows: list[Row] = []
    broken_lines: list[int] = []
    for line, cells in records:
        if cells is None or len(cells) != len(header):
            broken_lines.append(line)
        else:  # the rest of a row, most of it synopsis, is let go at once
            rows.append(columns.row(cells))
    if not rows:
        broken = f" among {len(broken_lines)} broken ones" if broken_lines else ""
        raise DataError(f"{path} has no usable row{broken}: expected a table with a header and one poster a row")
    return Table(path, columns.named(header), rows, broken_lines)


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

    @classmethod
    def find(cls, path: Path, header: list[str], names: ColumnNames) -> _Columns:
        found: dict[str, int | None] = {"id": _required(path, header, "id", names.id, _ID_COLUMNS)}
        found["labels"], one_hot = _find_labels(path, header, names.labels)
        found |= {field: _first_column(header, known) for field, known in _KNOWN_COLUMNS.items()}
        found["image"] = _required(path, header, "image", names.image, ()) if names.image else None
        if names.group:
            found["group"] = _required(path, header, "group", names.group, ())
        places = (found[field] for field in Row._fields[:-1])
        return cls(tuple(len(header) if at is None else at for at in places), one_hot)

    def row(self, cells: list[str]) -> Row:
        cells.append("")
        marked = tuple([label for label, at in self.one_hot.items() if cells[at].strip().lower() in _YES])
        return Row._make([*[cells[at].strip() for at in self.at], marked])

    def named(self, header: list[str]) -> dict[str, str | None]:
        names = [*header, None]
        columns = {field: names[at] for field, at in zip(Row._fields, self.at, strict=False)}
        return columns | {"labels": ", ".join(self.one_hot)} if self.one_hot else columns


def _find_labels(path: Path, header: list[str], asked: str | None) -> tuple[int | None, dict[str, int]]:
    """Return the column of label lists, or the one-hot columns."""
    found = _first_column(header, _LABELS_COLUMNS if asked is None else (asked,))
    if found is not None:
        return found, {}
    if asked is None:
        one_hot = _one_hot_columns(path, header)
    else:
        one_hot = {name: header.index(name) for name in map(str.strip, asked.split(",")) if name in header}
        one_hot = one_hot if len(one_hot) == len(asked.split(",")) else {}
    if len(one_hot) >= _MIN_ONE_HOT:
        return None, one_hot
    return _required(path, header, "labels", asked, _LABELS_COLUMNS), {}


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
    """Return where the earliest of the known names stands, in any case; `*_id` is any name that ends so."""
    names = [name.casefold() for name in header]
    for wanted in known:
        for at, name in enumerate(names):
            if name == wanted.casefold() or (wanted == "*_id" and name.endswith("_id")):
                return at
    return None


def shown(words: Sequence[str], most: int = 12) -> str:
    """Join words for a message, and count those beyond the first ``most``."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
