"""Read a table and a folder of images into a `Catalogue` and a `CleaningReport`.

The commonest labels are counted after all other rows were dropped (`cleaning.py`), over the posters that could be
used: counted any earlier, a label whose posters were never downloaded could take the place of one that is really there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hpo.data.labels.cells import real_text
from hpo.data.table.cleaning import Cleaning, Title, drop_unusable, find_images, label_cells_of, titles_in
from hpo.data.table.columns import shown
from hpo.data.table.image_files import ImageFiles, list_images
from hpo.data.table.lookup import check_shared_labels
from hpo.data.table.packed_images import PackedImages
from hpo.data.table.preview import Sample, group_name, reading_notes, sample_of
from hpo.data.table.reader import Table, read_table
from hpo.data.table.rules import DEFAULT_RULES, CatalogueRules
from hpo.errors import DataError

T = TypeVar("T")

MIN_LABELS = 2  # fewer is not multi-label
MIN_POSTERS_PER_LABEL = 3  # one each to train, to validate and to test on


@dataclass(frozen=True, eq=False)
class Catalogue:
    """N posters and their L labels; row i of every field is the same poster.

    A title with several images is as many posters: the ids of the second and third end in #2 and #3.
    """

    ids: tuple[str, ...]  # (N,), unique
    titles: tuple[str, ...]  # (N,), empty text where the table has none
    image_paths: tuple[Path, ...]  # (N,), or empty when read without images
    targets: npt.NDArray[np.bool_]  # (N, L)
    label_names: tuple[str, ...]  # (L,), commonest first unless the rules fix them
    other_titles: tuple[str, ...] = ()  # (N,), in another language; empty text where the table has none
    image_urls: tuple[str, ...] = ()  # (N,), empty text where the table has none
    groups: tuple[str, ...] = ()  # (N,), a column's word for what belongs together; empty text where there is none
    title_ids: tuple[str, ...] = ()  # (N,), the same for all images of one title

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[np.int64]) -> Catalogue:
        """Return the posters at `rows` (M,), in that order, with the same label names."""

        def taken(values: tuple[T, ...]) -> tuple[T, ...]:
            return tuple(values[row] for row in rows) if values else ()

        return Catalogue(
            ids=taken(self.ids),
            titles=taken(self.titles),
            image_paths=taken(self.image_paths),
            targets=self.targets[rows],
            label_names=self.label_names,
            other_titles=taken(self.other_titles),
            image_urls=taken(self.image_urls),
            groups=taken(self.groups),
            title_ids=taken(self.title_ids),
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
    n_posters: int  # above `rows_kept` where titles have several images
    dropped: Mapping[str, int]  # reason -> rows, in the order of application, zeros included
    examples: Mapping[str, tuple[str, ...]]  # reason -> the first few ids, or "line 12" for a broken row
    label_counts: Mapping[str, int]  # label -> kept posters that carry it, in the order of label_names
    columns: Mapping[str, str | None]  # id, labels, title, image ... -> the table's own name for it
    shadowed_images: Mapping[str, str]  # a second file for one id -> the file that is used instead
    unclaimed_images: tuple[str, ...]  # files in the folder that no row asks for
    notes: tuple[str, ...] = ()  # what a person should know of how the table was read, a sentence each
    sample: Sample | None = None  # one row as it was read
    several_images: Mapping[str, int] = field(default_factory=dict)  # why titles have several images -> kept titles
    images_found_by: Mapping[str, int] = field(default_factory=dict)  # how, where not as written -> kept posters
    refused_images: Mapping[str, int] = field(default_factory=dict)  # why not used -> files or folders

    def as_dict(self) -> dict[str, object]:
        """Return the report as plain JSON values."""
        examples = {reason: list(ids) for reason, ids in self.examples.items()}
        lists = {
            "csv_path": str(self.csv_path),
            "examples": examples,
            "unclaimed_images": list(self.unclaimed_images),
            "notes": list(self.notes),
            "sample": self.sample and {**self.sample._asdict(), "labels": list(self.sample.labels)},
        }
        return {**asdict(self), **lists}


def read_catalogue(
    csv_path: Path, images: Path | ImageFiles | None, rules: CatalogueRules = DEFAULT_RULES
) -> tuple[Catalogue, CleaningReport]:
    """Read the posters of the table `csv_path` (CSV or Parquet) whose images lie under the folder `images`.

    An image is named by its id (`hpo.data.table.image_files`), or by its path relative to the folder in
    `rules.image_column`. With `images` None no image is looked for, and `image_paths` stays empty. The images that a
    table holds itself are `hpo.data.table.packed_images.PackedImages`.

    Raises:
        DataError: the table or the folder cannot be read, a column is missing, no image matches any id, or no
            poster or fewer than two labels are left.
    """
    if not csv_path.exists():  # before the images, which are looked for beside it
        raise DataError(f"there is no table at {csv_path}: check the path given to --data")
    found = list_images(images) if isinstance(images, Path) else images
    table = read_table(csv_path, rules.column_names, found)
    cleaning = Cleaning(table)
    cells = label_cells_of(table, rules.label_separator, rules.label_names or ())
    titles = drop_unusable(cleaning, titles_in(table, cells), rules)
    if found is not None:
        titles = find_images(cleaning, titles, found)
    if isinstance(found, PackedImages):
        numbered = " No column of ids was found: they are the rows' numbers." if table.columns["id"] is None else ""
        cleaning.notes.append(f"{found.note}{numbered}")
        cleaning.unclaimed = ()  # those of rows that were dropped
    if rules.label_names:
        check_shared_labels(csv_path, rules.label_names, {label for title in titles for label in title.labels})
    label_names = rules.label_names or _commonest_labels(titles, rules.top_labels, table)
    if not rules.keep_unlabelled:
        titles = cleaning.keep(titles, "none of the top labels", lambda title: not title.labels.isdisjoint(label_names))
    cleaning.require_some(titles)
    catalogue = _catalogue_of(titles, label_names)
    cleaning.notes += reading_notes(table, cells, titles)
    return catalogue, _report(cleaning, titles, catalogue)


def check_trainable(catalogue: Catalogue) -> None:
    """Raise DataError when a label has too few posters to train, to validate and to test on."""
    counts = dict(zip(catalogue.label_names, catalogue.targets.sum(axis=0).tolist(), strict=True))
    rare = [f"{name!r} has {count}" for name, count in counts.items() if count < MIN_POSTERS_PER_LABEL]
    if not rare:
        return
    n_enough = len(counts) - len(rare)
    fix = f"try --labels {n_enough}, or add posters" if n_enough >= MIN_LABELS else "add posters"
    raise DataError(
        f"every label needs at least {MIN_POSTERS_PER_LABEL} posters, one each to train, to validate and to "
        f"test on, but {shown(rare)}: {fix}"
    )


def _catalogue_of(titles: Sequence[Title], label_names: tuple[str, ...]) -> Catalogue:
    """Lay the titles out, a poster for each image; without images a title is one poster."""
    n_images = [max(1, len(title.images)) for title in titles]
    posters = [title for title, n in zip(titles, n_images, strict=True) for _ in range(n)]
    marks = {labels: [name in labels for name in label_names] for labels in {title.labels for title in titles}}
    present = np.array([marks[title.labels] for title in titles])
    return Catalogue(
        ids=_numbered([title.id for title in posters]),
        titles=tuple(real_text(title.row.title) for title in posters),
        image_paths=tuple(path for title in titles for path in title.images),
        targets=np.repeat(present, n_images, axis=0),
        label_names=label_names,
        other_titles=tuple(real_text(title.row.other_title) for title in posters),
        image_urls=tuple(title.row.image_url for title in posters),
        groups=tuple(group_name(title.row.group) for title in posters),
        title_ids=tuple(title.id for title in posters),
    )


def _numbered(ids: Sequence[str]) -> tuple[str, ...]:
    """Return the ids, with #2, #3 ... after the second and third of equals."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in ids:
        seen[name] += 1
        numbered.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(numbered)


