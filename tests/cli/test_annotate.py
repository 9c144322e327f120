from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from hpo.cli.app import app
from hpo.data.sample.sample import write_sample
from hpo.errors import DataError, HpoError, UsageError

LABELS = ("Action", "Drama", "Romance", "Comedy")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; by their thresholds Drama and Action are always predicted, the others never."""
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "bundle", LABELS, (1e-6, 1e-6, 1 - 1e-6, 1 - 1e-6))


def tiny_bundle(folder: Path, labels: tuple[str, ...], thresholds: tuple[float, ...], **changed: Any) -> Path:
    import torch

    from hpo.bundle.bundle import save_bundle
    from hpo.bundle.description import Description, Preprocessing
    from hpo.data.table.rules import CatalogueRules
    from hpo.model.backbones.backbone import load_backbone
    from hpo.model.classifier import Classifier
    from hpo.model.config import TrialConfig

    config = TrialConfig(
        backbone="test_efficientnet", image_size=64, features="final", hidden_layers=0, dropout=0, input_dropout=0,
        weight_decay=0, label_smoothing=0, focal_gamma=0, focal_alpha=0.5, learning_rate=0.01, schedule="constant",
        batch_size=8, epochs=1, patience=1,
    )  # fmt: skip
    backbone = load_backbone("test_efficientnet", 64, "random")
    torch.manual_seed(0)
    network = Classifier.untrained([backbone], len(labels), config)
    described = Description(
        label_names=labels, thresholds=thresholds, threshold_strategy="fixed", backbone="test_efficientnet",
        backbone_weights=("random",), preprocessing=(Preprocessing.of(backbone, "squash"),), params=config, metrics={},
        data=CatalogueRules(), fingerprints={}, versions={}, **changed,
    )  # fmt: skip
    save_bundle(folder, described, network, "# A card")
    return folder


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve drawn posters; the catalogue names a few more shows."""
    return write_sample(tmp_path_factory.mktemp("drawn") / "sample", n_posters=12).parent


