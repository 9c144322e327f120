from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpo.data.table.image_files import LEADS_OUT, NO_FILE, assign_to_ids, list_images
from hpo.errors import DataError


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_images_are_found_at_any_depth_in_a_fixed_order(tmp_path: Path):
    touched(tmp_path, "b.PNG", "a.webp", "deep/er/1.gif", "notes.txt", "deep/0.jpg", "b.jpg")
    assert list_images(tmp_path).usable == ("b.jpg", "b.PNG", "a.webp", "deep/0.jpg", "deep/er/1.gif")


def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path):
    outside = touched(tmp_path / "outside", "secret.jpg") / "secret.jpg"
    inside = touched(tmp_path / "images", "1.jpg")
    (inside / "2.jpg").symlink_to(outside)
    (inside / "3.jpg").symlink_to(inside / "1.jpg")
    (inside / "4.jpg").symlink_to(inside / "gone.jpg")
    (inside / "5.jpg").mkdir()
    os.mkfifo(inside / "6.jpg")
    (inside / "linked").symlink_to(outside.parent, target_is_directory=True)
    images = list_images(inside)
    assert images.usable == ("1.jpg", "3.jpg")
    assert images.refused == {"2.jpg": LEADS_OUT, "4.jpg": NO_FILE, "5.jpg": NO_FILE, "6.jpg": NO_FILE}
    owned = assign_to_ids(images, {"1", "2", "5"})
    assert owned.files == {"1": ["1.jpg"]}
    assert owned.refused == {"2": LEADS_OUT, "5": NO_FILE}


def test_a_folder_that_is_itself_a_link_is_followed(tmp_path: Path):
    touched(tmp_path / "real", "1.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert list_images(tmp_path / "link").usable == ("1.jpg",)


def test_an_id_is_spelled_by_the_name_then_by_a_numbered_name_then_by_the_folder(tmp_path: Path):
    images = list_images(touched(tmp_path, "26.0.jpg", "26_1.jpg", "26_2.jpg", "26/x.png", "x/26-9.gif", "7.jpg"))
    owned = assign_to_ids(images, {"26", "26_2"})
    assert owned.files == {"26": ["26.0.jpg", "26_1.jpg", "26/x.png", "x/26-9.gif"], "26_2": ["26_2.jpg"]}


def test_of_two_files_with_one_stem_the_better_is_used(tmp_path: Path):
    owned = assign_to_ids(list_images(touched(tmp_path, "1.png", "1.jpg", "sub/1.jpg", "2.webp")), {"1", "2"})
    assert owned.files == {"1": ["1.jpg"], "2": ["2.webp"]}
    assert owned.shadowed == {"1.png": "1.jpg", "sub/1.jpg": "1.jpg"}


def test_no_folder(tmp_path: Path):
    with pytest.raises(DataError, match=r"no folder of images at .*--images"):
        list_images(tmp_path / "absent")
