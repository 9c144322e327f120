from __future__ import annotations

import io
import warnings
from datetime import datetime

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from hpo.evaluation.thresholds import fit
from hpo.study.trial_record import ParameterRange, TrialRecord
from hpo.tracking.figures import decision_figures, progress_figure, scale, spread_of_thresholds, study_figures


@pytest.mark.parametrize("kind", ["plain", "no positive", "all equal", "two posters"])
def test_every_figure_of_decisions_is_drawn_whatever_the_posters(kind):
    rng = np.random.default_rng(0)
    n_posters = 2 if kind == "two posters" else 80
    targets = rng.random((n_posters, 6)) < 0.3
    probabilities = np.clip(0.3 + 0.3 * targets + rng.normal(0, 0.2, targets.shape), 0, 1)
    if kind == "no positive":
        targets[:, 2] = False
    if kind == "all equal":
        probabilities[:] = 0.5
    figures = decision_figures(probabilities, targets, fit("calibrated", probabilities, targets), "ABCDEF")
    assert figures.keys() == {"precision-recall", "f1-by-threshold", "reliability", "confusions"}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert [axes.get_title(loc="left")[0] for axes in figures["f1-by-threshold"].axes] == list("ABCDEF")


def test_a6_f26_labels_and_choices_of_any_kind_are_drawn_without_a_warning(capfd):
    names = ["$x^$", "\ud800", "動作", "a$b$c_{", "\x1b[31m", "two\nlines"]
    rng = np.random.default_rng(0)
    targets = rng.random((80, 6)) < 0.3
    probabilities = rng.random((80, 6))
    figures = decision_figures(probabilities, targets, fit("calibrated", probabilities, targets), names)
    times = datetime(2026, 11, 25, 14), datetime(2026, 11, 25, 15)
    searched = {"a$^$": ParameterRange(tuple(names))}
    trials = [
        TrialRecord(at, "complete", 0.1 * at, {"a$^$": name}, searched, *times, worker=name)
        for at, name in enumerate(names)
    ]
    figures |= study_figures(trials, "f1_macro", {"a$^$": 1.0})
    figures["progress"] = progress_figure([0.1, 0.2], ["complete"] * 2, "f1_macro", {"$^$ 動作": 0.1})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in figures.values():
            figure.savefig(io.BytesIO(), format="png", dpi=40)
    assert capfd.readouterr().err == ""


def test_a_threshold_lies_within_its_spread_which_shrinks_with_posters():
    rng = np.random.default_rng(0)
    targets = rng.random((2000, 3)) < 0.3
    probabilities = np.clip(0.3 + 0.3 * targets + rng.normal(0, 0.2, targets.shape), 0, 1)
    widths = []
    for n_posters in (100, 2000):
        fitted = fit("calibrated", probabilities[:n_posters], targets[:n_posters])
        low, high = spread_of_thresholds(probabilities[:n_posters], targets[:n_posters], fitted)
        assert ((low <= fitted.values + 0.02) & (fitted.values - 0.02 <= high)).all()
        widths.append((high - low).mean())
    assert widths[1] < widths[0]


def test_progress_shows_every_trial_and_the_best_so_far():
    values, states = [0.2, None, 0.4, 0.1, 0.3], ["complete", "failed", "complete", "pruned", "complete"]
    baselines = {"every label": 0.301, "best constant set": 0.302, "prior sampling": 0.2}
    figure = progress_figure(values, states, "f1_macro", baselines)
    figure.savefig(io.BytesIO(), format="png")
    [axes] = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["complete"].get_ydata().tolist() == [0.2, 0.4, 0.3]
    assert lines["pruned"].get_ydata().tolist() == [0.1]
    assert lines["best so far"].get_ydata().tolist() == [0.2, 0.2, 0.4, 0.4, 0.4]
    assert [text.get_text() for text in axes.texts] == ["every label, best constant set", "prior sampling"]


def test_a_study_without_a_complete_trial_is_drawn_as_well():
    progress_figure([0.1], ["pruned"], "mean_ap", {}).savefig(io.BytesIO(), format="png")


def searched(n_trials: int) -> optuna.Study:
    """A study of every kind of parameter, one of them conditional, with pruned and failed trials."""
    study = optuna.create_study(direction="maximize")
    for number in range(n_trials):
        trial = study.ask()
        trial.set_user_attr("worker", f"machine-{number % 2}")
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        depth = trial.suggest_int("depth", 0, 3)
        if trial.suggest_categorical("backbone", ["tf_efficientnet_lite0", "b"]) == "b":
            trial.suggest_float("dropout", 0.0, 0.7)
        trial.set_user_attr("curve", {"fold_1/val/f1": [[1, 0.1], [2, 0.3]], "fold_2/val/f1": [[1, 0.3]]})
        if number % 4 == 3:
            study.tell(trial, state=TrialState.PRUNED if number % 8 == 3 else TrialState.FAIL)
        else:
            study.tell(trial, 0.1 * depth + rate)
    return study


def records(study: optuna.Study) -> list[TrialRecord]:
    return [TrialRecord.of(trial) for trial in study.trials]


@pytest.mark.parametrize("n_trials", [0, 1, 2, 20])
def test_a_study_of_any_length_is_drawn(n_trials):
    study = searched(n_trials)
    importances = optuna.importance.get_param_importances(study) if n_trials == 20 else {}
    figures = study_figures(records(study), "f1", importances)
    drawn = {"timeline": 1, "learning-curves": 1, "parallel-coordinates": 2, "slices": 2, "importance": 20}
    assert figures.keys() == {name for name, from_trials in drawn.items() if n_trials >= from_trials}
    for figure in figures.values():
        figure.savefig(io.BytesIO(), format="png", dpi=40)


def test_values_lie_on_a_scale_by_their_range():
    space = {
        "rate": ParameterRange(None, 1e-4, 1.0, log=True),
        "depth": ParameterRange(None, 2, 6),
        "kind": ParameterRange(("a", "b", "c")),
        "alone": ParameterRange(("only",)),
    }
    params = {"rate": 1e-2, "depth": 3, "kind": "c", "alone": "only"}
    without = TrialRecord(1, "complete", 0.2)
    trials = [TrialRecord(0, "complete", 0.1, params, space), without]
    for name, place in {"rate": 0.5, "depth": 0.25, "kind": 1.0, "alone": 0.0}.items():
        placed = scale(trials, name)
        assert placed.positions[0] == pytest.approx(place)
        assert np.isnan(placed.positions[1])
        assert placed.ticks[0][0] == pytest.approx(0.0)


def test_folds_that_ended_early_count_with_their_last_value():
    figure = study_figures(records(searched(1)), "f1", {})["learning-curves"]
    [line] = figure.axes[0].lines
    assert line.get_xdata().tolist() == [1, 2]
    assert line.get_ydata().tolist() == pytest.approx([0.2, 0.3])
