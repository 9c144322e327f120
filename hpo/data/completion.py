"""A catalogue with gaps: its entries with and without labels, their posters, and a copy in which gaps are filled.

Every row as wide as the header is an entry, whatever its type or rating: what a search would leave out may be
completed all the same. The copy differs from the CSV in the fields that are filled and in nothing else, since fields
are changed in its bytes (`field_spans.py`) and nothing is parsed and written anew.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from hpo.data.catalogue.cleaning import Cleaning, Title, find_images, titles_in
from hpo.data.catalogue.labels import MISSING_WORDS, guess_separator, real_text
from hpo.data.catalogue.placeholders import SHARED_BY, is_placeholder_address
from hpo.data.catalogue.rules import ColumnNames
from hpo.data.catalogue.table import Table, read_table, shown
from hpo.data.field_spans import RawRecord, as_field, changed_meanwhile, needs_quotes, raw_records
from hpo.data.images import read_posters
from hpo.data.label_spelling import FlagSpelling, ListSpelling, labels_as_written, learn_flags, learn_lists
from hpo.errors import DataError

_PARQUET_SUFFIXES = (".parquet", ".pq")

Labels = tuple[str, ...]


class Entry(NamedTuple):
    """A row of the table."""

    id: str
    title: str
    labels: Labels  # as they are written; none where they are to be filled in
    images: tuple[Path, ...]  # one poster or more; none where it is missing


@dataclass(frozen=True)
class ListColumn:
    """Labels that stand as a list in one column."""

    column: int
    spelling: ListSpelling
    always_quoted: bool | None  # None where the rows do not tell: a field then keeps its own way

    def fields(self, record: RawRecord, labels: Sequence[str]) -> dict[int, bytes]:
        """Return the bytes of the field that is filled with `labels`, likeliest first."""
        text = self.spelling.cell(labels, record.text(self.column))
        return {self.column: _field(record, self.column, text, self.always_quoted)}

    def takes(self, label: str) -> bool:
        """Tell whether there is a place for the label: any can stand in a list."""
        return bool(label)


@dataclass(frozen=True)
class FlagColumns:
    """Labels that are one-hot columns."""

    columns: Mapping[str, int]  # label in lower case -> its column
    spelling: FlagSpelling
    always_quoted: bool | None

    def fields(self, record: RawRecord, labels: Sequence[str]) -> dict[int, bytes]:
        """Return the bytes of the fields that change when `labels` are marked."""
        chosen = {label.casefold() for label in labels}
        changed = {}
        for label, column in self.columns.items():
            before = record.text(column)
            text = self.spelling.cell(label in chosen, before)
            if text != before:
                changed[column] = _field(record, column, text, self.always_quoted)
        return changed

    def takes(self, label: str) -> bool:
        """Tell whether there is a place for the label: its own column."""
        return label.casefold() in self.columns


def _field(record: RawRecord, column: int, text: str, always_quoted: bool | None) -> bytes:
    always = record.is_quoted(column) if always_quoted is None else always_quoted
    return as_field(text, record.delimiter, always_quoted=always)


@dataclass(frozen=True)
class Listing:
    """A CSV with its entries, in the order of its rows."""

    path: Path
    stamp: tuple[int, int]  # of the file, by which a change is noticed
    header: Labels
    labels: ListColumn | FlagColumns
    entries: tuple[Entry, ...]
    odd_lines: tuple[int, ...]  # where broken rows and rows of another width begin; they stay as they are


# Reading


def read_listing(
    path: Path, images: Path, label_names: Sequence[str], names: ColumnNames, separator: str | None = None
) -> Listing:
    """Read the entries of a CSV and how it writes its labels.

    Raises DataError when the table or the folder cannot be read, no poster matches any entry, or the table's labels
    include none of `label_names`.
    """
    if not path.is_file():
        raise DataError(f"expected a CSV at {path}, got no such file: check the path")
    if path.suffix.lower() in _PARQUET_SUFFIXES:
        raise DataError(f"expected a CSV, whose bytes can be kept, got Parquet in {path}: save it as CSV first")
    stamp = _stamp(path)
    table = read_table(path, names)
    header = _header(path)
    separator = separator or guess_separator(row.labels for row in table.rows)
    titles = titles_in(table, separator)
    flags = _flag_columns(path, header, table)
    written = _marked_labels(titles) if flags else _labels_in_order(titles, separator)
    _check_labels(path, label_names, flags or {label for labels in written for label in labels})
    posters = _posters(table, titles, images)
    entries = tuple(
        Entry(title.id, real_text(title.row.title), labels, posters.get(at, ()))
        for at, (title, labels) in enumerate(zip(titles, written, strict=True))
    )
    place: ListColumn | FlagColumns
    if flags:
        place = _flags_as_written(path, flags, titles, label_names)
    else:
        place = _list_as_written(path, header, table, titles, separator)
    return Listing(path, stamp, header, place, entries, tuple(table.broken_lines))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1  # reading it says why
    return status.st_size, status.st_mtime_ns


def _whole_records(path: Path) -> Iterator[RawRecord]:
    """Yield the header, then the record of each entry."""
    width = None
    for record in raw_records(path):
        width = len(record.cells) if width is None and record.cells is not None else width
        if record.cells is not None and len(record.cells) == width:
            yield record


def _header(path: Path) -> Labels:
    header = next(_whole_records(path), RawRecord(b"")).cells
    return tuple(name.strip() for name in header or ())


def _flag_columns(path: Path, header: Labels, table: Table) -> dict[str, int]:
    """Return where each one-hot column stands, by its name; none where labels are a column of lists."""
    named = table.columns["labels"] or ""
    if named.casefold() in (name.casefold() for name in header):
        return {}
    labels = named.split(", ")
    unclear = [label for label in labels if header.count(label) != 1]
    if unclear:
        raise DataError(
            f"expected a name of its own, without a comma, for every one-hot column of {path}, got "
            f"{shown(unclear, 3)}: rename the columns"
        )
    return {label: header.index(label) for label in labels}


def _marked_labels(titles: Sequence[Title]) -> list[Labels]:
    return [tuple(name for name in title.row.marked if name in title.labels) for title in titles]


def _labels_in_order(titles: Sequence[Title], separator: str) -> list[Labels]:
    """Return each row's labels as they are written, in their order."""
    order = {cell: labels_as_written(cell, separator) for cell in {title.row.labels for title in titles}}
    return [order[title.row.labels] for title in titles]


