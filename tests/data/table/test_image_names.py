"""How tables write the names of images, and how files are named: F2, F14, F16, A9."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from PIL import Image

from hpo.data.table.catalogue import CleaningReport, read_catalogue
from hpo.data.table.image_files import COUNTER, FOLDER, LEADS_OUT, UNREAD_KIND, assign_to_ids, list_images
from hpo.data.table.image_names import AMBIGUOUS, LAST_PART, OTHER_SUFFIX, WrittenNames, parts_of
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError


def files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def poster(path: Path, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 96), "teal").save(path, format=kind)


def read(folder: Path, rows: list[tuple[str, ...]], *, column: bool = False) -> tuple[dict[str, str], CleaningReport]:
    """Return each poster's file by id, from a table of (id, Genres, Type[, File])."""
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "Genres", "Type", "File")[: len(rows[0])], *rows])
    rules = CatalogueRules(image_column="File" if column else None)
    images = folder / "images"
    catalogue, report = read_catalogue(folder / "t.csv", images, rules)
    return {
        id_: path.relative_to(images).as_posix() for id_, path in zip(catalogue.ids, catalogue.image_paths, strict=True)
    }, report


# F2


def test_f2_the_image_of_a_dropped_row_belongs_to_that_row_alone(tmp_path: Path):
    files(tmp_path / "images", "x.jpg", "x-2.jpg", "x-2_1.jpg", "y.jpg", "y_2.jpg")
    rows = [("x", "Drama", "TV"), ("x-2", "Comedy", "Advert"), ("y", "Comedy, Drama", "TV")]
    found, report = read(tmp_path, rows)
    assert found == {"x": "x.jpg", "y": "y.jpg", "y#2": "y_2.jpg"}
    assert report.several_images == {COUNTER: 1}
    assert set(report.unclaimed_images) == {"x-2.jpg", "x-2_1.jpg"}


@pytest.mark.parametrize(
    ("ids", "names", "owned"),
    [
        (["show"], ["show-2004.jpg", "show_123.jpg"], {}),
        (["show"], ["show.jpg", "show-2.jpg", "show_12.png", "show (2).jpg", "show(3).jpg", "show_(4).jpg"],
         {"show": ["show (2).jpg", "show(3).jpg", "show-2.jpg", "show.jpg", "show_(4).jpg", "show_12.png"]}),
        (["show", "show-2"], ["show-2-1.jpg"], {"show-2": ["show-2-1.jpg"]}),
        (["toy-story", "toy-story-3"], ["toy-story-3.jpg", "toy-story.jpg"],
         {"toy-story-3": ["toy-story-3.jpg"], "toy-story": ["toy-story.jpg"]}),
        (["2001", "26", "27"], ["2001/26.jpg", "2001/27.jpg", "2001/other.jpg", "2001.jpg"],
         {"26": ["2001/26.jpg"], "27": ["2001/27.jpg"], "2001": ["2001.jpg"]}),
        (["Drama", "26"], ["Drama/26.jpg", "Drama/unknown.jpg"], {"26": ["Drama/26.jpg"]}),
        (["26"], ["26/front.jpg", "26/back.jpg"], {"26": ["26/back.jpg", "26/front.jpg"]}),
        (["show 2", "show"], ["show 2.jpg", "show.jpg"], {"show 2": ["show 2.jpg"], "show": ["show.jpg"]}),
        (["show"], ["show 2.jpg"], {}),
        (["Dr. No"], ["Dr. No.jpg"], {"Dr. No": ["Dr. No.jpg"]}),
        (["show.2004"], ["show.2004.jpg"], {"show.2004": ["show.2004.jpg"]}),
    ],
)  # fmt: skip
def test_f2_names_with_numbers(tmp_path: Path, ids: list[str], names: list[str], owned: dict[str, list[str]]):
    assert assign_to_ids(list_images(files(tmp_path, *names)), ids).files == owned


def test_f2_the_account_says_why_titles_have_several_images(tmp_path: Path):
    owned = assign_to_ids(list_images(files(tmp_path, "1.jpg", "1_2.jpg", "2/a.jpg", "2/b.jpg", "3_1.jpg")), "123")
    assert owned.several == {"1": COUNTER, "2": FOLDER}


# F14


