"""Tables of other people as a bundle reads them: rows that are left out, labels that differ, posters seen before."""

from __future__ import annotations

import csv
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hpo.bundle.bundle import save_bundle
from hpo.bundle.predictor import Predictor
from hpo.bundle.trained_on import TRAINED_ON_FILE, of_posters, read_digests
from hpo.data.table.rules import CatalogueRules
from hpo.errors import BundleError
from hpo.evaluation.baselines import baseline_averages
from hpo.evaluation.bootstrap import ThresholdedPredictions
from hpo.evaluation.metrics import score
from hpo.report.tables import print_comparison, print_evaluation, table_lines, trained_on_line
from hpo.selection.compare import Comparison
from hpo.selection.evaluate import baselines_over_supported, evaluate, evaluate_table
from hpo.selection.labelled import Labelled, _likeness

SAME = [
    ("Sci-Fi", "Science Fiction"), ("SciFi", "science fiction"), ("Comedies", "Comedy"), ("Romance", "Romantic"),
    ("SF", "Science Fiction"), ("Action & Adventure", "Action and Adventure"), ("Musicals", "Musical"),
    ("Comédie", "Comedie"), ("Documentary", "Documentaries"),
]  # fmt: skip
OTHERS = [
    ("Drama", "Crime"),
    ("Mystery", "History"),
    ("War", "Western"),
    ("Action", "Animation"),
    ("Horror", "Romance"),
]


@contextmanager
def phase(what: str, total: int):
    yield lambda _: None


def table(folder: Path, drawn, rename: dict[str, str], extra_rows: int = 0) -> Labelled:
    """Write the drawn posters as a table, with some labels renamed, and read it as the bundle would."""
    file = folder / "table.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "genres", "file"])
        for at, (path, row) in enumerate(zip(drawn.posters.paths, drawn.targets, strict=True)):
            names = [rename.get(name, name) for name, yes in zip(drawn.label_names, row, strict=True) if yes]
            writer.writerow([at, ", ".join(names), path.name])
        for at in range(extra_rows):
            writer.writerow([f"x{at}", "Bars", f"nowhere-{at}.jpg"])
    rules = CatalogueRules(label_names=tuple(drawn.label_names), image_column="file")
    return Labelled.read(file, drawn.folder, rules)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_f3_spellings_of_one_label_are_alike(one, other):
    assert _likeness(one, other) >= 0.75
    assert _likeness(other, one) >= 0.75


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_f3_other_labels_are_not(one, other):
    assert _likeness(one, other) < 0.75


def test_f3_every_row_that_is_left_out_is_counted(tmp_path, drawn, bundle):
    labelled = table(tmp_path, drawn, {"Moon": "Moons"}, extra_rows=7)
    found = evaluate_table(Predictor.load(bundle), labelled, None, phase)
    assert found["rows_read"] == len(drawn.targets) + 7
    assert found["rows_read"] == found["rows_kept"] + sum(found["dropped"].values())
    assert found["dropped"]["no image"] == 7
    only_moon = int(((drawn.targets.sum(axis=1) == 1) & drawn.targets[:, 1]).sum())
    assert found["dropped"]["none of the top labels"] == only_moon
    assert f"{found['rows_read']:,} rows, {found['rows_kept']:,} kept" in labelled.lines()[0]


def test_f3_a_label_under_another_name_is_named_and_not_averaged(tmp_path, drawn, bundle, capsys):
    labelled = table(tmp_path, drawn, {"Moon": "Moons"})
    predictor = Predictor.load(bundle)
    found = evaluate_table(predictor, labelled, None, phase)
    assert found["labels_without_support"] == ["Moon"]
    assert found["labels_spelled_otherwise"] == {"Moon": "Moons"}
    assert found["labels_unknown"] == {"Moons": int(drawn.targets[:, 1].sum())}
    assert found["n_labels_averaged"] == 2
    f1 = {name: row["f1"] for name, row in found["per_label"].items()}
    assert found["f1_macro"] == pytest.approx((f1["Warm"] + f1["Bars"]) / 2)
    assert found["averages"]["f1_macro"] == found["f1_macro"]
    low, high = found["ci95"]["f1_macro"]
    assert low <= found["f1_macro"] <= high
    assert any("No poster has Moon (the table says Moons" in line for line in labelled.lines())
    targets = labelled.catalogue.targets
    baselines = baselines_over_supported(baseline_averages, targets, targets)
    n = len(targets)
    rates = [targets[:, at].sum() for at in (0, 2)]
    expected = np.mean([2 * k / (n + k) for k in rates])
    assert baselines["every label"]["f1_macro"] == pytest.approx(expected)
    print_evaluation(found, baselines)
    printed = capsys.readouterr().out
    assert "f1_macro *" in printed
    assert "over the 2 of 3 labels" in printed
    [moon] = [line for line in printed.splitlines() if "Moon" in line]
    assert moon.count("–") == 4