def _check_labels(path: Path, label_names: Sequence[str], found: Iterable[str]) -> None:
    known = {label.casefold(): label for label in found}
    if known and not any(name.casefold() in known for name in label_names):
        raise DataError(
            f"expected at least one of the bundle's labels ({shown(label_names, 5)}) among those of {path}, got "
            f"{shown(sorted(known.values()), 5)}: name a bundle of these labels, or check --labels-column and "
            "--label-separator"
        )


def _list_as_written(path: Path, header: Labels, table: Table, titles: Sequence[Title], separator: str) -> ListColumn:
    named = (table.columns["labels"] or "").casefold()
    column = [name.casefold() for name in header].index(named)  # the first, as the reader takes it
    labelled = [bool(title.labels) for title in titles]
    cells = [title.row.labels for title in titles]
    spelling = learn_lists([cell for cell, yes in zip(cells, labelled, strict=True) if yes] or cells, separator)
    quoting: Counter[bool] = Counter(
        record.is_quoted(column)
        for record, yes in zip(_entry_records(path), labelled, strict=False)
        if yes and not needs_quotes(record.text(column), record.delimiter)
    )
    return ListColumn(column, spelling, _habit(quoting))


def _flags_as_written(
    path: Path, flags: Mapping[str, int], titles: Sequence[Title], label_names: Sequence[str]
) -> FlagColumns:
    yes, no, quoting = Counter[str](), Counter[str](), Counter[bool]()
    for record, title in zip(_entry_records(path), titles, strict=False):
        if not title.row.marked:
            continue
        for name, column in flags.items():
            said = yes if name in title.row.marked else no
            said[record.text(column).strip()] += 1
            quoting[record.is_quoted(column)] += 1
    known = {name.casefold() for name in label_names}  # of other labels the model says nothing, not even no
    columns = {name.casefold(): column for name, column in flags.items() if name.casefold() in known}
    return FlagColumns(columns, learn_flags(yes, no), _habit(quoting))


def _entry_records(path: Path) -> Iterator[RawRecord]:
    records = _whole_records(path)
    next(records, None)
    return records


def _habit(quoting: Mapping[bool, int]) -> bool | None:
    return quoting.get(True, 0) > quoting.get(False, 0) if quoting else None


# Posters


def _posters(table: Table, titles: Sequence[Title], folder: Path) -> dict[int, tuple[Path, ...]]:
    """Return the posters of each entry that has any; pictures that stand where a poster is missing are none."""
    eligible = [title for title in titles if _may_have_poster(title)]
    if not eligible:
        raise DataError(
            f"expected an entry of {table.path} whose id can name a poster, got none: check --id-column, whose cells "
            "are empty or stand beside placeholder addresses"
        )
    row_of = {id(title.row): at for at, title in enumerate(titles)}
    found = {row_of[id(title.row)]: title.images for title in find_images(Cleaning(table), eligible, folder)}
    placeholders = _placeholders([(titles[at].id, path) for at, images in found.items() for path in images])
    real = {at: tuple(path for path in images if path not in placeholders) for at, images in found.items()}
    return {at: images for at, images in real.items() if images}


def _may_have_poster(title: Title) -> bool:
    return title.id.casefold() not in MISSING_WORDS and not is_placeholder_address(title.row.image_url)


def _placeholders(posters: Iterable[tuple[str, Path]]) -> set[Path]:
    """Return the files whose very content serves many titles, which no poster's does; `posters` are (title, file)."""
    same_size: defaultdict[int, set[tuple[str, Path]]] = defaultdict(set)
    for title, path in posters:
        same_size[_size(path)].add((title, path))
    suspects = [pair for pairs in same_size.values() if _n_titles(pairs) >= SHARED_BY for pair in pairs]
    digests = read_posters([path for _, path in suspects]).digests  # few: hardly any two posters have one size
    same_content: defaultdict[bytes, set[tuple[str, Path]]] = defaultdict(set)
    for pair, digest in zip(suspects, digests, strict=True):
        same_content[digest].add(pair)
    return {path for pairs in same_content.values() if _n_titles(pairs) >= SHARED_BY for _, path in pairs}


def _n_titles(posters: Iterable[tuple[str, Path]]) -> int:
    return len({title for title, _ in posters})


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # gone since the folder was listed: decoding will say so


# Writing


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
    if at != n_entries or _stamp(listing.path) != listing.stamp:
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
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
        shutil.copymode(like, temporary)
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"{path} could not be written ({error.strerror or error}): free some space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
