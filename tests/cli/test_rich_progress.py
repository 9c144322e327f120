"""What a search says on stderr while it runs."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState, create_trial

from hpo.cli.rich_progress import RichProgress
from hpo.study.trial_queue import TrialCounts


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ValueError: too wide", "ValueError: too wide"),
        ("RuntimeError: Error in loading\n  size mismatch for head.weight\n", "size mismatch for head.weight"),
        ("OSError: [red]no/such[/red]\n\n", "OSError: [red]no/such[/red]"),
        (None, "its MLflow run has its log"),
    ],
)
def test_u24_a_failed_trial_prints_the_last_line_of_its_error(error, said, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    noted = {} if error is None else {"error": error}
    trial = create_trial(state=TrialState.FAIL, user_attrs=noted)
    trial.number = 3
    RichProgress("f1_macro").trial_ended(trial, TrialCounts.of([trial]), None)
    assert capsys.readouterr().err == f"Trial 3 failed: {said}\n"


def test_u24_a_long_error_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    trial = create_trial(state=TrialState.FAIL, user_attrs={"error": f"ValueError: {'x' * 10_000}"})
    RichProgress("f1_macro").trial_ended(trial, TrialCounts.of([trial]), None)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("xxx...")
    assert len(line) < 400
