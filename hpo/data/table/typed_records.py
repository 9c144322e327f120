"""Read Parquet and JSON tables as text records; an unreadable cell is marked."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from hpo.data.table.image_names import is_start_of_image
from hpo.errors import DataError

Record: TypeAlias = tuple[int, list[str] | None]  # (the line or row it begins at, its cells), None where it is broken

UNREADABLE = "\x00unreadable"  # stands for a cell whose value no text can show

_ROWS_AT_ONCE = 1024
_IMAGES_AT_ONCE = 8
_BYTES_AT_ONCE = 2**20
_MAGIC = b"PAR1"


def parquet_records(path: Path) -> Iterator[Record]:
    """Yield the column names, then the rows. The bytes of images are not read, only the paths beside them."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile  # half a second that only those pay who have such a file

    try:
        with ParquetFile(path) as file:
            schema = file.schema_arrow
            yield 0, list(schema.names)
            if len(set(schema.names)) < len(schema.names):
                raise DataError(f"expected a name of its own for each column of {path}: rename those that are twice")
            packed = image_columns(path)
            wanted = [leaf for field in schema if packed.get(field.name) != field.name for leaf in _leaves(field)]
            row = 0
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                read = {name: _column(batch.column(at)) for at, name in enumerate(batch.schema.names)}
                for at in range(batch.num_rows):
                    row += 1
                    yield row, [read[name][at] if name in read else "" for name in schema.names]
    except (OSError, ArrowException) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as Parquet ({reason}): check the path given to --data") from error


def image_columns(path: Path) -> dict[str, str]:
    """Return the columns of a Parquet file that hold images as bytes, each with the path of the bytes in its schema.

    They are plain bytes or a struct with bytes, and begin as an image does in one of the first rows; none for a file
    that is no Parquet.
    """
    if not _is_parquet(path):
        return {}
    from pyarrow import ArrowException

    try:
        with opened_by_pages(path) as table:
            packed = {field.name: leaf for field in table.schema_arrow if (leaf := _bytes_of(field)) is not None}
            return {name: leaf for name, leaf in packed.items() if _holds_images(table, leaf)}
    except (OSError, ArrowException):  # reading the rows says why
        return {}


def _is_parquet(path: Path) -> bool:
    if not path.is_file():  # a pipe can be read once alone
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def opened_by_pages(path: Path) -> Any:
    """Open a Parquet file so that a page of a column is in memory at a time, and not all of its row group."""
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path, buffer_size=_BYTES_AT_ONCE, pre_buffer=False)


def cells_of_bytes(table: Any, leaf: str) -> Iterator[memoryview]:
    """Yield the bytes in each row of an opened Parquet file, a few rows in memory at a time; empty for a null."""
    import pyarrow.types as kinds

    for batch in table.iter_batches(_IMAGES_AT_ONCE, columns=[leaf], use_threads=False):
        column = batch.column(0)
        for cell in column.flatten()[0] if kinds.is_struct(column.type) else column:
            content = cell.as_buffer()
            yield memoryview(b"" if content is None else content)


def _holds_images(table: Any, leaf: str) -> bool:
    first = islice(cells_of_bytes(table, leaf), _ROWS_AT_ONCE)
    return any(is_start_of_image(bytes(cell[:16])) for cell in first)


def _bytes_of(field: Any) -> str | None:
    """Return where in a Parquet file the bytes of a column are, or of the struct that it holds."""
    import pyarrow.types as kinds

    if _are_bytes(field.type):
        return str(field.name)
    inner = [field.type.field(at) for at in range(field.type.num_fields)] if kinds.is_struct(field.type) else []
    return next((f"{field.name}.{part.name}" for part in inner if _are_bytes(part.type)), None)


def _are_bytes(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind))


