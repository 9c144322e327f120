from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.data.download.folder import DownloadRecord, PosterFolder, digest_of, names_a_file
from hpo.errors import DataError


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_an_id_that_names_a_file_names_one_right_there(poster_id):
    if names_a_file(poster_id):
        path = Path("out", f"{poster_id}.jpg")
        assert path.parent == Path("out")
        assert path.resolve() == Path.cwd() / "out" / f"{poster_id}.jpg"
        assert len(path.name.encode()) <= 255


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(st.characters(exclude_categories=["Cs"])), st.booleans())))
def test_the_record_says_what_was_noted_last(tmp_path_factory, noted):
    out = tmp_path_factory.mktemp("out")
    records = [DownloadRecord(id=name, url=text, reason=text, permanent=permanent) for name, text, permanent in noted]
    with PosterFolder.open(out) as folder:
        for record in records:
            folder.note(record)
    with PosterFolder.open(out) as folder:
        assert folder.records == {record.id: record for record in records}


def test_a_drafted_poster_is_not_yet_there(tmp_path):
    record = DownloadRecord(id="1", url="http://example.org/1.jpg", digest=digest_of(b"poster"))
    with PosterFolder.open(tmp_path) as folder:
        draft = folder.draft("1", b"poster")
        assert "1" not in folder
        assert list(folder.images.iterdir()) == []
        folder.publish(draft, record, ".jpg")
        assert "1" in folder
        assert (folder.images / "1.jpg").read_bytes() == b"poster"
        folder.remove(record)
        assert "1" not in folder
        assert list(folder.images.iterdir()) == []


def test_what_a_killed_run_left_is_cleared_away(tmp_path):
    (tmp_path / ".fetching").mkdir()
    (tmp_path / ".fetching" / "1.part").write_bytes(b"half a pos")
    with PosterFolder.open(tmp_path) as folder:
        assert "1" not in folder
        assert list(tmp_path.rglob("*.part")) == []
    assert not (tmp_path / ".fetching").exists()


def test_replacing_is_all_or_nothing(tmp_path):
    target = tmp_path / "x.csv"
    target.write_text("old")
    with PosterFolder.open(tmp_path) as folder:
        with pytest.raises(DataError, match="No space left"), folder.replacing(target) as draft:  # noqa: PT012
            draft.write_text("ne")
            raise OSError(28, "No space left on device")
        assert target.read_text() == "old"
        with folder.replacing(target) as draft:
            draft.write_text("new")
    assert target.read_text() == "new"
