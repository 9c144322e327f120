from __future__ import annotations

import codecs
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hpo.data.table.catalogue import Catalogue, check_trainable, read_catalogue
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError

GENRES = ("Action", "Comedy", "Drama", "Horror")


def write_csv(folder: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("id", "Genres")) -> Path:
    path = folder / "posters.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_images(folder: Path, *names: str) -> Path:
    images = folder / "images"
    for name in names:
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        suffix = Path(name).suffix.lower()
        Image.new("RGB", (4, 6), "teal").save(
            images / name, format={".png": "PNG", ".webp": "WEBP"}.get(suffix, "JPEG")
        )
    return images


def labels_of(catalogue: Catalogue) -> dict[str, set[str]]:
    return {
        poster_id: {name for name, present in zip(catalogue.label_names, row, strict=True) if present}
        for poster_id, row in zip(catalogue.ids, catalogue.targets, strict=True)
    }


# What a good CSV becomes


def test_movie_posters_are_read_whole(shared_data: Path):
    folder = shared_data / "movie-posters"
    catalogue, report = read_catalogue(folder / "movies.csv", folder / "images")
    assert (report.rows_read, len(catalogue)) == (6255, 6181)
    assert report.dropped["no label at all"] == 9
    assert report.dropped["none of the top labels"] == 65
    assert catalogue.targets.shape == (6181, 10)
    assert catalogue.label_names[:3] == ("Drama", "Comedy", "Action")
    assert {field: name for field, name in report.columns.items() if name} == {"id": "imdb_id", "labels": "Genres"}
    check_trainable(catalogue)


def test_anime_covers_are_tv_and_movie_only(shared_data: Path):
    folder = shared_data / "anime-covers"
    catalogue, report = read_catalogue(folder / "anime.csv", folder / "images")
    assert (report.rows_read, report.dropped["type not wanted"], len(catalogue)) == (1121, 202, 896)
    assert catalogue.titles[0] == "Cowboy Bebop"
    assert len(read_catalogue(folder / "anime.csv", None, CatalogueRules(types=None))[0]) > 1050


@pytest.mark.parametrize(("name", "rows"), [("sample", 1821), ("quirks", 12)])
def test_the_kaggle_catalogue_is_read_without_images(shared_data: Path, name: str, rows: int):
    path = shared_data / "mal-catalogue" / f"anime-dataset-2023-{name}.csv"
    catalogue, report = read_catalogue(path, None, CatalogueRules(top_labels=30, types=None))
    assert report.rows_read == rows == report.rows_kept + sum(report.dropped.values())
    assert catalogue.image_paths == ()
    assert not {"UNKNOWN", "Award Winning"} & set(catalogue.label_names)


def test_missing_words_and_awards_are_no_labels(tmp_path: Path):
    cells = (
        "UNKNOWN",
        "",
        "N/A",
        "nan",
        "none",
        "Award Winning",
        "Drama, Award Winning, nan",
        "Comedy, Drama",
    )
    path = write_csv(tmp_path, [(str(at), cell) for at, cell in enumerate(cells)])
    catalogue, report = read_catalogue(path, None)
    assert labels_of(catalogue) == {"6": {"Drama"}, "7": {"Comedy", "Drama"}}
    assert report.dropped["no label at all"] == 6
    assert report.examples["no label at all"] == ("0", "1", "2", "3", "4")


def test_float_and_integer_ids_are_the_same_and_the_first_row_stays(tmp_path: Path):
    path = write_csv(tmp_path, [("26.0", "Drama"), ("26", "Comedy"), ("27", "Comedy, Drama")])
    catalogue, report = read_catalogue(path, write_images(tmp_path, "26.jpg", "27.0.PNG"))
    assert labels_of(catalogue) == {"26": {"Drama"}, "27": {"Comedy", "Drama"}}
    assert [image.name for image in catalogue.image_paths] == ["26.jpg", "27.0.PNG"]
    assert report.dropped["duplicate id"] == 1


