from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hpo.data.account import account_of, cleaning_lines, kept_together
from hpo.data.catalogue.rules import CatalogueRules
from hpo.data.options import DataOptions
from hpo.data.prepare import PreparedData, prepare_data, save_split
from hpo.errors import DataError

N_POSTERS = 90


def noise(seed: int) -> Image.Image:
    """A poster that looks like no other."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((60, 90), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 posters with titles, among them a franchise, a copy, two broken files and five that share a file."""
    folder = tmp_path_factory.mktemp("prepare")
    images = folder / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for at in range(N_POSTERS):
        noise(at).save(images / f"{at}.png")
        labels = [
            name for name, present in zip(("Drama", "Comedy", "War"), rng.random(3) < 0.5, strict=True) if present
        ]
        title = f"Galaxy Rangers Season {at}" if at < 4 else f"{chr(97 + at % 26)}{at}x{at * 7}"
        rows.append(f'{at},{title},"{", ".join(labels) or "War"}"')
    noise(10).resize((30, 45)).save(images / "11.png")
    (images / "12.png").write_bytes(b"not an image")
    (images / "13.png").write_bytes((images / "14.png").read_bytes()[:400])
    for at in range(21, 25):
        shutil.copy(images / "20.png", images / f"{at}.png")
    (folder / "posters.csv").write_text("\n".join(["id,Name,Genres", *rows]))
    return folder


def prepared(folder: Path, **changed: Any) -> PreparedData:
    values = {
        "csv": folder / "posters.csv",
        "images": folder / "images",
        "rules": CatalogueRules(),
        "val_size": 15,
        "test_size": 15,
        "seed": 0,
    } | changed
    return prepare_data(DataOptions(**values), folder / "cache", lambda *_: nullcontext(lambda _: None))


def groups_by_id(data: PreparedData) -> dict[frozenset[str], tuple[str, ...]]:
    return {frozenset(data.catalogue.ids[row] for row in group.rows): group.reasons for group in data.groups.shared}


@pytest.fixture(scope="module")
def data(folder: Path) -> PreparedData:
    return prepared(folder)


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
def test_grouping_says_which_evidence_counts(folder: Path, grouping: str, reasons: set[str]):
    found = groups_by_id(prepared(folder, grouping=grouping))
    assert {reason for names in found.values() for reason in names} == reasons


def test_the_table_alone_is_enough_to_check_it(folder: Path):
    alone = prepared(folder, images=None)
    assert len(alone.catalogue) == N_POSTERS
    assert account_of(alone)["images"] is None


def test_a_saved_split_is_used_again(folder: Path, data: PreparedData, tmp_path: Path):
    saved = save_split(data, tmp_path)
    again = prepared(folder, split_file=saved.file, seed=5, val_size=0.3)
    assert again.fingerprints == data.fingerprints
    assert prepared(folder, seed=5).fingerprints["split"] != data.fingerprints["split"]
    written = saved.picture.stat().st_mtime_ns
    assert save_split(again, tmp_path) == saved
    assert saved.picture.stat().st_mtime_ns == written


def test_a_given_split_that_tears_groups_apart_says_so(folder: Path, tmp_path: Path):
    saved = save_split(prepared(folder), tmp_path)
    content = json.loads(saved.file.read_text())
    home = next(part for part in ("train", "val", "test") if "0" in content[part])
    away = "val" if home == "train" else "train"
    content[home].remove("0")
    saved.file.write_text(json.dumps(content | {away: [*content[away], "0"]}))
    torn = prepared(folder, split_file=saved.file)
    assert torn.n_straddling == 1
    assert "lie in several parts of the given split" in kept_together(torn)


def test_the_account_is_json_and_adds_up(data: PreparedData):
    account = account_of(data)
    assert json.loads(json.dumps(account)) == account
    labels = account["labels"]
    assert labels["counts"] == {name: labels["cooccurrence"][name][name] for name in labels["counts"]}
    assert labels["cardinality"] == pytest.approx(data.catalogue.targets.sum() / len(data.catalogue))
    assert account["images"]["formats"] == {"PNG": 83}
    assert account["images"]["width_px"] == {"min": 30, "median": 60, "max": 60}
    assert len(account["images"]["broken"]) == 7
    assert account["rows_read"] == account["rows_kept"] + sum(account["dropped"].values())
    assert sum(account["split"]["sizes"].values()) == account["n_posters"] == 83


def test_every_decision_is_a_line(data: PreparedData):
    cleaned, broken = cleaning_lines(data)
    assert cleaned == "posters.csv: 90 rows, 90 kept"
    assert broken.startswith("7 broken posters left out: 12.png (")
    assert broken.endswith(" and 2 more")


def test_a_label_that_only_broken_posters_carried(folder: Path, tmp_path: Path):
    lines = (folder / "posters.csv").read_text().splitlines()
    marked = [line.replace("War", "News") if line.startswith(("12,", "13,", "14,")) else line for line in lines]
    marked = [
        f'{line.split(",")[0]},x{at},"News"' if line.startswith(("12,", "13,", "14,")) else line
        for at, line in enumerate(marked)
    ]
    (tmp_path / "posters.csv").write_text("\n".join(marked))
    with pytest.raises(DataError, match="'News' has 1"):
        prepared(folder, csv=tmp_path / "posters.csv")
