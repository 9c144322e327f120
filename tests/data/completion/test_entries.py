from __future__ import annotations

from pathlib import Path

import pytest

from hpo.data.completion.entries import Listing, read_listing
from hpo.data.table.rules import ColumnNames
from hpo.errors import DataError

LABELS = ("Action", "Drama", "Sci-Fi", "Slice of Life")


def listed(folder: Path, content: str | bytes, names: ColumnNames | None = None) -> Listing:
    path = folder / "in.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_listing(path, folder / "images", LABELS, names or ColumnNames())


def test_every_row_is_an_entry_whatever_a_search_would_drop(folder: Path):
    content = (
        "anime_id,Name,Genres,Type,Rating,Image URL\n"
        "1,A,Drama,TV,PG,https://a.invalid/1.jpg\n"
        "2,B,Hentai,OVA,Rx,https://a.invalid/2.jpg\n"
        "2.0,B again,,Music,PG,https://a.invalid/2.jpg\n"
        "3,UNKNOWN,UNKNOWN,TV,PG,https://a.invalid/apple-touch-icon-256.png\n"
        "77,D,Drama,TV,PG,https://a.invalid/77.jpg\n"
        "../1,E,,TV,PG,\n"
        ",F,,TV,PG,\n"
        "8\n"
    )
    listing = listed(folder, content)
    assert [(entry.id, entry.title, entry.labels) for entry in listing.entries] == [
        ("1", "A", ("Drama",)),
        ("2", "B", ("Hentai",)),
        ("2", "B again", ()),
        ("3", "", ()),
        ("77", "D", ("Drama",)),
        ("../1", "E", ()),
        ("", "F", ()),
    ]
    images = [[path.name for path in entry.images] for entry in listing.entries]
    assert images == [["1.jpg"], ["2.jpg"], ["2.jpg"], [], [], [], []]
    assert listing.odd_lines == (9,)


def test_a_picture_that_five_titles_share_is_no_poster(folder: Path):
    for name in range(2, 7):
        (folder / "images" / f"{name}.jpg").write_bytes(b"the very same")
    (folder / "images" / "7.jpg").write_bytes(b"of equal size")
    rows = "".join(f"{name},Drama\n" for name in range(1, 8))
    listing = listed(folder, f"id,Genres\n{rows}")
    assert [entry.id for entry in listing.entries if entry.images] == ["1", "7"]


def test_several_images_and_a_column_of_files(folder: Path):
    (folder / "images" / "1_2.jpg").write_bytes(b"another")
    listing = listed(folder, "id,Genres,file\n1,Drama,3.jpg|4.jpg\n2,,../in.csv\n")
    assert [len(entry.images) for entry in listing.entries] == [2, 1]
    named = listed(folder, listing.path.read_bytes(), ColumnNames(image="file"))
    assert [[path.name for path in entry.images] for entry in named.entries] == [["3.jpg", "4.jpg"], []]


# Refusals


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,Genres\n1,Dramé\n".encode("latin-1"), r"not UTF-8 .*save it as UTF-8"),
        (b"id,Genres\n1,Western\n2,\n", r"at least one of the bundle's labels \(Action, .*got Western"),
        (b"id,Western,Noir\n1,1,0\n2,0,1\n", r"got Noir, Western"),
        (b"id,genre1,genre2\n1,Drama,Action\n2,,\n", r"got labels in several columns \(genre1, genre2\)"),
        (b"id,Genres\n55,Drama\n", r"no image in .* matches any"),
        (b"id,Genres\n,Drama\n", r"whose id can name a poster, got none"),
        (b"id,Action,Drama,Drama\n1,1,0,0\n2,0,1,1\n", r"name of its own.*got Drama, Drama: rename|got Drama: rename"),
        (b"", r"no usable row"),
    ],
)
def test_what_cannot_be_completed_is_one_sentence(folder: Path, content: bytes, message: str):
    with pytest.raises(DataError, match=message) as told:
        listed(folder, content)
    assert "\n" not in str(told.value)


def test_files_that_are_no_csv(folder: Path):
    (folder / "in.parquet").touch()
    with pytest.raises(DataError, match="got Parquet"):
        read_listing(folder / "in.parquet", folder / "images", LABELS, ColumnNames())
    with pytest.raises(DataError, match="no such file"):
        read_listing(folder / "none.csv", folder / "images", LABELS, ColumnNames())
