"""Where a table's labels stand, a column of lists or a column each, and how its rows write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.data.catalogue.cleaning import Title
from hpo.data.catalogue.labels import LabelCells
from hpo.data.field_spans import RawRecord, as_field, needs_quotes, raw_records
from hpo.data.label_spelling import FlagSpelling, ListSpelling, learn_flags, learn_lists


@dataclass(frozen=True)
class ListColumn:
    """Labels that stand as a list in one column."""

    column: int
    spelling: ListSpelling
    always_quoted: bool | None  # None where the rows do not tell: a field then keeps its own way

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
        """Tell whether there is a place for the label: any can stand in a list."""
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
        """Tell whether there is a place for the label: its own column."""
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
