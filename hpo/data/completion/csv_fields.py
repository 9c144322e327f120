"""Byte spans of the fields of a CSV, so that single cells can be replaced.

`read_records` says what a record's cells are; here they are found again in the file's own bytes. An unquoted field is
its cell byte for byte, and a quoted one its cell with doubled quotes, so that a field is where it is expected or the
file is another one than before. Nothing is guessed a second time: neither the delimiter nor where a broken row ends.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

from hpo.data.table.records import BYTES_AT_ONCE, ends_in_returns, read_records
from hpo.errors import DataError

_QUOTE = b'"'
_BACKSLASHED = re.compile(rb'"(?:[^"\\]|\\.|"")*"', re.DOTALL)  # a field whose quotes are written as \"
_LINE_ENDS = b"\r\n"


@dataclass(frozen=True)
class RawRecord:
    """A piece of a CSV: one record, or a line that belongs to none. All pieces together are the file."""

    raw: bytes  # with the end of its line
    cells: list[str] | None = None  # None for an empty line and for what is left of a broken record
    spans: tuple[tuple[int, int], ...] = ()  # of each cell: from its first byte to behind its last, quotes included

    @property
    def end(self) -> int:
        """Where the record's text ends and its line end begins."""
        return len(self.raw.rstrip(_LINE_ENDS))

    @property
    def delimiter(self) -> str:
        """What stands behind the first cell; a comma where there is only one."""
        if len(self.spans) < 2:
            return ","
        behind = self.spans[0][1]
        return self.raw[behind : behind + 1].decode()

    def text(self, column: int) -> str:
        """Return a cell; empty text where the record has none."""
        return self.cells[column] if self.cells else ""

    def is_quoted(self, column: int) -> bool:
        """Return whether the field stands in quotes."""
        return self.raw.startswith(_QUOTE, self.spans[column][0])

    def changed(self, fields: dict[int, bytes], tail: bytes = b"") -> bytes:
        """Return the record's bytes with other bytes for some fields, and with `tail` before the end of its line."""
        parts: list[bytes] = []
        at = 0
        for column in sorted(fields):
            start, end = self.spans[column]
            parts += self.raw[at:start], fields[column]
            at = end
        return b"".join([*parts, self.raw[at : self.end], tail, self.raw[self.end :]])


def raw_records(path: Path) -> Iterator[RawRecord]:
    """Yield a CSV piece by piece, the header first unless empty lines come before it.

    Raises DataError, also while it is iterated, when the file cannot be read, is not UTF-8 or changes meanwhile.
    """
    try:
        with path.open("rb") as file:
            returns = ends_in_returns(file.read(BYTES_AT_ONCE))
            file.seek(0)
            yield from _pieces(path, _lines_to_returns(file) if returns else file, returns=returns)
    except OSError as error:
        raise DataError(f"{path} cannot be read as a CSV ({error.strerror}): check the path") from error


def _lines_to_returns(file: IO[bytes]) -> Iterator[bytes]:
    *lines, rest = file.read().split(b"\r")
    yield from (line + b"\r" for line in lines)
    if rest:
        yield rest


def _pieces(path: Path, lines: Iterable[bytes], *, returns: bool) -> Iterator[RawRecord]:
    file = iter(lines)
    line = 1
    for begins_at, cells in read_records(path):
        for skipped in islice(file, begins_at - line):
            yield RawRecord(skipped)
        line = begins_at
        if cells is not None:
            n_lines = 1 + sum(cell.count("\r" if returns else "\n") for cell in cells)
            yield _located(path, begins_at, b"".join(islice(file, n_lines)), cells)
            line += n_lines
    for skipped in file:
        yield RawRecord(skipped)


def _located(path: Path, line: int, raw: bytes, cells: list[str]) -> RawRecord:
    at = len(codecs.BOM_UTF8) if line == 1 and raw.startswith(codecs.BOM_UTF8) else 0
    spans = []
    for cell in cells:
        field = cell.encode()
        if not cell.startswith(" "):  # behind a delimiter, where all of a table have one
            at += len(raw[at:]) - len(raw[at:].lstrip(b" "))
        if raw.startswith(_QUOTE, at):
            field = quoted(cell)
            if not raw.startswith(field, at) and (found := _BACKSLASHED.match(raw, at)):
                field = found[0]
        if not raw.startswith(field, at):
            raise changed_meanwhile(path)
        spans.append((at, at + len(field)))
        at += len(field) + 1  # and the delimiter
    return RawRecord(raw, cells, tuple(spans))


def changed_meanwhile(path: Path) -> DataError:
    """Return the error for a file that is not what it was a moment ago."""
    return DataError(f"{path} was changed by another program while it was read: type the same command again")


def quoted(text: str) -> bytes:
    """Return a field in quotes."""
    return _QUOTE + text.replace('"', '""').encode() + _QUOTE


def needs_quotes(text: str, delimiter: str) -> bool:
    """Return whether a text can be a field only in quotes."""
    return any(mark in text for mark in (delimiter, '"', "\n", "\r"))


def as_field(text: str, delimiter: str, *, always_quoted: bool = False) -> bytes:
    """Return a text as a field, in quotes where it needs them or where its column always has them."""
    return quoted(text) if always_quoted or needs_quotes(text, delimiter) else text.encode()
