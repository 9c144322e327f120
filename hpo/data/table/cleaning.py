"""Drop the rows of a table that cannot be used, counting each reason.

Rows are dropped reason by reason, and each is counted under the first reason that applies to it: broken row,
unusable id, duplicate id, type not wanted, adult title, no label at all, placeholder image, then whatever keeps its
image from being used. Cleaning twice is cleaning once.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from hpo.data.labels.cells import MISSING_WORDS, LabelCells, items_in
from hpo.data.table.image_files import LEADS_OUT, NO_FILE, UNREAD_KIND, ImageFiles, assign_to_ids, canonical_id
from hpo.data.table.image_names import AMBIGUOUS, WrittenNames, is_path_like, stem_of
from hpo.data.table.packed_images import PackedImages, packed_column
from hpo.data.table.reader import Row, Table
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError

# Pictures that stand where a poster is missing, recognised by their address and by what they show.
#
# A catalogue names a picture for every title, also where it has none: its own icon, a question mark, a grey page. Left
# in, a thousand titles share one picture and the network learns that picture's genres. The address is asked first, as
# it saves the download; the picture itself is judged after decoding. What the same host serves for many titles is a
# placeholder too, whatever it shows: that needs all posters, so `hpo.data.download.downloader` counts it with
# `SHARED_BY`.
#
# Only names that stand for nothing else are listed: a poster left out by mistake would be lost without notice.

if TYPE_CHECKING:  # Pillow is not needed to judge addresses
    from PIL import Image

MIN_POSTER_SIDE_PX = 64  # MyAnimeList's question mark has 50
SHARED_BY = 5  # titles; a season and its recap may well share a poster, five titles do not

_FILE_NAMES = re.compile(
    r"""apple-touch-icon (-\d+(x\d+)?)? (-precomposed)?   # MyAnimeList's site icon, in the real catalogue
      | qm_\d+                                            # and its question mark
      | favicon
      | (no|missing|default)[-_]?(image|img|poster|picture|pic|cover|photo|thumbnail)([-_]available)?
      | (image|poster|picture|cover|photo)[-_]?(not[-_]?(found|available)|coming[-_]?soon)
      | nopicture | placeholder | blank | spacer""",
    re.VERBOSE | re.IGNORECASE,
)


def is_placeholder_address(url: str) -> bool:
    """Return whether the file that the address names is known to stand where a poster is missing.

    Only the file's name counts, without its suffix: hosts, folders and queries (sizes, versions) change.
    An address that is no URL is no placeholder.
    """
    try:
        name = unquote(urlsplit(url.strip()).path).rpartition("/")[2]
    except ValueError:
        return False
    return _FILE_NAMES.fullmatch(name.partition(".")[0]) is not None


def why_placeholder(image: Image.Image) -> str | None:
    """Say why a decoded picture cannot be a poster, or return None: too small, or of one single colour."""
    if min(image.size) < MIN_POSTER_SIDE_PX:
        return f"{image.width} x {image.height} px, where a poster has at least {MIN_POSTER_SIDE_PX} each way"
    plain = image.convert("I") if image.mode.startswith("I;") else image  # Pillow counts no colours in 16 bits
    if plain.getcolors(maxcolors=1) is not None:
        return "one single colour"
    return None


_ADULT_LABELS = frozenset({"hentai", "erotica", "adult"})  # Ecchi is no more than suggestive
_ADULT_RATINGS = ("rx", "x", "xxx")
_NO_IMAGE = "no image"
MERGED = "label added to its title"  # a row that is kept as part of another one
_NO_SEPARATOR = "\0"
_TYPES_SHOWN = 6
_YES = frozenset({"1", "1.0", "true", "yes"})
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
        self.notes: list[str] = []  # what a person should know, a sentence each
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
        types = next((f"; {note.rstrip('.')}" for note in self.notes if note.startswith("Types left out")), "")
        raise DataError(
            f"no poster of {self.table.path} is left ({tally}{types}): check --types, --adult, --labels-column and "
            "--label-separator"
        )


def label_cells_of(table: Table, separator: str | None, known: Sequence[str] = ()) -> LabelCells:
    """Learn how a table writes its labels, each column of a one-hot table being one; `known` are names to keep to.

    Raises DataError for an empty separator.
    """
    if separator == "":
        raise DataError("--label-separator expects what stands between labels, got an empty text: leave it out.")
    if table.one_hot:
        return LabelCells.learn(table.one_hot, _NO_SEPARATOR, known)
    return LabelCells.learn((row.labels for row in table.rows), separator, known)


def titles_in(table: Table, cells: LabelCells) -> list[Title]:
    """Return every whole row with its labels."""
    lists: dict[str, frozenset[str]] = {}  # a few hundred make up most of a catalogue
    titles = []
    for row in table.rows:
        if row.marked:
            labels = frozenset(label for name in row.marked for label in cells.of(name))
        else:
            labels = lists[row.labels] if row.labels in lists else lists.setdefault(row.labels, cells.of(row.labels))
        titles.append(Title(canonical_id(row.id), labels, row))
    return titles


def drop_unusable(cleaning: Cleaning, titles: list[Title], rules: CatalogueRules) -> list[Title]:
    """Return the titles that could be used if their image is there. Raises DataError when none is left."""
    columns = cleaning.table.columns
    by_column = columns["image"] is not None
    titles = cleaning.keep(titles, "unusable id", _has_id if by_column else _names_a_file)
    titles = _drop_duplicates(cleaning, _merge_labels(cleaning, titles))
    if columns["type"] is not None and rules.types is not None:
        types = {name.casefold() for name in rules.types}
        _note_types(cleaning, titles, rules.types)
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
    """Return whether the id can name a file: a word that leads nowhere else, or a file's name, path or address."""
    marks = ("\0",) if is_path_like(title.id) else ("/", "\\", "..", "\0")
    return _has_id(title) and not any(mark in title.id for mark in marks)


