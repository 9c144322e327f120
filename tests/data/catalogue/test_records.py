from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.catalogue.records import read_records

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
