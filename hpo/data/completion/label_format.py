"""Learn how a table formats its label cells, to write new ones alike.

A list is text with a separator, JSON, or what Python prints; its items are names, or dictionaries that hold one. In
one-hot columns a label is a word for yes, and the others' a word for no.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from re import escape, findall
from typing import Any

from hpo.data.labels.cells import MISSING_WORDS, LabelCells, real_labels
from hpo.data.labels.containers import container_items, name_of

_NO_GENRES = MISSING_WORDS | {"(no genres listed)"}  # what a filled cell does not keep, unlike "Award Winning"
_MOSTLY = 0.9  # lists of two names are in alphabetical order half of the time by chance

Writer = Callable[[list[Any]], str]

_LITERAL_WRITERS: tuple[Writer, ...] = (
    partial(json.dumps, ensure_ascii=False),
    partial(json.dumps, ensure_ascii=False, separators=(",", ":")),
    json.dumps,
    repr,
    lambda items: repr(tuple(items)),
    lambda items: f"{{{repr(items)[1:-1]}}}" if items else "set()",
    lambda items: f"[{' '.join(map(repr, items))}]",  # NumPy
    lambda items: f"[{', '.join(map(name_of, items))}]",
    lambda items: f"{{{','.join(map(_postgres, items))}}}",
    lambda items: "".join(f"<{name_of(item)}>" for item in items),
    lambda items: " ".join(f"#{name_of(item)}" for item in items),
)


def _postgres(item: Any) -> str:
    name = name_of(item)
    plain = name and not any(mark in name for mark in ' {},"\\')
    return name if plain else json.dumps(name, ensure_ascii=False)


@dataclass(frozen=True)
class ListSpelling:
    """How a column of lists is written."""

    write: Writer
    read: Callable[[str], list[Any]]
    items: Mapping[str, Any]  # a label in lower case -> what stands for it in a list
    of_dictionaries: bool
    alphabetical: bool

    def cell(self, labels: Iterable[str], before: str) -> str:
        """Return the cell that holds `labels`, likeliest first, in place of `before`.

        What stood there and is no genre, but no word for none either, stays: MyAnimeList's "Award Winning".
        """
        kept = [item for item in self.read(before) if name_of(item).casefold() not in _NO_GENRES]
        items = [*kept, *(self._item(label) for label in labels)]
        if self.alphabetical:
            items.sort(key=lambda item: name_of(item).casefold())
        return self.write(items)

    def _item(self, label: str) -> Any:
        return self.items.get(label.casefold(), {"name": label} if self.of_dictionaries else label)


@dataclass(frozen=True)
class FlagSpelling:
    """How one-hot columns say yes and no."""

    yes: str = "1"
    no: str = "0"

    def cell(self, chosen: bool, before: str) -> str:
        """Return the cell of a label; one that says no already, in whatever way, stays."""
        if chosen:
            return self.yes
        return before if before.strip() else self.no


def learn_lists(cells: Iterable[str], column: LabelCells) -> ListSpelling:
    """Learn from cells with labels; where there are none, from any cells, which may at least hold an empty list."""
    counts = Counter(cell.strip() for cell in cells)
    literals = {cell: items for cell in counts if (items := container_items(cell)) is not None}
    read = partial(_items_of, column=column)
    if sum(counts[cell] for cell in literals) * 2 > counts.total():
        counts = Counter({cell: counts[cell] for cell in literals})
        write = _literal_writer(literals, counts)
    else:
        write = partial(_joined, joiner=_joiner(counts, column.splitting.separator or ", "))
    lists = [(read(cell), n) for cell, n in counts.items()]
    return ListSpelling(
        write,
        read,
        _commonest_items(lists),
        of_dictionaries=any(isinstance(item, dict) for items, _ in lists for item in items),
        alphabetical=_is_alphabetical(lists),
    )


def _items_of(cell: str, column: LabelCells) -> list[Any]:
    found = container_items(cell.strip())
    return column.in_order(cell) if found is None else found


def _literal_writer(literals: Mapping[str, list[Any]], counts: Counter[str]) -> Writer:
    """Return the writer that gives most of the cells as they are; the first of equals."""

    def agreeing(write: Writer) -> int:
        return sum(counts[cell] for cell, items in literals.items() if write(items) == cell)

    return max(_LITERAL_WRITERS, key=agreeing)


def _joined(items: list[Any], joiner: str) -> str:
    return joiner.join(name_of(item) for item in items)


def _joiner(counts: Counter[str], separator: str) -> str:
    """Return the separator with the spaces that it mostly has around it."""
    bare = separator.strip()
    if not bare:
        return separator
    found: Counter[str] = Counter()
    for cell, n in counts.items():
        for joiner in findall(rf"\s*{escape(bare)}\s*", cell):
            found[joiner] += n
    return found.most_common(1)[0][0] if found else separator


def _commonest_items(lists: Sequence[tuple[list[Any], int]]) -> dict[str, Any]:
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    items: dict[str, Any] = {}
    for found, n in lists:
        for item in found:
            name = name_of(item)
            items.setdefault(repr(item), item)
            spellings[name.casefold()][repr(item)] += n
    return {name: items[counted.most_common(1)[0][0]] for name, counted in spellings.items()}


def _is_alphabetical(lists: Sequence[tuple[list[Any], int]]) -> bool:
    """Return whether nearly all lists of several labels are in alphabetical order."""
    several = [([name_of(item).casefold() for item in items], n) for items, n in lists if len(items) > 1]
    in_order = sum(n for names, n in several if names == sorted(names))
    return bool(several) and in_order >= _MOSTLY * sum(n for _, n in several)


def labels_as_written(cell: str, column: LabelCells) -> tuple[str, ...]:
    """Return a cell's labels in the order in which they stand there."""
    names = column.in_order(cell)
    real = real_labels(names)
    return tuple(name for name in names if name in real)


def learn_flags(yes: Counter[str], no: Counter[str]) -> FlagSpelling:
    """Learn from the cells that say yes and those that say no in rows with labels."""
    plain = FlagSpelling()
    return FlagSpelling(
        yes.most_common(1)[0][0] if yes else plain.yes,
        no.most_common(1)[0][0] if no else plain.no,
    )
