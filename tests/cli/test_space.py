from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import SpaceError, UsageError

MINE = "include: default\nparameters: {epochs: 7, l1: {type: float, low: 0.0, high: 0.1, when: {features: [final]}}}\n"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A space file in the current folder, seen on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.yaml").write_text(MINE)
    return Path("mine.yaml")


def shown(*words: str) -> str:
    done = CliRunner().invoke(app, ["space", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("words", [(), ("default",), ("write_up",), ("large",), ("mine.yaml", "--sample", "2")])
def test_a_space_fits_a_terminal(mine, words):
    printed = shown(*words)
    for part in ("parameter", "weight_decay", "Fixed", "patience", "Recipe ", "Combinations: ", " continuous"):
        assert part in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_conditions_defaults_and_samples_are_shown(mine):
    printed = " ".join(shown("mine.yaml", "--sample", "2").split())
    for part in ("float 0 to 0.1", "features is final", "epochs 7", "At their defaults: ", "Sample 2: backbone "):
        assert part in printed


def test_json_is_one_object_and_the_samples_hang_on_the_seed(mine):
    account = json.loads(shown("mine.yaml", "--json", "--sample", "3"))
    assert account["name"] == "mine"
    assert account["fixed"]["epochs"] == 7
    assert account["searched"]["l1"] == {"type": "float", "low": 0.0, "high": 0.1, "when": {"features": ["final"]}}
    assert account["defaults"].keys().isdisjoint({*account["searched"], *account["fixed"]})
    assert account["combinations"]["discrete"] > 0
    assert len(account["samples"]) == 3
    assert json.loads(shown("mine.yaml", "--json", "--sample", "3")) == account
    assert json.loads(shown("mine.yaml", "--json", "--sample", "3", "--seed", "1"))["samples"] != account["samples"]


@pytest.mark.parametrize("words", [("--diff", "default", "mine.yaml"), ("default", "--diff", "mine.yaml")])
def test_a_difference_is_shown(mine, words):
    printed = shown(*words)
    for part in ("epochs", "fixed: 7", "l1", "features is final", "continues with the other, where"):
        assert part in printed
    assert "hidden_layers" not in printed.partition("Recipes")[0]


def test_a_difference_as_json(mine):
    difference = json.loads(shown("--diff", "default", "mine.yaml", "--json"))
    assert difference["parameters"]["epochs"]["second"] == 7
    assert difference["parameters"]["l1"]["second"]["high"] == 0.1
    assert difference["same_study"] is False
    same = json.loads(shown("--diff", "default", "default", "--json"))
    assert same == {"parameters": {}, "recipes": {}, "weights": {}, "same_study": True}
    assert "say the same" in shown("--diff", "default", "default")


@pytest.mark.parametrize(
    ("words", "kind", "sentence"),
    [
        (
            ("default", "mine.yaml"),
            UsageError,
            r"expects one file \(two are compared with --diff\), got 2: default, mine\.yaml",
        ),
        (("--diff", "default"), UsageError, r"expects two files with --diff, got 1: default"),
        (
            ("nowhere",),
            SpaceError,
            r"nowhere, found no such file: name a YAML file or one of those that ship \(auto, default",
        ),
    ],
)
def test_one_sentence_for_what_cannot_be_shown(mine, words, kind, sentence):
    with pytest.raises(kind, match=sentence):
        shown(*words)


def test_an_unknown_backbone_is_a_mistake_of_the_file(mine):
    mine.write_text("include: default\nparameters: {backbone: resnet5}\nrecipes: {}\n")
    with pytest.raises(SpaceError, match=r"\n  mine\.yaml: parameters\.backbone: .*did you mean 'resnet"):
        shown("mine.yaml", "--json")
