"""Unpack the images that a Parquet table holds as bytes into files, once for each content of the table.

They lie in the cache, in a folder that is named by the digest of the table, each named by the first row that holds it
and the digest of its bytes. The list of names is written last, so that a folder with a list is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from hpo.data.table.columns import PICTURE_COLUMNS, first_column
from hpo.data.table.image_files import ImageFiles, image_entries
from hpo.data.table.typed_records import cells_of_bytes, image_columns, opened_by_pages
from hpo.errors import DataError
from hpo.runtime.atomic import write_whole
from hpo.runtime.progress import ProgressFactory, ProgressFn

_NAMES = "names.json"
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class PackedImages(ImageFiles):
    """The images of a table as files; every row has one of its own at most."""

    column: str = ""  # of the table
    names: tuple[str, ...] = ()  # by row; empty where it has none that can be used
    note: str = ""  # a sentence on where they come from


def packed_column(path: Path, asked: str | None = None) -> str | None:
    """Return the column of a Parquet table that holds images as bytes, the one that was asked for if there are more."""
    columns = list(image_columns(path))
    if asked is not None:
        return asked if asked in columns else None
    known = first_column(columns, PICTURE_COLUMNS)
    return columns[known or 0] if columns else None


def images_of(
    csv: Path, images: Path | None, asked: str | None, cache_dir: Path, phase: ProgressFactory
) -> Path | PackedImages | None:
    """Return the folder `images`, or the table's own images where `images` is the table or has no image in it.

    `asked` is the column of images that a person named. Raises DataError when the table was named and holds none, or
    when they cannot be unpacked.
    """
    if images is None or (images.is_dir() and _holds_an_image(images)):
        return images
    is_table = images.is_file() and csv.exists() and images.samefile(csv)
    column = packed_column(csv, asked)
    if column is not None and (is_table or not images.is_file()):
        instead = "" if is_table else f"There is no image in {images}. "
        return _unpack(
            csv, column, cache_dir, phase, f"{instead}The images are those in column {column!r} of the table."
        )
    if is_table:
        raise DataError(
            f"expected images as bytes in {'a column' if asked is None else f'column {asked!r}'} of {csv}, got none: "
            "name their folder with --images"
        )
    return images


def _holds_an_image(folder: Path) -> bool:
    """Return whether there is an image, or a place that may hold some and cannot be searched."""
    closed: list[str] = []
    entries = image_entries(os.path.realpath(folder), lambda path, _: closed.append(path))
    return next(entries, None) is not None or bool(closed)


def _unpack(path: Path, column: str, cache_dir: Path, phase: ProgressFactory, note: str) -> PackedImages:
    from pyarrow import ArrowException

    try:
        folder = cache_dir / "table-images" / _digest(path, column)
        with opened_by_pages(path) as table:
            n_rows = table.metadata.num_rows
            names = _names_in(folder, n_rows)
            if names is None:
                with phase("unpacking images", n_rows) as progress:
                    names = list(_written(cells_of_bytes(table, image_columns(path)[column]), folder, progress))
                known = frozenset(names)
                sizes = {name: size for name, size in _files_in(folder).items() if name in known}
                _write(folder / _NAMES, json.dumps({"names": names, "sizes": sizes}).encode())
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(
            f"the images in column {column!r} of {path} cannot be read ({reason}): write the table again, or name a "
            "folder with --images"
        ) from error
    usable = tuple(dict.fromkeys(name for name in names if name))
    return PackedImages(folder, usable, {}, column=column, names=tuple(names), note=note)


def _write(path: Path, content: bytes | memoryview) -> None:
    from hpo.data.shards import cannot_write

    try:
        write_whole(path, content)
    except OSError as error:
        raise cannot_write(path.parent, error) from error


def _written(cells: Iterator[memoryview], folder: Path, progress: ProgressFn) -> Iterator[str]:
    """Write each image that is not there, and yield the names by row."""
    from hpo.data.decoding import MAX_FILE_BYTES  # and Pillow, which other tables are read without

    name_of: dict[bytes, str] = {}
    there = _files_in(folder)
    for row, cell in enumerate(cells, start=1):
        progress(1)
        if not 0 < len(cell) <= MAX_FILE_BYTES:  # no larger file would be decoded
            yield ""
            continue
        digest = blake2b(cell, digest_size=_DIGEST_BYTES).digest()
        name = name_of.setdefault(digest, f"{row}-{digest.hex()}.img")
        if there.get(name) != len(cell):
            _write(folder / name, cell)
            there[name] = len(cell)
        yield name


def _digest(path: Path, column: str) -> str:
    """Return 32 hex digits over the content of a table and the name of a column."""
    with path.open("rb") as file:
        summed = hashlib.file_digest(file, lambda: blake2b(digest_size=_DIGEST_BYTES))
    summed.update(column.encode())
    return summed.hexdigest()


def _names_in(folder: Path, n_rows: int) -> list[str] | None:
    """Return the names by row of what was unpacked before; None where it is not whole."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # whatever a damaged file holds
        noted = json.loads((folder / _NAMES).read_bytes())
        names, sizes = list(noted["names"]), noted["sizes"]
        if len(names) == n_rows and set(names) - {""} == set(sizes) and sizes.items() <= _files_in(folder).items():
            return names
    return None


def _files_in(folder: Path) -> dict[str, int]:
    """Return the files in a folder with their sizes."""
    with suppress(OSError), os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries}
    return {}
