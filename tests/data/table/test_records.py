from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.table.records import UNREADABLE, read_records
from hpo.errors import DataError

cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)


@given(rows=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]):
    path = tmp_path_factory.mktemp("records") / "any.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *rows])
    assert [cells for _, cells in read_records(path)] == [["a", "b", "c"], *rows]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_headers(tmp_path: Path, delimiter: str):
    path = tmp_path / "any.csv"
    path.write_text(delimiter.join(["id", "Genres", "Name"]) + "\n" + delimiter.join(["1", "Drama", "A"]) + "\n")
    assert list(read_records(path)) == [(1, ["id", "Genres", "Name"]), (2, ["1", "Drama", "A"])]


def test_a_record_tells_the_line_it_begins_at(tmp_path: Path):
    path = tmp_path / "any.csv"
    path.write_text('id,Synopsis\n1,"two\nlines"\n\n2,"cut')
    assert list(read_records(path)) == [(1, ["id", "Synopsis"]), (2, ["1", "two\nlines"]), (5, None)]


def test_parquet_cells_become_text(tmp_path: Path):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"id": [1, None], "share": [0.5, float("nan")], "labels": [["Drama"], []], "kept": [True, None]})
    parquet.write_table(table, tmp_path / "any.parquet")
    assert [cells for _, cells in read_records(tmp_path / "any.parquet")] == [
        ["id", "share", "labels", "kept"],
        ["1", "0.5", '["Drama"]', "True"],
        ["", "", "[]", ""],
    ]


def test_excels_first_line_tells_the_delimiter(tmp_path: Path):
    path = tmp_path / "any.csv"
    path.write_text("sep=;\nid;Genres, all;x\n1;a,b,c;y\n")
    assert list(read_records(path)) == [(2, ["id", "Genres, all", "x"]), (3, ["1", "a,b,c", "y"])]


# Other people's files


def records_of(path: Path) -> list[list[str] | None]:
    return [cells for _, cells in read_records(path)]


def test_f15_a_long_cell_is_read(tmp_path: Path):
    path = tmp_path / "any.csv"
    path.write_text(f"id,credits,Genres\n1,{'x' * 200_000},Drama\n")
    assert [len(cell) for cell in records_of(path)[1] or ()] == [1, 200_000, 5]


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        (r'1,"say \"hi\", then go",Drama', ["1", 'say "hi", then go', "Drama"]),
        (r'1,"[\"Action\",\"Drama\"]",\N', ["1", '["Action","Drama"]', r"\N"]),
        (r'"1","C:\\","a \"b\" c"', ["1", r"C:\\", 'a "b" c']),
        ('1,"two\nlines \\"here\\", and",Drama', ["1", 'two\nlines "here", and', "Drama"]),
        (r'1,a\b,"plain ""quotes"""', ["1", r"a\b", 'plain "quotes"']),
    ],
)
def test_f15_backslash_escapes_are_read(tmp_path: Path, row: str, cells: list[str]):
    path = tmp_path / "any.csv"
    path.write_text(f"id,Synopsis,Genres\n{row}\n2,b,Comedy\n")
    assert records_of(path)[1:] == [cells, ["2", "b", "Comedy"]]


LINES = '{"id": 1, "genres": ["Drama", "Comedy"]}\n{"id": 2, "genres": null, "title": "é"}\n'
WHOLE = {
    "records": '[{"id": 1, "genres": ["Drama", "Comedy"]}, {"id": 2, "genres": null, "title": "é"}]',
    "under a key": '{"page": 1, "data": [{"id": 1, "genres": ["Drama", "Comedy"]}, {"id": 2, "title": "é"}]}',
    "lines all the same": LINES,
    "pandas' columns": '{"id": {"0": 1, "1": 2}, "genres": {"0": ["Drama", "Comedy"], "1": null}, '
    '"title": {"0": null, "1": "é"}}',
    "pandas' split": '{"columns": ["id", "genres", "title"], "index": [0, 1], '
    '"data": [[1, ["Drama", "Comedy"], null], [2, null, "é"]]}',
    "lists": '{"id": [1, 2], "genres": [["Drama", "Comedy"], null], "title": [null, "é"]}',
    "by id": '{"1": {"genres": ["Drama", "Comedy"]}, "2": {"title": "é"}}',
}
READ = [["id", "genres", "title"], ["1", '["Drama", "Comedy"]', ""], ["2", "", "é"]]


@pytest.mark.parametrize("written", WHOLE)
def test_f21_json_is_read_as_pandas_writes_it(tmp_path: Path, written: str):
    (tmp_path / "any.json").write_text(WHOLE[written])
    assert records_of(tmp_path / "any.json") == READ


