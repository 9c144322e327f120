"""Resolve the posters named on a command line: files, folders, patterns, addresses, or a list on stdin."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path

from hpo.data.decoding import Missing
from hpo.data.table.image_files import image_entries
from hpo.data.table.image_names import UNREAD_SUFFIXES
from hpo.errors import DataError

STDIN = "-"
_ADDRESSES = ("http://", "https://")
_SECONDS = 20.0  # for one request
_SECONDS_IN_ALL = 45.0  # for one poster with its redirects


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
        elif word.lower().startswith(_ADDRESSES):
            yield _fetched(word, allow_urls)
        elif has_magic(word) and not os.path.exists(word):  # noqa: PTH110 - as below
            yield from _matching(word)
        elif os.path.isdir(word):  # noqa: PTH112 - Path's raises OSError for a name too long, which decoding reports
            yield from _in_folder(Path(word))
        else:
            yield Named(word, Path(word))


def _in_folder(folder: Path) -> Iterator[Named]:
    closed: dict[str, str] = {}
    entries = image_entries(str(folder), closed.__setitem__)
    files = sorted(Path(entry.path) for entry in entries if not entry.name.lower().endswith(UNREAD_SUFFIXES))
    if not files and not closed:
        raise DataError(f"Expected images in the folder {folder}, got none: name another.")
    yield from (Named(str(file), file) for file in files if not file.is_dir())
    yield from (Named(path, Missing(why)) for path, why in sorted(closed.items()))


def _matching(pattern: str) -> Iterator[Named]:
    files = sorted(glob(pattern, recursive=True))  # noqa: PTH207 - as a shell does, also from /
    if not files:
        raise DataError(f"Expected files that match {pattern!r}, got none: check the pattern.")
    yield from (Named(file, Path(file)) for file in files if not Path(file).is_dir())


def _fetched(address: str, allow_urls: bool) -> Named:
    if not allow_urls:
        raise DataError(f"{address} is an address, which is only fetched with --allow-urls: type that, or name a file.")
    return Named(address, asyncio.run(_content_at(address)))


async def _content_at(address: str) -> bytes | Missing:
    """Ask as `hpo data fetch` does: for so many bytes and seconds at most, and from no server beside the named one."""
    from concurrent.futures import ThreadPoolExecutor

    from hpo.data.download.client import Downloader, Failed, FetchOptions  # aiohttp takes half a second

    options = FetchOptions(
        tries=1, per_second=0, timeout=_SECONDS, allow_private=_names_a_near_host(address), any_content=True
    )
    try:
        with ThreadPoolExecutor(1) as pool:
            async with asyncio.timeout(_SECONDS_IN_ALL), Downloader(options, pool) as downloader:
                return (await downloader.get(address)).content
    except Failed as failed:
        return Missing(f"not to be had ({failed})")
    except TimeoutError:
        return Missing(f"not to be had (not there within {_SECONDS_IN_ALL:.0f} s)")


def _names_a_near_host(address: str) -> bool:
    """Return whether a person names this machine or one of their own network, where a redirect must not lead."""
    from hpo.data.download.security import AddressRefused, is_public, parse_address

    try:
        host = parse_address(address).host or ""
    except AddressRefused:
        return False
    try:
        return not is_public(host)
    except ValueError:  # a name
        return "." not in host or host.endswith((".local", ".lan", ".internal", ".localhost"))