def test_where_all_labels_have_posters_nothing_changes(tmp_path, drawn, bundle):
    labelled, predictor = table(tmp_path, drawn, {}), Predictor.load(bundle)
    found, _ = evaluate(predictor, labelled.catalogue, phase)
    probabilities = predictor.predict(labelled.catalogue.image_paths).probabilities
    cuts = np.array(predictor.description.thresholds)
    assert found["f1_macro"] == score(probabilities, labelled.catalogue.targets, cuts).value("f1_macro")
    assert found["n_labels_averaged"] == 3


@pytest.fixture
def told(bundle, result, description, drawn):
    """A bundle that says that it was made from the first ten of the drawn posters."""
    save_bundle(bundle, description, result.network, "# A card", of_posters(drawn.posters.digests[:10]))
    return bundle


def test_u2_posters_of_the_training_are_counted_and_the_others_scored_apart(tmp_path, drawn, told):
    labelled, predictor = table(tmp_path, drawn, {}), Predictor.load(told)
    found = evaluate_table(predictor, labelled, read_digests(told), phase)
    seen = {drawn.posters.paths[row] for row in range(10)}
    rows = [row for row, path in enumerate(labelled.catalogue.image_paths) if path not in seen]
    n_seen = len(labelled.catalogue) - len(rows)
    assert 0 < n_seen <= 10
    assert found["trained_on"] == {"n_posters": n_seen}
    others = labelled.catalogue.take(np.array(rows))
    assert found["not_trained_on"] == evaluate(predictor, others, phase)[0]
    [line] = trained_on_line(found)
    assert f"{n_seen} of {found['n_posters']} posters are those that the bundle was trained" in line
    assert f"the other {len(rows)}: f1_macro" in line


def test_u2_a_copy_under_another_name_is_known_and_only_such_posters_are_said_so(tmp_path, drawn, told):
    (tmp_path / "copies").mkdir()
    for path in drawn.posters.paths:
        shutil.copy(path, tmp_path / "copies")
    everything = of_posters(drawn.posters.digests)
    found = evaluate_table(Predictor.load(told), table(tmp_path, drawn, {}), everything, phase)
    assert found["trained_on"]["n_posters"] == found["n_posters"]
    assert found["not_trained_on"] is None
    assert "these scores are too good" in trained_on_line(found)[0]


def test_u2_a_bundle_without_digests_says_so(tmp_path, drawn, bundle):
    assert read_digests(bundle) is None
    found = evaluate_table(Predictor.load(bundle), table(tmp_path, drawn, {}), read_digests(bundle), phase)
    assert found["trained_on"] is None
    assert "does not say which posters it was trained on" in trained_on_line(found)[0]


@pytest.mark.parametrize("damage", ["text", "objects", "a giant's header", "cut short"])
def test_a5_digests_that_are_none_are_refused(told, damage):
    file = told / TRAINED_ON_FILE
    content = file.read_bytes()
    if damage == "text":
        file.write_text("no digests")
    elif damage == "objects":
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif damage == "cut short":
        file.write_bytes(content[:-8])
    else:
        file.write_bytes(content.replace(b"(10,)", b"(9999999999999,)")[: len(content)])
    with pytest.raises(BundleError, match="Expected digests of the training posters in"):
        read_digests(told)


def test_f3_two_models_are_compared_over_the_labels_that_some_poster_has(tmp_path, drawn, capsys):
    labelled = table(tmp_path, drawn, {"Moon": "Moons"})
    targets = labelled.catalogue.targets
    rng = np.random.default_rng(0)
    first, second = (rng.random(targets.shape) for _ in range(2))
    cuts = np.full(3, 0.5)
    seen = np.arange(len(targets)) < 12
    decided = ThresholdedPredictions(first, cuts), ThresholdedPredictions(second, cuts)
    compared = Comparison(
        ("a", "b"), "the given posters", tuple(map(str, labelled.catalogue.image_paths)),
        labelled.catalogue.label_names, targets, None, decided,
        labelled, (seen, None),
    )  # fmt: skip
    account = compared.account(2)
    assert account["n_labels_averaged"] == 2
    kept = score(first[:, [0, 2]], targets[:, [0, 2]], cuts[[0, 2]])
    assert account["metrics"]["f1_macro"]["a"] == pytest.approx(kept.value("f1_macro"))
    whole = score(first, targets, cuts)
    assert account["metrics"]["f1_micro"]["a"] == pytest.approx(whole.value("f1_micro"))
    low, high = account["metrics"]["f1_macro"]["ci95"]
    assert low <= account["metrics"]["f1_macro"]["difference"] <= high
    assert account["trained_on"] == {"a": 12, "b": None}
    assert account["not_trained_on"]["n_posters"] == len(targets) - 12
    assert account["rows_read"] == account["rows_kept"] + sum(account["dropped"].values())
    told = " ".join(table_lines(account))
    assert "12 of" in told
    assert "b does not say which posters it was trained on" in told
    json.dumps(account)
    print_comparison(account)
    printed = capsys.readouterr().out
    assert "over the 2 of 3 labels that some poster has" in printed
    assert "that neither was trained on" in printed
