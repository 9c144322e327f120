"""Read a table's records as text: CSV in the wild, Parquet and JSON, compressed or not.

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

from hpo.data.table.typed_records import UNREADABLE, Record, json_records, parquet_records
from hpo.errors import DataError

__all__ = ["UNREADABLE", "Record", "is_plain_csv", "read_records"]

_DELIMITERS = (",", ";", "\t", "|")
PARQUET_SUFFIXES = (".parquet", ".pq")
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_TABLE_SUFFIXES = (".csv", ".tsv", *_JSON_SUFFIXES)
_OTHER_KINDS = {  # suffix -> what such a file is called
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "a spreadsheet"),
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), "a database"),
    **dict.fromkeys((".feather", ".arrow", ".ipc"), "an Arrow file"),
    **dict.fromkeys((".pkl", ".pickle", ".npy", ".npz", ".pt"), "a Python file"),
    **dict.fromkeys((".rds", ".rda", ".rdata", ".dta", ".sav", ".sas7bdat"), "a file of a statistics program"),
    **dict.fromkeys((".xml", ".html", ".yaml", ".yml", ".sql"), "no table"),
    **dict.fromkeys((".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar"), "an archive"),
}
_PACKED = (".gz", ".zip")
_CONTENTS = {b"PAR1": ".parquet", b"SQLite format 3": ".sqlite"}
_NO_TABLES = (  # how such a file begins, what it is, the fix
    (b"<!doctype html", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"version https://git-lfs", "a pointer of Git LFS", "fetch the file itself with git lfs pull"),
    (b"\x1f\x8b", "a file packed with gzip", "let its name end in .csv.gz"),
    (b"pk\x03\x04", "a ZIP archive or a spreadsheet", "let its name end in .zip, or save the spreadsheet as CSV"),
)
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
BYTES_AT_ONCE = 2**20
_MOST_CHARACTERS_A_CELL = 2**24  # an unclosed quote swallows no more
_NAMED_DELIMITER = re.compile(r'"?sep=([,;\t|])"?\r?\n', re.IGNORECASE)
_BACKSLASHED = re.compile(r'\\([\\"])')

csv.field_size_limit(_MOST_CHARACTERS_A_CELL)


def read_records(path: Path) -> Iterator[Record]:
    """Yield the header's record, then every other one, with empty text where a cell is null.

    Raises DataError, also while it is iterated, when the file cannot be read or is not what its suffix says.
    """
    suffix = _suffix(path)
    if suffix in PARQUET_SUFFIXES:
        if path.suffix.lower() in _PACKED:
            raise DataError(f"expected a Parquet file by itself, got one packed in {path}: unpack it and name it")
        return parquet_records(path)
    if suffix in _JSON_SUFFIXES:
        return json_records(path, _lines(path), by_line=suffix != ".json")
    if suffix in _OTHER_KINDS:
        raise DataError(
            f"expected a table, got {_OTHER_KINDS[suffix]} in {path}: save it as CSV, Parquet or JSON lines"
        )
    return _csv_records(_lines(path))


def is_plain_csv(path: Path) -> bool:
    """Return whether the file is the CSV itself, whose bytes can be kept."""
    others = (*PARQUET_SUFFIXES, *_JSON_SUFFIXES, *_OTHER_KINDS, ".gz", ".zip")
    return path.suffix.lower() not in others


def _suffix(path: Path) -> str:
    """Return the suffix of the table, that of what is in an archive, or that of which the content is."""
    if path.suffix.lower() == ".gz":
        return PurePosixPath(path.stem).suffix.lower()
    if path.suffix.lower() == ".zip":
        with _opened(path) as file:
            return PurePosixPath(getattr(file, "name", "")).suffix.lower()
    suffix = path.suffix.lower()
    return (
        suffix if suffix in (*PARQUET_SUFFIXES, *_JSON_SUFFIXES, *_OTHER_KINDS) else _suffix_of_content(path) or suffix
    )


def _suffix_of_content(path: Path) -> str | None:
    """Return what the first bytes of a file say that it is. Raises DataError for what is no table at all."""
    first = _first_bytes(path)
    text = first.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for begins, kind, fix in _NO_TABLES:
        if text.startswith(begins):
            raise DataError(f"expected a table, got {kind} in {path}: {fix}")
    if text.startswith((b'[{"', b"[{'", b"[\n", b'{"')):
        return ".jsonl" if text.startswith(b"{") and path.suffix.lower() not in _JSON_SUFFIXES else ".json"
    return next((suffix for begins, suffix in _CONTENTS.items() if first.startswith(begins)), None)


def _first_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError:  # reading it says why
        return b""


def encoding_of(first: bytes) -> str:
    """Return in what a text that begins so is encoded, by its byte order mark or by the zeros of ASCII in UTF-16."""
    found = next((name for mark, name in _MARKS.items() if first.startswith(mark)), None)
    if found is not None:
        return found
    for name, zeros, others in (("utf-16-le", first[1:40:2], first[:40:2]), ("utf-16-be", first[:40:2], first[1:40:2])):
        if len(first) > 7 and not any(zeros) and all(others):
            return name
    return "utf-8-sig"


def ends_in_returns(first: bytes) -> bool:
    """Return whether the lines of a text that begins so end in a carriage return alone, as old programs write them."""
    return b"\r" in first and b"\n" not in first


def is_utf8(path: Path) -> bool:
    """Return whether a CSV is encoded as UTF-8, so that single fields can be changed in its bytes."""
    return encoding_of(_first_bytes(path)) == "utf-8-sig"


def fitted(cells: list[str], width: int) -> list[str] | None:
    """Return a record as wide as the header, without delimiters at its end that the header lacks; None for others."""
    if len(cells) > width and not any(cells[width:]):
        return cells[:width]
    return cells if len(cells) == width else None


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
    tables = [name for name in names if PurePosixPath(name).suffix.lower() in _TABLE_SUFFIXES]
    names = tables if len(tables) == 1 else names
    if len(names) != 1:
        raise DataError(f"expected one table in {path}, got {len(names)} files: unpack it and name the table")
    return names[0]


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text; one cut off inside its last character loses only that character.

    Lines may end in a carriage return alone, as old programs of the Mac write them.
    """
    try:
        with _opened(path) as file:
            rest, end, decode = "", "\n", None
            while block := file.read(BYTES_AT_ONCE):  # line by line, decoding takes as long as all the rest
                if decode is None:
                    decode = codecs.getincrementaldecoder(encoding_of(block))().decode
                    text = decode(block)
                    end = "\r" if ends_in_returns(text.encode("utf-8", "replace")) else "\n"
                else:
                    text = decode(block)
                *lines, rest = (rest + text).split(end)
                for line in lines:
                    yield line + end
            if rest:
                yield rest
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 ({error.reason} {error.object[error.start]:#04x}): save it as UTF-8, for example "
            "with iconv -f WINDOWS-1252 -t UTF-8 where a program of Western Europe such as Excel wrote it"
        ) from error


def _csv_records(lines: Iterator[str]) -> Iterator[Record]:
    """Yield the records, without cells for one whose quotes break as in a row cut short."""
    first = next(lines, "")
    named = _NAMED_DELIMITER.fullmatch(first)  # Excel's first line
    n_skipped = 1 if named else 0
    first = next(lines, "") if named else first
    delimiter = named[1] if named else max(_DELIMITERS, key=first.count)
    taken: list[str] = []  # the lines of the record that is being read

    def noted() -> Iterator[str]:
        for line in chain([first], lines):
            taken.append(line)
            yield line

    spaced = f'{delimiter} "' in first or (
        f"{delimiter} " in first and first.count(f"{delimiter} ") == first.count(delimiter)
    )
    reader = csv.reader(noted(), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    while True:
        line = reader.line_num + 1 + n_skipped
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
