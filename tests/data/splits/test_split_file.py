from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hpo.data.splits.groups import Groups, Links, group_posters
from hpo.data.splits.split import Split, SplitFile, load_split
from hpo.data.table.catalogue import Catalogue
from hpo.errors import DataError

NAMES = ("Drama", "Comedy")
CATALOGUE = Catalogue(tuple("abcdef"), ("",) * 6, (), np.eye(6, 2, dtype=bool), NAMES)
SPLIT = Split(np.array([0, 1, 4]), np.array([3]), np.array([2, 5]))
GROUPS: Groups = group_posters(6, [Links("title", np.array([[0, 4]]))])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "split.json"
    SplitFile.of(SPLIT, CATALOGUE, GROUPS).save(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_split(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_split_is_the_same_split_for_any_order_of_rows(saved: Path):
    order = np.array([5, 3, 1, 0, 2, 4])
    shuffled = CATALOGUE.take(order)
    again = load_split(saved).apply(shuffled)
    assert again.fingerprint(shuffled.ids) == SPLIT.fingerprint(CATALOGUE.ids) == load_split(saved).fingerprint
    assert [shuffled.ids[row] for row in again.val] == ["d"]


def test_it_says_what_was_kept_together(saved: Path):
    assert json.loads(saved.read_text())["groups"] == [{"ids": ["a", "e"], "reasons": ["title"]}]


def test_posters_that_are_gone_are_passed_over_and_new_ones_refused(saved: Path):
    split = load_split(saved).apply(CATALOGUE.take(np.array([0, 2, 3])))
    assert [rows.tolist() for rows in split.parts().values()] == [[0], [2], [1]]
    stranger = Catalogue(tuple("abcdeg"), ("",) * 6, (), CATALOGUE.targets, NAMES)
    with pytest.raises(DataError, match=r"not 1 of the 6 in the catalogue \(g\): give --split"):
        load_split(saved).apply(stranger)
    with pytest.raises(DataError, match="no poster to val"):
        load_split(saved).apply(CATALOGUE.take(np.array([0, 2])))


def test_bad_files_get_a_sentence_each(saved: Path, tmp_path: Path):
    assert "check --split" in refusal(tmp_path / "absent.json")
    content = json.loads(saved.read_text())
    saved.write_text(json.dumps(content | {"val": ["a"]}))
    assert "two parts (a)" in refusal(saved)
    saved.write_text(json.dumps(content | {"format_version": 9}))
    assert "format_version" in refusal(saved)
    for bad in (b"", b"{}", b"id,part\n", b"\xff\xfe"):
        saved.write_bytes(bad)
        assert "is no split file" in refusal(saved)
