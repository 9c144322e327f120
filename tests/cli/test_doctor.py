from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import HpoError

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
WEIGHTS = "weights: {resnet18: random}\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without an mlruns, and no environment that names another place."""
    monkeypatch.chdir(tmp_path)
    for name in ("HPO_STORAGE", "MLFLOW_TRACKING_URI", "HPO_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


def doctor(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *words], catch_exceptions=False)
    return done.exit_code, done.stdout


def test_a_space_without_unused_parameters_is_a_table_and_exit_code_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "mine.yaml").write_text(SPACE + WEIGHTS)
    code, printed = doctor("--space", str(tmp_path / "mine.yaml"), "--configurations", "1")
    assert code == 0
    for part in ("weight_decay", "has an effect in 1 of 1", "Every parameter has an effect."):
        assert part in printed
    assert max(len(line) for line in printed.splitlines() if "→" not in line) <= 80  # a fix may be a command


def test_a_parameter_without_effect_is_reported_and_is_exit_code_1(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(f"{SPACE}  dropout: {{type: float, low: 0.0, high: 0.5}}\n{WEIGHTS}")
    code, printed = doctor("--space", str(tmp_path / "mine.yaml"), "--configurations", "1", "--json")
    account = json.loads(printed)
    assert (code, account["name"], account["no_effect"]) == (1, "mine", ["dropout"])
    dropout = account["parameters"]["dropout"]
    assert dropout["interaction"] == {"parameter": "hidden_layers", "idle_at": 0, "active_at": 2}
    assert (dropout["searched"], dropout["verdict"], dropout["active_in"]) == (True, "no effect", 0)


def test_without_a_space_the_environment_alone_is_examined():
    code, printed = doctor("--json", "--trials", "30", "--workers", "1")
    account = json.loads(printed)
    assert (code, account["problems"]) == (0, [])
    assert list(account) == ["checks", "problems", "warnings"]
    by_name = {check["name"]: check for check in account["checks"]}
    assert list(by_name)[:4] == ["posters", "storage", "tracking", "two databases"]
    assert by_name["trials"] == {
        "name": "trials",
        "state": "ok",
        "message": "30 trials, planned in the stages heads, inputs, fine_tune; the sampler learns from trial 10 on",
        "fix": "",
    }
    assert not Path("mlruns").exists()


def test_a_problem_is_a_line_with_its_cure_and_exit_code_1():
    code, printed = doctor("--storage", "mysql://me:secret@host/x", "--tracking-uri", "./mlruns", "--trials", "5")
    assert code == 1
    lines = " ".join(printed.split())
    refused = "mysql://me:***@host/x: expected a database of sqlite or postgresql, got mysql → use "
    assert f"problem storage: {refused}" in lines
    assert (
        "warning trials: 5 trials, planned in the stages heads, inputs, fine_tune, and the sampler learns from" in lines
    )
    assert "Fix before you search: storage, tracking." in lines
    assert "ok backbones" in lines
    assert "secret" not in printed


def test_posters_are_counted_where_they_are(tmp_path: Path):
    (tmp_path / "movies.csv").write_text("id,genres\n1,Drama\n2,Comedy\n")
    (tmp_path / "posters").mkdir()
    (tmp_path / "posters" / "1.jpg").touch()
    words = ("--data", "movies.csv", "--images", "posters", "--cache-dir", "cache", "--json")
    [posters, *_] = json.loads(doctor(*words)[1])["checks"]
    assert posters["message"] == "2 rows in movies.csv, 1 images in posters"


@pytest.mark.parametrize("workers", ["0", "-1", "many"])
def test_a_number_of_workers_that_is_none(workers: str):
    with pytest.raises(HpoError, match=r"^--workers expects a number from 1 on, or auto, got "):
        doctor(f"--workers={workers}")