def _note_types(cleaning: Cleaning, titles: Sequence[Title], wanted: Sequence[str]) -> None:
    """Note the types that the table holds and a search leaves out."""
    kept = {name.casefold() for name in wanted}
    others = Counter(title.row.type or "empty" for title in titles if title.row.type.casefold() not in kept)
    if others:
        met = ", ".join(f"{count:,} {name[:30]}" for name, count in others.most_common(_TYPES_SHOWN))
        more = f" and {len(others) - _TYPES_SHOWN} more types" if len(others) > _TYPES_SHOWN else ""
        cleaning.notes.append(f"Types left out: {met}{more}; kept are {', '.join(wanted)}, and --types all keeps all.")


def _merge_labels(cleaning: Cleaning, titles: list[Title]) -> list[Title]:
    """Join rows that differ in their labels alone: a long table has a row for each title and label."""
    groups: defaultdict[Row, list[Title]] = defaultdict(list)
    for title in titles:
        groups[title.row._replace(labels="", marked=())].append(title)
    if len(groups) == len(titles):
        return titles
    first: dict[int, Title] = {}
    joined: set[int] = set()
    for group in groups.values():
        labels: frozenset[str] = frozenset()
        for title in group:
            if labels and title.labels - labels:
                joined.add(id(title))
            labels |= title.labels
        first[id(group[0])] = group[0]._replace(labels=labels)
    if not joined:
        return titles
    merged = [first.get(id(title), title) for title in titles if id(title) not in joined]
    cleaning.keep([title for title in titles if id(title) in joined], MERGED, lambda _: False)
    n_titles = sum(len(group) > 1 and any(id(title) in joined for title in group) for group in groups.values())
    titles_are = "one title" if n_titles == 1 else f"{n_titles:,} titles"
    cleaning.notes.append(
        f"{len(joined) + n_titles:,} rows that differ in their labels alone are {titles_are} with the labels of all."
    )
    return merged


def _drop_duplicates(cleaning: Cleaning, titles: list[Title]) -> list[Title]:
    """Keep the first row of an id, or of an id with an image, since a title may have a row for each of its images."""
    first = {(title.id, title.row.image): title for title in reversed(titles)}  # the last one written is the first
    return cleaning.keep(titles, "duplicate id", lambda title: first[title.id, title.row.image] is title)


def _is_adult(title: Title) -> bool:
    rating = title.row.rating.casefold().partition(" ")[0]  # "Rx - Hentai"
    return rating in _ADULT_RATINGS or title.row.adult.casefold() in _YES or _has_adult_label(title.labels)


@lru_cache(maxsize=10_000)
def _has_adult_label(labels: frozenset[str]) -> bool:
    return any(label.casefold() in _ADULT_LABELS for label in labels)


def _has_real_address(title: Title) -> bool:
    return not is_placeholder_address(title.row.image_url)


def find_images(cleaning: Cleaning, titles: list[Title], images: ImageFiles) -> list[Title]:
    """Return the titles that have one of the `images`, with it. Raises DataError when none has."""
    match = _match_by_id if cleaning.table.columns["image"] is None else _match_by_column
    matched = match(cleaning, titles, images)
    if not any(title.images for title in matched) and any(title.row.file for title in titles):
        by_file = _match_by_column(cleaning, titles, images, "file")
        if any(title.images for title in by_file):
            cleaning.notes.append(
                f"No image is called by its id, so the column {cleaning.table.columns['file']!r} names them."
            )
            matched = by_file
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
        hint = near_miss([title.id for title in titles], images.usable)
        raise _nothing_matches(cleaning, len(titles), looked_for, images, hint)
    _note_near_misses(cleaning, titles, kept)
    return kept


