"""Other people's tables that a second attack found: each is read as an engineer would read it, or refused by name."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from hpo.data.table.catalogue import CleaningReport, read_catalogue
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError

ROWS = (  # id, labels; each label stands in two rows or more, beside different others
    ("901", ["Action", "Drama"]),
    ("902", ["Comedy", "Slice of Life"]),
    ("903", ["Action", "Comedy", "Drama"]),
    ("904", ["Drama", "Slice of Life"]),
    ("905", ["Action", "Sci-Fi"]),
    ("906", ["Comedy", "Drama", "Sci-Fi"]),
    ("907", ["Action", "Comedy", "Slice of Life"]),
    ("908", ["Drama"]),
    ("909", ["Comedy"]),
    ("910", ["Comedy", "Action"]),
)
COUNTS = {"Action": 5, "Comedy": 6, "Drama": 5, "Slice of Life": 3, "Sci-Fi": 2}


def images_of(folder: Path, name: Callable[[str], str] = lambda id_: f"{id_}.jpg") -> Path:
    for id_, _ in ROWS:
        path = folder / "images" / name(id_)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "teal").save(path, format="JPEG")
    return folder / "images"


def table(folder: Path, header: Sequence[str], rows: Sequence[Sequence[object]], encoding: str = "utf-8") -> Path:
    path = folder / "t.csv"
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return path


def read(path: Path, images: Path | None) -> CleaningReport:
    return read_catalogue(path, images, CatalogueRules())[1]


def counts(report: CleaningReport) -> dict[str, int]:
    return dict(report.label_counts)


# F1, F8


@pytest.mark.parametrize(
    "cell",
    [
        "\x1f".join,
        " — ".join,
        " → ".join,
        "$".join,
        lambda labels: labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}",
        lambda labels: labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])}, & {labels[-1]}",
        lambda labels: labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} & {labels[-1]}",
        lambda labels: "\n".join(f"{at}    {name}" for at, name in enumerate(labels)) + "\nName: genres, dtype: object",
        lambda labels: ", ".join(f"#{name}" for name in labels),
        lambda labels: " ".join(f"#{name}" for name in labels),
        lambda labels: "".join(f"<{name}>" for name in labels),
        lambda labels: "".join(f"<genre>{name}</genre>" for name in labels),
        lambda labels: "\n".join(f"- {name}" for name in labels),
        lambda labels: "\n".join(f"{at}. {name}" for at, name in enumerate(labels, 1)),
        lambda labels: f"Genres: {', '.join(labels)}",
        lambda labels: ", ".join(labels).replace("Sci-Fi", "Sci\u2010Fi" if len(labels) == 2 else "Sci-Fi"),
        lambda labels: ", ".join(labels).replace("Action", "Ａｃｔｉｏｎ" if len(labels) == 3 else "Action"),
        lambda labels: ", ".join(labels).replace("Drama", "Dra\u00adma" if len(labels) == 2 else "Drama"),
    ],
)
def test_f1_f8_labels_in_other_forms_are_the_true_ones(tmp_path: Path, cell: Callable[[list[str]], str]):
    found = counts(read(table(tmp_path, ("id", "genres"), [(id_, cell(labels)) for id_, labels in ROWS]), None))
    assert {name.replace("\u2010", "-"): n for name, n in found.items()} == COUNTS


def test_f1_a_quoted_label_may_hold_the_separator_and_a_bracketed_one_an_apostrophe(tmp_path: Path):
    rows = [(id_, ", ".join('"Crime, true"' if name == "Drama" else name for name in names)) for id_, names in ROWS]
    assert counts(read(table(tmp_path, ("id", "genres"), rows), None))["Crime, true"] == COUNTS["Drama"]
    rows = [(id_, f"['{chr(39).join(names)}']".replace("Drama", "Kid's")) for id_, names in ROWS if names == ["Drama"]]
    rows += [(id_, repr(names)) for id_, names in ROWS if "Drama" not in names]
    assert counts(read(table(tmp_path, ("id", "genres"), rows), None))["Kid's"] == 1


def test_f1_labels_that_hold_and_stay_whole_where_no_list_ends_so(tmp_path: Path):
    rows = [(id_, ", ".join(names).replace("Comedy", "Sword and Sorcery")) for id_, names in ROWS]
    assert counts(read(table(tmp_path, ("id", "genres"), rows), None))["Sword and Sorcery"] == COUNTS["Comedy"]


@pytest.mark.parametrize("word", ["TBA", "n.a.", "not specified", "no genre", "--", "none listed"])
def test_f1_words_for_no_label_are_none(tmp_path: Path, word: str):
    rows = [*((id_, ", ".join(names)) for id_, names in ROWS), ("1", word)]
    report = read(table(tmp_path, ("id", "genres"), rows), None)
    assert (counts(report), report.dropped["no label at all"]) == (COUNTS, 1)


# F4, F19


def test_f4_a_long_tables_own_row_numbers_are_no_ids(tmp_path: Path):
    long = [(id_, name) for id_, names in ROWS for name in names]
    path = table(tmp_path, ("id", "movie_id", "genre"), [(at, *row) for at, row in enumerate(long, 1)])
    report = read(path, images_of(tmp_path))
    assert (counts(report), report.columns["id"]) == (COUNTS, "movie_id")
    assert any("'movie_id'" in note and "'id'" in note for note in report.notes)
    path = table(
        tmp_path, ("id", "image_path", "genre"), [(at, f"images/{i}.jpg", x) for at, (i, x) in enumerate(long)]
    )
    assert counts(read(path, images_of(tmp_path))) == COUNTS


@pytest.mark.parametrize("name", ["appid", "isbn13", "idMal", "Letterboxd URI", "slug", "index", "__index_level_0__"])
def test_f19_the_column_of_ids_is_the_one_that_names_the_images(tmp_path: Path, name: str):
    path = table(tmp_path, (name, "title", "genres"), [(i, f"Title {i}", "|".join(x)) for i, x in ROWS])
    report = read(path, images_of(tmp_path))
    assert (counts(report), report.columns["id"]) == (COUNTS, name)


def test_f19_a_second_id_that_names_the_images_is_taken_where_the_first_names_none(tmp_path: Path):
    path = table(tmp_path, ("id", "idMal", "genres"), [(at, i, "|".join(x)) for at, (i, x) in enumerate(ROWS)])
    assert counts(read(path, images_of(tmp_path))) == COUNTS


@pytest.mark.parametrize("name", ["image", "Image Name", "img_name", "filepath", "poster", "photo"])
@pytest.mark.parametrize("labels", ["labels", "target", "class", "category", "movie_genres"])
def test_f19_files_and_labels_under_names_of_other_sets(tmp_path: Path, name: str, labels: str):
    path = table(tmp_path, (name, labels), [(f"{i}.jpg", "|".join(x)) for i, x in ROWS])
    assert counts(read(path, images_of(tmp_path))) == COUNTS


# F9, F14, F16


@pytest.mark.parametrize(
    "flag", ["fold", "subset", "validated", "Unnamed: 0", "Train/Test", "image_exists", "top250", "liked_by_me"]
)
def test_f9_flags_beside_one_hot_labels_are_left_out(tmp_path: Path, flag: str):
    names = sorted(COUNTS)
    rows = [(i, at % 2, *(int(name in x) for name in names)) for at, (i, x) in enumerate(ROWS)]
    assert counts(read(table(tmp_path, ("id", flag, *names), rows), None)) == COUNTS


@pytest.mark.parametrize(("yes", "no"), [("on", "off"), ("true", "null"), ("1", "NaN")])
def test_f9_words_for_yes_and_no(tmp_path: Path, yes: str, no: str):
    names = sorted(COUNTS)
    rows = [(i, *(yes if name in x else no for name in names)) for i, x in ROWS]
    assert counts(read(table(tmp_path, ("id", *names), rows), None)) == COUNTS


@pytest.mark.parametrize("name", ["{}.jpg_large", "{}.img", "{}.jpg.jpg", "{}"])
def test_f14_images_under_odd_suffixes_are_their_ids(tmp_path: Path, name: str):
    path = table(tmp_path, ("id", "genres"), [(i, "|".join(x)) for i, x in ROWS])
    assert counts(read(path, images_of(tmp_path, name.format))) == COUNTS


@pytest.mark.parametrize(
    "written",
    ["images/{}.jpg", "./{}.jpg", "posters\\{}.jpg", "https://x.org/{}.jpg?w=3", "{}.JPG", "{}", "/data/{}.jpg"],
)
def test_f16_a_column_of_names_serves_where_no_image_is_called_by_its_id(tmp_path: Path, written: str):
    rows = [(f"a{at}", written.format(i), "|".join(x)) for at, (i, x) in enumerate(ROWS)]
    report = read(table(tmp_path, ("id", "poster_path", "genres"), rows), images_of(tmp_path))
    assert counts(report) == COUNTS


# F7, F15, F21


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_f21_unicode_in_other_encodings_is_read(tmp_path: Path, encoding: str):
    path = table(tmp_path, ("id", "title", "genres"), [(i, f"É {i}", "|".join(x)) for i, x in ROWS], encoding)
    assert counts(read(path, images_of(tmp_path))) == COUNTS


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "id,genres\n" + text.split("\n", 1)[1].replace("\n", ",\n"),
        lambda text: text.replace(",", ', "').replace("\n", '"\n').replace('genres"', 'genres"'),
    ],
)
def test_f15_line_ends_spaces_and_delimiters_at_the_end_of_rows(tmp_path: Path, changed: Callable[[str], str]):
    path = tmp_path / "t.csv"
    path.write_bytes(changed("id,genres\n" + "".join(f"{i},{'|'.join(x)}\n" for i, x in ROWS)).encode())
    assert counts(read(path, images_of(tmp_path))) == COUNTS


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04abc", "save the spreadsheet as CSV"),
        (gzip.compress(b"id,genres\n", mtime=0), "csv.gz"),
        ("id,genres\n1,Comédie\n".encode("cp1252"), "iconv -f WINDOWS-1252"),
    ],
)
def test_f21_what_is_no_table_is_named_with_its_cure(tmp_path: Path, content: bytes, told: str):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        read(tmp_path / "t.csv", None)


def test_f21_json_and_parquet_under_other_names_are_read(tmp_path: Path):
    images = images_of(tmp_path)
    records = [{"id": i, "genres": x} for i, x in ROWS]
    (tmp_path / "a.csv").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "b.csv").write_text(json.dumps(records))
    (tmp_path / "c.json").write_text(json.dumps(dict(ROWS)))
    parquet.write_table(pa.table({"id": [i for i, _ in ROWS], "genres": [x for _, x in ROWS]}), tmp_path / "d")
    for name in ("a.csv", "b.csv", "c.json", "d"):
        assert counts(read(tmp_path / name, images)) == COUNTS


def test_f7_parquet_with_images_as_bytes_and_labels_as_maps(tmp_path: Path):
    images = images_of(tmp_path)
    labels = pa.array([[(name, 1) for name in x] for _, x in ROWS], pa.map_(pa.string(), pa.int32()))
    content = [(images / f"{i}.jpg").read_bytes() for i, _ in ROWS]
    path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"id": [i for i, _ in ROWS], "image": content, "genres": labels}), path)
    assert counts(read(path, images)) == COUNTS
    structs = [{"bytes": image, "path": f"{i}.jpg"} for image, (i, _) in zip(content, ROWS, strict=True)]
    parquet.write_table(pa.table({"image": structs, "genres": labels}), path)
    assert counts(read(path, images)) == COUNTS
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds its images as bytes in column 'image': write those .* 901\.jpg"):
        read(path, tmp_path / "empty")
