"""A table in the wild → its records as text: CSV with quotes, newlines in cells and rows cut short, or Parquet.

The trade-off: a CSV goes through Python's `csv` and not through pandas, which is faster but gives up the whole
file where its last row is cut off inside a quoted field. What separates the cells of a CSV is the mark that its
header holds most of.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

from hpo.errors import DataError

Record: TypeAlias = tuple[int, list[str] | None]  # (the line or row it begins at, its cells), None where it is broken

_DELIMITERS = (",", ";", "\t", "|")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_BYTES_AT_ONCE = 2**20
_ROWS_AT_ONCE = 4096


def read_records(path: Path) -> Iterator[Record]:
    """Yield the header's record, then every other one, with empty text where a cell is null.

    Raises DataError, also while it is iterated, when the file cannot be read or is not what its suffix says.
    """
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        return _parquet_records(path)
    return _csv_records(_lines(path))


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; one cut off inside its last character loses only that character."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    try:
        with path.open("rb") as file:
            rest = ""
            while block := file.read(_BYTES_AT_ONCE):  # line by line, decoding takes as long as all the rest
                *lines, rest = (rest + decode(block)).split("\n")
                for line in lines:
                    yield line + "\n"
            if rest:
                yield rest
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason} {error.object[error.start]:#04x}): save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as a CSV ({error.strerror}): check the path given to --data") from error


def _csv_records(lines: Iterator[str]) -> Iterator[Record]:
    """Yield the records, without cells for one whose quotes break as in a row cut short."""
    first = next(lines, "")
    reader = csv.reader(chain([first], lines), delimiter=max(_DELIMITERS, key=first.count), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, None
        else:
            if cells:  # an empty line is no record
                yield line, cells


def _parquet_records(path: Path) -> Iterator[Record]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile  # half a second that only those pay who have such a file

    try:
        with ParquetFile(path) as file:
            yield 0, list(file.schema_arrow.names)
            row = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    row += 1
                    yield row, [_text_of(cell) for cell in cells]
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as Parquet ({reason}): check the path given to --data") from error


def _text_of(cell: Any) -> str:
    if cell is None or cell != cell:  # a null, or NaN
        return ""
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else str(cell)
