"""Reads a CSV of posters and a folder of images into a `Catalogue`, and says why other rows were left out.

Rows are dropped reason by reason, and each is counted under the first reason that applies to it: broken row,
unusable id, duplicate id, type not wanted, no label at all, no image, none of the top labels. The commonest
labels are counted after all of the other drops, over the posters that could be used: counted any earlier, a
label whose posters were never downloaded could take the place of one that is really there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from posixpath import normpath

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from hpo.data.table import Table, read_table, shown
from hpo.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # in any case; of two files with one id the earlier wins
MIN_LABELS = 2  # fewer is not multi-label
MIN_POSTERS_PER_LABEL = 3  # one each to train, to validate and to test on

_SEPARATORS = (", ", ",", "|", ";")
_MISSING_WORDS = frozenset({"", "unknown", "n/a", "na", "nan", "none", "null", "not available", "-", "?"})
_NO_LABELS = _MISSING_WORDS | {"award winning", "(no genres listed)"}
_EXAMPLES_PER_REASON = 5


class CatalogueRules(BaseModel):
    """How rows become posters; a bundle stores it, so that another CSV is cleaned as the search's was.

    Columns and the separator are found when None, but without an `image_column` the image is named by the id.
    `types` holds only where the CSV has a `Type` column, in any case; None takes all. `label_names` fixes the
    labels and their order, and then `top_labels` chooses nothing. `keep_unlabelled` keeps the posters that
    carry none of the label names, as rows of False.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id_column: str | None = None
    labels_column: str | None = None
    label_separator: str | None = None
    image_column: str | None = None
    types: tuple[str, ...] | None = ("TV", "Movie")
    top_labels: int = 10
    label_names: tuple[str, ...] | None = None
    keep_unlabelled: bool = False


DEFAULT_RULES = CatalogueRules()


