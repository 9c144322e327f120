from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import DataError

LABELS = ("Drama", "Comedy", "War")


@pytest.fixture
def posters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty posters with labels in one-hot columns, one of them cut short, and an image too many."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPO_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    marks = rng.random((60, 3)) < (0.6, 0.4, 0.2)
    rows = [f"{at},Season {at} of nothing,{','.join(map(str, mark.astype(int)))}" for at, mark in enumerate(marks)]
    for at in range(61):
        coarse = rng.integers(0, 256, (9, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((60, 90), Image.Resampling.BICUBIC).save(tmp_path / "images" / f"{at}.png")
    cut = tmp_path / "images" / "7.png"
    cut.write_bytes(cut.read_bytes()[:500])
    (tmp_path / "posters.csv").write_text("\n".join([f"id,name,{','.join(LABELS)}", *rows]) + '\n60,"cut')
    return tmp_path


def checked(*words: str) -> str:
    done = CliRunner().invoke(app, ["data", "check", "posters.csv", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_it_says_what_a_search_would_use(posters: Path):
    account = json.loads(checked("--images", "images", "--json", "--grouping", "none"))
    n_unlabelled = account["dropped"]["no label at all"]
    assert account["dropped"]["broken row"] == 1
    assert account["rows_read"] == 61
    assert account["n_posters"] == 60 - n_unlabelled - 1  # and the broken image
    assert set(account["labels"]["counts"]) == set(LABELS)
    assert [Path(path).name for path in account["images"]["broken"]] == ["7.png"]
    assert "60.png" in account["images"]["unclaimed"]
    split = json.loads(Path(account["split"]["file"]).read_text())
    assert {part: len(split[part]) for part in ("train", "val", "test")} == account["split"]["sizes"]
    with Image.open(account["split"]["picture"]) as picture:
        assert picture.format == "PNG"


def test_the_tables_fit_a_terminal(posters: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = checked("--images", "images", "--grouping", "none")
    for words in (
        "dropped: broken row",
        "line 62",
        "1 broken posters left out: 7.png (damaged",
        "labels a poster",
        "PNG; width 60 to 60 px",
        "Next: hpo search --data posters.csv --images images --split ",
    ):
        assert words in shown
    wide = [line for line in shown.splitlines() if len(line) > 80 and "mlruns" not in line]
    assert not wide


def test_the_same_options_are_the_same_split_and_a_file_can_name_it(posters: Path):
    options = ("--json", "--val-size", "8", "--test-size", "8", "--grouping", "none")
    first, second = json.loads(checked(*options)), json.loads(checked(*options))
    assert first == second
    assert first["images"] is None
    reused = json.loads(checked("--json", "--split", first["split"]["file"], "--seed", "9"))
    assert reused["fingerprints"] == first["fingerprints"]


def test_one_sentence_for_a_table_that_cannot_be_used(posters: Path):
    with pytest.raises(DataError, match="no labels column"):
        checked("--labels-column", "Drama,Westerns")
    with pytest.raises(DataError, match="no folder of images"):
        checked("--images", "elsewhere")
    os.truncate("posters.csv", 0)
    with pytest.raises(DataError, match="no usable row"):
        checked()


def test_f9_a_row_as_it_was_read_and_what_was_taken_for_labels_are_shown(
    posters: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    text = (posters / "posters.csv").read_text().splitlines()
    flagged = [f"{text[0]},is_train", *(f"{line},{at % 2}" for at, line in enumerate(text[1:-1]))]
    (posters / "posters.csv").write_text("\n".join(flagged) + "\n")
    shown = checked("--images", "images", "--grouping", "none")
    assert "Labels are the 3 columns" in shown
    assert "left out as flags: is_train" in shown
    assert "A row as it was read: id " in shown
    account = json.loads(checked("--images", "images", "--grouping", "none", "--json"))
    assert account["sample"]["image"] == f"{account['sample']['id']}.png"
    assert any("is_train" in note for note in account["notes"])
