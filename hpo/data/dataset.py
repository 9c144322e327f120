"""Prepare a dataset: table and images → clean posters in train, val and test, with a report of each decision.

Every poster is decoded once here, small: that finds the broken ones before the split, so that the sizes are exact,
and shows which posters look alike. The small size is fixed, so that the split never depends on a search space.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict

from hpo.data.decoding import Framing
from hpo.data.images import DecodedImages, Posters, read_posters
from hpo.data.splits.franchises import franchise_links
from hpo.data.splits.groups import Groups, Links, group_posters, linked_by_value
from hpo.data.splits.near_duplicates import THUMBNAIL_PX, look_alike_links
from hpo.data.splits.split import Distribution, Split, SplitFile, distribution, load_split, split_posters
from hpo.data.splits.stratify import Rows
from hpo.data.table.catalogue import Catalogue, CleaningReport, check_trainable, read_catalogue
from hpo.data.table.cleaning import SHARED_BY
from hpo.data.table.packed_images import images_of
from hpo.data.table.rules import CatalogueRules
from hpo.runtime.progress import ProgressFactory
from hpo.settings import at_home

# What decides the posters of a search: a light module, since every command names it.

Grouping: TypeAlias = Literal["all", "titles", "posters", "none"]


AtHome: TypeAlias = Annotated[Path, AfterValidator(at_home)]


class DataOptions(BaseModel):
    """What decides the posters of a search and their split; a study remembers it, to prepare them again."""

    model_config = ConfigDict(frozen=True)

    csv: AtHome
    images: AtHome | None  # the table itself where it holds them; None: the rows alone, enough to check a table
    rules: CatalogueRules
    val_size: int | float  # a number of posters, or a share of them
    test_size: int | float  # a number of posters, or a share of them
    seed: int
    grouping: Grouping = "all"  # by which evidence posters are kept in one part
    split_file: AtHome | None = None  # decides the parts in place of sizes, seed and grouping


@dataclass(frozen=True)
class Part:
    """The posters of one part of a split, with their targets."""

    posters: Posters
    targets: npt.NDArray[np.bool_]  # (N, L)
    groups: Rows | None = None  # (N,) posters of one number stay in one fold; None: each is on its own

    def take(self, rows: Rows) -> Part:
        """Return the posters at ``rows`` (M,) alone."""
        return Part(self.posters.take(rows), self.targets[rows], None if self.groups is None else self.groups[rows])

    def __add__(self, other: Part) -> Part:
        """Return the posters of both; groups of one number are one group."""
        posters = Posters(self.posters.paths + other.posters.paths, self.posters.digests + other.posters.digests)
        groups = None
        if self.groups is not None and other.groups is not None:
            groups = np.concatenate([self.groups, other.groups])
        return Part(posters, np.concatenate([self.targets, other.targets]), groups)

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class PreparedData:
    """Clean posters, their targets, what belongs together and their split."""

    catalogue: Catalogue
    posters: Posters  # none when prepared without images
    groups: Groups
    split: Split
    cleaning: CleaningReport
    broken: Mapping[Path, str]  # what was left out, and why
    distribution: Distribution

    def part(self, name: str) -> Part:
        """Return ``train``, ``val`` or ``test``."""
        rows = self.split.parts()[name]
        return Part(self.posters.take(rows), self.catalogue.targets[rows], self.groups.of_poster[rows])

    @cached_property
    def n_straddling(self) -> int:
        """How many groups have posters in more than one part: none, unless a split file says so."""
        in_part = np.zeros((len(self.split.parts()), len(self.groups)), dtype=bool)
        for at, rows in enumerate(self.split.parts().values()):
            in_part[at, self.groups.of_poster[rows]] = True
        return int((in_part.sum(axis=0) > 1).sum())

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What a study is bound to: the posters with their labels, and who is in which part."""
        images = hashlib.sha256(b"".join(sorted(self.posters.digests))).hexdigest()[:16]
        return {
            "labels": self.catalogue.fingerprint,
            "images": images,
            "split": self.split.fingerprint(self.catalogue.ids),
        }


