"""Posters as somebody names them on a command line: files, folders, patterns, addresses, or a list on stdin."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from hpo.data.decoding import MAX_FILE_BYTES, Missing
from hpo.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".bmp", ".tif", ".tiff")  # of files in folders
STDIN = "-"
_ADDRESSES = ("http://", "https://")
_SECONDS = 20


@dataclass(frozen=True)
class Named:
    """A poster, or why there is none under that name."""

    name: str
    source: Path | bytes | Missing


def named_posters(words: Iterable[str], *, allow_urls: bool = False) -> Iterator[Named]:
    """Yield the posters that ``words`` name, in their order; a folder's by name, with those of folders in it.

    ``-`` reads further words from stdin, one a line. Addresses are fetched as their turn comes. Raises DataError for an
    address that is not allowed, an empty name, a folder without images and a pattern that nothing matches.
    """
    for word in words:
        if not word:
            raise DataError("Expected the name of a poster, got an empty one: name a file or a folder, . for this one.")
        if word == STDIN:
            yield from named_posters((line for line in map(str.strip, sys.stdin) if line), allow_urls=allow_urls)
        elif word.startswith(_ADDRESSES):
            yield _fetched(word, allow_urls)
        elif has_magic(word) and not os.path.exists(word):  # noqa: PTH110 - as below
            yield from _matching(word)
        elif os.path.isdir(word):  # noqa: PTH112 - Path's raises OSError for a name too long, which decoding reports
            yield from _in_folder(Path(word))
        else:
            yield Named(word, Path(word))


def _in_folder(folder: Path) -> Iterator[Named]:
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise DataError(f"Expected images in the folder {folder}, got none: name another.")
    yield from (Named(str(file), file) for file in files)


def _matching(pattern: str) -> Iterator[Named]:
    files = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - as a shell does, also from /
    if not files:
        raise DataError(f"Expected files that match {pattern!r}, got none: check the pattern.")
    yield from (Named(file, Path(file)) for file in files if not Path(file).is_dir())


def _fetched(address: str, allow_urls: bool) -> Named:
    if not allow_urls:
        raise DataError(f"{address} is an address, which is only fetched with --allow-urls: type that, or name a file.")
    try:
        with urllib.request.urlopen(address, timeout=_SECONDS) as answer:
            content = answer.read(MAX_FILE_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Named(address, Missing(f"not to be had ({getattr(error, 'reason', None) or error})"))
    return Named(address, content if len(content) <= MAX_FILE_BYTES else Missing("too large to be a poster"))
