"""Which rows of a table can be used, and why the others were left out.

Rows are dropped reason by reason, and each is counted under the first reason that applies to it: broken row,
unusable id, duplicate id, type not wanted, adult title, no label at all, placeholder image, then whatever keeps its
image from being used. Cleaning twice is cleaning once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from posixpath import normpath
from typing import NamedTuple

from hpo.data.catalogue.image_files import (
    LEADS_OUT,
    NO_FILE,
    UNREAD_KIND,
    ImageFiles,
    assign_to_ids,
    canonical_id,
    list_images,
)
from hpo.data.catalogue.image_names import AMBIGUOUS, WrittenNames, is_path_like
from hpo.data.catalogue.labels import MISSING_WORDS, guess_separator, items_in, labels_in, real_labels
from hpo.data.catalogue.placeholders import is_placeholder_address
from hpo.data.catalogue.rules import CatalogueRules
from hpo.data.catalogue.table import Row, Table
from hpo.errors import DataError

_ADULT_LABELS = frozenset({"hentai", "erotica", "adult"})  # Ecchi is no more than suggestive
_ADULT_RATINGS = ("rx", "x", "xxx")
_NO_IMAGE = "no image"
_CELLS = "several in the image column"
_EXAMPLES_PER_REASON = 5


class Title(NamedTuple):
    """A row that may be used: one title with its labels and one image or more."""

    id: str
    labels: frozenset[str]
    row: Row
    images: tuple[Path, ...] = ()
    lacks: str | None = None  # why it has no image


class Cleaning:
    """Takes titles out, reason by reason, and keeps the tally."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.shadowed: dict[str, str] = {}  # file -> the file of the same stem that is used instead
        self.unclaimed: tuple[str, ...] = ()  # files that no row asks for
        self.several: dict[str, str] = {}  # id -> why it has several images
        self.found_by: dict[Path, str] = {}  # image -> how it was found that is not named as the table writes it
        self.refused: dict[str, int] = {}  # why images or folders cannot be used -> how many
        self._dropped = {"broken row": [f"line {line}" for line in table.broken_lines]}

    @property
    def dropped(self) -> dict[str, int]:
        """How many rows were dropped for each reason, in the order of application."""
        return {reason: len(ids) for reason, ids in self._dropped.items()}

    @property
    def examples(self) -> dict[str, tuple[str, ...]]:
        """The first few ids of each reason that applied."""
        return {reason: tuple(ids[:_EXAMPLES_PER_REASON]) for reason, ids in self._dropped.items() if ids}

    def keep(self, titles: Sequence[Title], reason: str, wanted: Callable[[Title], bool]) -> list[Title]:
        """Return the titles that are wanted, and put the others down under `reason`."""
        kept: list[Title] = []
        dropped = self._dropped.setdefault(reason, [])
        for title in titles:
            if wanted(title):
                kept.append(title)
            else:
                dropped.append(title.id)
        return kept

    def require_some(self, titles: Sequence[Title]) -> None:
        """Raise DataError with the tally when nothing is left."""
        if titles:
            return
        tally = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items() if count)
        raise DataError(
            f"no poster of {self.table.path} is left ({tally}): check --types, --adult, --labels-column and "
            "--label-separator"
        )


def titles_in(table: Table, separator: str | None) -> list[Title]:
    """Return every whole row with its labels."""
    separator = separator or guess_separator(row.labels for row in table.rows)
    one_hot = any(row.marked for row in table.rows)
    return [
        Title(canonical_id(row.id), real_labels(row.marked) if one_hot else labels_in(row.labels, separator), row)
        for row in table.rows
    ]


def drop_unusable(cleaning: Cleaning, titles: list[Title], rules: CatalogueRules) -> list[Title]:
    """Return the titles that could be used if their image is there. Raises DataError when none is left."""
    columns = cleaning.table.columns
    by_column = columns["image"] is not None
    titles = cleaning.keep(titles, "unusable id", _has_id if by_column else _names_a_file)
    titles = _drop_duplicates(cleaning, titles)
    if columns["type"] is not None and rules.types is not None:
        types = {name.casefold() for name in rules.types}
        titles = cleaning.keep(titles, "type not wanted", lambda title: title.row.type.casefold() in types)
    if not rules.keep_adult:
        titles = cleaning.keep(titles, "adult title", lambda title: not _is_adult(title))
    if not rules.keep_unlabelled:
        titles = cleaning.keep(titles, "no label at all", lambda title: bool(title.labels))
    if columns["image_url"] is not None:
        titles = cleaning.keep(titles, "placeholder image", _has_real_address)
    cleaning.require_some(titles)
    return titles


def _has_id(title: Title) -> bool:
    return title.id.casefold() not in MISSING_WORDS


def _names_a_file(title: Title) -> bool:
    """Tell whether the id can name a file: a word that leads nowhere else, or a file's name, path or address."""
    marks = ("\0",) if is_path_like(title.id) else ("/", "\\", "..", "\0")
    return _has_id(title) and not any(mark in title.id for mark in marks)


def _drop_duplicates(cleaning: Cleaning, titles: list[Title]) -> list[Title]:
    """Keep the first row of an id, or of an id with an image, since a title may have a row for each of its images."""
    first = {(title.id, title.row.image): title for title in reversed(titles)}  # the last one written is the first
    return cleaning.keep(titles, "duplicate id", lambda title: first[title.id, title.row.image] is title)


