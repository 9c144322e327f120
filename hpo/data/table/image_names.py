"""Normalise the image names in a table: leading slashes, URLs, other case, missing suffixes.

A name is tried as it is written; then ever fewer of its last parts; then without its suffix and in any letter case.
What is found so must be one file alone, and no other row's.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from posixpath import normpath
from urllib.parse import parse_qsl, unquote, urlsplit

# Of files in folders, everywhere in hpo; of two files with one stem the earlier wins.
IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".bmp", ".tif", ".tiff", ".jfif", ".jpe", ".pjpeg", ".pjp",
    ".apng", ".dib",
)  # fmt: skip

UNREAD_SUFFIXES = (".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd", ".pdf", ".ico", ".tga")

LAST_PART, OTHER_SUFFIX = "last part of the path", "name in another letter case or with another suffix"
AMBIGUOUS = "image that several rows could mean"

_QUERY = re.compile(rf"^(.+(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))[?#@].*$", re.IGNORECASE | re.DOTALL)
_FIRST_BYTES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
_AVIF = (b"ftypavif", b"ftypavis")


def has_image_suffix(name: str) -> bool:
    """Return whether a file is named as an image that can be read."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def is_image_content(path: str) -> bool:
    """Return whether a regular file begins as an image does; a file that cannot be read does not."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - called for thousands of files
            first = file.read(16)
    except OSError:
        return False
    return is_start_of_image(first)


def is_start_of_image(first: bytes) -> bool:
    """Return whether bytes begin as an image does."""
    return (
        first.startswith(_FIRST_BYTES)
        or (first.startswith(b"RIFF") and first[8:12] == b"WEBP")
        or first[4:12] in _AVIF
        or (first.startswith(b"BM") and first[6:10] == b"\0\0\0\0")
    )


def stem_of(name: str) -> str:
    """Return a name without the suffix of an image and what follows that in an address: x.2004 has none."""
    name = _QUERY.sub(r"\1", name)
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in (*IMAGE_SUFFIXES, *UNREAD_SUFFIXES) else name


def is_path_like(text: str) -> bool:
    """Return whether an id is the name of an image, its path or an address rather than a word."""
    return has_image_suffix(_QUERY.sub(r"\1", text)) or "://" in text or text.startswith("/")


def parts_of(written: str) -> tuple[str, ...]:
    """Return the parts of a path, a Windows path or the path of an address."""
    text = unicodedata.normalize("NFC", written.strip()).replace("\\", "/")
    text = _path_of(text) if "://" in text else _QUERY.sub(r"\1", text)
    parts = normpath(text).split("/")
    return tuple(part for part in parts if part not in ("", ".", "..") and not re.fullmatch("[A-Za-z]:", part))


def _path_of(address: str) -> str:
    """Return the path of an address, or the image that its query names where the path names none."""
    try:
        split = urlsplit(address)
    except ValueError:
        return address
    path = unquote(split.path)
    if has_image_suffix(path):
        return path
    return next((value for _, value in parse_qsl(split.query) if has_image_suffix(value)), path)


def path_spellings(ids: Iterable[str]) -> dict[str, str]:
    """Return what files can be called whose ids are file names, paths or addresses, where one id alone is meant."""
    known = frozenset(ids)
    owners: defaultdict[str, set[str]] = defaultdict(set)
    for owner in known:
        if not is_path_like(owner):
            continue
        *folders, name = parts_of(owner) or ("",)
        for at in range(len(folders) + 1):
            for last in {name, stem_of(name)}:
                owners["/".join([*folders[at:], last])].add(owner)
    return {
        spelled: next(iter(meant))
        for spelled, meant in owners.items()
        if spelled and len(meant) == 1 and spelled not in known
    }


class WrittenNames:
    """Finds the files that the cells of a table name."""

    def __init__(self, folder_name: str, usable: Sequence[str]) -> None:
        self._folder_name = folder_name
        self._usable = frozenset(usable)
        self._normal = {unicodedata.normalize("NFC", path): path for path in usable}
        self._by_tail: defaultdict[str, list[str]] = defaultdict(list)  # casefolded, without suffix
        for path in usable:
            parts = path.split("/")
            for at in range(len(parts)):
                self._by_tail[_folded("/".join(parts[at:]))].append(path)

    def find(self, item: str) -> tuple[str | None, str]:
        """Return a file with how it was found, empty where it is as written; or None with AMBIGUOUS or empty text."""
        written = normpath(unicodedata.normalize("NFC", item.strip()).replace("\\", "/"))
        for path in (written, written.removeprefix(f"{self._folder_name}/")):
            if path in self._normal:
                return self._normal[path], ""
        parts = parts_of(item)
        for at in range(len(parts)):
            tail = "/".join(parts[at:])
            candidates = self._by_tail.get(_folded(tail), ())
            named = [path for path in candidates if f"/{unicodedata.normalize('NFC', path)}".endswith(f"/{tail}")]
            found = named or candidates
            if found:
                how = LAST_PART if named else OTHER_SUFFIX
                return (found[0], how) if _in_one_place(found) else (None, AMBIGUOUS)
        return None, ""

    def find_all(self, items: Mapping[str, Iterable[str]]) -> dict[str, tuple[str | None, str]]:
        """Find the files of all items, each with the ids of its rows: none by a part of a name that others share."""
        found = {item: self.find(item) for item in items}
        written = {path for path, how in found.values() if path is not None and not how}
        claims: defaultdict[str, set[str]] = defaultdict(set)  # file -> the ids that could mean it
        names: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)  # file -> what they call it
        for item, (path, how) in found.items():
            if path is not None and how:
                claims[path].update(items[item])
                names[path].add(parts_of(item))
        shared = {path for path in claims if len(claims[path]) > 1 and len(names[path]) > 1}
        return {
            item: (None, AMBIGUOUS) if path is not None and how and (path in written or path in shared) else (path, how)
            for item, (path, how) in found.items()
        }


def _folded(path: str) -> str:
    folder, slash, name = unicodedata.normalize("NFC", path).rpartition("/")
    return f"{folder}{slash}{stem_of(name)}".casefold()


def _in_one_place(paths: Sequence[str]) -> bool:
    """Return whether files differ in nothing but their suffix."""
    return len({path.rpartition("/")[0] + "/" + stem_of(path.rpartition("/")[2]) for path in paths}) == 1
