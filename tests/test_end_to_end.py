"""The real command line, as a person types it: search, watch, be killed, continue, export, predict, evaluate."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hpo.cli.app import app
from hpo.errors import HpoError
from hpo.tracking.artifacts import BUNDLE
from tests.forked import ForkedCommand

HPO = [sys.executable, "-m", "hpo"]
SPACE = """
parameters:
  backbone: {type: categorical, choices: [test_efficientnet, test_resnet]}
  image_size: 64
  features: {type: categorical, choices: [final, last_two_stages]}
  hidden_layers: {type: int, low: 0, high: 1}
  width: {type: categorical, choices: [16, 32], when: {hidden_layers: [1]}}
  input_dropout: 0.0
  weight_decay: {type: float, low: 1e-4, high: 1e-1, log: true}
  label_smoothing: 0.0
  focal_gamma: {type: float, low: 0.0, high: 2.0}
  focal_alpha: 0.5
  learning_rate: {type: float, low: 1e-3, high: 1e-1, log: true}
  schedule: cosine
  batch_size: 32
  epochs: 6
  patience: 3
weights: {test_efficientnet: random, test_resnet: random}
recipes:
  plain: {backbone: test_efficientnet, features: final, hidden_layers: 0, learning_rate: 1e-2}
"""


class CommandLine:
    """``hpo`` in a folder of its own, with a home and a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.env = {
            **os.environ,
            "HOME": str(folder / "home"),
            "HPO_CACHE_DIR": str(folder / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        for name in ("MLFLOW_TRACKING_URI", "HPO_STORAGE"):
            self.env.pop(name, None)

    def start(self, *words: str) -> ForkedCommand:
        return ForkedCommand(words, self.folder, self.env)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = self.start(*words)
        stdout, stderr = command.communicate()
        assert command.returncode is not None
        return subprocess.CompletedProcess(words, command.returncode, stdout, stderr)

    def start_anew(self, *words: str) -> subprocess.Popen[str]:
        """As ``start``, by the interpreter, which imports everything: where that, or reading as it prints, matters."""
        return subprocess.Popen(
            [*HPO, *words], cwd=self.folder, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def ok(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def here(self, *words: str) -> str:
        """As ``ok``, in this process: seconds sooner, where the words matter and not the process."""
        done = self._in_this_process(*words)
        assert done.exit_code == 0, done.output
        return done.stdout

    def refused(self, *words: str) -> str:
        """As ``fails``, in this process."""
        with pytest.raises(HpoError) as refusal:
            self._in_this_process(*words)
        return f"hpo: {refusal.value}"

    def _in_this_process(self, *words: str) -> Result:
        with contextlib.chdir(self.folder), pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            for name in ("MLFLOW_TRACKING_URI", "HPO_STORAGE"):
                if name not in self.env:
                    patch.delenv(name, raising=False)
            return CliRunner().invoke(app, words, catch_exceptions=False)

    def fails(self, *words: str) -> str:
        """Run a command that must end with one sentence and exit 1, and return the sentence."""
        done = self.run(*words)
        assert done.returncode == 1, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        return done.stderr.strip()

    def status(self, study: str) -> dict:
        return json.loads(self.here("status", "--study", study, "--json"))


@pytest.fixture(scope="module")
def posters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small drawn sample with one broken poster and one that is a PNG."""
    from PIL import Image

    from hpo.data.sample.sample import write_sample

    folder = tmp_path_factory.mktemp("posters")
    write_sample(folder / "sample", n_posters=160, seed=3)
    images = sorted((folder / "sample" / "images").glob("*.jpg"))
    images[0].write_bytes(images[0].read_bytes()[:300])
    with Image.open(images[1]) as poster:
        poster.save(images[1].with_suffix(".png"))
    images[1].unlink()
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def search_words(posters: Path) -> list[str]:
    sample = posters / "sample"
    return ["search", "--data", f"{sample / 'anime.csv'}", "--images", f"{sample / 'images'}",
            "--space", f"{posters / 'space.yaml'}", "--study", "s", "--val-size", "30", "--test-size", "30",
            "--labels", "4", "--folds", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, search_words: list[str]) -> tuple[CommandLine, str]:
    """A finished search of six trials, and what it printed."""
    hpo = CommandLine(tmp_path_factory.mktemp("searched"))
    done = hpo.run(*search_words, "--trials", "6")
    assert done.returncode == 0, done.stderr
    return hpo, done.stderr


def test_a_search_says_what_it_did(searched: tuple[CommandLine, str]) -> None:
    _, printed = searched
    for words in ("1 broken poster", "type not wanted", "val (30)", "Constant baselines", "hpo export-best --study s"):
        assert words in printed, words


def test_optuna_mlflow_and_the_registry_agree(searched: tuple[CommandLine, str]) -> None:
    from mlflow import MlflowClient

    hpo, _ = searched
    status = hpo.status("s")
    trials = status["trials"]
    assert (trials["complete"] + trials["pruned"], trials["running"], trials["waiting"]) == (6, 0, 0)
    uri = f"sqlite:///{hpo.folder / 'mlruns' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    [experiment] = [found for found in client.search_experiments() if found.name == "hpo"]
    runs = client.search_runs([experiment.experiment_id], "tags.`hpo.kind` = 'trial'")
    states = sorted(run.data.tags["hpo.state"] for run in runs)
    assert states == sorted(["complete"] * trials["complete"] + ["pruned"] * trials["pruned"])
    version = client.get_model_version_by_alias("s", "champion")
    assert (int(version.version), version.run_id) == (status["champion"]["version"], status["champion"]["run_id"])
    assert json.loads(hpo.ok("status", "--study", "s", "--json", "--tracking-uri", uri)) == status
    assert int(version.tags["hpo.trial"]) == status["champion_trial"]["number"]
    champion = client.get_run(version.run_id).data.metrics
    for strategy in ("fixed", "global", "per_label", "calibrated"):
        assert 0 <= champion[f"val/{strategy}/f1_macro"] <= 1
    assert champion["val/f1_macro"] == pytest.approx(status["champion_trial"]["value"])
    best = max(run.data.metrics["val/f1_macro"] for run in runs if run.data.tags["hpo.state"] == "complete")
    assert best == pytest.approx(status["best"]["value"])  # of a single trial, which the champion need not be (U5)
    assert not list(hpo.folder.rglob("*.pkl"))


def test_asking_for_no_more_trials_runs_none(searched: tuple[CommandLine, str], search_words: list[str]) -> None:
    hpo, _ = searched
    before, [figure] = hpo.status("s"), hpo.folder.rglob("progress.png")
    drawn = figure.stat().st_mtime_ns
    hpo.here(*search_words, "--trials", "6")
    assert hpo.status("s") == before
    assert figure.stat().st_mtime_ns == drawn  # what shows the same trials is not drawn again


def test_the_split_is_logged_found_again_by_a_check_and_used_again_by_file(
    searched: tuple[CommandLine, str], search_words: list[str]
) -> None:
    from mlflow import MlflowClient

    hpo, _ = searched
    before = hpo.status("s")
    [file] = (hpo.folder / "mlruns" / "splits").glob("*.json")
    uri = f"sqlite:///{hpo.folder / 'mlruns' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    [parent] = client.search_runs(
        [client.get_experiment_by_name("hpo").experiment_id], "tags.`hpo.kind` = 'study'", max_results=1
    )
    logged = {Path(artifact.path).name for artifact in client.list_artifacts(parent.info.run_id, "split")}
    assert logged == {file.name, file.with_suffix(".png").name}
    assert "kept together" in parent.data.tags["mlflow.note.content"]
    told = dict(zip(search_words[1::2], search_words[2::2], strict=True))
    sizes = ("--val-size", "30", "--test-size", "30", "--labels", "4")
    account = json.loads(hpo.here("data", "check", told["--data"], "--images", told["--images"], *sizes, "--json"))
    assert account["split"]["file"] == f"{file}"
    hpo.here(*search_words, "--trials", "6", "--seed", "5", "--split", f"{file}")  # the same study, nothing to do
    assert hpo.status("s") == before


def test_export_predict_evaluate(searched: tuple[CommandLine, str], posters: Path) -> None:
    hpo, _ = searched
    printed = hpo.ok("export-best", "--study", "s", "--out", "best")
    assert "never looked at by the search" in printed
    described = json.loads((hpo.folder / "best" / "bundle.json").read_text())
    assert described["metrics"]["test"]["n_posters"] == 30
    assert described["metrics"]["claim"]["from"] == "cross_validation"
    sample = posters / "sample"
    found = json.loads(
        hpo.ok("evaluate", "best", "--data", f"{sample / 'anime.csv'}", "--images", f"{sample / 'images'}", "--json")
    )
    scores = {"n_posters", "f1_macro", "f1_micro", "f1_samples", "mean_ap", "ci95", "averages", "per_label"}
    labels = {"n_labels_averaged", "labels_without_support", "labels_unknown", "labels_spelled_otherwise"}
    rows = {"rows_read", "rows_kept", "dropped", "examples", "columns", "broken"}
    assert set(found) == scores | labels | rows | {"trained_on", "not_trained_on"}
    assert found["not_trained_on"]["n_posters"] + found["trained_on"]["n_posters"] == found["n_posters"]
    assert list(found["per_label"]) == described["label_names"]
    images = sorted((sample / "images").iterdir())
    answers = hpo.run("predict", "best", *(f"{image}" for image in images[:3]), "--json")
    assert answers.returncode == 2  # the first one is broken
    assert images[0].name in answers.stderr
    predictions = json.loads(answers.stdout)["predictions"]
    assert [answer["image"] for answer in predictions] == [f"{image}" for image in images[1:3]]
    assert set(predictions[0]["probabilities"]) == set(described["label_names"])


def test_the_champion_was_run_again_on_fresh_seeds_and_says_why_it_won(searched: tuple[CommandLine, str]) -> None:
    from mlflow import MlflowClient

    hpo, printed = searched
    assert "again on seed 1" in printed
    assert "Champion: trial" in printed
    uri = f"sqlite:///{hpo.folder / 'mlruns' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    champion = client.get_model_version_by_alias("s", "champion")
    assert "has the best mean f1_macro" in champion.tags["hpo.reason"]
    assert "fresh seed" in champion.tags["hpo.reason"]
    assert "the runner-up, has 0." in champion.tags["hpo.reason"]
    others = [v.tags["hpo.reason"] for v in client.search_model_versions("name = 's'") if v.version != champion.version]
    assert all(reason.endswith("; to be confirmed") for reason in others)
    figures = {Path(file.path).name for file in client.list_artifacts(champion.run_id, "figures")}
    assert figures == {"precision-recall.png", "f1-by-threshold.png", "reliability.png", "confusions.png"}
    assert not client.list_artifacts(champion.run_id, BUNDLE)  # its head is trained again in seconds


def test_an_ensemble_is_chosen_exported_and_used_like_any_bundle(
    searched: tuple[CommandLine, str], posters: Path
) -> None:
    hpo, _ = searched
    account = json.loads(hpo.here("ensemble", "--max-members", "3", "--json"))
    weights = [member["weight"] for member in account["members"]]
    assert 1 <= len(weights) <= 3
    assert sum(weights) == pytest.approx(1)
    assert account["members"][-1]["value"] == pytest.approx(sum(member["gain"] for member in account["members"]))
    assert "the cheapest trial alone costs" in hpo.refused("ensemble", "--max-cost", "0.01")
    asked = ("--ensemble", "--max-members", "3", "--min-labels", "1", "--onnx")
    printed = hpo.here("export-best", *asked, "--out", "together")
    assert f"an ensemble of {len(weights)} trials" in printed
    verdict = next(line.strip() for line in printed.splitlines() if "worth its cost here" in line)
    told = " ".join(hpo.here("ensemble", "--max-members", "3").split())
    assert verdict in told  # U9: the same sentence wherever averaging is offered
    assert "every poster gets 1 labels or more: f1_macro" in printed
    described = json.loads((hpo.folder / "together" / "bundle.json").read_text())
    assert [member["weight"] for member in described["members"]] == pytest.approx(weights)
    assert described["metrics"]["claim"]["from"] == "cross_fitted"
    assert "The weighted mean of" in (hpo.folder / "together" / "README.md").read_text()
    sample = posters / "sample"
    words = ("evaluate", "together", "--data", f"{sample / 'anime.csv'}", "--images", f"{sample / 'images'}", "--json")
    found, without = json.loads(hpo.here(*words)), json.loads(hpo.here(*words, "--min-labels", "0"))
    assert found["without_min_labels"]["f1_macro"] == pytest.approx(without["f1_macro"])
    [answer] = json.loads(hpo.here("predict", "together", f"{sorted((sample / 'images').iterdir())[5]}", "--json"))[
        "predictions"
    ]
    assert answer["labels"]
    assert described["onnx"]["largest_difference"] < 1e-4
    assert "at most the 4 labels" in hpo.refused("export-best", "--min-labels", "5", "--out", "together", "--force")


def test_two_models_are_compared_on_the_same_posters(searched: tuple[CommandLine, str], posters: Path) -> None:
    hpo, _ = searched
    sample = posters / "sample"
    given = ("--data", f"{sample / 'anime.csv'}", "--images", f"{sample / 'images'}")
    champion = hpo.status("s")["champion_trial"]["number"]
    # The champion, and its trial, trained again: it comes out the same.
    same = json.loads(hpo.here("compare", "models:/s@champion", f"{champion}", *given, "--top", "2", "--json"))
    assert [row["difference"] for row in same["metrics"].values()] == pytest.approx([0] * 4, abs=1e-6)
    assert [row["difference"] for row in same["per_label"].values()] == pytest.approx([0] * 4, abs=1e-6)
    assert len(same["posters"]) == 2
    hpo.here("export-best", "--ensemble", "--flip-average", "--out", "several")
    members = json.loads((hpo.folder / "several" / "bundle.json").read_text())["members"]
    assert all(member["averages_flips"] for member in members)
    other = json.loads(hpo.here("compare", "models:/s@champion", "several", *given, "--json"))
    found = json.loads(hpo.here("evaluate", "several", *given, "--json"))
    assert other["metrics"]["f1_macro"]["b"] == pytest.approx(found["f1_macro"], abs=1e-6)
    assert other["averages"]["hamming_loss"]["b"] == pytest.approx(found["averages"]["hamming_loss"], abs=1e-6)
    assert "thresholds cross-fitted" in hpo.here("compare", "models:/s@champion", "#0")
    sentences = {
        "hpo leaderboard": ("compare", "0", "99"),
        "--data and --images to compare several": ("compare", "several", "1"),
    }
    for words, command in sentences.items():
        assert words in hpo.refused(*command), words


def test_trials_in_folds_are_judged_on_train_and_val(tmp_path: Path, search_words: list[str]) -> None:
    hpo = CommandLine(tmp_path)
    told = ("--folds", "3", "--trials", "3", "--objective", "cross_fitted", "--thresholds", "per_label")
    words = [*search_words[:-2], *told]
    hpo.ok(*words)
    assert "other folds" in hpo.refused(*words, "--folds", "4")
    out_of_fold = "training and validation posters, out of fold"
    assert out_of_fold in hpo.here("status")
    assert out_of_fold in " ".join(hpo.here("leaderboard").split())
    printed = hpo.here("export-best", "--single", "--out", "best")
    assert out_of_fold in printed
    described = json.loads((tmp_path / "best" / "bundle.json").read_text())
    assert described["threshold_strategy"] == "per_label"
    assert [member["weight"] for member in described["members"]] == pytest.approx([1 / 3] * 3)
    assert described["metrics"]["claim"]["from"] == "cross_fitted"
    assert described["metrics"]["out_of_fold"]["n_posters"] == described["metrics"]["cross_fitted"]["n_posters"] > 60


def test_leaderboard_by_backbone(searched: tuple[CommandLine, str]) -> None:
    hpo, _ = searched
    assert "test_efficientnet" in hpo.here("leaderboard", "--by", "backbone")


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_a_search_that_is_stopped_goes_on_to_exactly_its_budget(
    tmp_path: Path, search_words: list[str], blow: signal.Signals
) -> None:
    hpo = CommandLine(tmp_path)
    words = [*search_words, "--trials", "9"]
    for n_finished in (1, 4):
        process = hpo.start(*words)
        _wait_for_trials(process, tmp_path, n_finished)
        process.send_signal(blow)
        process.communicate(timeout=600)
        assert process.returncode != 0
        assert hpo.status("s")["champion"] is not None
    hpo.ok(*words)
    status = hpo.status("s")
    assert status["trials"]["complete"] + status["trials"]["pruned"] == 9
    assert (status["trials"]["running"], status["trials"]["waiting"]) == (0, 0)
    _states_agree(hpo, status)


def _wait_for_trials(process: ForkedCommand, folder: Path, n_finished: int) -> None:
    """Look at the database from outside until so many trials have finished."""
    deadline = time.monotonic() + 600
    database = folder / "mlruns" / "optuna.db"
    while time.monotonic() < deadline:
        time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(_read_only(database)) as connection:
            counted = connection.execute("SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')")
            if counted.fetchone()[0] >= n_finished:
                return
    raise AssertionError("the search never got so far")


def _read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True)


def _states_agree(hpo: CommandLine, status: dict) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{hpo.folder / 'mlruns' / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("hpo")
    runs = client.search_runs([experiment.experiment_id], "tags.`hpo.kind` = 'trial'")
    assert not [run for run in runs if run.info.status == "RUNNING"]
    finished = [run for run in runs if run.data.tags["hpo.state"] in ("complete", "pruned")]
    assert len(finished) == status["trials"]["complete"] + status["trials"]["pruned"]


def test_bad_input_is_one_sentence_with_a_cure(
    searched: tuple[CommandLine, str], search_words: list[str], posters: Path, tmp_path: Path
) -> None:
    hpo, _ = searched
    lonely = tmp_path / "lonely.csv"
    lonely.write_text("id,genres\n1,A|B\n2,A\n3,B\n")
    (tmp_path / "empty").mkdir()
    space = tmp_path / "space.yaml"
    space.write_text(SPACE.replace("patience: 3", "patience: 4"))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(SPACE.replace("test_resnet", "test_resnett"))
    hub = tmp_path / "hub.yaml"
    hub.write_text(SPACE.replace("test_resnet: random", "test_resnet: /no/such.pth"))
    sample = f"{posters / 'sample' / 'anime.csv'}"
    sentences = {
        "--data": hpo.fails("search", "--data", "nowhere.csv"),
        "--labels-column": hpo.refused("search", "--data", sample, "--labels-column", "Genre"),
        "no image": hpo.refused("search", "--data", sample, "--images", f"{tmp_path / 'empty'}"),
        "changed search space": hpo.fails(*search_words, "--space", f"{space}"),
        "did you mean 'test_resnet'": hpo.refused(*search_words, "--space", f"{wrong}"),
        "/no/such.pth": hpo.refused(*search_words, "--space", f"{hub}"),
        "other split": hpo.refused(*search_words, "--seed", "5"),
        "--metric": hpo.refused("search", "--metric", "f1"),
        "--timeout": hpo.refused("search", "--timeout", "soon"),
        "no study": hpo.refused("status", "--storage", f"sqlite:///{tmp_path / 'none.db'}"),
        "called 'x'": hpo.refused("status", "--study", "x"),
        "bundle.json": hpo.refused("predict", f"{tmp_path}", sample),
    }
    for words, sentence in sentences.items():
        assert words in sentence, (words, sentence)
        assert sentence.startswith("hpo: ")
