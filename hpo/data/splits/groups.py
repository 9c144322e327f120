"""Links between posters that must stay in one part of a split → groups.

A sequel's poster shares its characters, its palette and most of its labels with the first film's; a re-encoded copy
shares everything. With one of a pair in train and the other in test, the test score counts memory as skill (leakage
in the sense of Kaufman, Rosset & Perlich 2011, "Leakage in Data Mining", KDD). Evidence comes as links between pairs
of posters, each kind with its reason; what is linked, directly or through others, is one group.

The trade-off: groups are connected components, so that one false link joins two whole groups. The finders of links
are therefore built to miss a pair rather than to guess one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hpo.data.splits.stratify import Rows


@dataclass(frozen=True, eq=False)
class Links:
    """Pairs of posters that must stay on one side, and why; a chain through a set says the same as all its pairs."""

    reason: str  # "title", "poster", "column", "several images"
    pairs: Rows  # (P, 2), rows of posters

    def __len__(self) -> int:
        return len(self.pairs)


def linked_sets(reason: str, sets: Iterable[Sequence[int]]) -> Links:
    """Link the rows of each set to each other; sets of one link nothing."""
    pairs = list(chain.from_iterable(pairwise(rows) for rows in sets))
    return Links(reason, np.array(pairs, dtype=np.int64).reshape(-1, 2))


def linked_by_value(reason: str, values: Sequence[str]) -> Links:
    """Link posters of equal values (N,), say of a group column; an empty text is no value and links nothing."""
    rows_of: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if value:
            rows_of.setdefault(value, []).append(row)
    return linked_sets(reason, rows_of.values())


@dataclass(frozen=True, eq=False)
class Group:
    """Two or more posters that stay together."""

    rows: Rows  # sorted
    reasons: tuple[str, ...]  # of the links inside it, in the order in which the links were given


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of every poster; a poster without any link is a group of its own."""

    of_poster: Rows  # (N,), 0..G-1, numbered by each group's first poster
    links: tuple[Links, ...]

    def __len__(self) -> int:
        return int(self.of_poster.max()) + 1 if len(self.of_poster) else 0

    @cached_property
    def shared(self) -> tuple[Group, ...]:
        """The groups of two posters or more, largest first, then by first row."""
        reasons = self._reasons_of_group()
        by_group = np.argsort(self.of_poster, kind="stable")
        starts = np.flatnonzero(np.diff(self.of_poster[by_group])) + 1
        shared = [rows for rows in np.split(by_group, starts) if len(rows) > 1]
        shared.sort(key=lambda rows: (-len(rows), int(rows[0])))
        return tuple(Group(rows, tuple(reasons[int(self.of_poster[rows[0]])])) for rows in shared)

    @property
    def n_shared_posters(self) -> int:
        """How many posters are in a group with another."""
        return sum(len(group.rows) for group in self.shared)

    def posters_by_reason(self) -> dict[str, int]:
        """Count the posters that have at least one link of each reason; a poster may count under several."""
        linked: dict[str, list[Rows]] = {}
        for links in self.links:
            linked.setdefault(links.reason, []).append(links.pairs.ravel())
        return {reason: len(np.unique(np.concatenate(rows))) for reason, rows in linked.items()}

    def _reasons_of_group(self) -> dict[int, list[str]]:
        reasons: dict[int, list[str]] = {}
        for links in self.links:
            for group in np.unique(self.of_poster[links.pairs]).tolist():
                if links.reason not in (known := reasons.setdefault(group, [])):
                    known.append(links.reason)
        return reasons


def group_posters(n_posters: int, links: Sequence[Links]) -> Groups:
    """Return the connected components of the posters under all links; permuted posters give permuted groups."""
    pairs = np.concatenate([np.empty((0, 2), np.int64), *(each.pairs for each in links)])  # (P, 2)
    ones = np.ones(len(pairs), dtype=bool)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n_posters, n_posters))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.argsort(np.argsort(first))  # SciPy's own numbering is not documented
    return Groups(number[inverse].astype(np.int64), tuple(links))