def test_f14_every_kind_of_image_is_seen_by_its_suffix_or_its_first_bytes(tmp_path: Path):
    images = tmp_path / "images"
    names = ["1.jfif", "2.JPE", "3.bmp", "4.tif", "5.AVIF", "6", "7.2004", "8.Jpeg", "9.TIFF", "10.jpg?w=500"]
    kinds = ["JPEG", "JPEG", "BMP", "TIFF", "AVIF", "PNG", "WEBP", "JPEG", "TIFF", "JPEG"]
    for name, kind in zip(names, kinds, strict=True):
        poster(images / name, kind)
    (images / "notes").write_text("not an image")
    (images / "11.txt").write_text("not an image")
    poster(images / "._1.jpg")
    poster(images / "12.part")
    ids = [*map(str, range(1, 13)), "7.2004"]
    found, report = read(tmp_path, [(id_, "Comedy, Drama", "TV") for id_ in ids])
    assert found == {"1": "1.jfif", "2": "2.JPE", "3": "3.bmp", "4": "4.tif", "5": "5.AVIF", "6": "6",
                     "7.2004": "7.2004", "8": "8.Jpeg", "9": "9.TIFF", "10": "10.jpg?w=500"}  # fmt: skip
    assert report.dropped["no image"] == 3


def test_f14_what_is_refused_is_counted_with_its_reason(tmp_path: Path):
    outside = tmp_path / "outside"
    poster(outside / "a.jpg")
    images = files(tmp_path / "images", "1.jpg", "3.heic", "5.jpg")
    (images / "2.jpg").symlink_to(outside / "a.jpg")
    (images / "more").symlink_to(outside, target_is_directory=True)
    rows = [("1", "Drama", "TV"), ("2", "Comedy", "TV"), ("3", "Drama", "TV"), ("4", "Comedy", "TV")]
    _, report = read(tmp_path, [*rows, ("5", "Comedy", "TV")])
    assert (report.dropped[LEADS_OUT], report.dropped[UNREAD_KIND], report.dropped["no image"]) == (1, 1, 1)
    assert report.refused_images == {LEADS_OUT: 1, UNREAD_KIND: 1, "linked folder outside the folder": 1}


def test_f14_a_folder_of_links_alone_says_so(tmp_path: Path):
    poster(tmp_path / "blobs" / "a")
    (tmp_path / "images").mkdir()
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "images" / name).symlink_to(tmp_path / "blobs" / "a")
    with pytest.raises(DataError, match=r"not used: 2 × image outside the folder.*copy files that are links"):
        read(tmp_path, [("1", "Drama", "TV"), ("2", "Comedy", "TV")])


# A9


def test_a9_a_sub_folder_without_permission_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = files(tmp_path / "images", "1.jpg", "2.jpg", "closed/3.jpg")
    real = os.scandir

    def scandir(path: str):
        if path.endswith("closed"):  # a test that runs as root may read every folder
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found, report = read(tmp_path, [("1", "Drama", "TV"), ("2", "Comedy", "TV"), ("3", "Drama", "TV")])
    assert set(found) == {"1", "2"}
    assert report.refused_images == {"folder without permission": 1}
    assert list_images(images).not_entered == {"closed": "folder without permission"}
    with pytest.raises(DataError, match="cannot be read"):
        list_images(images / "closed")


# F16


