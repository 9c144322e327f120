"""Splits a catalogue into train, val and test posters: even labels, sizes as asked, no group on two sides.

What belongs together (`leakage.py`) moves together, and the labels are evened out by `stratify.py`. The same posters
and seed give the same parts, whatever the order of the rows and the state of `numpy.random`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hpo.data.catalogue.catalogue import MIN_POSTERS_PER_LABEL, Catalogue
from hpo.data.catalogue.columns import shown
from hpo.data.splits.leakage import Groups, group_posters
from hpo.data.splits.stratify import Assignment, Rows
from hpo.errors import DataError, UsageError
from hpo.printable import shortened

Size = int | float  # a whole number is that many posters, a fraction between 0 and 1 a share of all of them

PARTS = ("train", "val", "test")
_MOST_POSTERS = 10**9
_ATTEMPTS = 8  # a deal can end in a corner, with a label missing from a part or sizes off; another often does not


def parse_size(text: str | Size, option: str = "--val-size") -> Size:
    """Read "1000" or 1000 as that many posters, "0.1" or 0.1 as a share of all of them.

    Raises:
        UsageError: `text` is neither a whole number of at least 1 nor a fraction between 0 and 1.
    """
    try:
        size = int(text) if str(text).strip().isdecimal() else float(text)
    except ValueError:  # no number, or one of more digits than Python reads
        size = 0
    if (isinstance(size, int) and 1 <= size <= _MOST_POSTERS) or 0 < size < 1:
        return size
    raise UsageError(
        f"{option} expects a number of posters such as 1000 or a fraction between 0 and 1 such as 0.1, "
        f"but got {shortened(str(text))!r}: try {option} 0.1"
    )


def n_posters_of(size: Size, n_posters: int) -> int:
    """Return how many of `n_posters` a size asks for: a fraction is rounded, but to one poster at least."""
    return size if isinstance(size, int) else max(1, round(size * n_posters))


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of a catalogue in three disjoint parts, each sorted, that together hold every row."""

    train: Rows
    val: Rows
    test: Rows

    def parts(self) -> dict[str, Rows]:
        """Return the rows by the name of their part."""
        return {"train": self.train, "val": self.val, "test": self.test}

    def fingerprint(self, ids: Sequence[str]) -> str:
        """Return 16 hex digits over the `ids` (N,) in each part, the same for any order of the rows."""
        ids_by_part = {name: sorted(ids[row] for row in rows) for name, rows in self.parts().items()}
        return hashlib.sha256(json.dumps(ids_by_part).encode()).hexdigest()[:16]


def split_posters(
    catalogue: Catalogue, val_size: Size, test_size: Size, seed: int, groups: Groups | None = None
) -> Split:
    """Split a catalogue into parts of the sizes asked for, with even labels and no group of `groups` on two sides.

    Without groups of two or more the sizes are exact, else as near as the groups allow. Every label that at least
    three groups show has one poster or more in each part.

    Raises:
        DataError: the sizes leave nothing to train on, or make a part too small to show every label, or a label's
            posters form fewer than three groups.
    """
    sizes = _part_sizes(val_size, test_size, len(catalogue))  # (3,)
    groups = groups or group_posters(len(catalogue), [])
    rng = np.random.default_rng(seed)
    order, counts, n_posters = _by_smallest_id(catalogue, groups)
    _check_groups_per_label(catalogue, counts)
    best = min(_deals(counts, n_posters, sizes, rng), key=_faults)
    missing = best.assignment.missing()  # (3, L)
    if missing.any():
        lacks = [f"{PARTS[part]} has no {catalogue.label_names[at]!r}" for part, at in np.argwhere(missing)]
        raise DataError(
            f"found no parts of {' / '.join(map(str, sizes))} posters to train, validate and test on that each "
            f"show every label ({', '.join(lacks)}): raise --val-size or --test-size, or lower --labels"
        )
    part_of_group = np.empty_like(best.assignment.part)
    part_of_group[order[best.order]] = best.assignment.part
    of_poster = part_of_group[groups.of_poster]  # (N,)
    return Split(*(np.flatnonzero(of_poster == at) for at in range(len(PARTS))))


class _Deal(NamedTuple):
    order: Rows  # (G,) the groups as they were shuffled
    assignment: Assignment


def _deals(counts: Rows, n_posters: Rows, sizes: Rows, rng: np.random.Generator) -> Iterator[_Deal]:
    """Deal the groups again and again, until one deal is without fault."""
    for _ in range(_ATTEMPTS):
        order = rng.permutation(len(counts))
        deal = _Deal(order, Assignment(counts[order], n_posters[order], sizes, rng))
        deal.assignment.improve()
        yield deal
        if _faults(deal) == (0, 0):
            return