def _leaves(field: Any) -> list[str]:
    """Return what is read of a column: all of it, but of an image's struct no bytes."""
    import pyarrow.types as kinds

    if kinds.is_struct(field.type):
        inner = [field.type.field(at) for at in range(field.type.num_fields)]
        if any(_are_bytes(part.type) for part in inner):
            return [f"{field.name}.{part.name}" for part in inner if kinds.is_string(part.type)]
    return [field.name]


def _column(column: Any) -> list[str]:
    import pyarrow.types as kinds

    pictures = kinds.is_struct(column.type) and [part.name for part in column.type] == ["path"]
    try:
        cells = column.to_pylist()
    except Exception:  # of pyarrow, of datetime, of the codec: a date far away, bytes that are no UTF-8
        return [_text_of_scalar(scalar) for scalar in column]
    if _are_bytes(column.type):
        cells = ["" if cell is not None and is_start_of_image(cell) else cell for cell in cells]
    if kinds.is_map(column.type):
        cells = [None if cell is None else dict(cell) for cell in cells]
    return [text_of((cell or {}).get("path") if pictures else cell) for cell in cells]


def _text_of_scalar(scalar: Any) -> str:
    try:
        return text_of(scalar.as_py())
    except Exception:  # as above
        return UNREADABLE


def text_of(cell: Any) -> str:
    """Return a cell as text: empty for a null or NaN, JSON for a list or an object."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bytes | bytearray | memoryview):
        try:
            return bytes(cell).decode()
        except UnicodeDecodeError:
            return UNREADABLE
    if isinstance(cell, list | tuple | dict):
        return json.dumps(cell, ensure_ascii=False, default=_plain)
    return str(cell)


def _plain(value: Any) -> str:
    """Return what stands for a date, a decimal, bytes in a list."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, bytes | bytearray) else str(value)


def json_records(path: Path, lines: Iterator[str], *, by_line: bool) -> Iterator[Record]:
    """Yield the keys of all objects, then the objects: one a line, or what pandas writes as one value."""
    rows: list[tuple[int, dict[str, Any] | None]] = []
    if by_line:
        rows = [(number, _object(line)) for number, line in enumerate(lines, start=1) if line.strip()]
    else:
        text = "".join(lines)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            rows = [(number, _object(line)) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
            if not any(row for _, row in rows):
                raise DataError(f"{path} cannot be read as JSON ({error}): check the path given to --data") from error
        else:
            rows = [(number, row) for number, row in enumerate(_rows_of(path, found), start=1)]
    header = list(dict.fromkeys(key for _, row in rows for key in row or ()))
    yield 0, header
    for number, row in rows:
        yield number, None if row is None else [text_of(row.get(key)) for key in header]


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _rows_of(path: Path, found: Any) -> list[dict[str, Any] | None]:
    """Return the objects of [{…}, …], {"data": [{…}, …]}, {"column": {"0": …}} or {"columns": […], "data": [[…]]}."""
    if isinstance(found, list):
        return [row if isinstance(row, dict) else None for row in found]
    if isinstance(found, dict) and isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):
        names = [str(name) for name in found["columns"]]
        return [dict(zip(names, row, strict=False)) if isinstance(row, list) else None for row in found["data"]]
    if isinstance(found, dict):
        lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
        if len(lists) == 1:
            return _rows_of(path, lists[0])
        if found and all(isinstance(value, dict) for value in found.values()):
            if len({tuple(value) for value in found.values()}) == 1 and all(
                key.isdigit() for key in next(iter(found.values()))
            ):
                return [{name: value[at] for name, value in found.items()} for at in next(iter(found.values()))]
            return [{"id": key, **value} for key, value in found.items()]
        if len({len(value) for value in found.values() if isinstance(value, list)}) > 1:  # {"26": ["Action", "Drama"]}
            return [{"id": key, "labels": value} for key, value in found.items()]
        if found and all(isinstance(value, list) for value in found.values()):
            return [dict(zip(found, row, strict=False)) for row in zip(*found.values(), strict=False)]
    raise DataError(f"expected a list of objects in {path}, one for each poster: save the table as CSV or JSON lines")
