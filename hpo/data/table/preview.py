"""Preview of a table as it was read: a sample row, and warnings about columns that look misread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from hpo.data.labels.cells import LabelCells, looks_unparsed, real_text
from hpo.data.table.cleaning import Title
from hpo.data.table.columns import shown
from hpo.data.table.reader import Table

_FILLERS = frozenset(
    {"standalone", "stand-alone", "other", "others", "misc", "single", "no franchise", "no collection", "0", "-1"}
    | {"false", "no", "not applicable", "[]", "{}", "0.0", "-1.0", "n\\a", "none listed"}
)
_MUCH = 0.3  # of the posters: no franchise has so many
_MANY_TITLES = 20  # below this no share says anything
_CELL_SHOWN = 100
_NEARLY_ONE = 1.02
_SOME_SHARE = 0.1


class Sample(NamedTuple):
    """A row as it was read."""

    id: str
    image: str | None  # the file's name; None where no image was looked for
    label_cell: str  # as it stands in the table
    labels: tuple[str, ...]


def group_name(cell: str) -> str:
    """Return a group's name, or empty text for a word that stands for none."""
    return "" if cell.casefold() in _FILLERS else real_text(cell)


def sample_of(titles: Sequence[Title]) -> Sample | None:
    """Return the first title that has several labels, or the first."""
    title = next((title for title in titles if len(title.labels) > 1), titles[0] if titles else None)
    if title is None:
        return None
    image = title.images[0].name if title.images else None
    return Sample(title.id, image, cell_shown(title), tuple(sorted(title.labels)))


def cell_shown(title: Title) -> str:
    """Return the cell of a title's labels, cut for a message."""
    cell = ", ".join(title.row.marked) or title.row.labels
    return cell if len(cell) <= _CELL_SHOWN else f"{cell[:_CELL_SHOWN]}..."


def reading_notes(table: Table, cells: LabelCells, titles: Sequence[Title]) -> list[str]:
    """Return a sentence for whatever may have been read in another sense than was meant."""
    notes = [_one_hot(table), *_spellings(cells), _unparsed(cells, titles), _title(table), _groups(table, titles)]
    return [note for note in [*notes, _ids(table), table.note] if note]


def _one_hot(table: Table) -> str | None:
    names = table.one_hot
    if not names:
        return None
    left = f"; left out as flags: {shown(table.flags)}" if table.flags else ""
    return f"Labels are the {len(names)} columns {shown(names)}{left} (--labels-column A,B names others)."


def _spellings(cells: LabelCells) -> list[str]:
    pairs = [f"{', '.join(map(repr, others))} as {name!r}" for name, others in cells.spellings.items()]
    return (
        [f"Labels that differ in case or in the form of a character alone are one: {shown(pairs, 5)}."] if pairs else []
    )


def _unparsed(cells: LabelCells, titles: Sequence[Title]) -> str | None:
    """Warn where labels hold brackets or separators, or where no poster has more than one."""
    if not titles:
        return None
    counts = Counter(label for title in titles for label in title.labels)
    single = counts.total() < _NEARLY_ONE * len(titles)
    if titles[0].row.marked:
        return None
    odd = [title for title in titles if any(looks_unparsed(label, single=single) for label in title.labels)]
    if len(odd) >= _SOME_SHARE * len(titles):
        example = odd[0]
    elif single:
        example = next((title for title in titles if " " in cell_shown(title)), titles[0])
    else:
        return None
    why = f"{counts.total() / len(titles):.2f} labels a poster" if single else f"{len(odd):,} rows hold a separator"
    read = ", ".join(repr(label) for label in sorted(example.labels))
    return (
        f"Labels may be read wrongly ({why}): the cell {cell_shown(example)!r} was read as {read}; if it holds "
        "several labels, name what stands between them with --label-separator."
    )


def _title(table: Table) -> str | None:
    if table.columns["title"] is not None:
        return None
    return (
        "No column of titles was found (name or title), so editions and sequels of one title may lie in several parts "
        "of the split; --group-column names what belongs together."
    )


def _groups(table: Table, titles: Sequence[Title]) -> str | None:
    groups = Counter(group_name(title.row.group) for title in titles)
    groups.pop("", None)
    name, n = groups.most_common(1)[0] if groups else ("", 0)
    if len(titles) < _MANY_TITLES or n < _MUCH * len(titles):
        return None
    return (
        f"{n:,} of {len(titles):,} titles are of one group, {name[:60]!r} in column {table.columns['group']!r}, and "
        "stay in one part of the split: leave such a cell empty where it means none."
    )


def _ids(table: Table) -> str | None:
    n_ids, n_rows = len({row.id for row in table.rows}), len(table.rows)
    if n_rows < _MANY_TITLES or n_ids * 4 > n_rows:
        return None
    return (
        f"Column {table.columns['id']!r} holds {n_ids:,} different ids in {n_rows:,} rows: if it is no id, name that "
        "of the posters with --id-column."
    )