def prepare_data(options: DataOptions, cache_dir: Path, phase: ProgressFactory) -> PreparedData:
    """Read, clean, decode, find what belongs together, and split. Raises DataError."""
    images = images_of(options.csv, options.images, options.rules.image_column, cache_dir, phase)
    catalogue, cleaning = read_catalogue(options.csv, images, options.rules)
    check_trainable(catalogue)
    posters = Posters((), ())
    broken: dict[Path, str] = {}
    links: list[Links] = []
    if options.images is not None:
        thumbnails = DecodedImages(cache_dir, Framing(THUMBNAIL_PX))
        catalogue, posters, broken = _usable(catalogue, thumbnails, phase)
        if options.grouping in ("all", "posters"):
            links.append(look_alike_links(thumbnails, posters))
    groups = group_posters(len(catalogue), [*_links_by_text(catalogue, options), *links])
    split = _split(catalogue, groups, options)
    shares = distribution(split, catalogue.targets, catalogue.label_names)
    return PreparedData(catalogue, posters, groups, split, cleaning, broken, shares)


def _usable(
    catalogue: Catalogue, thumbnails: DecodedImages, phase: ProgressFactory
) -> tuple[Catalogue, Posters, dict[Path, str]]:
    """Return the posters that can be decoded and are real, with their files, and why the others are left out."""
    posters = read_posters(catalogue.image_paths)
    reasons = _placeholders(catalogue, posters) | _decode(posters, thumbnails, phase)
    if not reasons:
        return catalogue, posters, {}
    broken = {posters.paths[row]: reasons[row] for row in sorted(reasons)}
    usable = np.setdiff1d(np.arange(len(posters)), list(reasons))
    catalogue = catalogue.take(usable)
    check_trainable(catalogue)
    return catalogue, posters.take(usable), broken


def _decode(posters: Posters, thumbnails: DecodedImages, phase: ProgressFactory) -> dict[int, str]:
    missing = thumbnails.missing(posters)
    if not missing:
        return thumbnails.ensure(posters)
    with phase("decoding posters", missing) as progress:
        return thumbnails.ensure(posters, progress)


def _placeholders(catalogue: Catalogue, posters: Posters) -> dict[int, str]:
    """Return the rows whose very file serves many titles, which no poster does."""
    titles_of: dict[bytes, set[str]] = defaultdict(set)
    for digest, title in zip(posters.digests, catalogue.title_ids, strict=True):
        titles_of[digest].add(title)
    return {
        row: f"the same file for {len(titles_of[digest])} titles, a placeholder"
        for row, digest in enumerate(posters.digests)
        if len(titles_of[digest]) >= SHARED_BY
    }


def _links_by_text(catalogue: Catalogue, options: DataOptions) -> Iterator[Links]:
    """Yield what the table says of belonging together; a column that the user names counts whatever `grouping` says."""
    yield linked_by_value("several images", catalogue.title_ids)
    if options.grouping != "none" or options.rules.group_column is not None:
        yield linked_by_value("column", catalogue.groups)
    if options.grouping in ("all", "titles"):
        yield franchise_links(list(zip(catalogue.titles, catalogue.other_titles, strict=True)))


def _split(catalogue: Catalogue, groups: Groups, options: DataOptions) -> Split:
    if options.split_file is not None:
        return load_split(options.split_file).apply(catalogue)
    return split_posters(catalogue, options.val_size, options.test_size, options.seed, groups)


@dataclass(frozen=True)
class SavedSplit:
    """Where a split was written."""

    file: Path
    picture: Path


def save_split(data: PreparedData, folder: Path) -> SavedSplit:
    """Write the split and its picture into `folder`, named by the fingerprints of its parts and of its labels.

    What is there already is the same, and left alone. Raises DataError when the disk refuses.
    """
    stem = f"{data.fingerprints['split'][:8]}-{data.fingerprints['labels'][:8]}"
    saved = SavedSplit(folder / f"{stem}.json", folder / f"{stem}.png")
    if not saved.file.is_file():
        SplitFile.of(data.split, data.catalogue, data.groups).save(saved.file)
    if not saved.picture.is_file():
        from hpo.data.splits.split import save_picture

        save_picture(data.distribution, saved.picture)
    return saved