def test_f21_json_lines_tell_the_row_that_cannot_be_read(tmp_path: Path):
    (tmp_path / "any.jsonl").write_text(LINES + '{"id": 3\n[1]\n')
    assert list(read_records(tmp_path / "any.jsonl"))[1:] == [(1, READ[1]), (2, READ[2]), (3, None), (4, None)]


def test_f21_compressed_tables_are_read(tmp_path: Path):
    import gzip

    (tmp_path / "any.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    assert records_of(tmp_path / "any.jsonl.gz") == READ
    (tmp_path / "any.csv.gz").write_bytes(gzip.compress(b"id,Genres\n1,Drama\n"))
    assert records_of(tmp_path / "any.csv.gz") == [["id", "Genres"], ["1", "Drama"]]
    with zipfile.ZipFile(tmp_path / "any.zip", "w") as archive:
        archive.writestr("table.csv", "id,Genres\n1,Drama\n")
    assert records_of(tmp_path / "any.zip") == [["id", "Genres"], ["1", "Drama"]]
    with zipfile.ZipFile(tmp_path / "any.zip", "a") as archive:
        archive.writestr("other.csv", "")
    with pytest.raises(DataError, match=r"expected one table in .*got 2 files"):
        records_of(tmp_path / "any.zip")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("any.xlsx", b"PK", r"expected a table, got a spreadsheet in .*save it as CSV, Parquet or JSON lines"),
        ("any.sqlite", b"", r"got a database"),
        ("any.csv.gz", b"no gzip", r"cannot be read"),
        ("any.csv.gz", b"\x1f\x8b\x08\x00cut", r"cannot be read"),
        ("any.zip", b"no zip", r"cannot be read as a ZIP archive"),
        ("any.json", b"{", r"cannot be read as JSON"),
        ("any.json", b"[" * 100_000, r"cannot be read as JSON"),
        ("any.json", b"3", r"expected a list of objects"),
    ],
)
def test_f21_other_kinds_are_one_sentence(tmp_path: Path, name: str, content: bytes, message: str):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as told:
        records_of(tmp_path / name)
    assert "\n" not in str(told.value)


def test_f7_an_images_bytes_are_not_read(tmp_path: Path):
    import pyarrow as pa
    from pyarrow import parquet

    images = [{"bytes": b"\xff\xd8\xff", "path": "a/1.jpg"}, None]
    table = pa.table({"image": images, "raw": [b"\xff\x00", b"text"], "id": ["1", "2"]})
    parquet.write_table(table, tmp_path / "any.parquet")
    assert records_of(tmp_path / "any.parquet") == [
        ["image", "raw", "id"],
        ["a/1.jpg", UNREADABLE, "1"],
        ["", "text", "2"],
    ]


def test_a6_values_that_python_has_not_are_text_or_marked(tmp_path: Path):
    from decimal import Decimal

    import pyarrow as pa
    from pyarrow import parquet

    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\x02\0\0\0\x07\0\0\0"), pa.py_buffer(b"\xff\xfeDrama")]
    )
    columns = {
        "id": pa.array([1, 2]),
        "far": pa.array([2**62, 0], pa.timestamp("us")),
        "date": pa.array([2**30, 0], pa.date32()),
        "duration": pa.array([2**62, 1], pa.duration("s")),
        "prices": pa.array([[Decimal("1.5")], None], pa.list_(pa.decimal128(5, 2))),
        "nested": pa.array([[{"at": b"\xff"}], []]),
        "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
        "kind": pa.array(["Drama", None]).dictionary_encode(),
        "broken": broken,
        "nothing": pa.nulls(2),
    }
    parquet.write_table(pa.table(columns), tmp_path / "any.parquet")
    header, first, second = records_of(tmp_path / "any.parquet")
    assert header == list(columns)
    assert first is not None
    assert second is not None
    assert dict(zip(header or (), first, strict=True)) == {
        "id": "1",
        "far": UNREADABLE,
        "date": UNREADABLE,
        "duration": UNREADABLE,
        "prices": '["1.50"]',
        "nested": '[{"at": "\ufffd"}]',
        "map": '{"a": 1}',
        "kind": "Drama",
        "broken": UNREADABLE,
        "nothing": "",
    }
    assert second[0] == "2"
    assert second[-2] == "Drama"


def test_an_archive_whose_member_is_damaged_is_one_sentence(tmp_path: Path):
    """Found by fuzzing: the suffix of the member was read outside of the code that reports a broken archive."""
    path = tmp_path / "t.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t.csv", "id,Genres\n1,Drama\n")
    path.write_bytes(b"XX" + path.read_bytes()[2:])
    with pytest.raises(DataError, match=r"cannot be read as a ZIP archive \(Bad magic number for file header\)"):
        list(read_records(path))