@pytest.fixture
def catalogue(sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample with two gaps more and a broken poster, under a byte order mark and with CRLF."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    images = tmp_path / "images"
    images.mkdir()
    posters = sorted((sample / "images").iterdir(), key=lambda path: int(path.stem))
    for path in posters:
        (images / path.name).write_bytes(path.read_bytes())
    cut = images / posters[2].name
    cut.write_bytes(cut.read_bytes()[:300])
    rows = list(csv.DictReader(io.StringIO((sample / "anime.csv").read_text(), newline="")))
    for row in rows:
        if row["anime_id"] in {posters[0].stem, posters[1].stem, posters[2].stem}:
            row["Genres"] = "UNKNOWN"
    path = tmp_path / "anime.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def annotated(*words: str | Path, code: int = 2) -> Result:
    """Run hpo annotate on the catalogue; it has a broken poster, so that the exit code is 2."""
    arguments = ["annotate", *map(str, words), "--images", "images"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def rows_of(path: Path | str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_gaps_are_filled_and_nothing_else_changes(catalogue: Path, bundle: Path):
    done = annotated(bundle, catalogue, "--out", "out.csv", "--json")
    account = json.loads(done.stdout)
    before, after = catalogue.read_bytes(), Path("out.csv").read_bytes()
    gaps = [row["anime_id"] for row in rows_of(catalogue) if row["Genres"] == "UNKNOWN"]
    posters = {path.stem for path in Path("images").iterdir()}
    filled = [row for row in rows_of("out.csv") if row["anime_id"] in gaps and row["Genres"] != "UNKNOWN"]
    assert len(filled) == account["filled"] == 2
    assert {row["Genres"] for row in filled} == {"Action, Drama"}  # in alphabetical order, as the others are
    undone = after.replace(b',"Action, Drama",', b",UNKNOWN,")
    original = before.replace(b',"Action, Drama",', b",UNKNOWN,")
    assert undone == original
    n_rows = len(rows_of(catalogue))
    assert account["out"] == "out.csv"
    assert account["entries"] == n_rows == account["known"] + len(gaps)
    assert account["still_without_labels"] == len(gaps) - 2
    assert account["without_poster"] == n_rows - len(posters)
    assert account["broken"] == 1
    assert "was skipped, it is not an image that can be read (damaged" in done.stderr


def test_a_catalogue_without_gaps_comes_out_the_same(catalogue: Path, bundle: Path):
    text = catalogue.read_bytes().replace(b",UNKNOWN", b",Drama")
    catalogue.write_bytes(text)
    assert json.loads(annotated(bundle, catalogue, "--out", "out.csv", "--json").stdout)["filled"] == 0
    assert Path("out.csv").read_bytes() == text


def test_known_entries_are_doubted_most_doubtful_first(catalogue: Path, bundle: Path):
    done = annotated(bundle, catalogue, "--out", "out.csv", "--doubtful", "doubts.csv", "--json")
    account = json.loads(done.stdout)
    doubtful = account["doubtful"]
    doubts = [row["doubt"] for row in doubtful]
    assert doubts == sorted(doubts, reverse=True)
    assert len(doubtful) == account["n_doubtful"] <= 9  # with a whole poster
    known = {row["anime_id"]: row for row in rows_of(catalogue)}
    for row in doubtful:
        assert row["title"] == known[row["id"]]["Name"]
        assert row["labels"] == known[row["id"]]["Genres"].split(", ")
        assert set(row["predicted"]) == {"Action", "Drama"}
        assert set(row["predicted"]) != set(row["labels"]) & set(LABELS)
        assert 0.5 < row["doubt"] <= 1
        assert row["threshold"] == dict(zip(LABELS, (1e-6, 1e-6, 1 - 1e-6, 1 - 1e-6), strict=True))[row["worst_label"]]
        assert Path(row["image"]).is_file()
    written = rows_of("doubts.csv")
    assert [row["id"] for row in written] == [row["id"] for row in doubtful]
    assert [row["labels"].split(", ") for row in written] == [row["labels"] for row in doubtful]
    assert account["doubtful_file"] == "doubts.csv"


def test_the_table_names_as_many_as_asked_for(catalogue: Path, bundle: Path):
    known = json.loads(annotated(bundle, catalogue, "--out", "out.csv", "--json").stdout)["doubtful"]
    shown = annotated(bundle, catalogue, "--out", "two.csv", "--doubtful", "2").stdout
    assert "Wrote two.csv: 2 filled (" in shown
    assert "still without labels), " in shown
    assert "1 with a broken one." in shown
    assert "most doubtful first" in shown
    assert [bool(re.search(rf"^ *{row['id']} ", shown, re.MULTILINE)) for row in known[:3]] == [True, True, False]
    none = annotated(bundle, catalogue, "--out", "none.csv", "--doubtful", "0").stdout
    assert "doubtful" not in none


def test_titles_with_brackets_are_shown_as_they_are(catalogue: Path, bundle: Path):
    first = json.loads(annotated(bundle, catalogue, "--out", "out.csv", "--json").stdout)["doubtful"][0]
    catalogue.write_bytes(catalogue.read_bytes().replace(first["title"].encode(), b"[/bold] [red]X"))
    assert "[/bold]" in annotated(bundle, catalogue, "--out", "again.csv").stdout


def test_probabilities_are_columns_of_every_row(catalogue: Path, bundle: Path):
    from hpo.bundle.predictor import Predictor

    annotated(bundle, catalogue, "--out", "out.csv", "--probabilities")
    before, after = catalogue.read_bytes().split(b"\r\n"), Path("out.csv").read_bytes().split(b"\r\n")
    assert after[0] == before[0] + b",p:Action,p:Drama,p:Romance,p:Comedy"
    rows = rows_of("out.csv")
    posters = {path.stem: path for path in Path("images").iterdir()}
    with_numbers = [row for row in rows if row["p:Action"]]
    assert len(with_numbers) == 11
    assert all(row["p:Comedy"] == "" for row in rows if row not in with_numbers)
    expected = Predictor.load(bundle).probabilities([posters[row["anime_id"]] for row in with_numbers])
    found = [[float(row[f"p:{label}"]) for label in LABELS] for row in with_numbers]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    with pytest.raises(DataError, match="without a column 'p:Action'"):
        annotated(bundle, "out.csv", "--out", "twice.csv", "--probabilities")


def test_the_average_of_several_posters_counts_and_a_broken_one_is_told(catalogue: Path, bundle: Path):
    from hpo.bundle.predictor import Predictor

    first, second, broken, *_ = sorted(Path("images").iterdir(), key=lambda path: int(path.stem))
    Path("few.csv").write_text(f"id,Genres,file\na,,{first.name}|{second.name}|{broken.name}\nb,Drama,{first.name}\n")
    done = annotated(bundle, "few.csv", "--out", "out.csv", "--image-column", "file", "--probabilities", "--json")
    assert json.loads(done.stdout)["broken"] == 0  # one poster is, but not all of the entry's
    assert broken.name in done.stderr
    expected = Predictor.load(bundle).probabilities([first, second]).mean(axis=0)
    np.testing.assert_allclose([float(rows_of("out.csv")[0][f"p:{label}"]) for label in LABELS], expected, atol=1e-3)


def test_one_hot_columns_and_a_clean_exit(catalogue: Path, bundle: Path):
    first, second, *_ = sorted(Path("images").iterdir(), key=lambda path: int(path.stem))
    Path("flags.csv").write_text(f"id,Drama,Western\n{first.stem},1,0\n7777,0,1\n{second.stem},0,0\n")
    account = json.loads(annotated(bundle, "flags.csv", "--out", "out.csv", "--json", code=0).stdout)
    assert Path("out.csv").read_text() == f"id,Drama,Western\n{first.stem},1,0\n7777,0,1\n{second.stem},1,0\n"
    assert (account["filled"], account["known"], account["without_poster"]) == (1, 2, 1)
    assert [row["worst_label"] for row in account["doubtful"]] == ["Action"]


def test_where_no_threshold_is_reached_the_gap_stays(catalogue: Path, tmp_path: Path):
    shy = tiny_bundle(tmp_path / "shy", LABELS, (1 - 1e-6,) * 4)
    account = json.loads(annotated(shy, catalogue, "--out", "out.csv", "--json").stdout)
    assert account["filled"] == 0
    assert Path("out.csv").read_bytes() == catalogue.read_bytes()
    bold = tiny_bundle(tmp_path / "bold", LABELS, (1 - 1e-6,) * 4, min_labels=1)
    assert json.loads(annotated(bold, catalogue, "--out", "bold.csv", "--json").stdout)["filled"] == 2


def test_nothing_is_overwritten_unasked(catalogue: Path, bundle: Path):
    before = catalogue.read_bytes()
    Path("there.csv").write_text("precious")
    for out in ("there.csv", "anime.csv"):
        with pytest.raises(DataError, match=r"Expected a new file for --out, got .*add --force"):
            annotated(bundle, catalogue, "--out", out)
    with pytest.raises(DataError, match=r"--doubtful, got there\.csv, which exists"):
        annotated(bundle, catalogue, "--out", "out.csv", "--doubtful", "there.csv")
    with pytest.raises(DataError, match="file of its own for --doubtful"):
        annotated(bundle, catalogue, "--out", "out.csv", "--doubtful", "out.csv", "--force")
    with pytest.raises(DataError, match="got the folder images"):
        annotated(bundle, catalogue, "--out", "images", "--force")
    with pytest.raises(UsageError, match="--out expects a path with names of at most 255 bytes"):
        annotated(bundle, catalogue, "--out", "x" * 300)
    assert (Path("there.csv").read_text(), catalogue.read_bytes()) == ("precious", before)
    annotated(bundle, catalogue, "--out", "anime.csv", "--force")
    assert catalogue.read_bytes() != before
    assert sorted(path.name for path in Path().iterdir()) == ["anime.csv", "images", "there.csv"]


def test_mistakes_are_one_sentence(catalogue: Path, bundle: Path, tmp_path: Path):
    western = tiny_bundle(tmp_path / "western", ("Western", "Noir"), (0.5, 0.5))
    for words, message in (
        ((western, catalogue), r"at least one of the bundle's labels \(Western, Noir\)"),
        ((bundle, "none.csv"), "no such file"),
        ((tmp_path, catalogue), "Expected a bundle"),
        ((bundle, catalogue, "--doubtful", "doubts.txt"), "a number or a .csv file for --doubtful"),
        ((bundle, catalogue, "--labels-column", "Genre"), "did you mean 'Genres'"),
    ):
        with pytest.raises(HpoError, match=message) as told:
            annotated(*words, "--out", "out.csv")
        assert "\n" not in str(told.value)
    assert not Path("out.csv").exists()