def _report(cleaning: Cleaning, titles: Sequence[Title], catalogue: Catalogue) -> CleaningReport:
    counts = catalogue.targets.sum(axis=0).tolist()
    return CleaningReport(
        csv_path=cleaning.table.path,
        rows_read=len(cleaning.table.rows) + len(cleaning.table.broken_lines),
        rows_kept=len(titles),
        n_posters=len(catalogue),
        dropped=cleaning.dropped,
        examples=cleaning.examples,
        label_counts=dict(zip(catalogue.label_names, counts, strict=True)),
        columns=cleaning.table.columns,
        shadowed_images=cleaning.shadowed,
        unclaimed_images=cleaning.unclaimed,
        notes=tuple(cleaning.notes),
        sample=sample_of(titles),
        several_images=_tally(cleaning.several.get(id_) for id_ in dict.fromkeys(catalogue.title_ids)),
        images_found_by=_tally(cleaning.found_by.get(path) for path in catalogue.image_paths),
        refused_images=cleaning.refused,
    )


def _tally(reasons: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(reason for reason in reasons if reason))


def _commonest_labels(titles: Sequence[Title], top_labels: int, table: Table) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    for title in titles:
        counts.update(dict.fromkeys(title.labels, max(1, len(title.images))))
    ranked = sorted(counts, key=lambda label: (-counts[label], label))[: max(top_labels, 0)]
    if len(ranked) < MIN_LABELS:
        raise DataError(
            f"at least {MIN_LABELS} labels are needed, but {table.path} yields {shown(ranked) or 'none'}: "
            "check --labels-column and --label-separator, or raise --labels"
        )
    return tuple(ranked)