def test_an_id_cannot_leave_the_image_folder(tmp_path: Path):
    ids = ("../secret", "a/b", "a\\b", "..", "", "UNKNOWN", "1", "2")
    path = write_csv(tmp_path, [(name, "Drama, Comedy") for name in ids])
    Image.new("RGB", (4, 6)).save(tmp_path / "secret.jpg")
    catalogue, report = read_catalogue(path, write_images(tmp_path, "1.webp", "2.jpeg"))
    assert catalogue.ids == ("1", "2")
    assert report.dropped["unusable id"] == 6


def test_the_commonest_labels_are_counted_over_posters_that_have_an_image(tmp_path: Path):
    rows = [(f"gone{at}", "Horror") for at in range(9)]
    rows += [("1", "Drama, Comedy"), ("2", "Drama"), ("3", "Action, Comedy"), ("4", "Horror")]
    path = write_csv(tmp_path, rows)
    images = write_images(tmp_path, "1.jpg", "2.jpg", "3.jpg", "4.jpg")
    catalogue, report = read_catalogue(path, images, CatalogueRules(top_labels=3))
    assert catalogue.label_names == ("Comedy", "Drama", "Action")  # ties by name
    assert report.label_counts == {"Comedy": 2, "Drama": 2, "Action": 1}
    assert (report.dropped["no image"], report.dropped["none of the top labels"]) == (9, 1)
    assert list(report.dropped)[-2:] == ["no image", "none of the top labels"]


def test_fixed_label_names_keep_their_order_and_choose_nothing(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "Drama"), ("2", "Comedy"), ("3", "Action"), ("4", "N/A")])
    rules = CatalogueRules(label_names=("Western", "Comedy", "Drama"))
    catalogue, _ = read_catalogue(path, None, rules)
    assert catalogue.label_names == ("Western", "Comedy", "Drama")
    assert catalogue.targets.tolist() == [[False, False, True], [False, True, False]]
    unlabelled, _ = read_catalogue(path, None, rules.model_copy(update={"keep_unlabelled": True}))
    assert unlabelled.ids == ("1", "2", "3", "4")
    assert unlabelled.targets.sum() == 2


@pytest.mark.parametrize("separator", [", ", ",", "|", ";", " | "])
def test_the_label_separator_is_found(tmp_path: Path, separator: str):
    path = write_csv(tmp_path, [("1", separator.join(["Sci-Fi", "Slice of Life"])), ("2", "Sci-Fi")])
    assert read_catalogue(path, None)[0].label_names == ("Sci-Fi", "Slice of Life")


def test_columns_are_found_in_any_case_and_can_be_named(tmp_path: Path):
    header = ("MOVIE_ID", "TITLE", "Genre", "mood", "type")
    path = write_csv(
        tmp_path, [("1", "A", "Drama|Comedy", "dark|slow", "tv"), ("2", "B", "Drama", "dark", "OVA")], header
    )
    catalogue, report = read_catalogue(path, None)
    assert (catalogue.ids, catalogue.titles) == (("1",), ("A",))
    assert report.columns["id"] == "MOVIE_ID"
    moods, _ = read_catalogue(path, None, CatalogueRules(labels_column="Mood", types=None))
    assert moods.label_names == ("dark", "slow")


def test_an_image_column_names_files_inside_the_folder_only(tmp_path: Path):
    Image.new("RGB", (4, 6)).save(tmp_path / "outside.jpg")
    rows = [
        ("a/1", "Drama, Comedy", "deep/one.jpg"),
        ("2", "Drama", "./two.png"),
        ("3", "Drama", "../outside.jpg"),
    ]
    path = write_csv(tmp_path, rows, ("id", "Genres", "File"))
    images = write_images(tmp_path, "deep/one.jpg", "two.png")
    catalogue, report = read_catalogue(path, images, CatalogueRules(image_column="file"))
    assert catalogue.ids == ("a/1", "2")
    assert catalogue.image_paths == (images / "deep/one.jpg", images / "two.png")
    assert report.examples["image outside the folder"] == ("3",)


