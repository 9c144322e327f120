"""Match the files of an image folder to the rows of a table.

Nested folders are walked, but nothing outside the folder is ever named: a symbolic link that leads out of it is
refused, as is whatever is not a regular file. An id owns `26.jpg` at any depth, and more images of the same title
where they are called `26_2.jpg`, `26-2.jpg` or `26 (2).jpg` or lie in a folder `26`. A file that is named by the id of
a row belongs to that row alone, whether the row is used or not. Of two files with the very same stem, such as `26.jpg`
and `26.png`, one is used and the other reported.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from hpo.data.table.image_names import (
    IMAGE_SUFFIXES,
    LAST_PART,
    OTHER_SUFFIX,
    UNREAD_SUFFIXES,
    has_image_suffix,
    is_image_content,
    path_spellings,
    stem_of,
)
from hpo.errors import DataError

LEADS_OUT = "image outside the folder"
NO_FILE = "image is not a file"
UNREAD_KIND = "image of a kind that is not read"
_CLOSED = "folder without permission"
_LINKED = "linked folder outside the folder"

COUNTER, FOLDER = "numbered file names", "a folder named by the id"  # why a title has several images

_UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".download", ".crdownload", ".bak")
_ODD_SUFFIX = re.compile(r"\.(?:dat|img|image|file|bin|(?:jpe?g|png|webp)[_:!-]\w+)", re.IGNORECASE)
_COUNTER = re.compile(r"(?:[_-]\d{1,2}|[ _-]?\(\d{1,2}\))$")  # more digits are a year or a number of its own


def canonical_id(text: str) -> str:
    """Return 26 for 26.0: copies of a CSV differ, as pandas turns integers with a gap into floats."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)  # macOS names files in NFD
    return re.sub(r"^(\d+)\.0+$", r"\1", text) if text.endswith("0") else text


@dataclass(frozen=True)
class ImageFiles:
    """The images under a folder, by path relative to it, in a fixed order: upper folders and better suffixes first."""

    folder: Path
    usable: tuple[str, ...]
    refused: Mapping[str, str]  # path -> LEADS_OUT, NO_FILE or UNREAD_KIND
    not_entered: Mapping[str, str] = field(default_factory=dict)  # folder -> why it was not searched

    def path(self, relative: str) -> Path:
        """Return where a file lies."""
        return self.folder / relative


@dataclass(frozen=True)
class Ownership:
    """Which files belong to which id."""

    files: dict[str, list[str]] = field(default_factory=dict)  # id -> one file or more, as relative paths
    refused: dict[str, str] = field(default_factory=dict)  # id -> why its only file cannot be used
    shadowed: dict[str, str] = field(default_factory=dict)  # file -> the file of the same stem that is used instead
    several: dict[str, str] = field(default_factory=dict)  # id -> COUNTER or FOLDER
    found_by: dict[str, str] = field(default_factory=dict)  # file -> LAST_PART or OTHER_SUFFIX


def list_images(folder: Path) -> ImageFiles:
    """Find every image under `folder`. Raises DataError when there is no such folder, or it cannot be read."""
    if not folder.is_dir():
        raise DataError(f"there is no folder of images at {folder}: check the path given to --images")
    usable: list[str] = []
    refused: dict[str, str] = {}
    not_entered: dict[str, str] = {}
    root = os.path.realpath(folder)

    def relative(path: str) -> str:
        return os.path.relpath(path, root).replace(os.sep, "/")

    for entry in image_entries(root, lambda path, why: not_entered.__setitem__(relative(path), why)):
        reason = _refusal(entry, root)
        if reason is None:
            usable.append(relative(entry.path))
        else:
            refused[relative(entry.path)] = reason
    if "." in not_entered:
        raise DataError(f"the folder of images {folder} cannot be read ({not_entered['.']}): allow it, or name another")
    return ImageFiles(folder, tuple(sorted(usable, key=_preference)), refused, not_entered)


def image_entries(root: str, passed_over: Callable[[str, str], object]) -> Iterator[os.DirEntry[str]]:
    """Yield the images of a folder at any depth, known by their suffix or, without one, by their first bytes.

    Links to folders are not followed. `passed_over` is called with each folder that could not be searched, and why.
    """
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as listed:
                entries = list(listed)
        except OSError as error:
            passed_over(folder, _CLOSED if isinstance(error, PermissionError) else error.strerror or str(error))
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not has_image_suffix(entry.name):
                pending.append(entry.path)
            elif entry.name.startswith("."):  # the notes of macOS beside each file, ._26.jpg, and thumbnails
                continue
            elif has_image_suffix(entry.name) or entry.name.lower().endswith(UNREAD_SUFFIXES):
                yield entry
            elif _is_file(entry):
                if not entry.name.lower().endswith(_UNFINISHED_SUFFIXES) and is_image_content(entry.path):
                    yield entry
            elif entry.is_symlink() and Path(entry.path).is_dir():
                if not _lies_in(entry.path, root):
                    passed_over(entry.path, _LINKED)
            elif entry.is_symlink() and not PurePosixPath(entry.name).suffix:
                yield entry  # leads nowhere: refused as no file


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link into a folder without permission
        return False


def _lies_in(path: str, root: str) -> bool:
    return os.path.realpath(path).startswith(os.path.realpath(root).rstrip(os.sep) + os.sep)


