"""Read a catalogue with gaps: its labelled and unlabelled entries, and how its labels are written.

Every row as wide as the header is an entry, whatever its type or rating: what a search would leave out may be
completed all the same (`csv_edit.py`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hpo.data.completion.csv_fields import RawRecord, as_field, needs_quotes, raw_records
from hpo.data.completion.label_format import FlagSpelling, ListSpelling, labels_as_written, learn_flags, learn_lists
from hpo.data.images import read_posters
from hpo.data.labels.cells import MISSING_WORDS, LabelCells, real_text
from hpo.data.table.cleaning import (
    SHARED_BY,
    Cleaning,
    Title,
    find_images,
    is_placeholder_address,
    label_cells_of,
    titles_in,
)
from hpo.data.table.columns import shown
from hpo.data.table.image_files import ImageFiles, list_images
from hpo.data.table.reader import Table, read_table
from hpo.data.table.records import is_plain_csv, is_utf8
from hpo.data.table.rules import ColumnNames
from hpo.errors import DataError

# Where a table's labels stand, a column of lists or a column each, and how its rows write them.


@dataclass(frozen=True)
class ListColumn:
    """Labels that stand as a list in one column."""

    column: int
    spelling: ListSpelling
    always_quoted: bool | None  # None where the rows do not show it: a field then keeps its own way

    @classmethod
    def learn(cls, path: Path, column: int, titles: Sequence[Title], read: LabelCells) -> ListColumn:
        """Learn from the rows that have labels; `titles` are all rows of the table at `path`, in order."""
        labelled = [bool(title.labels) for title in titles]
        cells = [title.row.labels for title in titles]
        spelling = learn_lists([cell for cell, yes in zip(cells, labelled, strict=True) if yes] or cells, read)
        quoting: Counter[bool] = Counter(
            record.is_quoted(column)
            for record, yes in zip(_entry_records(path), labelled, strict=False)
            if yes and not needs_quotes(record.text(column), record.delimiter)
        )
        return cls(column, spelling, _habit(quoting))

    def fields(self, record: RawRecord, labels: Sequence[str]) -> dict[int, bytes]:
        """Return the bytes of the field that is filled with `labels`, likeliest first."""
        text = self.spelling.cell(labels, record.text(self.column))
        return {self.column: _field(record, self.column, text, self.always_quoted)}

    def takes(self, label: str) -> bool:
        """Return whether there is a place for the label: any can stand in a list."""
        return bool(label)


@dataclass(frozen=True)
class FlagColumns:
    """Labels that are one-hot columns."""

    columns: Mapping[str, int]  # label in lower case -> its column
    spelling: FlagSpelling
    always_quoted: bool | None

    @classmethod
    def learn(
        cls, path: Path, flags: Mapping[str, int], titles: Sequence[Title], label_names: Sequence[str]
    ) -> FlagColumns:
        """Learn from the rows that have marks; only the columns of `label_names` are ever filled."""
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
        return cls(columns, learn_flags(yes, no), _habit(quoting))

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
        """Return whether there is a place for the label: its own column."""
        return label.casefold() in self.columns


def _field(record: RawRecord, column: int, text: str, always_quoted: bool | None) -> bytes:
    always = record.is_quoted(column) if always_quoted is None else always_quoted
    return as_field(text, record.delimiter, always_quoted=always)


def whole_records(path: Path) -> Iterator[RawRecord]:
    """Yield the header, then the record of each entry."""
    width = None
    for record in raw_records(path):
        width = len(record.cells) if width is None and record.cells is not None else width
        if record.cells is not None and len(record.cells) == width:
            yield record


def _entry_records(path: Path) -> Iterator[RawRecord]:
    records = whole_records(path)
    next(records, None)
    return records


def _habit(quoting: Mapping[bool, int]) -> bool | None:
    return quoting.get(True, 0) > quoting.get(False, 0) if quoting else None


Labels = tuple[str, ...]


class Entry(NamedTuple):
    """A row of the table."""

    id: str
    title: str
    labels: Labels  # as they are written; none where they are to be filled in
    images: tuple[Path, ...]  # one poster or more; none where it is missing


@dataclass(frozen=True)
class Listing:
    """A CSV with its entries, in the order of its rows."""

    path: Path
    stamp: tuple[int, int]  # of the file, by which a change is noticed
    header: Labels
    labels: ListColumn | FlagColumns
    entries: tuple[Entry, ...]
    odd_lines: tuple[int, ...]  # where broken rows and rows of another width begin; they stay as they are

    @property
    def is_stale(self) -> bool:
        """Return whether the file is another one than was read."""
        return _stamp(self.path) != self.stamp


def read_listing(
    path: Path, images: Path, label_names: Sequence[str], names: ColumnNames, separator: str | None = None
) -> Listing:
    """Read the entries of a CSV and how it writes its labels.

    Raises DataError when the table or the folder cannot be read, no poster matches any entry, or the table's labels
    include none of `label_names`.
    """
    if not path.is_file():
        raise DataError(f"expected a CSV at {path}, got no such file: check the path")
    if not is_plain_csv(path):
        kind = "Parquet" if path.suffix.lower() in (".parquet", ".pq") else f"a {path.suffix} file"
        raise DataError(f"expected a CSV, whose bytes can be kept, got {kind} in {path}: save it as CSV first")
    if not is_utf8(path):
        raise DataError(
            f"expected a CSV in UTF-8, whose bytes can be kept, got UTF-16 or UTF-32 in {path}: save it as UTF-8"
        )
    stamp = _stamp(path)
    found = list_images(images)
    table = read_table(path, names, found)
    if table.padded:
        raise DataError(f"expected rows as wide as the header of {path}, got a delimiter at their end: save it again")
    header = _header(path)
    cells = label_cells_of(table, separator)
    titles = titles_in(table, cells)
    flags = _flag_columns(path, header, table)
    written = _marked_labels(titles) if flags else _labels_in_order(titles, cells)
    _check_labels(path, label_names, flags or {label for labels in written for label in labels})
    posters = _posters(table, titles, found)
    entries = tuple(
        Entry(title.id, real_text(title.row.title), labels, posters.get(at, ()))
        for at, (title, labels) in enumerate(zip(titles, written, strict=True))
    )
    place: ListColumn | FlagColumns
    if flags:
        place = FlagColumns.learn(path, flags, titles, label_names)
    else:
        place = ListColumn.learn(path, _lists_at(header, table), titles, cells)
    return Listing(path, stamp, header, place, entries, tuple(table.broken_lines))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return -1, -1  # reading it says why
    return status.st_size, status.st_mtime_ns


def _header(path: Path) -> Labels:
    header = next(whole_records(path), RawRecord(b"")).cells
    return tuple(name.strip() for name in header or ())


def _lists_at(header: Labels, table: Table) -> int:
    named = (table.columns["labels"] or "").casefold()
    return [name.casefold() for name in header].index(named)  # the first, as the reader takes it


def _flag_columns(path: Path, header: Labels, table: Table) -> dict[str, int]:
    """Return where each one-hot column stands, by its name; none where labels are a column of lists."""
    named = table.columns["labels"] or ""
    if named.casefold() in (name.casefold() for name in header):
        return {}
    labels = named.split(", ")
    if not table.one_hot and any(row.labels for row in table.rows):
        raise DataError(
            f"expected one column of label lists, or one-hot columns, in {path}, got labels in several columns "
            f"({shown(labels, 3)}): write them in one column"
        )
    unclear = [label for label in labels if header.count(label) != 1]
    if unclear:
        raise DataError(
            f"expected a name of its own, without a comma, for every one-hot column of {path}, got "
            f"{shown(unclear, 3)}: rename the columns"
        )
    return {label: header.index(label) for label in labels}


def _marked_labels(titles: Sequence[Title]) -> list[Labels]:
    return [tuple(name for name in title.row.marked if name in title.labels) for title in titles]


def _labels_in_order(titles: Sequence[Title], cells: LabelCells) -> list[Labels]:
    """Return each row's labels in the order in which they are written."""
    order = {cell: labels_as_written(cell, cells) for cell in {title.row.labels for title in titles}}
    return [order[title.row.labels] for title in titles]


def _check_labels(path: Path, label_names: Sequence[str], found: Iterable[str]) -> None:
    known = {label.casefold(): label for label in found}
    if known and not any(name.casefold() in known for name in label_names):
        raise DataError(
            f"expected at least one of the bundle's labels ({shown(label_names, 5)}) among those of {path}, got "
            f"{shown(sorted(known.values()), 5)}: name a bundle of these labels, or check --labels-column and "
            "--label-separator"
        )


def _posters(table: Table, titles: Sequence[Title], images: ImageFiles) -> dict[int, tuple[Path, ...]]:
    """Return the posters of each entry that has any; pictures that stand where a poster is missing are none."""
    eligible = [title for title in titles if _may_have_poster(title)]
    if not eligible:
        raise DataError(
            f"expected an entry of {table.path} whose id can name a poster, got none: check --id-column, whose cells "
            "are empty or stand beside placeholder addresses"
        )
    row_of = {id(title.row): at for at, title in enumerate(titles)}
    found = {row_of[id(title.row)]: title.images for title in find_images(Cleaning(table), eligible, images)}
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
