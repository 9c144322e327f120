"""Split a catalogue into train, val and test: stratified by label, of exact sizes, with groups kept whole.

What belongs together (`groups.py`) moves together, and the labels are evened out by `stratify.py`. The same posters
and seed give the same parts, whatever the order of the rows and the state of `numpy.random`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, ValidationError

from hpo.data.splits.groups import Groups, group_posters
from hpo.data.splits.stratify import Assignment, Rows
from hpo.data.table.catalogue import MIN_POSTERS_PER_LABEL, Catalogue
from hpo.data.table.columns import shown
from hpo.errors import DataError, UsageError, disk_cure
from hpo.escaping import shortened
from hpo.runtime.atomic import write_whole
from hpo.runtime.figure import Picture

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


# A picture of a split: each label's share in train, val and test, beside its share of all posters.

_COLOURS = {"train": "#4c72b0", "val": "#dd8452", "test": "#55a868"}
_MARKERS = {"train": "o", "val": "s", "test": "D"}
_INCHES_A_LABEL = 0.34
_MOST_LABELS = 200  # a picture has fewer than 65,536 px each way


def picture_of(distribution: Distribution) -> Figure:
    """Draw a row a label: the bar is its share of all posters, the marks are its shares in the parts.

    Of more labels than can be read those with the most posters are drawn.
    """
    labels = sorted(distribution.labels, key=lambda shares: -shares.n_posters)[:_MOST_LABELS]
    labels = [shares for shares in distribution.labels if shares in labels]
    figure = Picture(figsize=(8, 1.6 + _INCHES_A_LABEL * len(labels)), layout="constrained")
    axes = figure.add_subplot()
    rows = range(len(labels))
    axes.barh(rows, [100 * shares.overall for shares in labels], color="#e8e8ee", height=0.7, label="all posters")
    for part in PARTS:
        size = distribution.sizes[part]
        axes.plot(
            [100 * getattr(shares, part) for shares in labels],
            rows,
            _MARKERS[part],
            color=_COLOURS[part],
            markersize=5,
            alpha=0.85,
            label=f"{part} ({size:,})",
        )
    axes.set_yticks(rows, [f"{shares.label} ({shares.n_posters:,})" for shares in labels])
    axes.invert_yaxis()
    axes.set_xlabel("share of posters, %")
    drawn = f"The {len(labels)} commonest labels" if len(labels) < len(distribution.labels) else "Labels"
    axes.set_title(
        f"{drawn} by part; the largest deviation is {100 * distribution.largest_deviation:.2f} percentage points",
        loc="left",
        fontsize=10,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    return figure


def save_picture(distribution: Distribution, path: Path) -> None:
    """Write the picture as PNG. Raises DataError when the disk refuses."""
    try:
        png = io.BytesIO()
        picture_of(distribution).savefig(png, format="png", dpi=110)
        write_whole(path, png.getvalue())
    except OSError as error:
        raise DataError(f"the picture could not be written to {path} ({error.strerror}): {disk_cure(error)}") from error


# A split on disk: who is in which part, as JSON that a person can read and a search can be given (`--split`).

_MOST_BYTES = 500_000_000  # of a file: some millions of posters


class KeptTogether(BaseModel):
    """Posters that stay in one part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: tuple[str, ...]
    reasons: tuple[str, ...]


class SplitFile(BaseModel):
    """The posters of each part by id; `groups` are the posters that were kept together, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    fingerprint: str  # of the parts (`Split.fingerprint`)
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    groups: tuple[KeptTogether, ...] = ()

    @classmethod
    def of(cls, split: Split, catalogue: Catalogue, groups: Groups) -> SplitFile:
        """Write the split of `catalogue` down."""

        def ids(rows: Rows) -> tuple[str, ...]:
            return tuple(catalogue.ids[row] for row in rows)

        return cls(
            fingerprint=split.fingerprint(catalogue.ids),
            train=ids(split.train),
            val=ids(split.val),
            test=ids(split.test),
            groups=tuple(KeptTogether(ids=ids(group.rows), reasons=group.reasons) for group in groups.shared),
        )

    def save(self, path: Path) -> None:
        """Write the file, one poster a line. Raises DataError when the disk refuses."""
        try:
            write_whole(path, self.model_dump_json(indent=1).encode())
        except OSError as error:
            raise DataError(
                f"the split could not be written to {path} ({error.strerror}): {disk_cure(error)}"
            ) from error

    def apply(self, catalogue: Catalogue) -> Split:
        """Return the split of `catalogue` that the file describes.

        Posters of the file that the catalogue lacks are passed over: a file may have broken since. Raises DataError
        when the catalogue has posters of which the file says nothing, or a part is left empty.
        """
        part_of = {name: part for part in PARTS for name in getattr(self, part)}
        strangers = [name for name in catalogue.ids if name not in part_of]
        if strangers:
            raise DataError(
                f"the split file names every part's posters, but not {len(strangers)} of the {len(catalogue)} in the "
                f"catalogue ({shown(strangers, 3)}): give --split the file of this catalogue, or leave it out"
            )
        parts = np.array([part_of[name] for name in catalogue.ids])
        split = Split(*(np.flatnonzero(parts == part) for part in PARTS))
        empty = [name for name, rows in split.parts().items() if not len(rows)]
        if empty:
            raise DataError(f"the split file leaves no poster to {' and '.join(empty)}: give --split another file")
        return split


def load_split(path: Path) -> SplitFile:
    """Read a split file. Raises DataError when it cannot be read, is none, or puts a poster in two parts."""
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > _MOST_BYTES):
            raise DataError(f"{path} is no file of at most {_MOST_BYTES:,} bytes, as a split file is: check --split")
        loaded = SplitFile.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read as a split file ({error.strerror}): check --split") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is no split file ({_first_problem(error)}): give --split a file that hpo data check wrote"
        ) from error
    times = Counter([*loaded.train, *loaded.val, *loaded.test])
    twice = [name for name, n in times.items() if n > 1]
    if twice:
        raise DataError(f"{path} puts posters into two parts ({shown(twice, 3)}): each belongs to one")
    return loaded


def _first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    problem: Any = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".strip(": ")