def test_byte_order_mark_and_newlines_in_cells(tmp_path: Path):
    path = tmp_path / "posters.csv"
    path.write_bytes(codecs.BOM_UTF8 + b'"id",Synopsis,Genres\r\n1,"two\n\nlines","Drama, Comedy"\r\n')
    catalogue, report = read_catalogue(path, None)
    assert (report.rows_read, catalogue.ids, report.columns["id"]) == (1, ("1",), "id")


def test_a_file_cut_anywhere_in_its_last_row_is_read(tmp_path: Path):
    whole = 'id,Name,Genres,Synopsis\n1,A,"Drama, Comedy",x\n2,B,Drama,y\n3,é,"Drama, Com'.encode()
    path = tmp_path / "posters.csv"
    for end in range(whole.index(b"3,") + 1, len(whole) + 1):
        path.write_bytes(whole[:end])
        catalogue, report = read_catalogue(path, None)
        assert catalogue.ids == ("1", "2")
        assert report.dropped["broken row"] == 1
        assert report.examples["broken row"] == ("line 4",)


def test_adult_titles_are_dropped_by_genre_and_by_rating(tmp_path: Path):
    rows = [
        ("1", "Drama, Comedy", "PG-13 - Teens 13 or older"),
        ("2", "Drama, Hentai", "UNKNOWN"),
        ("3", "Drama", "Rx - Hentai"),
        ("4", "Comedy, Erotica", "R+ - Mild Nudity"),
        ("5", "Comedy, Ecchi", "R+ - Mild Nudity"),
    ]
    path = write_csv(tmp_path, rows, ("id", "Genres", "Rating"))
    catalogue, report = read_catalogue(path, None)
    assert catalogue.ids == ("1", "5")
    assert report.examples["adult title"] == ("2", "3", "4")
    assert len(read_catalogue(path, None, CatalogueRules(keep_adult=True))[0]) == 5


def test_the_real_catalogue_is_cleaned_reason_by_reason(shared_data: Path):
    quirks = shared_data / "mal-catalogue" / "anime-dataset-2023-quirks.csv"
    catalogue, report = read_catalogue(quirks, None, CatalogueRules(types=None))
    assert report.dropped["adult title"] == 1
    assert report.examples["placeholder image"] == ("54939",)  # the other has no genre either
    assert report.dropped["no label at all"] == 3
    assert "54913" in catalogue.ids  # a late row of type UNKNOWN
    assert "UNKNOWN" not in catalogue.other_titles
    sample = shared_data / "mal-catalogue" / "anime-dataset-2023-sample.csv"
    _, report = read_catalogue(sample, None, CatalogueRules(types=None))
    assert report.dropped["adult title"] == 90  # 83 are rated Rx, and 7 are Erotica
    assert "Hentai" not in report.label_counts


def test_a_title_with_several_images_is_several_posters_of_one_title(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "Drama"), ("2", "Comedy, Drama"), ("3", "Comedy")])
    names = ("1.jpg", "1_2.jpg", "deep/1-3.png", "2/front.webp", "2/back.jpg", "3.jpg", "3.png", "9.jpg")
    catalogue, report = read_catalogue(path, write_images(tmp_path, *names))
    assert catalogue.ids == ("1", "1#2", "1#3", "2", "2#2", "3")
    assert catalogue.title_ids == ("1", "1", "1", "2", "2", "3")
    assert labels_of(catalogue)["1#3"] == {"Drama"}
    assert (report.rows_kept, report.n_posters) == (3, 6)
    assert report.shadowed_images == {"3.png": "3.jpg"}
    assert report.unclaimed_images == ("9.jpg",)
    assert report.label_counts == {"Drama": 5, "Comedy": 3}


