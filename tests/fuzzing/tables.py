"""Tables as they are found, and worse: CSV, JSON, compressed ones, and Parquet of every type."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hpo.data.dataset import DataOptions, prepare_data
from hpo.data.summary import account_of
from hpo.data.table.rules import CatalogueRules
from tests.fuzzing import mutate
from tests.fuzzing.images import drawn

ROWS = 30
_GENRES = ("Drama", "Sci-Fi & Fantasy", "字")
_SUFFIXES = (".csv", ".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".CSV")
_ROLES = {
    "id": ("id", "anime_id", "tconst", "show_id"),
    "labels": ("Genres", "genre", "tags"),
    "title": ("Name", "title"),
    "image": ("poster", "file_name", "image url", "pic"),
    "type": ("Type",),
    "group": ("franchise",),
    "unused": ("synopsis", "x", "Drama", "字"),
}


def read(path: Path, images: Path | None, rng: Random, image_column: str | None = None) -> None:
    """Do as `hpo data check` does, up to its JSON."""
    rules = CatalogueRules(
        label_separator=rng.choice((*[None] * 9, ",", "|", "", "\n", "[")),
        image_column=image_column,
        top_labels=rng.choice((2, 2, 3, 10, 100_000)),
        types=rng.choice((None, ("TV", "Movie"))),
        keep_adult=rng.random() < 0.5,
    )
    size = rng.choice((0.2, 0.3, 0.3, 8))
    options = DataOptions(csv=path, images=images, rules=rules, val_size=size, test_size=size, seed=rng.randrange(9))
    data = prepare_data(options, path.parent / "cache", lambda *_: nullcontext(lambda _: None))
    json.dumps(account_of(data), ensure_ascii=False, allow_nan=False).encode(errors="backslashreplace")


def _labels(rng: Random) -> Any:
    return rng.sample(_GENRES, rng.randint(1, 2))


def _styled(labels: Any, style: int) -> Any:
    return (", ".join(labels), "|".join(labels), json.dumps(labels), str([{"id": 1, "name": n} for n in labels]))[style]


def _rows(rng: Random) -> list[dict[str, Any]]:
    names = {role: rng.choice(known) for role, known in _ROLES.items()}
    style, present = rng.randrange(4), {role for role in _ROLES if role in ("id", "labels") or rng.random() < 0.4}
    rows = []
    for at in range(ROWS):
        cells = {
            "id": at,
            "labels": _styled(_labels(rng), style),
            "title": f"Title {at}",
            "image": f"{at}.jpg",
            "type": "TV",
            "group": f"g{at // 2}",
            "unused": rng.choice(mutate.TEXTS),
        }
        rows.append({names[role]: cell for role, cell in cells.items() if role in present})
    for _ in range(rng.choice((0, 0, 1, 3))):  # cells no row should have
        row = rng.choice(rows)
        row[rng.choice(list(row))] = mutate.value(rng)
    return rows


def _written(rng: Random, rows: list[dict[str, Any]], suffix: str) -> bytes:
    if suffix in (".jsonl", ".ndjson"):
        return "\n".join(json.dumps(row) for row in rows).encode()
    if suffix == ".json":
        header = list(rows[0])
        forms: tuple[Any, ...] = (
            rows,
            {"data": rows},
            {"columns": header, "data": [list(row.values()) for row in rows]},
            {name: {str(at): row.get(name) for at, row in enumerate(rows)} for name in header},
            {name: [row.get(name) for row in rows] for name in header},
            {str(row.get(header[0])): row for row in rows},
        )
        form = rng.choice(forms)
        return json.dumps(mutate.document(rng, form) if rng.random() < 0.5 else form).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=rng.choice(",;\t|"), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(rng.choice((*["utf-8"] * 9, "utf-8-sig", "utf-16", "latin-1")), "replace")


def _packed(rng: Random, content: bytes, name: str) -> tuple[bytes, str]:
    match rng.randrange(6):
        case 0:
            return gzip.compress(content, mtime=0), f"{name}.gz"
        case 1:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(name, content)
            return packed.getvalue(), f"{name}.zip"
    return content, name


def prepare_texts(folder: Path) -> Callable[[Random], object]:
    """CSV and JSON, changed before or after they are compressed."""
    images = _images(folder)

    def attempt(rng: Random) -> None:
        suffix = rng.choice(_SUFFIXES)
        content = _written(rng, _rows(rng), suffix)
        if rng.random() < 0.4:
            content = mutate.bytes_of(rng, content, most=2, header=60)
        content, name = _packed(rng, content, f"t{suffix}")
        if rng.random() < 0.2:
            content = mutate.bytes_of(rng, content)
        (folder / name).write_bytes(content)
        column = rng.choice((*[None] * 9, "poster", "file_name"))
        read(folder / name, images if rng.random() < 0.3 else None, rng, column)

    return attempt


def _images(folder: Path) -> Path:
    images = folder / "images"
    images.mkdir()
    for at in range(ROWS):
        (images / f"{at}.jpg").write_bytes(drawn(Random(at), "JPEG"))
    return images


def _far(kind: Any, width: Any) -> Callable[[Random], pa.Array]:
    """Instants of any number of units, most of them outside the years of Python."""
    most = 2 ** (width.bit_width - 1) - 1
    unit = rng_unit = most // 10**4
    return lambda rng: pa.array(
        [rng.choice((0, 1, -1, unit * rng.randrange(10**4), -rng_unit, most, -most, None)) for _ in range(ROWS)], width
    ).view(kind)


def _of(kind: Any, *values: Any) -> Callable[[Random], pa.Array]:
    return lambda rng: pa.array([rng.choice((*values, None)) for _ in range(ROWS)], kind)


def _raw(kind: Any) -> Callable[[Random], pa.Array]:
    """Text that is no UTF-8, which other writers let through."""
    binary = pa.binary() if kind == pa.string() else pa.large_binary()
    bad = (b"\xff\xfe", b"ok", b"\xc3", b"\xed\xa0\x80", b"Drama", b"")
    return lambda rng: pa.array([rng.choice(bad) for _ in range(ROWS)], binary).view(kind)


def _columns() -> dict[str, Callable[[Random], pa.Array]]:
    text, struct = pa.string(), pa.struct({"name": pa.string(), "id": pa.int64()})
    image, things = pa.struct({"bytes": pa.binary(), "path": pa.string()}), ["Drama", "字", None, ""]
    tree = pa.list_(pa.list_(pa.list_(struct)))
    columns = {
        **{f"{kind}": _far(kind, kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
        **{f"{kind}": _of(kind, 0, 1, 255) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
        **{f"{kind}": _of(kind, 0.5, 1.0, float("nan"), float("inf")) for kind in (pa.float32(), pa.float64())},
        **{f"{kind}": _far(kind, pa.int32()) for kind in (pa.date32(), pa.time32("s"), pa.time32("ms"))},
        **{f"{kind}": _far(kind, pa.int64()) for kind in (pa.time64("us"), pa.time64("ns"))},
        **{f"timestamp {unit}": _far(pa.timestamp(unit), pa.int64()) for unit in ("s", "ms", "us", "ns")},
        **{f"duration {unit}": _far(pa.duration(unit), pa.int64()) for unit in ("s", "ms", "us", "ns")},
        "zoned": _far(pa.timestamp("us", "Europe/Berlin"), pa.int64()),
        "nowhere": _far(pa.timestamp("us", "No/Where"), pa.int64()),
        "date64": lambda rng: pa.array([rng.choice((0, 86_400_000, -86_400_000 * 10**6)) for _ in range(ROWS)]).view(
            pa.date64()
        ),
        "null": lambda _: pa.nulls(ROWS),
        "bool": _of(pa.bool_(), True, False),
        "decimal128": _of(pa.decimal128(38, 2), 1, 10**30),
        "decimal256": _of(pa.decimal256(76, 2), 1, 10**60),
        "text": _of(text, *mutate.TEXTS),
        "large text": _of(pa.large_string(), *mutate.TEXTS),
        "bad text": _raw(text),
        "bad large text": _raw(pa.large_string()),
        "binary": _of(pa.binary(), b"", b"Drama", b"\xff\xd8\xff"),
        "large binary": _of(pa.large_binary(), b"Drama", b"\xff"),
        "fixed binary": _of(pa.binary(3), b"abc", b"\xff\x00\xff"),
        "list": _of(pa.list_(text), *(things[at:] for at in range(5))),
        "large list": _of(pa.large_list(text), ["Drama"], ["Action", "Drama"]),
        "fixed list": _of(pa.list_(text, 2), ["a", "b"], ["Drama", None]),
        "list of times": _of(pa.list_(pa.timestamp("us")), [0, 2**52]),
        "list of binary": _of(pa.list_(pa.binary()), [b"\xff", b"Drama"]),
        "struct": _of(struct, {"name": "Drama", "id": 1}, {"name": None, "id": None}),
        "structs": _of(pa.list_(struct), [{"name": "Drama", "id": 1}], [{"name": "Action"}, None], []),
        "tree": _of(tree, [[[{"name": "Drama"}]]], [[], None]),
        "empty struct": _of(pa.struct({"a": pa.null()}), {"a": None}),
        "image": _of(image, {"bytes": b"\xff", "path": "1.jpg"}, {"bytes": None, "path": None}),
        "bare image": _of(pa.struct({"bytes": pa.binary()}), {"bytes": b"\xff"}),
        "path": _of(pa.struct({"path": text}), {"path": "1.jpg"}),
        "number as path": _of(pa.struct({"path": pa.int64()}), {"path": 1}),
        "map": _of(pa.map_(text, pa.int64()), [("Drama", 1), ("Action", 0)], []),
        "map of maps": _of(pa.map_(pa.int64(), pa.map_(text, text)), [(1, [("a", "b")])]),
        "dictionary": lambda rng: _of(text, "Drama", "Action", "")(rng).dictionary_encode(),
        "dictionary of binary": lambda rng: _of(pa.binary(), b"\xff", b"a")(rng).dictionary_encode(),
    }
    if hasattr(pa, "string_view"):
        columns["text view"] = _of(pa.string_view(), *mutate.TEXTS)
    return columns


def prepare_parquet(folder: Path) -> Callable[[Random], object]:
    """Tables of which any column is of any type, some of them damaged."""
    images, kinds = _images(folder), _columns()

    def attempt(rng: Random) -> None:
        columns: dict[str, pa.Array] = {
            "id": pa.array(range(ROWS)),
            "Genres": pa.array([_labels(rng) for _ in range(ROWS)]),
        }
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(_ROLES[rng.choice(("id", "labels", *_ROLES))])
            columns[name] = kinds[rng.choice(list(kinds))](rng)
        table = pa.table(columns)
        file = folder / rng.choice(("t.parquet", "t.pq"))
        try:
            pq.write_table(table, file, compression=rng.choice(("snappy", "none", "gzip")), row_group_size=7)
        except (pa.ArrowException, OSError):  # a type that Parquet has not
            return
        if rng.random() < 0.3:
            file.write_bytes(mutate.bytes_of(rng, file.read_bytes()))
        column = rng.choice((None, *columns))
        read(file, images if rng.random() < 0.3 else None, rng, column if rng.random() < 0.5 else None)

    return attempt
