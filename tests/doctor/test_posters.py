from __future__ import annotations

import pytest

from hpo.doctor.trials import count_posters


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "movies.csv"
    file.write_text('id,genres\n1,"Drama\nComedy"\n2,Action\n3,Drama\n')
    return file


def test_the_sample_without_a_table():
    n_posters, found = count_posters(None, None)
    assert (n_posters, found.state) == (2000, "ok")


def test_rows_and_images_are_counted(table):
    images = table.parent / "images"
    images.mkdir()
    for name in ("1.jpg", "2.PNG", "notes.txt"):
        (images / name).touch()
    n_posters, found = count_posters(table, None)
    assert (n_posters, found.state) == (2, "ok")
    assert found.message == f"3 rows in {table}, 2 images in {images}"


def test_what_is_missing_is_a_problem(table, tmp_path):
    assert count_posters(table, tmp_path / "nowhere")[1].fix == "name it with --images"
    assert "cannot be read as a CSV" in count_posters(tmp_path / "none.csv", None)[1].message
    assert count_posters(None, tmp_path)[1].fix == "name one with --data"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert count_posters(table, empty)[1].state == "problem"