def test_rows_of_one_id_with_different_images_are_one_title(tmp_path: Path):
    rows = [("1", "Drama, Comedy", "a.jpg"), ("1", "Drama, Comedy", "b.jpg"), ("1", "Drama", "a.jpg"),
            ("2", "Drama", "images/c.jpg; d.png"), ("3", "Comedy", '["e.jpg"]')]  # fmt: skip
    path = write_csv(tmp_path, rows, ("id", "Genres", "File"))
    images = write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.png", "e.jpg")
    catalogue, report = read_catalogue(path, images, CatalogueRules(image_column="File"))
    assert catalogue.ids == ("1", "1#2", "2", "2#2", "3")
    assert [image.name for image in catalogue.image_paths] == ["a.jpg", "b.jpg", "c.jpg", "d.png", "e.jpg"]
    assert report.dropped["duplicate id"] == 1


def test_a_parquet_file_is_read_as_the_csv_is(tmp_path: Path):
    import pandas as pd

    frame = pd.DataFrame({
        "id": [1.0, 2.0, None],
        "Genres": [["Drama", "Comedy"], ["Drama"], ["Comedy"]],
        "Name": ["A", None, "C"],
    })  # fmt: skip
    frame.to_parquet(tmp_path / "posters.parquet")
    catalogue, report = read_catalogue(tmp_path / "posters.parquet", None)
    assert labels_of(catalogue) == {"1": {"Drama", "Comedy"}, "2": {"Drama"}}
    assert catalogue.titles == ("A", "")
    assert report.dropped["unusable id"] == 1
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "posters.parquet").read_bytes()[:200])
    assert "cannot be read as Parquet" in refusal(tmp_path / "torn.parquet")


# Laws


posters = st.lists(
    st.tuples(
        st.integers(0, 30).map(str),
        st.lists(st.sampled_from((*GENRES, "N/A", "nan")), max_size=4).map(", ".join),
    ),
    min_size=2,
    max_size=40,
)


@settings(max_examples=50, deadline=None)
@given(rows=posters, top_labels=st.integers(2, 4))
def test_cleaning_twice_is_cleaning_once_and_every_row_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], top_labels: int
):
    folder = tmp_path_factory.mktemp("cleaning")
    rows = [*rows, ("98", "Action, Drama"), ("99", "Drama, Comedy")]
    rules = CatalogueRules(top_labels=top_labels)
    once, report = read_catalogue(write_csv(folder, rows), None, rules)
    assert report.rows_read == len(rows) == report.rows_kept + sum(report.dropped.values())
    assert list(report.label_counts.values()) == once.targets.sum(axis=0).tolist()
    cleaned = [(poster_id, ", ".join(sorted(labels))) for poster_id, labels in labels_of(once).items()]
    twice, second = read_catalogue(write_csv(folder, cleaned), None, rules)
    assert twice.fingerprint == once.fingerprint
    assert sum(second.dropped.values()) == 0


@given(st.permutations(range(5)))
def test_the_fingerprint_ignores_row_order_and_sees_every_target(order: list[int]):
    targets = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 1]], dtype=bool)
    catalogue = Catalogue(tuple("abcde"), ("",) * 5, (), targets, ("Drama", "Comedy"))
    assert catalogue.take(np.array(order)).fingerprint == catalogue.fingerprint
    changed = Catalogue(
        catalogue.ids,
        catalogue.titles,
        (),
        targets ^ (np.arange(10).reshape(5, 2) == 3),
        catalogue.label_names,
    )
    assert changed.fingerprint != catalogue.fingerprint


def test_rules_and_report_survive_json(tmp_path: Path):
    rules = CatalogueRules(label_names=("Drama", "Comedy"), types=None)
    assert CatalogueRules.model_validate_json(rules.model_dump_json()) == rules
    _, report = read_catalogue(write_csv(tmp_path, [("1", "Drama"), ("1", "Drama")]), None, rules)
    read_back = json.loads(json.dumps(report.as_dict()))
    assert read_back == report.as_dict()
    assert read_back["examples"] == {"duplicate id": ["1"]}


# Bad input: one sentence each, with the fix


