"""Write a copy of a CSV in which only the filled cells differ.

Fields are changed in the CSV's bytes (`csv_fields.py`), in the way its others are written (`label_format.py`); nothing
is parsed and written again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hpo.data.completion.csv_fields import RawRecord, as_field, changed_meanwhile, raw_records
from hpo.data.completion.entries import Listing
from hpo.errors import DataError, disk_cure
from hpo.runtime import atomic


@dataclass(frozen=True)
class Added:
    """Columns that come behind the last one."""

    names: Sequence[str]
    cells: Callable[[int], Sequence[str]]  # of an entry


def check_new_columns(listing: Listing, names: Iterable[str]) -> None:
    """Raise DataError when the table has a column of one of these names already."""
    taken = [name for name in names if name in listing.header]
    if taken:
        raise DataError(
            f"expected {listing.path} without a column {taken[0]!r}, which would then come twice, got one: "
            "leave out --probabilities, or start from the CSV as it was before"
        )


def write_completed(
    listing: Listing, out: Path, filled: Mapping[int, Sequence[str]], added: Added | None = None
) -> None:
    """Copy the CSV to `out`, which appears whole or not at all. `filled` are labels by entry, likeliest first.

    Raises DataError when the CSV has a column of the same name, has changed since it was read, or the disk refuses.
    """
    added = added or Added((), lambda _: ())
    check_new_columns(listing, added.names)
    with appearing_whole(out, like=listing.path) as file:
        for piece in _completed(listing, filled, added):
            file.write(piece)


def _completed(listing: Listing, filled: Mapping[int, Sequence[str]], added: Added) -> Iterator[bytes]:
    n_entries = len(listing.entries)
    at = -1  # the header
    for record in raw_records(listing.path):
        if record.cells is None or len(record.cells) != len(listing.header):
            yield record.raw
            continue
        if at >= n_entries:
            raise changed_meanwhile(listing.path)
        fields = listing.labels.fields(record, filled[at]) if at in filled else {}
        cells = added.names if at < 0 else added.cells(at)
        yield record.changed(fields, _tail(record, cells, is_header=at < 0))
        at += 1
    if at != n_entries or listing.is_stale:
        raise changed_meanwhile(listing.path)


def _tail(record: RawRecord, cells: Sequence[str], *, is_header: bool) -> bytes:
    """Return further fields as bytes; names are quoted where the last one is, and numbers never need to be."""
    always = is_header and record.is_quoted(-1)
    fields = (as_field(cell, record.delimiter, always_quoted=always) for cell in cells)
    return b"".join(record.delimiter.encode() + field for field in fields)


@contextmanager
def appearing_whole(path: Path, like: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` at the end, with the permissions of `like`, or leaves no trace.

    Raises DataError when the disk refuses.
    """
    path = path.resolve()  # of a link, what it leads to is replaced
    try:
        with atomic.appearing_whole(path) as temporary:
            temporary.touch(mode=0o600)  # until it has the permissions of `like`
            with temporary.open("wb") as file:
                yield file
            shutil.copymode(like, temporary)
    except OSError as error:
        raise DataError(
            f"{path} could not be written ({error.strerror or error}): {disk_cure(error)}, or choose another place"
        ) from error
