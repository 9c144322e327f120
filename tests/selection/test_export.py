from __future__ import annotations

import pytest

from hpo.bundle.description import replace_folder
from hpo.errors import BundleError
from hpo.selection.export import check_replaceable


def test_only_an_empty_place_is_written_to_and_a_bundle_where_that_is_asked_for(tmp_path):
    check_replaceable(tmp_path / "new", force=False)
    (tmp_path / "empty").mkdir()
    check_replaceable(tmp_path / "empty", force=False)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").touch()
    check_replaceable(tmp_path / "bundle", force=True)
    with pytest.raises(BundleError, match="give --force to replace it"):
        check_replaceable(tmp_path / "bundle", force=False)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    (tmp_path / "file").touch()
    for place in ("photos", "file", "x" * 300):
        for force in (True, False):
            with pytest.raises(BundleError, match="choose another folder with --out"):
                check_replaceable(tmp_path / place, force=force)


def test_a22_replacing_a_bundle_keeps_what_is_not_of_a_bundle(tmp_path):
    bundle, staged = tmp_path / "bundle", tmp_path / "staging" / "bundle"
    for folder, content in ((bundle, "old"), (staged, "new")):
        folder.mkdir(parents=True)
        for name in ("bundle.json", "model.safetensors"):
            (folder / name).write_text(content)
    (bundle / "model.onnx").write_text("the graph of other weights")
    (bundle / "notes.txt").write_text("mine")
    (bundle / ".git" / "refs").mkdir(parents=True)
    (bundle / ".git" / "HEAD").write_text("mine")
    (bundle / "link").symlink_to("nowhere")
    replace_folder(staged, bundle)
    assert sorted(path.name for path in bundle.iterdir()) == [
        ".git", "bundle.json", "link", "model.safetensors", "notes.txt",
    ]  # fmt: skip
    assert {(bundle / name).read_text() for name in ("bundle.json", "model.safetensors")} == {"new"}
    assert (bundle / ".git" / "HEAD").read_text() == (bundle / "notes.txt").read_text() == "mine"
    assert (bundle / ".git" / "refs").is_dir()
    assert (bundle / "link").is_symlink()
