from __future__ import annotations

from pathlib import Path

import pytest

from hpo.data.table.reader import read_table
from hpo.data.table.rules import ColumnNames
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


@pytest.mark.parametrize(
    "flags",
    [("is_train", "video"), ("Is_Adult", "hasPoster"), ("train", "seen"), ("isTV", "in_test"), ("Oscar", "was_remade")],
)
def test_f9_flags_are_no_labels(tmp_path: Path, flags: tuple[str, str]):
    table = read_table(written(tmp_path, f"id,{','.join(flags)},Drama,Comedy\n1,1,0,1,0\n2,0,1,0,1\n"), ColumnNames())
    assert (table.one_hot, table.flags) == (("Drama", "Comedy"), flags)


def test_f9_columns_with_the_prefix_of_labels_are_the_labels(tmp_path: Path):
    table = read_table(written(tmp_path, "id,genre_Drama,genre_Comedy,odd\n1,1,0,1\n2,0,1,0\n"), ColumnNames())
    assert (table.one_hot, table.flags) == (("genre_Drama", "genre_Comedy"), ("odd",))


@pytest.mark.parametrize(
    "name",
    ["imdbId", "IMDB ID", "uid", "movieId", "tconst", "Const", "tmdb_id", "titleId", "show_id", "MAL_ID", "seriesId"],
)
def test_f19_known_names_of_id_columns(tmp_path: Path, name: str):
    assert read_table(written(tmp_path, f"{name},Genres\n7,Drama\n"), ColumnNames()).rows[0].id == "7"


def test_f19_a_genres_id_is_no_id_of_a_poster(tmp_path: Path):
    table = read_table(written(tmp_path, "genre_id,user_id,film_id,Genre\n18,5,7,Drama\n"), ColumnNames())
    assert table.columns["id"] == "film_id"


@pytest.mark.parametrize(
    ("column", "cell", "field"),
    [
        ("Poster", "https://a.invalid/1.jpg", "image_url"),
        ("Poster", "1.jpg", "file"),
        ("image", "https://a.invalid/1.jpg", "image_url"),
        ("imageUrl", "https://a.invalid/1.jpg", "image_url"),
        ("poster_path", "/1.jpg", "file"),
        ("filename", "1.jpg", "file"),
        ("img", "1.jpg", "file"),
    ],
)
def test_f19_known_names_of_image_columns(tmp_path: Path, column: str, cell: str, field: str):
    table = read_table(written(tmp_path, f"id,{column},Genres\n1,{cell},Drama\n"), ColumnNames())
    (row,) = table.rows
    assert {name: getattr(row, name) for name in ("image_url", "file")} == {"image_url": "", "file": "", field: cell}
    assert [name for name in ("image_url", "file") if table.columns[name]] == [field]


def test_f19_the_column_of_addresses_can_be_named(tmp_path: Path):
    path = written(tmp_path, "id,where,Genres\n1,https://a.invalid/1.jpg,Drama\n")
    assert read_table(path, ColumnNames(image_url="where")).rows[0].image_url == "https://a.invalid/1.jpg"
    with pytest.raises(DataError, match="no image-url column 'wher'"):
        read_table(path, ColumnNames(image_url="wher"))


def test_u27_ids_default_to_file_names(tmp_path: Path):
    path = written(tmp_path, "filename,target\na.jpg,Drama\n")
    row = read_table(path, ColumnNames(labels="target", image="filename")).rows[0]
    assert (row.id, row.image) == ("a.jpg", "a.jpg")
    row = read_table(path, ColumnNames(labels="target")).rows[0]
    assert (row.id, row.image) == ("a.jpg", "a.jpg")


def test_a10_a_cell_that_matters_and_cannot_be_read_is_a_broken_row(tmp_path: Path):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"id": ["1", "2"], "genres": [b"\xff", b"Drama"], "other": [b"\xff", b"\xff"]})
    parquet.write_table(table, tmp_path / "any.parquet")
    read = read_table(tmp_path / "any.parquet", ColumnNames())
    assert ([row.id for row in read.rows], read.broken_lines) == (["2"], [1])


@pytest.mark.parametrize("header", ["genre1,genre2,genre3", "Genre_1,Genre_2,Genre_3", "tag 0,tag 1,tag 2"])
def test_f1_numbered_columns_hold_a_label_each(tmp_path: Path, header: str):
    table = read_table(written(tmp_path, f"id,{header}\n1,Drama,Comedy,\n2,Sci-Fi,,\n3,,,\n"), ColumnNames())
    assert [row.labels for row in table.rows] == ['["Drama", "Comedy"]', '["Sci-Fi"]', "[]"]
    assert table.columns["labels"] == header.replace(",", ", ")


def test_f9_numbered_columns_of_flags_are_one_hot(tmp_path: Path):
    table = read_table(written(tmp_path, "id,tag1,tag2\n1,1,0\n2,0,1\n"), ColumnNames())
    assert [row.marked for row in table.rows] == [("tag1",), ("tag2",)]


@pytest.mark.parametrize(("yes", "no"), [("Y", "N"), ("TRUE", "FALSE"), ("t", "f"), ("x", ""), ("1", "-1"), ("✓", "-")])
def test_f9_one_hot_columns_say_yes_and_no_in_several_ways(tmp_path: Path, yes: str, no: str):
    table = read_table(written(tmp_path, f"id,Drama,War\n1,{yes},{no}\n2,{no},{yes}\n"), ColumnNames())
    assert [row.marked for row in table.rows] == [("Drama",), ("War",)]
