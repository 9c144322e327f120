from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import SpaceError

SPACE = """
parameters:
  backbone: resnet18
  image_size: native
  features: final
  hidden_layers: 0
  input_dropout: 0.0
  weight_decay: 0.01
  label_smoothing: 0.0
  focal_gamma: 0.0
  focal_alpha: 0.5
  learning_rate: 1e-3
  schedule: constant
  batch_size: 64
  epochs: 5
  patience: 5
"""


def doctor(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *words], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_a_space_without_dead_parameters_is_a_table_and_exit_code_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.yaml").write_text(SPACE)
    code, printed = doctor("--space", str(tmp_path / "mine.yaml"), "--configurations", "1")
    assert code == 0
    for part in ("weight_decay", "alive in 1 of 1", "No parameter is dead."):
        assert part in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_dead_parameter_is_told_and_is_exit_code_1(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(f"{SPACE}  dropout: {{type: float, low: 0.0, high: 0.5}}\n")
    code, printed = doctor("--space", str(tmp_path / "mine.yaml"), "--configurations", "1", "--json")
    account = json.loads(printed)
    assert (code, account["name"], account["dead"]) == (1, "mine", ["dropout"])
    dropout = account["parameters"]["dropout"]
    assert dropout["revival"] == {"parameter": "hidden_layers", "dead_at": 0, "alive_at": 2}
    assert (dropout["searched"], dropout["verdict"], dropout["alive_in"]) == (True, "dead", 0)


def test_without_a_space_the_sentence_says_what_to_type():
    with pytest.raises(SpaceError, match=r"got none: type hpo doctor --space default\.$"):
        doctor()