def _note_near_misses(cleaning: Cleaning, titles: Sequence[Title], kept: Sequence[Title]) -> None:
    """Note the ids without an image that are file names but for leading zeros or case."""
    have = {title.id for title in kept}
    lacking = [title.id for title in titles if title.id not in have]
    hint = near_miss(lacking, cleaning.unclaimed) if cleaning.table.columns["image"] is None else None
    if hint:
        cleaning.notes.append(f"{hint}.")


def near_miss(ids: Sequence[str], files: Sequence[str]) -> str | None:
    """Say how many ids are the names of files but for leading zeros or case; None where none is."""
    ways = (("leading zeros", _without_zeros), ("the case of letters", str.casefold), ("IMDb's tt", _imdb_number))
    for what, plain in ways:
        stems = {plain(stem_of(PurePosixPath(file).name)): file for file in files}
        near = [name for name in ids if plain(name) in stems]
        if near:
            file = stems[plain(near[0])]
            number = "one id differs" if len(near) == 1 else f"{len(near):,} ids differ"
            return f"{number} from the name of a file in {what} alone, such as {near[0]!r} and {file!r}"
    return None


def _without_zeros(text: str) -> str:
    return re.sub(r"^(\D*)0+(?=\d)", r"\1", text)


def _imdb_number(text: str) -> str:
    return re.sub(r"^tt0*(?=\d)|^0+(?=\d)", "", text)


def _lacks_not_for(reason: str) -> Callable[[Title], bool]:
    return lambda title: title.lacks != reason


def _match_by_id(cleaning: Cleaning, titles: list[Title], images: ImageFiles) -> list[Title]:
    owned = assign_to_ids(images, {canonical_id(row.id) for row in cleaning.table.rows if row.id})
    cleaning.shadowed, cleaning.several = owned.shadowed, owned.several
    cleaning.found_by = {images.path(file): how for file, how in owned.found_by.items()}
    return [_with_images(title, images, owned.files.get(title.id, []), owned.refused.get(title.id)) for title in titles]


def _match_by_column(
    cleaning: Cleaning, titles: list[Title], images: ImageFiles, column: Literal["image", "file"] = "image"
) -> list[Title]:
    usable = frozenset(images.usable)
    ids_of: defaultdict[str, set[str]] = defaultdict(set)  # what a cell names -> its rows, also those that were dropped
    for row in cleaning.table.rows:
        for item in _named_in(getattr(row, column), usable):
            ids_of[item].add(row.id)
    found = WrittenNames(images.folder.name, images.usable).find_all(ids_of)
    matched = [_match_cell(title, images, _named_in(getattr(title.row, column), usable), found) for title in titles]
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
    title: Title, images: ImageFiles, items: list[str], found: Mapping[str, tuple[str | None, str]]
) -> Title:
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


def _nothing_matches(
    cleaning: Cleaning, n_titles: int, looked_for: str, images: ImageFiles, hint: str | None
) -> DataError:
    example = repr(images.usable[0]) if images.usable else "no jpg, jpeg, png, webp, gif, avif, bmp or tiff file"
    refused = ", ".join(f"{count:,} × {reason}" for reason, count in cleaning.refused.items())
    unused = f" (not used: {refused})" if refused else ""
    if isinstance(images, PackedImages):
        return DataError(
            f"none of the {n_titles} posters left of {cleaning.table.path} has an image in column {images.column!r}: "
            "name the folder of its images with --images"
        )
    packed = packed_column(cleaning.table.path)
    if packed is not None:
        return DataError(
            f"no image in {images.folder} matches any of the {n_titles} posters of {cleaning.table.path}, which holds "
            f"its images as bytes in column {packed!r}: write those of each row into {images.folder} as a file that is "
            f"named by the row's id, such as {looked_for if is_path_like(looked_for) else looked_for + '.jpg'}, "
            "or name the table itself with --images"
        )
    fix = ", copy files that are links into the folder" if LEADS_OUT in cleaning.refused else ""
    return DataError(
        f"no image in {images.folder} matches any of the {n_titles} posters left of {cleaning.table.path}: "
        f"looked for {looked_for!r} and found {example}{unused}, so check --images, --id-column and --image-column{fix}"
        + (f" ({hint}: write them alike)" if hint else "")
    )
