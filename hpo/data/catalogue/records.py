"""A table in the wild → its records as text: CSV with quotes, newlines in cells and rows cut short, Parquet, JSON.

The trade-off: a CSV goes through Python's `csv` and not through pandas, which is faster but gives up the whole
file where its last row is cut off inside a quoted field. What separates the cells of a CSV is the mark that its
header holds most of. A table may be compressed (.gz, or the only file of a .zip).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, cast

from hpo.data.catalogue.typed_records import UNREADABLE, Record, json_records, parquet_records
from hpo.errors import DataError

__all__ = ["UNREADABLE", "Record", "is_plain_csv", "read_records"]

_DELIMITERS = (",", ";", "\t", "|")
_PARQUET_SUFFIXES = (".parquet", ".pq")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_OTHER_KINDS = {  # suffix -> what such a file is called
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "a spreadsheet"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "a database"),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), "an Arrow file"),
    **dict.fromkeys((".pkl", ".pickle", ".npy", ".npz", ".pt"), "a Python file"),
    **dict.fromkeys((".rds", ".rda", ".rdata", ".dta", ".sav", ".sas7bdat"), "a file of a statistics program"),
    **dict.fromkeys((".xml", ".html", ".yaml", ".yml", ".sql"), "no table"),
    **dict.fromkeys((".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar"), "an archive"),
}
_BYTES_AT_ONCE = 2**20
_MOST_CHARACTERS_A_CELL = 2**24  # an unclosed quote swallows no more
_TOLD_DELIMITER = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)
_BACKSLASHED = re.compile(r'\\([\\"])')

csv.field_size_limit(_MOST_CHARACTERS_A_CELL)


def read_records(path: Path) -> Iterator[Record]:
    """Yield the header's record, then every other one, with empty text where a cell is null.

    Raises DataError, also while it is iterated, when the file cannot be read or is not what its suffix says.
    """
    suffix = _suffix(path)
    if suffix in _PARQUET_SUFFIXES:
        return parquet_records(path)
    if suffix in _JSON_SUFFIXES:
        return json_records(path, _lines(path), by_line=suffix != ".json")
    if suffix in _OTHER_KINDS:
        raise DataError(
            f"expected a table, got {_OTHER_KINDS[suffix]} in {path}: save it as CSV, Parquet or JSON lines"
        )
    return _csv_records(_lines(path))


def is_plain_csv(path: Path) -> bool:
    """Tell whether the file is the CSV itself, whose bytes can be kept."""
    others = (*_PARQUET_SUFFIXES, *_JSON_SUFFIXES, *_OTHER_KINDS, ".gz", ".zip")
    return path.suffix.lower() not in others


def _suffix(path: Path) -> str:
    """Return the suffix of the table, that of what is in an archive."""
    if path.suffix.lower() == ".gz":
        return PurePosixPath(path.stem).suffix.lower()
    if path.suffix.lower() == ".zip":
        with _opened(path) as file:
            return PurePosixPath(getattr(file, "name", "")).suffix.lower()
    return path.suffix.lower()


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or what is compressed in it. Raises DataError, also for what fails while it is read."""
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rb") as packed:
                yield cast(IO[bytes], packed)
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_only_table(path, archive)) as member:
                yield member
        else:
            with path.open("rb") as file:
                yield file
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        kind = "ZIP archive" if isinstance(error, zipfile.BadZipFile) else "CSV"
        raise DataError(f"{path} cannot be read as a {kind} ({reason}): check the path given to --data") from error


def _only_table(path: Path, archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if not name.startswith("__MACOSX") and not name.endswith("/")]
    if len(names) != 1:
        raise DataError(f"expected one table in {path}, got {len(names)} files: unpack it and name the table")
    return names[0]


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file; one cut off inside its last character loses only that character."""
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    try:
        with _opened(path) as file:
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


def _csv_records(lines: Iterator[str]) -> Iterator[Record]:
    """Yield the records, without cells for one whose quotes break as in a row cut short."""
    first = next(lines, "")
    told = _TOLD_DELIMITER.fullmatch(first)  # Excel's first line
    n_told = 1 if told else 0
    first = next(lines, "") if told else first
    delimiter = told[1] if told else max(_DELIMITERS, key=first.count)
    taken: list[str] = []  # the lines of the record that is being read

    def noted() -> Iterator[str]:
        for line in chain([first], lines):
            taken.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1 + n_told
        taken.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield line, _with_backslashes(taken, delimiter)
        else:
            if cells:  # an empty line is no record
                yield line, cells


def _with_backslashes(lines: list[str], delimiter: str) -> list[str] | None:
    r"""Return the cells of a record whose quotes are written as \", as MySQL does; None where they break anyhow."""
    text = "".join(lines)
    if '\\"' not in text:
        return None
    doubled = _BACKSLASHED.sub(lambda mark: '""' if mark[1] == '"' else mark[0], text)
    try:
        found = list(csv.reader(doubled.splitlines(keepends=True), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    return found[0] if len(found) == 1 else None
