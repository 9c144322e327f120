"""A folder of images → which files belong to which poster, and why some files cannot be used.

Nested folders are walked, but nothing outside the folder is ever named: a symbolic link that leads out of it is
refused, as is whatever is not a regular file. An id owns `26.jpg` at any depth, and more images of the same title
where they are called `26_2.jpg` or `26-2.jpg` or lie in a folder `26`. Of two files with the very same stem, such as
`26.jpg` and `26.png`, one is used and the other reported.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from hpo.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif")  # of two files with one stem the earlier wins

LEADS_OUT = "image outside the folder"
NO_FILE = "image is not a file"

_COUNTER = re.compile(r"[_-]\d+$")


def canonical_id(text: str) -> str:
    """Return 26 for 26.0: copies of a CSV differ, as pandas turns integers with a gap into floats."""
    text = text if text.isascii() else unicodedata.normalize("NFC", text)  # macOS names files in NFD
    return re.sub(r"^(\d+)\.0+$", r"\1", text) if text.endswith("0") else text


@dataclass(frozen=True)
class ImageFiles:
    """The images under a folder, by path relative to it, in a fixed order: upper folders and better suffixes first."""

    folder: Path
    usable: tuple[str, ...]
    refused: Mapping[str, str]  # path -> LEADS_OUT or NO_FILE

    def path(self, relative: str) -> Path:
        """Return where a file lies."""
        return self.folder / relative


@dataclass(frozen=True)
class Ownership:
    """Which files belong to which id."""

    files: dict[str, list[str]] = field(default_factory=dict)  # id -> one file or more, as relative paths
    refused: dict[str, str] = field(default_factory=dict)  # id -> why its only file cannot be used
    shadowed: dict[str, str] = field(default_factory=dict)  # file -> the file of the same stem that is used instead


def list_images(folder: Path) -> ImageFiles:
    """Find every image under `folder`. Raises DataError when there is no such folder."""
    if not folder.is_dir():
        raise DataError(f"there is no folder of images at {folder}: check the path given to --images")
    usable: list[str] = []
    refused: dict[str, str] = {}
    root = os.path.realpath(folder)
    for entry in _entries(root):
        relative = os.path.relpath(entry.path, root).replace(os.sep, "/")
        reason = _refusal(entry, root)
        if reason is None:
            usable.append(relative)
        else:
            refused[relative] = reason
    return ImageFiles(folder, tuple(sorted(usable, key=_preference)), refused)


def _entries(root: str) -> Iterator[os.DirEntry[str]]:
    """Yield what is named like an image, at any depth, without following links to folders."""
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_SUFFIXES):
                    yield entry
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _refusal(entry: os.DirEntry[str], root: str) -> str | None:
    if entry.is_symlink() and not os.path.realpath(entry.path).startswith(root + os.sep):
        return LEADS_OUT
    return None if entry.is_file() else NO_FILE


def _preference(relative: str) -> tuple[int, int, str]:
    path = PurePosixPath(relative)
    return len(path.parts), IMAGE_SUFFIXES.index(path.suffix.lower()), relative


def assign_to_ids(images: ImageFiles, ids: Container[str]) -> Ownership:
    """Give each image to the id that its name, or its folder's name, spells; the others belong to nobody."""
    owned = Ownership()
    by_stem: dict[tuple[str, str], str] = {}  # (id, stem) -> the file used
    for relative in images.usable:
        owner = owner_of(relative, ids)
        if owner is None:
            continue
        stem = canonical_id(PurePosixPath(relative).stem)
        used = by_stem.setdefault((owner, stem), relative)
        if used == relative:
            owned.files.setdefault(owner, []).append(relative)
        else:
            owned.shadowed[relative] = used
    for relative, reason in images.refused.items():
        owner = owner_of(relative, ids)
        if owner is not None and owner not in owned.files:
            owned.refused[owner] = reason
    return owned


def owner_of(relative: str, ids: Container[str]) -> str | None:
    """Return the id that a file's name, or its folder's name, spells; None where it is nobody's."""
    path = PurePosixPath(relative)
    stem = canonical_id(path.stem)
    spelled = (stem, _COUNTER.sub("", stem), canonical_id(path.parent.name))
    return next((name for name in spelled if name in ids), None)
