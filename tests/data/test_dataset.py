from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.data.dataset import PreparedData, save_split
from hpo.errors import DataError

N_POSTERS = 90  # as in conftest.py


def groups_by_id(data: PreparedData) -> dict[frozenset[str], tuple[str, ...]]:
    return {frozenset(data.catalogue.ids[row] for row in group.rows): group.reasons for group in data.groups.shared}


def test_broken_and_placeholder_images_are_left_out_with_their_reason(data: PreparedData):
    reasons = {path.stem: reason for path, reason in data.broken.items()}
    assert set(reasons) == {"12", "13", *map(str, range(20, 25))}
    assert "5 titles" in reasons["22"]
    assert len(data.catalogue) == len(data.posters) == N_POSTERS - 7


def test_a_franchise_and_a_copy_stay_in_one_part(data: PreparedData):
    together = groups_by_id(data)
    assert together[frozenset("0123")] == ("title",)
    assert together[frozenset(("10", "11"))] == ("poster",)
    assert data.n_straddling == 0
    assert [len(rows) for rows in data.split.parts().values()] == [53, 15, 15]


@pytest.mark.parametrize(("grouping", "reasons"), [("titles", {"title"}), ("posters", {"poster"}), ("none", set())])
def test_grouping_says_which_evidence_counts(prepared, grouping: str, reasons: set[str]):
    found = groups_by_id(prepared(grouping=grouping))
    assert {reason for names in found.values() for reason in names} == reasons


def test_the_table_alone_is_enough_to_check_it(prepared):
    alone = prepared(images=None)
    assert len(alone.catalogue) == N_POSTERS
    assert len(alone.posters) == 0


def test_a_saved_split_is_used_again(prepared, data: PreparedData, tmp_path: Path):
    saved = save_split(data, tmp_path)
    again = prepared(split_file=saved.file, seed=5, val_size=0.3)
    assert again.fingerprints == data.fingerprints
    assert prepared(seed=5).fingerprints["split"] != data.fingerprints["split"]
    written = saved.picture.stat().st_mtime_ns
    assert save_split(again, tmp_path) == saved
    assert saved.picture.stat().st_mtime_ns == written


def test_a_given_split_that_tears_groups_apart_says_so(prepared, tmp_path: Path):
    saved = save_split(prepared(), tmp_path)
    content = json.loads(saved.file.read_text())
    home = next(part for part in ("train", "val", "test") if "0" in content[part])
    away = "val" if home == "train" else "train"
    content[home].remove("0")
    saved.file.write_text(json.dumps(content | {away: [*content[away], "0"]}))
    torn = prepared(split_file=saved.file)
    assert torn.n_straddling == 1


def test_a_label_that_only_broken_posters_carried(prepared, wild: Path, tmp_path: Path):
    lines = (wild / "posters.csv").read_text().splitlines()
    marked = [line.replace("War", "News") if line.startswith(("12,", "13,", "14,")) else line for line in lines]
    marked = [
        f'{line.split(",")[0]},x{at},"News"' if line.startswith(("12,", "13,", "14,")) else line
        for at, line in enumerate(marked)
    ]
    (tmp_path / "posters.csv").write_text("\n".join(marked))
    with pytest.raises(DataError, match="'News' has 1"):
        prepared(csv=tmp_path / "posters.csv")
