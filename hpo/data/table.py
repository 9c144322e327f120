"""Reads the cells that matter from a CSV in the wild: quotes, newlines in cells, rows cut short.

The trade-off: the CSV goes through Python's `csv` and not through pandas, which is faster but gives up the
whole file where its last row is cut off inside a quoted field.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpo.errors import DataError, did_you_mean

_ID_COLUMNS = ("anime_id", "mal_id", "imdb_id", "id", "poster_id", "*_id")
_LABELS_COLUMNS = ("genres", "genre", "labels", "label", "tags", "tag")
_TITLE_COLUMNS = ("name", "title")
_TYPE_COLUMNS = ("type",)


class Row(NamedTuple):
    """The cells that matter, stripped; empty where the CSV has no such column."""

    id: str
    labels: str
    title: str
    type: str
    image: str


@dataclass(frozen=True)
class Table:
    """The rows of a CSV that are as wide as its header, and the lines where the others begin."""

    path: Path
    columns: dict[str, str | None]  # field of Row -> the CSV's own name for it
    rows: list[Row]
    broken_lines: list[int]


def read_table(path: Path, *, id_column: str | None, labels_column: str | None, image_column: str | None) -> Table:
    """Read the cells that matter; a column that is None is found by name, except the image's, which is then none.

    Raises DataError when the file cannot be read, has no usable row, or lacks a column.
    """
    records = _records(_lines(path))
    header = [name.strip() for name in next(records, (1, None))[1] or ()]
    places = _find_columns(path, header, id_column, labels_column, image_column) if header else {}
    rows: list[Row] = []
    broken_lines: list[int] = []
    for line, fields in records:
        if fields is None or len(fields) != len(header):
            broken_lines.append(line)
        else:  # the rest of a row, most of it synopsis, is let go at once
            rows.append(Row(*("" if at is None else fields[at].strip() for at in places.values())))
    if not rows:
        broken = f" among {len(broken_lines)} broken ones" if broken_lines else ""
        raise DataError(f"{path} has no usable row{broken}: expected a CSV with a header and one poster a row")
    columns = {field: None if at is None else header[at] for field, at in places.items()}
    return Table(path, columns, rows, broken_lines)


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; one cut off inside its last character loses only that character."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    try:
        with path.open("rb") as file:
            for line in file:
                yield decode(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason} {error.object[error.start]:#04x}): save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as a CSV ({error.strerror}): check the path given to --data") from error


def _records(lines: Iterator[str]) -> Iterator[tuple[int, list[str] | None]]:
    """Yield (first line, fields) of each record, None for fields whose quotes break as in a row cut short."""
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, None
        else:
            if fields:  # an empty line is no record
                yield line, fields


def _find_columns(
    path: Path, header: list[str], id_column: str | None, labels_column: str | None, image_column: str | None
) -> dict[str, int | None]:
    """Return where each field of `Row` stands in the header."""

    def required(role: str, asked: str | None, known: Sequence[str]) -> int:
        found = _first_column(header, known if asked is None else (asked,))
        if found is None:
            wanted = f"by a known name ({', '.join(known)})" if asked is None else repr(asked)
            hint = did_you_mean(asked or known[0], header)
            raise DataError(
                f"{path} has no {role} column {wanted}{hint}, only {shown(header)}: "
                f"name one of these with --{role}-column"
            )
        return found

    return {
        "id": required("id", id_column, _ID_COLUMNS),
        "labels": required("labels", labels_column, _LABELS_COLUMNS),
        "title": _first_column(header, _TITLE_COLUMNS),
        "type": _first_column(header, _TYPE_COLUMNS),
        "image": required("image", image_column, ()) if image_column else None,
    }


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