def _faults(deal: _Deal) -> tuple[int, int]:
    """Return how many labels are missing from a part, and how many posters the sizes are off beyond a hundredth."""
    off = np.abs(deal.assignment.surplus()) - np.maximum(1, deal.assignment.sizes // 100)
    return int(deal.assignment.missing().sum()), int(off.clip(0).sum())


def deal_folds(targets: npt.NDArray[np.bool_], group_of: Rows, n_folds: int, seed: int) -> Rows:
    """Return the fold (N,), 0..n_folds - 1, of each poster: equal sizes, even labels, no group in two folds.

    `group_of` (N,) is any numbering of the groups.
    """
    numbers, of_poster = np.unique(group_of, return_inverse=True)
    counts, n_posters = _group_totals(targets, of_poster, len(numbers))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(numbers))
    sizes = np.full(n_folds, len(targets) // n_folds)
    sizes[: len(targets) % n_folds] += 1
    assignment = Assignment(counts[order], n_posters[order], sizes, rng)
    assignment.improve()
    fold_of_group = np.empty_like(assignment.part)
    fold_of_group[order] = assignment.part
    folds: Rows = fold_of_group[of_poster]
    return folds


def _part_sizes(val_size: Size, test_size: Size, n_posters: int) -> Rows:
    n_val, n_test = n_posters_of(val_size, n_posters), n_posters_of(test_size, n_posters)
    n_train = n_posters - n_val - n_test
    if n_train < 1:
        raise DataError(
            f"{n_val} posters to validate and {n_test} to test on leave none of {n_posters} to train on: "
            "lower --val-size or --test-size"
        )
    return np.array([n_train, n_val, n_test])


def _by_smallest_id(catalogue: Catalogue, groups: Groups) -> tuple[Rows, Rows, Rows]:
    """Return the group numbers (G,) in an order that no shuffling of the rows changes, with what each holds.

    That is its posters by label (G, L), and its posters (G,).
    """
    by_id = np.argsort(np.array(catalogue.ids))
    numbers, first = np.unique(groups.of_poster[by_id], return_index=True)
    order = numbers[np.argsort(first)]
    counts, n_posters = _group_totals(catalogue.targets, groups.of_poster, len(groups))
    return order, counts[order], n_posters[order]


def _group_totals(targets: npt.NDArray[np.bool_], group_of: Rows, n_groups: int) -> tuple[Rows, Rows]:
    """Return the posters of each group by label (G, L), and altogether (G,)."""
    by_label = [np.bincount(group_of[marked], minlength=n_groups) for marked in targets.T]  # L × (G,)
    return np.stack(by_label, axis=1), np.bincount(group_of, minlength=n_groups)


def _check_groups_per_label(catalogue: Catalogue, counts: Rows) -> None:
    """Raise DataError when a label cannot be in all parts because its posters belong to fewer groups than parts."""
    n_groups = (counts > 0).sum(axis=0)
    enough_posters = counts.sum(axis=0) >= MIN_POSTERS_PER_LABEL
    few = [
        f"{name!r} in {n}"
        for name, n, enough in zip(catalogue.label_names, n_groups, enough_posters, strict=True)
        if enough and n < len(PARTS)
    ]
    if few:
        raise DataError(
            f"a label's posters must lie in {len(PARTS)} groups at least, to be in every part, but {shown(few)}: "
            "lower --labels, add posters, or split without groups by --grouping none"
        )


@dataclass(frozen=True)
class LabelShares:
    """How common one label is: its share, 0..1, of all posters and of each part's."""

    label: str
    n_posters: int
    overall: float
    train: float
    val: float
    test: float

    @property
    def largest_deviation(self) -> float:
        """The largest distance, 0..1, of a part's share from the overall one."""
        return max(abs(share - self.overall) for share in (self.train, self.val, self.test))


@dataclass(frozen=True)
class Distribution:
    """How evenly a split spreads the labels, for a table, a log or JSON."""

    sizes: dict[str, int]  # part -> posters
    labels: tuple[LabelShares, ...]  # (L,), in the order of label_names

    @property
    def largest_deviation(self) -> float:
        """The largest deviation, 0..1, of any label's share in any part."""
        return max(shares.largest_deviation for shares in self.labels)

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON values, the deviations included."""
        labels = [asdict(shares) | {"largest_deviation": shares.largest_deviation} for shares in self.labels]
        return {"sizes": self.sizes, "labels": labels, "largest_deviation": self.largest_deviation}


def distribution(split: Split, targets: npt.NDArray[np.bool_], label_names: Sequence[str]) -> Distribution:
    """Return the share of each of the L labels of `targets` (N, L), overall and in each part."""
    counts = targets.sum(axis=0).tolist()
    overall = targets.mean(axis=0).tolist()
    by_part = [targets[rows].mean(axis=0).tolist() for rows in split.parts().values()]  # 3 × (L,)
    columns = zip(label_names, counts, overall, *by_part, strict=True)
    return Distribution(
        sizes={name: len(rows) for name, rows in split.parts().items()},
        labels=tuple(LabelShares(*fields) for fields in columns),
    )