@pytest.mark.parametrize(
    ("cell", "names", "file", "how"),
    [
        ("1.jpg", ["1.jpg"], "1.jpg", ""),
        ("./a/1.jpg", ["a/1.jpg"], "a/1.jpg", ""),
        ("images/1.jpg", ["1.jpg"], "1.jpg", ""),
        ("/1.jpg", ["1.jpg"], "1.jpg", LAST_PART),
        ("/1.jpg", ["w500/1.jpg"], "w500/1.jpg", LAST_PART),
        ("https://image.example.org/t/p/w500/1.jpg", ["1.jpg"], "1.jpg", LAST_PART),
        ("https://example.org/1.jpg?size=l&v=2#top", ["1.jpg"], "1.jpg", LAST_PART),
        ("https://example.org/get?file=a/1.jpg", ["a/1.jpg"], "a/1.jpg", LAST_PART),
        ("https://example.org/the%20one.jpg", ["the one.jpg"], "the one.jpg", LAST_PART),
        ("//example.org/1.jpg", ["1.jpg"], "1.jpg", LAST_PART),
        (r"C:\posters\1.jpg", ["1.jpg"], "1.jpg", LAST_PART),
        (r"..\posters\sub\1.jpg", ["sub/1.jpg"], "sub/1.jpg", LAST_PART),
        ("file:///home/me/1.jpg", ["1.jpg"], "1.jpg", LAST_PART),
        ("1.JPG", ["1.jpg"], "1.jpg", OTHER_SUFFIX),
        ("1.png", ["1.jpg"], "1.jpg", OTHER_SUFFIX),
        ("1", ["1.jpg", "1.png"], "1.jpg", OTHER_SUFFIX),
        ("Show.One", ["show.one.webp"], "show.one.webp", OTHER_SUFFIX),
        ("Caf\u00e9.jpg", ["Cafe\u0301.jpg"], "Cafe\u0301.jpg", ""),
        ("2001/1.jpg", ["1.jpg", "2001/1.jpg"], "2001/1.jpg", ""),
        ("/p/2001/1.jpg", ["2002/1.jpg", "2001/1.jpg"], "2001/1.jpg", LAST_PART),
        ("/p/1.jpg", ["2002/1.jpg", "2001/1.jpg"], None, AMBIGUOUS),
        ("2.jpg", ["1.jpg"], None, ""),
        ("", ["1.jpg"], None, ""),
        ("https://[", ["1.jpg"], None, ""),
        ("/", ["1.jpg"], None, ""),
    ],
)  # fmt: skip
def test_f16_a_cell_finds_its_file(tmp_path: Path, cell: str, names: list[str], file: str | None, how: str):
    listed = list_images(files(tmp_path / "images", *names))
    assert WrittenNames("images", listed.usable).find(cell) == (file, how)


def test_f16_a_file_is_found_for_no_second_row(tmp_path: Path):
    files(tmp_path / "images", "1.jpg", "2.jpg", "9.jpg")
    rows = [
        ("a", "Drama, Comedy", "TV", "/x/1.jpg"),
        ("b", "Drama", "TV", "/y/1.jpg"),  # the same last part: neither is known to mean it
        ("c", "Drama", "TV", "/x/2.jpg"),
        ("d", "Comedy", "Advert", "2.jpg"),  # a dropped row that names it as it is
        ("e", "Comedy, Drama", "TV", "/x/9.jpg"),
    ]
    found, report = read(tmp_path, rows, column=True)
    assert found == {"e": "9.jpg"}
    assert report.dropped[AMBIGUOUS] == 3
    assert report.images_found_by == {LAST_PART: 1}


def test_f16_ids_that_are_file_names_paths_or_addresses(tmp_path: Path):
    files(
        tmp_path / "images",
        "1.jpg",
        "2.png",
        "3.jpg",
        "3-2.jpg",
        "sub/4.jpg",
        "tt5.jpg",
        "AbC.jpg",
        "a/7.jpg",
        "b/7.jpg",
    )
    ids = ["1.jpg", "/2.jpg", r"C:\p\3.jpg", "images/sub/4.jpg", "https://example.org/title/tt5/", "abc", "b/7.jpg"]
    found, report = read(tmp_path, [(id_, "Comedy, Drama", "TV") for id_ in ids])
    assert report.shadowed_images == {"a/7.jpg": "b/7.jpg"}
    assert found == {"1.jpg": "1.jpg", "/2.jpg": "2.png", r"C:\p\3.jpg": "3-2.jpg", r"C:\p\3.jpg#2": "3.jpg",
                     "images/sub/4.jpg": "sub/4.jpg", "https://example.org/title/tt5/": "tt5.jpg", "abc": "AbC.jpg",
                     "b/7.jpg": "b/7.jpg"}  # fmt: skip
    assert report.images_found_by == {LAST_PART: 5, OTHER_SUFFIX: 1}


def test_f16_the_parts_of_a_name():
    assert parts_of(r"D:\a\.\b\..\1.jpg") == ("a", "1.jpg")
    assert parts_of("http://h/a//1.jpg?x=/2.jpg") == ("a", "1.jpg")


def test_a_column_of_file_names_names_the_images_where_no_id_does(tmp_path):
    """Found by fuzzing: a KeyError for every such table."""
    poster(tmp_path / "images" / "a.jpg")
    poster(tmp_path / "images" / "b.jpg")
    found, report = read(
        tmp_path, [("1", "Drama", "TV", "a.jpg"), ("2", "Comedy", "TV", "b.jpg"), ("3", "Comedy", "TV", "c.jpg")]
    )
    assert found == {"1": "a.jpg", "2": "b.jpg"}
    assert report.dropped["no image"] == 1
    assert any("No image is called by its id, so the column 'File' names them" in note for note in report.notes)