def refusal(csv_path: Path, images: Path | None = None, rules: CatalogueRules | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_catalogue(csv_path, images, rules or CatalogueRules())
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_csv_that_cannot_be_read(tmp_path: Path):
    assert "there is no table at" in refusal(tmp_path / "absent.csv")
    assert "Is a directory" in refusal(tmp_path)
    path = tmp_path / "posters.csv"
    for content in (b"", b"id,Genres\n", b"\xef\xbb\xbf"):
        path.write_bytes(content)
        assert "no usable row" in refusal(path)
    path.write_bytes("id,Genres\n1,Comédie\n".encode("latin-1"))
    assert "not UTF-8" in refusal(path)


def test_columns_that_are_missing(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "Drama")], ("number", "Genrs"))
    assert all(word in refusal(path) for word in ("no id column", "number, Genrs", "--id-column"))
    message = refusal(path, rules=CatalogueRules(id_column="number"))
    assert all(word in message for word in ("no labels column", "did you mean 'Genrs'?", "--labels-column"))
    assert "did you mean 'number'?" in refusal(path, rules=CatalogueRules(id_column="numbr"))


def test_images_that_do_not_match(tmp_path: Path):
    path = write_csv(tmp_path, [("tt1", "Drama, Comedy")])
    assert "no folder of images" in refusal(path, tmp_path / "absent")
    message = refusal(path, write_images(tmp_path, "cover_1.jpg"))
    assert all(word in message for word in ("'tt1'", "'cover_1.jpg'", "--images"))
    empty = tmp_path / "empty"
    (empty / "tt1.jpg").mkdir(parents=True)  # a folder named like an image is none
    message = refusal(path, empty)
    assert "no jpg, jpeg, png, webp, gif, avif, bmp or tiff file (not used: 1 × image is not a file)" in message


def test_nothing_or_too_little_is_left(tmp_path: Path):
    assert "at least 2 labels" in refusal(write_csv(tmp_path, [("1", "Drama"), ("2", "Drama")]))
    assert "2 no label at all" in refusal(write_csv(tmp_path, [("1", "N/A"), ("2", "")]))
    unknown = CatalogueRules(label_names=("Western", "News"))
    assert "at least one of the labels Western, News" in refusal(write_csv(tmp_path, [("1", "Drama")]), rules=unknown)
    ova = write_csv(tmp_path, [("1", "Drama", "OVA")], ("id", "Genres", "Type"))
    assert all(word in refusal(ova) for word in ("1 type not wanted", "--types"))


def test_a_label_seen_too_rarely_to_train_on(tmp_path: Path):
    rows = [(str(at), "Drama, Comedy") for at in range(3)] + [("7", "News"), ("8", "News, Western")]
    catalogue, _ = read_catalogue(write_csv(tmp_path, rows), None)
    with pytest.raises(DataError, match=r"'News' has 2, 'Western' has 1: try --labels 2"):
        check_trainable(catalogue)
    check_trainable(read_catalogue(tmp_path / "posters.csv", None, CatalogueRules(top_labels=2))[0])


# Other people's tables


def test_f4_rows_that_differ_in_the_label_alone_are_one_title(tmp_path: Path):
    rows = [("1", "A", "Drama"), ("1", "A", "Comedy"), ("2", "B", "Drama"), ("2", "B", "Drama"), ("1", "A", "Action")]
    path = write_csv(tmp_path, rows, ("movie_id", "title", "genre"))
    catalogue, report = read_catalogue(path, None)
    assert labels_of(catalogue) == {"1": {"Drama", "Comedy", "Action"}, "2": {"Drama"}}
    assert report.rows_read == 5 == report.rows_kept + sum(report.dropped.values())
    assert (report.dropped["label added to its title"], report.dropped["duplicate id"]) == (2, 1)
    assert "3 rows that differ in their labels alone are one title with the labels of all." in report.notes


def test_f4_rows_that_differ_in_more_stay_duplicates(tmp_path: Path):
    path = write_csv(
        tmp_path, [("1", "A", "Drama"), ("1", "B", "Comedy"), ("2", "C", "Comedy")], ("id", "title", "genre")
    )
    catalogue, report = read_catalogue(path, None)
    assert labels_of(catalogue) == {"1": {"Drama"}, "2": {"Comedy"}}
    assert report.dropped["duplicate id"] == 1