@dataclass(frozen=True, eq=False)
class Catalogue:
    """N posters and their L labels; row i of every field is the same poster."""

    ids: tuple[str, ...]  # (N,), unique
    titles: tuple[str, ...]  # (N,), empty text where the CSV has none
    image_paths: tuple[Path, ...]  # (N,), or empty when read without images
    targets: npt.NDArray[np.bool_]  # (N, L)
    label_names: tuple[str, ...]  # (L,), commonest first unless the rules fix them

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[np.int64]) -> Catalogue:
        """Return the posters at `rows` (M,), in that order, with the same label names."""
        return Catalogue(
            ids=tuple(self.ids[row] for row in rows),
            titles=tuple(self.titles[row] for row in rows),
            image_paths=tuple(self.image_paths[row] for row in rows) if self.image_paths else (),
            targets=self.targets[rows],
            label_names=self.label_names,
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over the label names and each id with its targets, the same for any order of rows."""
        posters = sorted(zip(self.ids, self.targets.astype(int).tolist(), strict=True))
        return hashlib.sha256(json.dumps([self.label_names, posters]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class CleaningReport:
    """What became of every row: `rows_read` is `rows_kept` plus all of `dropped`."""

    csv_path: Path
    rows_read: int
    rows_kept: int
    dropped: Mapping[str, int]  # reason -> rows, in the order of application, zeros included
    examples: Mapping[str, tuple[str, ...]]  # reason -> the first few ids, or "line 12" for a broken row
    label_counts: Mapping[str, int]  # label -> kept posters that carry it, in the order of label_names
    columns: Mapping[str, str | None]  # id, labels, title, type, image -> the CSV's own name for it

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        examples = {reason: list(ids) for reason, ids in self.examples.items()}
        return {**asdict(self), "csv_path": str(self.csv_path), "examples": examples}


def read_catalogue(
    csv_path: Path, images: Path | None, rules: CatalogueRules = DEFAULT_RULES
) -> tuple[Catalogue, CleaningReport]:
    """Read the posters of `csv_path` whose image lies in the folder `images`.

    An image is `<id>.<jpg|jpeg|png|webp>` directly in the folder, or the path relative to it that stands in
    `rules.image_column`. With `images` None no image is looked for, and `image_paths` stays empty.

    Raises:
        DataError: the CSV or the folder cannot be read, a column is missing, no image matches any id, or no
            poster or fewer than two labels are left.
    """
    table = read_table(
        csv_path,
        id_column=rules.id_column,
        labels_column=rules.labels_column,
        image_column=rules.image_column,
    )
    image_files = {} if images is None else _image_files(images, by_id=table.columns["image"] is None)
    cleaning = _Cleaning(table)
    posters = _posters_in(table, rules.label_separator, image_files)
    posters = _drop_unusable(cleaning, posters, rules)
    if images is not None:
        posters = _drop_imageless(cleaning, posters, images, image_files)
    label_names = rules.label_names or _commonest_labels(posters, rules.top_labels, table)
    if not rules.keep_unlabelled:
        posters = cleaning.keep(posters, "none of the top labels", lambda p: not p.labels.isdisjoint(label_names))
    cleaning.require_some(posters)
    catalogue = _catalogue_of(posters, label_names)
    return catalogue, cleaning.report(catalogue)


def check_trainable(catalogue: Catalogue) -> None:
    """Raise DataError when a label has too few posters to train, to validate and to test on."""
    counts = dict(zip(catalogue.label_names, catalogue.targets.sum(axis=0).tolist(), strict=True))
    rare = [f"{name!r} has {count}" for name, count in counts.items() if count < MIN_POSTERS_PER_LABEL]
    if not rare:
        return
    n_enough = len(counts) - len(rare)
    cure = f"try --labels {n_enough}, or add posters" if n_enough >= MIN_LABELS else "add posters"
    raise DataError(
        f"every label needs at least {MIN_POSTERS_PER_LABEL} posters, one each to train, to validate and to "
        f"test on, but {shown(rare)}: {cure}"
    )


@dataclass(frozen=True)
class _Poster:
    id: str
    title: str
    type: str
    labels: frozenset[str]
    image_key: str  # what names its image: the id, or a path relative to the image folder
    image_path: Path | None


def _posters_in(table: Table, separator: str | None, image_files: Mapping[str, Path]) -> list[_Poster]:
    separator = separator or _guess_separator(row.labels for row in table.rows)
    posters = []
    for row in table.rows:
        poster_id = _canonical_id(row.id)
        key = normpath(row.image.replace("\\", "/")) if table.columns["image"] else poster_id
        labels = _labels_in(row.labels, separator)
        posters.append(_Poster(poster_id, row.title, row.type, labels, key, image_files.get(key)))
    return posters


def _guess_separator(label_lists: Iterable[str]) -> str:
    """Return the separator that most rows hold; `", "` wins over `","` unless some commas have no space."""
    rows_with = Counter(separator for text in label_lists for separator in _SEPARATORS if separator in text)
    return max(_SEPARATORS, key=lambda separator: rows_with[separator])  # the first of equals


@lru_cache(maxsize=10_000)  # a few hundred lists make up most of a catalogue
def _labels_in(text: str, separator: str) -> frozenset[str]:
    labels = (label.strip() for label in text.split(separator))
    return frozenset(label for label in labels if label.casefold() not in _NO_LABELS)


def _canonical_id(text: str) -> str:
    """Return 26 for 26.0: copies of a CSV differ, as pandas turns integers with a gap into floats."""
    return re.sub(r"^(\d+)\.0+$", r"\1", text)


def _image_files(folder: Path, *, by_id: bool) -> dict[str, Path]:
    """List the folder's images by id, or at any depth by relative path, so that nothing outside is named."""
    if not folder.is_dir():
        raise DataError(f"there is no folder of images at {folder}: check the path given to --images")
    files: dict[str, Path] = {}
    for parent, _, names in islice(os.walk(folder), 1 if by_id else None):
        paths = (Path(parent, name) for name in names)
        images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
        for path in sorted(images, key=lambda path: (IMAGE_SUFFIXES.index(path.suffix.lower()), path.name)):
            key = _canonical_id(path.stem) if by_id else path.relative_to(folder).as_posix()
            files.setdefault(key, path)
    return files


def _catalogue_of(posters: Sequence[_Poster], label_names: tuple[str, ...]) -> Catalogue:
    return Catalogue(
        ids=tuple(poster.id for poster in posters),
        titles=tuple(poster.title for poster in posters),
        image_paths=tuple(poster.image_path for poster in posters if poster.image_path is not None),
        targets=np.array([[name in poster.labels for name in label_names] for poster in posters]),
        label_names=label_names,
    )


class _Cleaning:
    """Takes posters out, reason by reason, and keeps the tally."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._dropped = {"broken row": [f"line {line}" for line in table.broken_lines]}

    def keep(self, posters: Sequence[_Poster], reason: str, wanted: Callable[[_Poster], bool]) -> list[_Poster]:
        """Return the posters that are wanted, and put the others down under `reason`."""
        kept: list[_Poster] = []
        dropped = self._dropped.setdefault(reason, [])
        for poster in posters:
            if wanted(poster):
                kept.append(poster)
            else:
                dropped.append(poster.id)
        return kept

    def require_some(self, posters: Sequence[_Poster]) -> None:
        if posters:
            return
        tally = ", ".join(f"{len(ids)} {reason}" for reason, ids in self._dropped.items() if ids)
        raise DataError(
            f"no poster of {self.table.path} is left ({tally}): check --types, --labels-column and --label-separator"
        )

    def report(self, catalogue: Catalogue) -> CleaningReport:
        counts = catalogue.targets.sum(axis=0).tolist()
        return CleaningReport(
            csv_path=self.table.path,
            rows_read=len(self.table.rows) + len(self.table.broken_lines),
            rows_kept=len(catalogue),
            dropped={reason: len(ids) for reason, ids in self._dropped.items()},
            examples={reason: tuple(ids[:_EXAMPLES_PER_REASON]) for reason, ids in self._dropped.items() if ids},
            label_counts=dict(zip(catalogue.label_names, counts, strict=True)),
            columns=self.table.columns,
        )


def _drop_unusable(cleaning: _Cleaning, posters: list[_Poster], rules: CatalogueRules) -> list[_Poster]:
    """Return the posters that could be used if their image is there."""
    columns = cleaning.table.columns
    posters = cleaning.keep(posters, "unusable id", _has_id if columns["image"] else _names_a_file)
    first_of_id = {poster.id: poster for poster in reversed(posters)}  # the last one written is the first
    posters = cleaning.keep(posters, "duplicate id", lambda poster: first_of_id[poster.id] is poster)
    if columns["type"] is not None and rules.types is not None:
        types = {name.casefold() for name in rules.types}
        posters = cleaning.keep(posters, "type not wanted", lambda poster: poster.type.casefold() in types)
    if not rules.keep_unlabelled:
        posters = cleaning.keep(posters, "no label at all", lambda poster: bool(poster.labels))
    cleaning.require_some(posters)
    return posters


def _has_id(poster: _Poster) -> bool:
    return poster.id.casefold() not in _MISSING_WORDS


def _names_a_file(poster: _Poster) -> bool:
    """Tell whether the id can be part of a file name that does not lead out of its folder."""
    return _has_id(poster) and not any(mark in poster.id for mark in ("/", "\\", ".."))


def _drop_imageless(
    cleaning: _Cleaning, posters: list[_Poster], images: Path, image_files: Mapping[str, Path]
) -> list[_Poster]:
    kept = cleaning.keep(posters, "no image", lambda poster: poster.image_path is not None)
    if not kept:
        example = next((repr(path.name) for path in image_files.values()), "no jpg, jpeg, png or webp file")
        raise DataError(
            f"no image in {images} matches any of the {len(posters)} posters left of {cleaning.table.path}: "
            f"looked for {posters[0].image_key!r} and found {example}, "
            "so check --images, --id-column and --image-column"
        )
    return kept


def _commonest_labels(posters: Sequence[_Poster], top_labels: int, table: Table) -> tuple[str, ...]:
    counts = Counter(label for poster in posters for label in poster.labels)
    ranked = sorted(counts, key=lambda label: (-counts[label], label))[: max(top_labels, 0)]
    if len(ranked) < MIN_LABELS:
        raise DataError(
            f"at least {MIN_LABELS} labels are needed, but {table.path} yields {shown(ranked) or 'none'}: "
            "check --labels-column and --label-separator, or raise --labels"
        )
    return tuple(ranked)
