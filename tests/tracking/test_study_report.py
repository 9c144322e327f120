"""The report on a study: everything that a reader needs who has only the link."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.bundle.model_card import PARTS
from hpo.report.status import status_lines, status_of
from hpo.study.study import Study, open_study
from hpo.study.trial_record import TrialRecord
from hpo.tracking.study_report import (
    backbone_rows,
    cost_sentence,
    leaderboard_rows,
    states_sentence,
    study_note,
    threshold_rows,
)

FIGURE = {"value": 0.47, "ci95": [0.44, 0.5]}
BEGAN = datetime(2026, 11, 25, 14)


def trial(number: int, backbone: str, value: float | None, state: TrialState = TrialState.COMPLETE) -> FrozenTrial:
    """A trial as a search leaves it, of two labels."""
    config = {"backbone": backbone, "hidden_layers": 1, "width": 256}
    noted: dict[str, object] = {"chosen": config, "worker": f"machine-{number % 2}", "run_id": f"run{number}"}
    if value is not None:
        averages = {
            "f1_macro": value,
            "f1_micro": 0.6,
            "precision_macro": 0.5,
            "recall_macro": 0.4,
            "hamming_loss": 0.2,
        }
        labels = {f"val/{name}/{label}": 0.3 for name in ("f1", "precision", "recall") for label in ("Drama", "War")}
        cuts = {"threshold/Drama": 0.25, "threshold/War": 0.75, "val/support/Drama": 70.0}
        noted["metrics"] = {**{f"val/{name}": each for name, each in averages.items()}, **labels, **cuts}
        noted["seconds"] = {"training": 30.0, "features": 10.0}
    began = BEGAN + timedelta(minutes=number)
    return FrozenTrial(
        number, state, value, began, began + timedelta(seconds=45), {}, {}, noted, {}, {}, trial_id=number
    )  # fmt: skip


TRIALS = [
    trial(0, "a", 0.4),
    trial(1, "b", 0.6),
    trial(2, "a", 0.5),
    trial(3, "b", None, TrialState.PRUNED),
    trial(4, "c", None, TrialState.FAIL),
]
RECORDS = [TrialRecord.of(each) for each in TRIALS]


def test_the_best_of_each_backbone_and_how_many_it_had() -> None:
    first, second = backbone_rows(RECORDS)
    assert (first["backbone"], first["number"], first["trials"]) == ("b", 1, 2)
    assert (second["backbone"], second["number"], second["trials"]) == ("a", 2, 2)
    assert first["F1 macro"] == 0.6
    assert first["1 - Hamming loss"] == pytest.approx(0.8)
    assert "accuracy" not in first
    assert [row["number"] for row in leaderboard_rows(RECORDS, 2)] == [1, 2]


def test_thresholds_of_each_label() -> None:
    drama, war = threshold_rows(RECORDS[1])
    assert drama == {"label": "Drama", "threshold": 0.25, "f1": 0.3, "precision": 0.3, "recall": 0.3, "posters": 70}
    assert (war["label"], war["threshold"]) == ("War", 0.75)
    assert threshold_rows(RECORDS[3]) == []


def test_u5_best_is_the_best_single_trial_and_the_champion_is_named_apart(study: Study) -> None:
    optuna.load_study(study_name="my study", storage=study._storage).add_trials(TRIALS)
    best, second = study.top(2)
    for seed, (luckiest, steady) in enumerate([(0.41, 0.51), (0.43, 0.52)], start=1):
        study.confirm(best, seed, luckiest)
        study.confirm(second, seed, steady)
    status = status_of(study, None)
    assert (status["best"]["number"], status["best"]["value"]) == (best.number, best.value)
    assert status["champion_trial"] == {"number": second.number, "value": second.value, "fresh_seeds": [0.51, 0.52]}
    sentence = (
        f"Champion: trial {second.number}, mean f1_macro 0.515 over 2 fresh seeds ({second.value:.3f} on the seed that "
        f"selected it). Best single trial: {best.number}, {best.value:.3f}."
    )
    assert sentence in study_note(study, "7")
    assert f"  {sentence}" in status_lines(status)
    assert [row["trial"].endswith("★") for row in leaderboard_rows(study.trials(), 2, {second.number})] == [False, True]


def test_states_and_cost_in_words() -> None:
    assert states_sentence(RECORDS, 50) == "4 of 50 trials have finished: 3 complete, 1 pruned; 1 failed."
    assert cost_sentence(RECORDS) == (
        "5 trials took 0:03:45 in all, run by 2 workers. The complete ones spent it on training 0:01:30, "
        "features 0:00:30."
    )
    assert cost_sentence([]) == "No trial has ended yet."


@pytest.fixture
def study(tmp_path: Path) -> Study:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    study = open_study(url, "my study", tmp_path / "locks", 0, create=True)
    study.bind({}, {"metric": "f1_macro", "synthetic": False, "thresholds": "calibrated", "folds": 5})
    study.set_budget(50)
    return study


def test_before_the_first_trial(study: Study) -> None:
    note = study_note(study, "7")
    assert "No trial is complete yet." in note
    assert "0 of 50 trials have finished" in note
    assert "hpo search --study 'my study'" in note


def test_a_reader_finds_the_best_trial_why_it_won_and_how_to_get_it(study: Study) -> None:
    optuna.load_study(study_name="my study", storage=study._storage).add_trials(TRIALS)
    study.note_posters("## Posters\n\n100 train")
    champion = {"version": 2, "run_id": "run1", "reason": "it has the best mean", "ci95": [0.55, 0.65]}
    study.set_champion(champion)  # type: ignore[arg-type]
    note = study_note(study, "7")
    assert "**The champion's f1_macro on training and validation posters, out of fold: 0.600 [0.550, 0.650]**" in note
    assert "Champion: trial 1, f1_macro 0.600. It is the best single trial." in note
    assert "usually better" not in note
    assert "`hpo ensemble --study 'my study'` says whether averaging several trials is worth its cost here" in note
    assert "[version 2](#/models/my%20study/versions/2)" in note
    assert "Why: it has the best mean." in note
    assert "`hpo export-best --study 'my study'`" in note
    assert "[#1 b · 1 × 256 · 0.600](#/experiments/7/runs/run1)" in note
    assert "| Drama | 0.250 | 0.300 |" in note
    assert "## Posters" in note
    assert "synthetic" not in note


def one_that_notes_its_figure() -> FrozenTrial:
    noted = create_trial(value=0.5, user_attrs={**TRIALS[0].user_attrs, "reported": FIGURE})
    noted.datetime_start, noted.datetime_complete = TRIALS[0].datetime_start, TRIALS[0].datetime_complete
    return noted


def test_u11_status_reports_the_champions_own_figure_and_what_its_export_claims(study: Study) -> None:
    noted = one_that_notes_its_figure()
    assert status_of(study, None)["reported"] is None
    optuna.load_study(study_name="my study", storage=study._storage).add_trial(noted)
    status = status_of(study, None)
    assert status["reported"] == {**FIGURE, "on": PARTS["cross_fitted"], "test": None}
    sentence = f"Reported: f1_macro 0.470 [0.440, 0.500] on {PARTS['cross_fitted']}."
    assert f"  {sentence}" in status_lines(status)
    assert f"**{sentence}**" in study_note(study, "7")
    optuna.load_study(study_name="my study", storage=study._storage).add_trial(TRIALS[0])  # of an older hpo
    rows = leaderboard_rows(study.trials(), 2)
    assert [row["reported [95 %]"] for row in rows] == ["0.470 [0.440, 0.500]", "–"]
    assert "| 0.470 [0.440, 0.500] |" in study_note(study, "7")
    tested = {"value": 0.46, "ci95": [0.4, 0.52], "n_posters": 60}
    study.note_exported(
        {"trials": [0], "value": 0.47, "ci95": [0.44, 0.5], "on": PARTS["cross_fitted"], "test": tested}
    )
    status = status_of(study, None)
    assert status["reported"] == {**FIGURE, "on": PARTS["cross_fitted"], "test": tested}
    assert f"  {sentence[:-1]}; 0.460 [0.400, 0.520] on 60 test posters." in status_lines(status)


def test_u11_what_another_trial_claimed_at_its_export_is_not_reported_of_the_champion(study: Study) -> None:
    noted = one_that_notes_its_figure()
    optuna.load_study(study_name="my study", storage=study._storage).add_trial(noted)
    study.note_exported({"trials": [7], "value": 0.9, "ci95": [0.8, 1.0], "on": PARTS["test"], "test": {}})
    assert status_of(study, None)["reported"]["value"] == FIGURE["value"]
