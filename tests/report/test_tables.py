from __future__ import annotations

import io
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from hpo.bundle.description import Description
from hpo.bundle.predictor import Answer
from hpo.data.dataset import DataOptions, PreparedData, prepare_data
from hpo.data.table.rules import CatalogueRules
from hpo.evaluation.baselines import constant_baselines
from hpo.evaluation.metrics import METRICS
from hpo.model.config import TrialConfig
from hpo.report.tables import (
    best_by_backbone,
    complete_trials,
    export_lines,
    prediction_table,
    print_evaluation,
    print_outcome,
    split_table,
    trial_table,
)
from hpo.search.search import Outcome
from hpo.selection.export import Exported
from hpo.study.storage import RetryingStorage
from hpo.study.study import Study
from hpo.study.trial_record import TrialRecord
from hpo.trial.description import measure

WIDTH = 80
LONG_NAME = "mobilenetv4_hybrid_large.e600_r384_in1k"


def rendered(*shown: object) -> str:
    """What a terminal of 80 columns shows."""
    console = Console(file=io.StringIO(), width=WIDTH)
    for renderable in shown:
        console.print(renderable)
    return console.file.getvalue()


def a_trial(config: TrialConfig, value: float, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial with what a search notes of it."""
    scores = {name: value + place / 100 for place, name in enumerate(METRICS)}
    noted = {"chosen": config.model_dump(), "scores": {"calibrated": scores, "fixed": dict.fromkeys(METRICS, 0.0)}}
    return create_trial(value=value, state=state, user_attrs=noted)


@pytest.fixture
def study(config, tmp_path) -> Study:
    """Two backbones; trial 3 was pruned, trials 0 and 4 are equal."""
    storage = RetryingStorage(optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/optuna.db"))
    made = optuna.create_study(storage=storage, direction="maximize", study_name="posters")
    made.set_user_attr("metric", "f1_macro")
    made.set_user_attr("budget", 8)
    other = config.model_copy(update={"backbone": LONG_NAME, "hidden_layers": 0, "features": "final"})
    made.add_trials([
        a_trial(config, 0.4125),
        a_trial(other, 0.5375),
        a_trial(config, 0.25),
        a_trial(other, 0.9, TrialState.PRUNED),
        a_trial(config, 0.4125),
    ])  # fmt: skip
    return Study(made, storage, tmp_path)


def numbers(trials: list[TrialRecord]) -> list[int]:
    return [trial.number for trial in trials]


def test_trials_are_ranked_and_the_earlier_of_equals_is_first(study):
    trials = complete_trials(study)
    assert numbers(trials) == [1, 0, 4, 2]
    assert numbers(best_by_backbone(trials)) == [1, 0]


def test_a_leaderboard_fits_a_terminal_with_every_number_whole(study):
    trials = complete_trials(study)
    shown = rendered(trial_table(trials, "f1_macro", "validation posters"))
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "Best trials by f1_macro on validation posters" in shown
    for metric in METRICS:
        assert metric in shown
    for trial in trials:
        [row] = [line.split() for line in shown.splitlines() if line.split()[:1] == [f"{trial.number}"]]
        averages = trial.scores["calibrated"]
        assert row[1:5] == [f"{averages[name]:.3f}" for name in METRICS]
    assert "champion" not in shown
    marked = rendered(trial_table(trials, "f1_macro", "validation posters", champion={trials[1].number}))
    assert next(line.split()[1] for line in marked.splitlines() if line.split()[:1] == ["★"]) == f"{trials[1].number}"
    assert "★ champion" in marked
    words = "".join(shown.split())
    assert f"{LONG_NAME},final,linear" in words
    assert "test_efficientnet,allstagesavg,1×32relu" in words


def test_u11_a_leaderboard_shows_half_of_each_trials_interval(study):
    newer, older = complete_trials(study)[:2]
    newer = replace(newer, reported={"value": 0.5, "ci95": [0.46, 0.52]})
    shown = rendered(trial_table([newer, older], "f1_macro", "validation posters"))
    assert max(map(len, shown.splitlines())) <= WIDTH
    rows = [line.split() for line in shown.splitlines()]
    assert next(row for row in rows if row[:1] == [f"{newer.number}"])[5] == "0.030"
    assert next(row for row in rows if row[:1] == [f"{older.number}"])[5] == "–"
    assert "half the 95 % interval of f1_macro" in " ".join(shown.split())


@pytest.fixture(scope="module")
def data(drawn, tmp_path_factory) -> PreparedData:
    """The drawn posters, and six broken ones; two rows of the CSV are of no use."""
    folder = tmp_path_factory.mktemp("data")
    images = Path(shutil.copytree(drawn.folder, folder / "images"))
    labels = [", ".join(np.array(drawn.label_names)[row]) or "Warm" for row in drawn.targets]
    rows = [f'{row:02},"{text}"' for row, text in enumerate(labels)]
    for row in range(60, 66):
        (images / f"{row}.jpg").write_bytes(b"not an image")
        rows.append(f'{row},"Warm, Moon"')
    rows += ['00,"Moon"', '99,"Bars"']
    csv = folder / "posters.csv"
    csv.write_text("\n".join(["id,genres", *rows]))
    options = DataOptions(csv=csv, images=images, rules=CatalogueRules(), val_size=12, test_size=12, seed=0)
    return prepare_data(options, folder / "cache", lambda *_: nullcontext(lambda _: None))


def test_the_split_is_shown_label_by_label(data):
    shown = rendered(split_table(data))
    assert max(map(len, shown.splitlines())) <= WIDTH
    for words in ("train (36)", "val (12)", "test (12)", "largest deviation of a share"):
        assert words in shown
    for shares in data.distribution.labels:
        [row] = [line.split() for line in shown.splitlines() if line.split()[:1] == [shares.label]]
        percentages = [f"{100 * share:.1f}" for share in (shares.train, shares.val, shares.test)]
        assert [cell for cell in row[1:] if cell != "%"] == [f"{shares.n_posters}", *percentages]


@pytest.mark.parametrize(("interrupted", "said"), [(True, "nothing is lost"), (False, "Stopped by --timeout")])
def test_the_end_of_a_search_says_what_to_type_next(study, data, interrupted, said):
    console = Console(file=io.StringIO(), width=WIDTH)
    print_outcome(Outcome(study, data, "a run", interrupted), console)
    shown = console.file.getvalue()
    assert "4 trials complete, 1 pruned, 0 failed, of 8 asked for." in shown
    baselines = constant_baselines(data.part("train").targets, data.part("val").targets)
    words = " ".join(shown.split())
    for name, values in baselines.items():
        assert f"{name} {values['f1_macro']:.3f}" in words
    assert said in shown
    assert "hpo export-best --study posters" in shown


@pytest.mark.parametrize(("seconds", "said"), [(5.0, "5 s"), (1.5, "1.5 s"), (12 * 86400.0, "1,036,800 s")])
def test_u14_a_search_without_a_complete_trial_hints_at_nothing_that_fails(tmp_path, data, seconds, said):
    storage = RetryingStorage(optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/empty.db"))
    made = optuna.create_study(storage=storage, direction="maximize", study_name="posters")
    made.set_user_attr("metric", "f1_macro")
    made.set_user_attr("budget", 50)
    console = Console(file=io.StringIO(), width=WIDTH)
    print_outcome(Outcome(Study(made, storage, tmp_path), data, "a run", False, timeout_seconds=seconds), console)
    assert console.file.getvalue().splitlines() == [
        "0 trials complete, 0 pruned, 0 failed, of 50 asked for.",
        f"Stopped by --timeout after {said}. The same command continues.",
        "No trial is complete yet, so there is nothing to export.",
    ]


@pytest.fixture
def measured(data) -> dict:
    """The scores of random answers to the val posters."""
    targets = data.part("val").targets
    probabilities = np.random.default_rng(0).random(targets.shape)
    return measure(probabilities, targets, np.full(3, 0.5), data.catalogue.label_names)


def test_an_evaluation_fits_a_terminal_with_every_number_whole(data, measured, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", f"{WIDTH}")
    targets = data.part("val").targets
    print_evaluation(measured, constant_baselines(targets, targets))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "12 posters" in shown
    for metric in METRICS:
        low, high = measured["ci95"][metric]
        [row] = [line for line in shown.splitlines() if metric in line]
        assert f"{measured[metric]:.3f}" in row
        assert f"{low:.3f} to {high:.3f}" in row
    for label, scores in measured["per_label"].items():
        [row] = [line for line in shown.splitlines() if label in line]
        assert all(f"{scores[name]:.3f}" in row for name in ("f1", "precision", "recall", "threshold"))


def test_an_export_names_its_scores_from_the_flattering_to_the_honest(measured, description: Description):
    baselines = {part: {"always": dict.fromkeys(METRICS, 0.125)} for part in ("val", "test")}
    metrics = {"metric": "f1_macro", "test": measured, "val": measured, "baselines": baselines}
    described = description.model_copy(update={"metrics": metrics})
    wrote, val, test, following = export_lines(Exported(Path("best"), "version 3, trial 17", described, None))
    assert wrote == "Wrote best: version 3, trial 17, test_efficientnet."
    low, high = measured["ci95"]["f1_macro"]
    score = f"f1_macro {measured['f1_macro']:.3f} [{low:.3f}, {high:.3f}], best constant 0.125, on 12 "
    assert val.strip().startswith(f"{score}validation posters")
    assert test.strip().startswith(f"{score}test posters, never looked at")
    assert following == "Next: hpo predict best POSTER.jpg"
    unjudged = export_lines(Exported(Path("best"), "version 3, trial 17", described, "The posters have changed."))
    together = export_lines(Exported(Path("best"), "an ensemble of 3", described, None, "Not worth its cost."))
    assert "  Not worth its cost." in together  # U9: what `hpo ensemble` says is said here too
    assert unjudged[-2].endswith("than those of the search: The posters have changed.")


def test_predictions_are_shown_likeliest_first():
    probabilities = {"Warm": 0.30, "Moon": 0.80, "Bars": 0.25, "Tall": 0.05}
    answers = [("a.jpg", Answer(("Warm", "Moon"), probabilities)), ("b.jpg", Answer((), probabilities))]
    cuts = dict.fromkeys(probabilities, 0.28)
    rows = rendered(prediction_table(answers, cuts)).split("b.jpg")
    first, second = (" ".join(re.sub(r"[│└┘├┤─]", " ", row).split()) for row in rows)
    for words in ("Moon (0.80/0.28),", "Bars (0.25/0.28),", "(0.30/0.28)", "(0.05/0.28)"):
        assert words in first, words
    assert first.index("Moon") < first.index("Warm")
    assert "none" in second
    assert "Moon (0.80/0.28)," in second