def test_f4_a_row_for_each_title_and_image_and_label(tmp_path: Path):
    rows = [("1", image, label) for image in ("a.jpg", "b.jpg") for label in ("Drama", "Comedy")]
    images = write_images(tmp_path, "a.jpg", "b.jpg")
    path = write_csv(tmp_path, rows, ("id", "file", "genre"))
    catalogue, _ = read_catalogue(path, images, CatalogueRules(image_column="file"))
    assert labels_of(catalogue) == {"1": {"Drama", "Comedy"}, "1#2": {"Drama", "Comedy"}}


def test_f8_one_label_in_two_spellings_is_one_and_said_so(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "Drama, Comedy"), ("2", "DRAMA"), ("3", "Drama, comedy"), ("4", "Comedy")])
    catalogue, report = read_catalogue(path, None)
    assert dict(report.label_counts) == {"Comedy": 3, "Drama": 3}
    assert set(catalogue.label_names) == {"Comedy", "Drama"}
    assert any("'comedy' as 'Comedy'" in note and "'DRAMA' as 'Drama'" in note for note in report.notes)


def test_f8_ids_and_file_names_in_two_unicode_forms(tmp_path: Path):
    path = write_csv(tmp_path, [("Ame\u0301lie", "Drama"), ("Caf\u00e9", "Comedy"), ("a &amp; b", "Comedy")])
    images = write_images(tmp_path, "Am\u00e9lie.jpg", "Cafe\u0301.jpg", "a & b.jpg")
    catalogue, _ = read_catalogue(path, images)
    assert catalogue.ids == ("Am\u00e9lie", "Caf\u00e9", "a & b")


def test_f8_one_hot_columns_that_differ_in_case_are_one_label(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "1", "0", "0"), ("2", "0", "1", "1")], ("id", "Drama", "DRAMA", "Comedy"))
    assert labels_of(read_catalogue(path, None)[0]) == {"1": {"Drama"}, "2": {"Drama", "Comedy"}}


def test_f9_the_columns_taken_for_labels_and_the_flags_are_named(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "1", "0", "1"), ("2", "0", "1", "1")], ("id", "Drama", "Comedy", "is_train"))
    _, report = read_catalogue(path, None)
    assert set(report.label_counts) == {"Drama", "Comedy"}
    assert any("2 columns Drama, Comedy; left out as flags: is_train" in note for note in report.notes)


def test_an_adult_flag_drops_a_title(tmp_path: Path):
    path = write_csv(
        tmp_path, [("1", "Drama", "False"), ("2", "Comedy", "True"), ("3", "Comedy", "")], ("id", "genre", "adult")
    )
    catalogue, report = read_catalogue(path, None)
    assert (catalogue.ids, report.dropped["adult title"]) == (("1", "3"), 1)


@pytest.mark.parametrize(
    ("id_", "file", "what"), [("7", "0007.jpg", "leading zeros"), ("07", "tt0000007.jpg", "IMDb's tt")]
)
def test_f18_ids_that_lost_their_zeros_are_hinted_at(tmp_path: Path, id_: str, file: str, what: str):
    path = write_csv(tmp_path, [(id_, "Drama"), ("x", "Comedy"), ("y", "Drama")])
    with pytest.raises(DataError, match=f"one id differs from the name of a file in .*{what}.*'{id_}' and '{file}'"):
        read_catalogue(path, write_images(tmp_path, file))
    _, report = read_catalogue(path, write_images(tmp_path, file, "x.jpg", "y.jpg"))
    assert any(what in note for note in report.notes)


def test_f19_a_column_of_files_serves_where_no_image_is_called_by_its_id(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "a.jpg", "Drama"), ("2", "b.jpg", "Comedy")], ("id", "filename", "genre"))
    catalogue, report = read_catalogue(path, write_images(tmp_path, "a.jpg", "b.jpg"))
    assert [file.name for file in catalogue.image_paths] == ["a.jpg", "b.jpg"]
    assert any("the column 'filename' names them" in note for note in report.notes)


