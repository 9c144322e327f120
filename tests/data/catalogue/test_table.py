from __future__ import annotations

from pathlib import Path

import pytest

from hpo.data.catalogue.rules import ColumnNames
from hpo.data.catalogue.table import read_table
from hpo.errors import DataError

ONE_HOT = "Id,Name,Action,Drama,Votes,Empty\nt1,A,1,0,17,0\nt2,B,0.0,True,1,0\nt3,C,1,yes,0,0\n"


def written(folder: Path, content: str) -> Path:
    path = folder / "posters.csv"
    path.write_text(content)
    return path


def test_one_hot_columns_are_those_of_yes_and_no_alone(tmp_path: Path):
    table = read_table(written(tmp_path, ONE_HOT), ColumnNames())
    assert [row.marked for row in table.rows] == [("Action",), ("Drama",), ("Action", "Drama")]
    assert table.columns["labels"] == "Action, Drama"  # Votes counts, Empty says nothing


def test_one_hot_columns_can_be_named(tmp_path: Path):
    table = read_table(written(tmp_path, ONE_HOT), ColumnNames(labels="Drama, Empty"))
    assert [row.marked for row in table.rows] == [(), ("Drama",), ("Drama",)]
    with pytest.raises(DataError, match=r"no labels column 'Drama, Western'"):
        read_table(tmp_path / "posters.csv", ColumnNames(labels="Drama, Western"))


def test_a_column_of_lists_wins_over_columns_of_flags(tmp_path: Path):
    table = read_table(written(tmp_path, "id,Genres,seen,liked\n1,Drama,1,0\n2,Drama,0,1\n"), ColumnNames())
    assert [(row.labels, row.marked) for row in table.rows] == [("Drama", ()), ("Drama", ())]


def test_a_group_column_is_found_or_named(tmp_path: Path):
    path = written(tmp_path, "id,Genres,Franchise,studio\n1,Drama,Alien,Fox\n")
    assert read_table(path, ColumnNames()).rows[0].group == "Alien"
    assert read_table(path, ColumnNames(group="Studio")).rows[0].group == "Fox"
    with pytest.raises(DataError, match=r"no group column 'studios' \(did you mean 'studio'\?\)"):
        read_table(path, ColumnNames(group="studios"))
