"""Splits a catalogue into train, val and test posters so that every label has about the same share in each.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011, "On the Stratification of Multi-Label Data",
ECML PKDD) deals the posters straight into three parts, rarest label first. It trades exact sizes for even
labels, and gives a rare label to the largest part only. Its answer is therefore corrected by moving single
posters, each time the one that disturbs the labels least: until the sizes are exact, then in swaps for as
long as they help. What disturbs is one number, the badness: Pearson's chi-square of the label counts (3, L)
against those that even shares would give, and far above it every part without a poster of a label that has
enough for all three.

The trade-off: the parts are more alike than chance would make them, so that the spread of a metric between
two of them is smaller than between two samples of new posters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt
from iterstrat.ml_stratifiers import IterativeStratification

from hpo.data.catalogue import MIN_POSTERS_PER_LABEL, Catalogue
from hpo.errors import DataError

Rows = npt.NDArray[np.int64]
Size = int | float  # a whole number is that many posters, a fraction between 0 and 1 a share of all of them

PARTS = ("train", "val", "test")
_MISSING = 1e9  # the badness of a part without a label that it should show: above any chi-square
_ATTEMPTS = 8  # swaps can end in a corner where a part holds few posters; a second deal often does not


def parse_size(text: str | Size, option: str = "--val-size") -> Size:
    """Read "1000" or 1000 as that many posters, "0.1" or 0.1 as a share of all of them.

    Raises:
        DataError: `text` is neither a whole number of at least 1 nor a fraction between 0 and 1.
    """
    try:
        size = int(text) if str(text).strip().isdecimal() else float(text)
    except ValueError:
        size = 0
    if (isinstance(size, int) and size >= 1) or 0 < size < 1:
        return size
    raise DataError(
        f"{option} expects a number of posters such as 1000 or a fraction between 0 and 1 such as 0.1, "
        f"but got {str(text)!r}: try {option} 0.1"
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


def split_posters(catalogue: Catalogue, val_size: Size, test_size: Size, seed: int) -> Split:
    """Split a catalogue into parts of exactly the sizes asked for, with even labels.

    Every label of at least three posters has one or more in each part. The same posters and seed give the
    same parts, whatever the order of the rows and the state of `numpy.random`.

    Raises:
        DataError: the sizes leave nothing to train on, or make a part too small to show every label.
    """
    sizes = _part_sizes(val_size, test_size, len(catalogue))  # (3,)
    rng = np.random.default_rng(seed)
    by_id = np.argsort(np.array(catalogue.ids))
    for _ in range(_ATTEMPTS):
        order = by_id[rng.permutation(len(catalogue))]
        assignment = _stratify(catalogue.targets[order], sizes, rng)
        missing = assignment.missing()  # (3, L)
        if not missing.any():
            train, val, test = (np.sort(order[assignment.part == part]) for part in range(len(PARTS)))
            return Split(train, val, test)
    lacks = [f"{PARTS[part]} has no {catalogue.label_names[at]!r}" for part, at in np.argwhere(missing)]
    raise DataError(
        f"found no parts of {' / '.join(map(str, sizes))} posters to train, validate and test on that each "
        f"show every label ({', '.join(lacks)}): raise --val-size or --test-size, or lower --labels"
    )


def _part_sizes(val_size: Size, test_size: Size, n_posters: int) -> Rows:
    n_val, n_test = n_posters_of(val_size, n_posters), n_posters_of(test_size, n_posters)
    n_train = n_posters - n_val - n_test
    if n_train < 1:
        raise DataError(
            f"{n_val} posters to validate and {n_test} to test on leave none of {n_posters} to train on: "
            "lower --val-size or --test-size"
        )
    return np.array([n_train, n_val, n_test])


def _stratify(targets: npt.NDArray[np.bool_], sizes: Rows, rng: np.random.Generator) -> _Assignment:
    part = IterativeStratification(labels=targets, r=sizes / len(targets), random_state=rng)  # (N,), 0..2
    assignment = _Assignment(part, targets, sizes)
    assignment.make_sizes_exact()
    assignment.swap_while_it_helps()
    return assignment


class _Assignment:
    """Which part each poster is in, and how badly the labels are spread over the parts."""

    def __init__(self, part: Rows, targets: npt.NDArray[np.bool_], sizes: Rows) -> None:
        totals = targets.sum(axis=0)  # (L,)
        self.part = part.copy()  # (N,), index into PARTS
        self._sizes = sizes  # (3,)
        self._targets = targets.astype(np.float64)  # (N, L)
        self._counts = np.stack([targets[part == at].sum(axis=0) for at in range(len(PARTS))])  # (3, L)
        self._expected = np.maximum(np.outer(sizes / len(part), totals), 1e-9)  # (3, L), safe to divide by
        self._is_owed: npt.NDArray[np.bool_] = totals >= MIN_POSTERS_PER_LABEL  # (L,)

    def missing(self) -> npt.NDArray[np.bool_]:
        """Tell (3, L) which parts show no poster of a label that has enough for all of them."""
        is_absent: npt.NDArray[np.bool_] = self._counts == 0
        return is_absent & self._is_owed

    def make_sizes_exact(self) -> None:
        while (surplus := np.bincount(self.part, minlength=len(PARTS)) - self._sizes).any():
            self._move_best(int(surplus.argmax()), int(surplus.argmin()))

    def swap_while_it_helps(self) -> None:
        while any(self._swap_if_better(source, goal) for source, goal in permutations(range(len(PARTS)), 2)):
            pass

    def _badness(self) -> float:
        chi_square = ((self._counts - self._expected) ** 2 / self._expected).sum()
        return float(chi_square + _MISSING * self.missing().sum())

    def _swap_if_better(self, source: int, goal: int) -> bool:
        before = self._badness()
        there = self._move_best(source, goal)
        back = self._move_best(goal, source)
        if self._badness() < before - 1e-6:  # beyond rounding, or two equal swaps could take turns for ever
            return True
        self._move(back, goal)
        self._move(there, source)
        return False

    def _move_best(self, source: int, goal: int) -> int:
        """Move the poster of `source` whose move is best for, or least bad, and return its row."""
        costs = np.where(self.part == source, self._targets @ self._price(source, goal), np.inf)  # (N,)
        # Rounded, so that the number of threads in the product cannot decide between equals.
        row = int(costs.round(4).argmin())
        self._move(row, goal)
        return row

    def _price(self, source: int, goal: int) -> npt.NDArray[np.float64]:
        """Return what each label (L,) of a poster adds to the badness when the poster moves."""
        excess = self._counts - self._expected  # (3, L)
        leaving = (1 - 2 * excess[source]) / self._expected[source]  # ((e - 1)² - e²) / expected
        arriving = (1 + 2 * excess[goal]) / self._expected[goal]  # ((e + 1)² - e²) / expected
        emptying = _MISSING * (self._is_owed & (self._counts[source] == 1))
        filling = _MISSING * self.missing()[goal]
        price: npt.NDArray[np.float64] = leaving + arriving + emptying - filling
        return price

    def _move(self, row: int, goal: int) -> None:
        labels = self._targets[row].astype(np.int64)  # (L,)
        self._counts[self.part[row]] -= labels
        self._counts[goal] += labels
        self.part[row] = goal


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