def _refusal(entry: os.DirEntry[str], root: str) -> str | None:
    if entry.is_symlink() and not _lies_in(entry.path, root):
        return LEADS_OUT
    if not _is_file(entry):
        return NO_FILE
    return UNREAD_KIND if entry.name.lower().endswith(UNREAD_SUFFIXES) else None


def _preference(relative: str) -> tuple[int, int, str]:
    path = PurePosixPath(relative)
    suffix = path.suffix.lower()
    rank = IMAGE_SUFFIXES.index(suffix) if suffix in IMAGE_SUFFIXES else len(IMAGE_SUFFIXES)
    return len(path.parts), rank, relative


def assign_to_ids(images: ImageFiles, ids: Iterable[str]) -> Ownership:
    """Give each image to the id that its name, or its folder's name, spells; the others belong to no id.

    `ids` are those of all rows, also of the rows that are not used: their images are no other row's.
    """
    owned = Ownership()
    owners = _Owners(ids, images)
    by_stem: dict[tuple[str, str], str] = {}  # (id, stem) -> the file used
    known = [(relative, found) for relative in images.usable if (found := owners.of(relative))]
    known.sort(key=lambda pair: -pair[1].n_parts)  # the file that an id's whole path names comes first
    for relative, (owner, several, found_by, _) in known:
        stem = canonical_id(stem_of(PurePosixPath(relative).name))
        used = by_stem.setdefault((owner, stem), relative)
        if used != relative:
            owned.shadowed[relative] = used
            continue
        owned.files.setdefault(owner, []).append(relative)
        if several:
            owned.several.setdefault(owner, several)
        if found_by:
            owned.found_by[relative] = found_by
    for owner in [owner for owner in owned.several if len(owned.files[owner]) == 1]:
        del owned.several[owner]
    for relative, reason in images.refused.items():
        found = owners.of(relative)
        if found is not None and found.owner not in owned.files:
            owned.refused[found.owner] = reason
    return owned


class _Found(NamedTuple):
    """The id that owns a file."""

    owner: str
    several: str  # COUNTER or FOLDER, empty where its name alone says so
    found_by: str  # LAST_PART or OTHER_SUFFIX, empty where the id is written as the file is named
    n_parts: int  # of an id that is a path, how many the file's path shares


class _Owners:
    """The ids of a table under every name that a file of theirs can have."""

    def __init__(self, ids: Iterable[str], images: ImageFiles) -> None:
        self._ids = frozenset(ids)
        self._paths = path_spellings(self._ids)  # of ids that are file names, paths or addresses
        self._folded = _unique((id_.casefold(), id_) for id_ in self._ids)
        self._mixed = self._folders_of_many([*images.usable, *images.refused])

    def of(self, relative: str) -> _Found | None:
        """Return the id that owns a file."""
        for name, several in _spelled(relative):
            if several == FOLDER and str(PurePosixPath(relative).parent) in self._mixed:
                continue
            found = self._look_up(name)
            if found:
                n_parts = len(PurePosixPath(name).parts) if name in self._paths or "/" in name else 0
                return _Found(found[0], several, found[1], n_parts)
        return None

    def _look_up(self, name: str) -> tuple[str, str] | None:
        if name in self._ids:
            return name, ""
        if name in self._paths:
            return self._paths[name], LAST_PART
        owner = self._folded.get(name.casefold())
        return (owner, OTHER_SUFFIX) if owner else None

    def _folders_of_many(self, files: Iterable[str]) -> frozenset[str]:
        """Return the folders that hold files of other ids than their name's: by year, by label, not by title."""
        mixed = set()
        for relative in files:
            path = PurePosixPath(relative)
            own = self._look_up(canonical_id(path.parent.name))
            others = (self._look_up(name) for name, why in _spelled(relative) if why != FOLDER) if own else ()
            if own and any(other and other[0] != own[0] for other in others):
                mixed.add(str(path.parent))
        return frozenset(mixed)


def owner_of(relative: str, ids: Container[str]) -> str | None:
    """Return the id that a file's name, or its folder's name, spells; None where it is no id's."""
    return next((name for name, _ in _spelled(relative) if name in ids), None)


def _spelled(relative: str) -> Iterator[tuple[str, str]]:
    """Yield what a file's path may spell, the surest first, each with why its owner would have several images."""
    path = PurePosixPath(unicodedata.normalize("NFC", relative))
    stem = stem_of(path.name)
    yield path.as_posix(), ""
    yield (path.parent / stem).as_posix(), ""
    yield path.name, ""
    yield stem, ""
    yield canonical_id(stem), ""
    yield stem_of(stem), ""  # of 26.jpg.jpg
    yield _COUNTER.sub("", canonical_id(stem)), COUNTER
    yield canonical_id(path.parent.name), FOLDER
    if _ODD_SUFFIX.fullmatch(path.suffix):  # what other programs call an image: 26.jpg_large, 26.img
        yield canonical_id(path.stem), ""


def spellings_of(relative: str) -> frozenset[str]:
    """Return all that a file's name, or its folder's name, may spell."""
    return frozenset(name for name, _ in _spelled(relative))


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the pairs whose first part belongs to one second part alone."""
    found: dict[str, set[str]] = {}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    return {key: next(iter(values)) for key, values in found.items() if len(values) == 1}
