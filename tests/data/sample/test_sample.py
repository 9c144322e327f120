from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hpo.data.sample import genres as records
from hpo.data.sample.drawing import POSTER_SIZE_PX, plan_poster
from hpo.data.sample.sample import write_sample
from hpo.data.sample.shows import GENRES, MOST_GENRES, draw_genres, invent_shows
from hpo.data.table.catalogue import read_catalogue
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError

KAGGLE_HEADER = [
    "anime_id", "Name", "English name", "Other name", "Score", "Genres", "Synopsis", "Type", "Episodes",
    "Aired", "Premiered", "Status", "Producers", "Licensors", "Studios", "Source", "Duration", "Rating",
    "Rank", "Popularity", "Favorites", "Scored By", "Members", "Image URL",
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of 12 posters, drawn in this process."""
    return write_sample(tmp_path_factory.mktemp("small") / "sample", n_posters=12).parent


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample large enough to be drawn on every core."""
    return write_sample(tmp_path_factory.mktemp("larger") / "sample", n_posters=200).parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# The same seed gives the same bytes


def test_a_sample_is_the_same_every_time(small: Path, tmp_path: Path):
    again = write_sample(tmp_path / "again", n_posters=12).parent
    assert contents(again) == contents(small)


def test_another_seed_is_another_sample(small: Path, tmp_path: Path):
    other = contents(write_sample(tmp_path / "other", n_posters=12, seed=1).parent)
    assert not set(other.values()) & set(contents(small).values())


def test_a_poster_does_not_depend_on_the_processes_or_on_the_other_posters(small: Path, larger: Path):
    posters = {name: data for name, data in contents(small).items() if name.endswith(".jpg")}
    assert len(posters) == 12
    assert posters.items() <= contents(larger).items()


# What is in it


def read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_catalogue_has_the_kaggle_columns(small: Path):
    rows = read_rows(small / "anime.csv")
    assert rows[0] == KAGGLE_HEADER
    assert all(len(row) == 24 and all(row) for row in rows)


def test_the_kaggle_columns_are_those_of_the_real_file(shared_data: Path):
    assert read_rows(shared_data / "mal-catalogue" / "anime-dataset-2023-quirks.csv")[0] == KAGGLE_HEADER


def test_posters_are_rgb_of_one_size(small: Path):
    for path in (small / "images").iterdir():
        with Image.open(path) as poster:
            poster.load()
            assert (poster.mode, poster.size) == ("RGB", POSTER_SIZE_PX)
            assert np.asarray(poster).std() > 10  # something is drawn


def test_cleaning_keeps_every_poster_and_drops_the_rest(larger: Path):
    catalogue, report = read_catalogue(larger / "anime.csv", larger / "images", CatalogueRules())
    assert len(catalogue) == 200 == len(list((larger / "images").iterdir()))
    assert set(catalogue.label_names) == set(GENRES)
    assert 200 / report.rows_read == pytest.approx(11 / 12, abs=0.05)
    assert len(report.dropped) >= 2  # another type, no label


# Genres


def test_genres_are_imbalanced_and_correlated():
    shows = invent_shows(2000)
    targets = np.array([[genre in show.genres for genre in GENRES] for show in shows])  # (N, L)
    share = targets.mean(axis=0)
    assert 0.4 < share.max() < 0.5
    assert 0.05 < share.min() < 0.08
    correlation = np.corrcoef(targets.T)

    def related(first: str, second: str) -> float:
        return correlation[GENRES.index(first), GENRES.index(second)]

    assert min(related("Action", "Adventure"), related("Drama", "Romance")) > 0.15
    assert related("Fantasy", "Supernatural") > 0.1
    assert max(related("Action", "Slice of Life"), related("Action", "Romance")) < -0.1


@given(st.integers(0, 2**32))
def test_a_show_has_one_to_four_genres_in_alphabetical_order(seed: int):
    genres = draw_genres(np.random.default_rng(seed))
    assert 1 <= len(genres) <= MOST_GENRES
    assert sorted(set(genres)) == list(genres)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 1000))
@settings(max_examples=20)
def test_the_first_shows_do_not_depend_on_how_many_follow(few: int, more: int, seed: int):
    short, long = invent_shows(few, seed), invent_shows(few + more, seed)
    assert long[: len(short)] == short
    assert sum(show.is_usable for show in short) == few
    assert len({show.title for show in long}) == len(long)


def test_every_genre_has_evidence_of_its_own_for_every_slot():
    assert set(records.RECORDS) == set(GENRES)
    for slot in ("palette", "backdrop", "air", "costume"):
        assert len({getattr(genre, slot) for genre in records.RECORDS.values()}) == len(GENRES)


def test_evidence_mostly_tells_the_truth_and_sometimes_misleads():
    rng = np.random.default_rng(0)
    backdrops = [plan_poster(("Drama", "Romance"), rng).backdrop for _ in range(1000)]
    assert 0.8 < np.mean([genre in ("Drama", "Romance") for genre in backdrops]) < 0.95
    assert set(backdrops) == set(GENRES)


# Where it is written


def test_a_second_call_leaves_a_complete_sample_alone(small: Path):
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    progress: list[int] = []
    assert write_sample(small, n_posters=12, progress=progress.append) == small / "anime.csv"
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    assert not progress


def test_progress_counts_the_posters(tmp_path: Path):
    progress: list[int] = []
    write_sample(tmp_path / "new", n_posters=3, progress=progress.append)
    assert progress == [1, 2, 3]


def test_an_empty_folder_is_filled(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert write_sample(tmp_path / "empty", n_posters=1).is_file()


def test_a_folder_with_other_contents_is_refused_and_untouched(small: Path, tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(DataError, match=r"Expected a new or empty folder.*name another folder"):
        write_sample(tmp_path, n_posters=12)
    assert contents(tmp_path) == {"thesis.txt": b"ten years of work"}
    with pytest.raises(DataError, match="other contents"):
        write_sample(small, n_posters=12, seed=1)


def test_a_damaged_sample_is_refused(tmp_path: Path):
    out = write_sample(tmp_path / "sample", n_posters=2).parent
    next((out / "images").iterdir()).unlink()
    with pytest.raises(DataError, match="other contents"):
        write_sample(out, n_posters=2)


@pytest.mark.parametrize(("n_posters", "seed"), [(0, 0), (5, -1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, n_posters: int, seed: int):
    with pytest.raises(DataError, match=f"got {n_posters} and {seed}"):
        write_sample(tmp_path / "new", n_posters, seed)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"Expected to write sample posters to .*File exists"):
        write_sample(tmp_path / "file" / "sample", n_posters=1)


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_when_drawing_breaks_off(tmp_path: Path, trouble: BaseException):
    def break_off(n_drawn: int) -> None:
        if n_drawn == 2:
            raise trouble

    with pytest.raises((KeyboardInterrupt, DataError)):
        write_sample(tmp_path / "new", n_posters=5, progress=break_off)
    assert not list(tmp_path.iterdir())
