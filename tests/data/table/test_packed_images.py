"""Images that a Parquet table holds as bytes, unpacked into the cache."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.data.table.catalogue import Catalogue, CleaningReport, read_catalogue
from hpo.data.table.packed_images import PackedImages, images_of, packed_column
from hpo.data.table.rules import CatalogueRules
from hpo.errors import DataError
from hpo.runtime.progress import ProgressFn

N = 40
LABELS = [["Drama"], ["War", "Drama"], ["Comedy"], ["Comedy", "War"]]
IDS = [str(900 + at) for at in range(N)]
GENRES = [LABELS[at % 4] for at in range(N)]
COUNTS = {"Drama": 20, "Comedy": 20, "War": 20}


def image(seed: int, kind: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(coarse).resize((80, 120), Image.Resampling.BICUBIC).save(out, kind)
    return out.getvalue()


CONTENT = [image(at, ("JPEG", "PNG", "WEBP")[at % 3]) for at in range(N)]
STRUCTS = [{"bytes": content, "path": f"{i}.jpg"} for content, i in zip(CONTENT, IDS, strict=True)]


@contextmanager
def quiet(_what: str, _n: int) -> Iterator[ProgressFn]:
    yield lambda _: None


def table(folder: Path, **columns: Any) -> Path:
    path = folder / "t.parquet"
    parquet.write_table(pa.table(columns), path, row_group_size=7)
    return path


def unpacked(path: Path, asked: str | None = None) -> PackedImages:
    found = images_of(path, path, asked, path.parent / "cache", quiet)
    assert isinstance(found, PackedImages)
    return found


def read(path: Path, **rules: Any) -> tuple[Catalogue, CleaningReport]:
    return read_catalogue(path, unpacked(path, rules.get("image_column")), CatalogueRules(**rules))


@pytest.mark.parametrize("images", [STRUCTS, CONTENT, pa.array(CONTENT, pa.large_binary())])
def test_f7_the_images_of_a_table_serve_as_images(tmp_path: Path, images: Any):
    catalogue, report = read(table(tmp_path, id=IDS, image=images, genres=GENRES))
    assert catalogue.ids == tuple(IDS)
    assert [path.read_bytes() for path in catalogue.image_paths] == CONTENT
    assert report.label_counts == COUNTS
    assert report.columns["image"] == "image"
    assert any("images are those in column 'image'" in note for note in report.notes)


def test_f7_without_ids_the_images_paths_are_the_ids(tmp_path: Path):
    catalogue, _ = read(table(tmp_path, image=STRUCTS, genres=GENRES))
    assert catalogue.ids == tuple(f"{i}.jpg" for i in IDS)


@pytest.mark.parametrize("path", [None, "image.jpg"])
def test_f7_without_ids_and_paths_the_rows_are_numbered(tmp_path: Path, path: str | None):
    structs = [{"bytes": content, "path": path} for content in CONTENT]
    catalogue, report = read(table(tmp_path, picture=structs, genres=GENRES))
    assert catalogue.ids == tuple(str(at) for at in range(1, N + 1))
    assert [path.read_bytes() for path in catalogue.image_paths] == CONTENT
    assert any("rows' numbers" in note for note in report.notes)


def test_f7_a_row_without_bytes_has_no_image_and_one_image_of_two_rows_is_one_file(tmp_path: Path):
    content = [None, b"", *CONTENT[2:-1], CONTENT[2]]
    catalogue, report = read(table(tmp_path, id=IDS, image=content, genres=GENRES))
    assert report.dropped["no image"] == 2
    assert catalogue.ids == tuple(IDS[2:])
    assert catalogue.image_paths[-1] == catalogue.image_paths[0]
    assert report.unclaimed_images == ()


def test_f4_rows_with_images_that_differ_in_the_label_alone_are_one_title(tmp_path: Path):
    rows = [(i, content, label) for i, content, x in zip(IDS, CONTENT, GENRES, strict=True) for label in x]
    ids, images, labels = zip(*rows, strict=True)
    catalogue, report = read(table(tmp_path, id=list(ids), image=list(images), genre=list(labels)))
    assert catalogue.ids == tuple(IDS)
    assert report.label_counts == COUNTS


def test_images_are_unpacked_once_and_again_where_some_are_gone_or_cut(tmp_path: Path):
    path = table(tmp_path, id=IDS, image=STRUCTS, genres=GENRES)
    first = unpacked(path)
    written = {file.name: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    again = unpacked(path)
    assert again == first
    assert {file.name: file.stat().st_mtime_ns for file in again.folder.iterdir()} == written
    first.path(first.usable[0]).unlink()
    first.path(first.usable[1]).write_bytes(b"cut")
    assert [file.read_bytes() for file in map(unpacked(path).path, first.usable)] == CONTENT
    for damaged in (b"", b"[]", b"{}", b'{"names": 1, "sizes": {}}', b'{"names": [], "sizes": {}}'):
        (first.folder / "names.json").write_bytes(damaged)
        assert unpacked(path) == first


def test_the_images_of_another_table_or_column_are_others(tmp_path: Path):
    path = table(tmp_path, id=IDS, thumbnail=CONTENT[::-1], poster=CONTENT, genres=GENRES)
    assert packed_column(path) == "poster"
    poster, thumbnail = unpacked(path), unpacked(path, "thumbnail")
    assert [poster.path(name).read_bytes() for name in poster.names] == CONTENT
    assert [thumbnail.path(name).read_bytes() for name in thumbnail.names] == CONTENT[::-1]
    assert unpacked(table(tmp_path, id=IDS, poster=CONTENT, genres=GENRES)).folder != poster.folder


def test_nothing_in_a_table_names_where_an_image_is_written(tmp_path: Path):
    structs = [{"bytes": content, "path": f"../../{i}.jpg"} for content, i in zip(CONTENT, IDS, strict=True)]
    path = table(tmp_path, id=IDS, image=structs, genres=GENRES)
    folder = unpacked(path).folder
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == {path, *folder.iterdir()}


@pytest.mark.parametrize("images", [[b"text"] * N, [None] * N, [{"bytes": None, "path": f"{i}.jpg"} for i in IDS]])
def test_bytes_that_are_no_images_are_none(tmp_path: Path, images: Any):
    path = table(tmp_path, id=IDS, image=pa.array(images), genres=GENRES)
    assert packed_column(path) is None
    with pytest.raises(DataError, match=r"expected images as bytes in a column of .*t\.parquet, got none: name"):
        unpacked(path)


def test_a_folder_with_images_goes_before_those_of_the_table_and_an_empty_one_does_not(tmp_path: Path):
    path = table(tmp_path, id=IDS, image=STRUCTS, genres=GENRES)
    folder = tmp_path / "images"
    folder.mkdir()
    for without in (folder, tmp_path / "none"):
        found = images_of(path, without, None, tmp_path / "cache", quiet)
        assert isinstance(found, PackedImages)
        assert found.note.startswith(f"There is no image in {without}.")
    (folder / "900.jpg").write_bytes(CONTENT[0])
    assert images_of(path, folder, None, tmp_path / "cache", quiet) == folder
    assert images_of(path, None, None, tmp_path / "cache", quiet) is None


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path):
    path = table(tmp_path, id=IDS, image=STRUCTS, genres=GENRES)
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(DataError, match=r"cache folder .* could not be written .*: remove the file") as told:
        unpacked(path)
    assert "\n" not in str(told.value)


def test_a_page_that_is_damaged_is_one_sentence(tmp_path: Path):
    path = table(tmp_path, id=IDS, image=CONTENT, genres=GENRES)
    content = path.read_bytes()
    at = content.index(CONTENT[20][:64])
    path.write_bytes(content[: at - 40] + b"\xff" * 40 + content[at:])
    with pytest.raises(DataError, match=r"images in column 'image' of .* cannot be read") as told:
        unpacked(path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("options", [[], ["--images", "images"], ["--images", "none"], ["--images", "t.parquet"]])
def test_f7_data_check_of_a_table_that_holds_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPO_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "images").mkdir()
    table(tmp_path, id=IDS, image=STRUCTS, genres=GENRES)
    done = CliRunner().invoke(app, ["data", "check", "t.parquet", "--json", *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    account = json.loads(done.stdout)
    assert account["label_counts"] == COUNTS
    assert account["images"]["formats"] == {"JPEG": 14, "PNG": 13, "WEBP": 13}
    assert account["images"]["broken"] == {}


def test_f7_the_doctor_counts_the_posters_of_a_table_that_holds_its_images(tmp_path: Path):
    from hpo.doctor.trials import count_posters

    n_posters, found = count_posters(table(tmp_path, id=IDS, image=STRUCTS, genres=GENRES), None)
    assert (n_posters, found.state) == (N, "ok")


def test_f7_a_search_takes_the_images_of_the_table_before_the_folder_beside_it(tmp_path: Path):
    from hpo.cli.rich_progress import RichProgress
    from hpo.cli.search import _posters
    from hpo.settings import Paths

    path, paths, watch = (
        table(tmp_path, id=IDS, image=STRUCTS, genres=GENRES),
        Paths.of(None, None, None),
        RichProgress(),
    )
    (tmp_path / "images").mkdir()
    assert _posters(path, None, None, paths, watch) == (path, path)
    assert _posters(path, tmp_path / "images", None, paths, watch) == (path, tmp_path / "images")
    plain = table(tmp_path, id=IDS, genres=GENRES)
    assert _posters(plain, None, None, paths, watch) == (plain, tmp_path / "images")