def test_f23_types_that_were_left_out_are_named(tmp_path: Path):
    rows = [("1", "Drama", "movie"), ("2", "Comedy", "tvSeries"), ("3", "Comedy", "TV")]
    _, report = read_catalogue(write_csv(tmp_path, rows, ("id", "genre", "type")), None)
    assert any("1 tvSeries; kept are TV, Movie, and --types all keeps all" in note for note in report.notes)
    with pytest.raises(DataError, match="1 type not wanted; Types left out: 1 film; kept are TV, Movie"):
        read_catalogue(write_csv(tmp_path, [("1", "Drama", "film")], ("id", "genre", "type")), None)


def test_f27_what_leads_to_a_wrong_split_is_said(tmp_path: Path):
    rows = [(str(at), "A" if at % 2 else "none", "Drama, Comedy") for at in range(40)]
    _, report = read_catalogue(write_csv(tmp_path, rows, ("id", "franchise", "genre")), None)
    assert any("No column of titles" in note for note in report.notes)
    assert any("20 of 40 titles are of one group, 'A'" in note for note in report.notes)
    few = [(str(at % 5), f"T{at}", "Drama, Comedy") for at in range(40)]
    _, report = read_catalogue(write_csv(tmp_path, few, ("id", "title", "genre")), None)
    assert any("holds 5 different ids in 40 rows" in note for note in report.notes)


@pytest.mark.parametrize("filler", ["none", "Standalone", "N/A", "0", "-", "No Collection"])
def test_f27_a_filler_is_no_group(tmp_path: Path, filler: str):
    rows = [("1", filler, "Drama, Comedy"), ("2", filler, "Drama")]
    assert read_catalogue(write_csv(tmp_path, rows, ("id", "collection", "genre")), None)[0].groups == ("", "")


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (["Drama @ Comedy", "Comedy @ Action", "Drama"], "'Drama @ Comedy'"),
        (["Drama Comedy", "Comedy Action", "Drama"], "'Drama Comedy'"),
        (["{Drama [x]}", "Comedy [x]", "Drama"], "'{Drama [x]}'"),
        (["Action/Adventure", "Drama", "Comedy"], "'Action/Adventure'"),
    ],
)
def test_f1_labels_that_look_unparsed_are_warned_of_with_a_cell(tmp_path: Path, cells: list[str], shown: str):
    rows = [(str(at), cell) for at, cell in enumerate(cells)]
    _, report = read_catalogue(write_csv(tmp_path, rows), None)
    (note,) = [note for note in report.notes if note.startswith("Labels may be read wrongly")]
    assert shown in note
    assert "--label-separator" in note


@pytest.mark.parametrize("cells", [["Drama, Action & Adventure", "Sci-Fi & Fantasy", "Comedy, Drama"], ["A|B", "A"]])
def test_f1_labels_that_are_parsed_are_not_warned_of(tmp_path: Path, cells: list[str]):
    _, report = read_catalogue(write_csv(tmp_path, [(str(at), cell) for at, cell in enumerate(cells)]), None)
    assert not any(note.startswith("Labels may") for note in report.notes)


def test_the_report_shows_a_row_as_it_was_read(tmp_path: Path):
    path = write_csv(tmp_path, [("1", "Drama"), ("2", "['Drama' 'Comedy']"), ("3", "{Drama}")])
    _, report = read_catalogue(path, write_images(tmp_path, "1.jpg", "2.jpg", "3.jpg"))
    assert report.as_dict()["sample"] == {
        "id": "2",
        "image": "2.jpg",
        "label_cell": "['Drama' 'Comedy']",
        "labels": ["Comedy", "Drama"],
    }


def test_an_empty_separator_of_labels_is_one_sentence(tmp_path: Path):
    """Found by fuzzing: a ValueError of str.split."""
    path = write_csv(tmp_path, [("1", "Drama"), ("2", "Comedy")])
    with pytest.raises(DataError, match="--label-separator expects what stands between labels, got an empty text"):
        read_catalogue(path, None, CatalogueRules(label_separator=""))
