"""What a search says on stderr while it runs."""

from __future__ import annotations

import pytest

from hpo.cli.rich_progress import RichProgress
from hpo.study.trial_queue import TrialCounts
from hpo.study.trial_record import TrialRecord


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
    trial = TrialRecord(3, "failed", error=error)
    RichProgress("f1_macro").trial_ended(trial, TrialCounts(0, 0, 1, 0, 0), None)
    assert capsys.readouterr().err == f"Trial 3 failed: {said}\n"


def test_u24_a_long_error_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    trial = TrialRecord(0, "failed", error=f"ValueError: {'x' * 10_000}")
    RichProgress("f1_macro").trial_ended(trial, TrialCounts(0, 0, 1, 0, 0), None)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("xxx...")
    assert len(line) < 400


def test_a_search_that_is_limited_by_time_shows_seconds_and_counts_trials():
    display = RichProgress("f1_macro", limit_seconds=600.0)
    display._trials = display._progress.add_task("seconds", total=600.0, note="")
    display._started -= 60.0
    display.trial_ended(TrialRecord(3, "complete", 0.5), TrialCounts(4, 1, 0, 0, 0), TrialRecord(3, "complete", 0.5))
    [task] = display._progress.tasks
    assert 60.0 <= task.completed < 600.0
    assert task.fields["note"] == "5 trials · best f1_macro 0.500"