def _is_adult(title: Title) -> bool:
    rating = title.row.rating.casefold().partition(" ")[0]  # "Rx - Hentai"
    return rating in _ADULT_RATINGS or _has_adult_label(title.labels)


@lru_cache(maxsize=10_000)
def _has_adult_label(labels: frozenset[str]) -> bool:
    return any(label.casefold() in _ADULT_LABELS for label in labels)


def _has_real_address(title: Title) -> bool:
    return not is_placeholder_address(title.row.image_url)


def find_images(cleaning: Cleaning, titles: list[Title], folder: Path) -> list[Title]:
    """Return the titles that have an image in `folder`, with it. Raises DataError when none has."""
    images = list_images(folder)
    match = _match_by_id if cleaning.table.columns["image"] is None else _match_by_column
    matched = match(cleaning, titles, images)
    claimed = {path for title in matched for path in title.images}
    cleaning.unclaimed = tuple(
        file for file in images.usable if images.path(file) not in claimed and file not in cleaning.shadowed
    )
    cleaning.refused = dict(Counter([*images.refused.values(), *images.not_entered.values()]))
    kept = matched
    for reason in (LEADS_OUT, NO_FILE, UNREAD_KIND, AMBIGUOUS):
        kept = cleaning.keep(kept, reason, _lacks_not_for(reason))
    kept = cleaning.keep(kept, _NO_IMAGE, lambda title: title.lacks is None)
    if not kept:
        looked_for = titles[0].row.image or titles[0].id
        raise _nothing_matches(cleaning, len(titles), looked_for, images)
    return kept


def _lacks_not_for(reason: str) -> Callable[[Title], bool]:
    return lambda title: title.lacks != reason


def _match_by_id(cleaning: Cleaning, titles: list[Title], images: ImageFiles) -> list[Title]:
    owned = assign_to_ids(images, {canonical_id(row.id) for row in cleaning.table.rows if row.id})
    cleaning.shadowed, cleaning.several = owned.shadowed, owned.several
    cleaning.found_by = {images.path(file): how for file, how in owned.found_by.items()}
    return [_with_images(title, images, owned.files.get(title.id, []), owned.refused.get(title.id)) for title in titles]


def _match_by_column(cleaning: Cleaning, titles: list[Title], images: ImageFiles) -> list[Title]:
    usable = frozenset(images.usable)
    ids_of: defaultdict[str, set[str]] = defaultdict(set)  # what a cell names -> its rows, also those that were dropped
    for row in cleaning.table.rows:
        for item in _named_in(row.image, usable):
            ids_of[item].add(row.id)
    found = WrittenNames(images.folder.name, images.usable).find_all(ids_of)
    matched = [_match_cell(title, images, usable, found) for title in titles]
    cleaning.found_by = {images.path(path): how for path, how in found.values() if path is not None and how}
    cleaning.several = {title.id: _CELLS for title in matched if len(title.images) > 1}
    n_images = Counter(title.id for title in matched if title.images)
    cleaning.several |= {id_: _CELLS for id_, count in n_images.items() if count > 1}
    return matched


def _named_in(cell: str, usable: frozenset[str]) -> list[str]:
    """Return the one path relative to the folder, or several, that a cell holds."""
    one_address = cell.count("://") == 1 and not cell.startswith("[") and "|" not in cell
    if cell in usable or one_address:
        return [cell]
    return [item for part in items_in(cell, "|") for item in part.split(";") if item.strip()]


def _match_cell(
    title: Title, images: ImageFiles, usable: frozenset[str], found: Mapping[str, tuple[str | None, str]]
) -> Title:
    items = _named_in(title.row.image, usable)
    files = [path for path in dict.fromkeys(found[item][0] for item in items) if path is not None]
    missing = [item for item in items if found[item][0] is None]
    return _with_images(title, images, files, next(filter(None, (_why(item, images, found) for item in missing)), None))


def _why(item: str, images: ImageFiles, found: Mapping[str, tuple[str | None, str]]) -> str | None:
    path = normpath(item.strip().replace("\\", "/"))
    inner = path.removeprefix(f"{images.folder.name}/")
    refused = images.refused.get(path) or images.refused.get(inner.lstrip("/"))
    return refused or found[item][1] or (LEADS_OUT if path.startswith(("../", "/")) else None)


def _with_images(title: Title, images: ImageFiles, files: list[str], refused: str | None) -> Title:
    lacks = None if files else refused or _NO_IMAGE
    return title._replace(images=tuple(images.path(file) for file in files), lacks=lacks)


def _nothing_matches(cleaning: Cleaning, n_titles: int, looked_for: str, images: ImageFiles) -> DataError:
    example = repr(images.usable[0]) if images.usable else "no jpg, jpeg, png, webp, gif, avif, bmp or tiff file"
    refused = ", ".join(f"{count:,} × {reason}" for reason, count in cleaning.refused.items())
    told = f" (not used: {refused})" if refused else ""
    cure = ", copy files that are links into the folder" if LEADS_OUT in cleaning.refused else ""
    return DataError(
        f"no image in {images.folder} matches any of the {n_titles} posters left of {cleaning.table.path}: "
        f"looked for {looked_for!r} and found {example}{told}, so check --images, --id-column and --image-column{cure}"
    )
