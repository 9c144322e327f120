"""Values that no option can take: refused with one sentence and exit code 2, before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import StudyError, TrackingError, UsageError
from hpo.study.storage import open_storage
from hpo.tracking.client import connect

DIGITS = "9" * 5000
LONG = "x" * 300


def refused(*words: str) -> str:
    with pytest.raises(UsageError) as told:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert told.value.exit_code == 2
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 400
    return str(told.value)


@pytest.mark.parametrize(
    ("option", "typed", "meant"),
    [("--sampler", "tp", "tpe"), ("--pruner", "halvin", "halving"), ("--thresholds", "calibrate", "calibrated")],
)
def test_u22_a_wrong_choice_is_refused_when_it_is_parsed(option, typed, meant):
    assert refused("search", option, typed).endswith(f"got {typed!r} (did you mean {meant!r}?).")


@pytest.mark.parametrize(
    "words",
    [
        ("search", "--seed", "-1"),
        ("search", "--seed", f"{2**32 + 1}"),
        ("search", "--labels", DIGITS),
        ("search", "--val-size", DIGITS),
        ("search", "--val-size", "9" * 200),
        ("search", "--trials", "0"),
        ("search", "--trials", DIGITS),
        ("search", "--timeout", "soon"),
        ("search", "--folds", "1000000"),
        ("search", "--workers", "999999"),
        ("search", "--data", "/dev/zero"),
        ("search", "--split", "/dev/zero"),
        ("search", "--space", "/dev/zero"),
        ("search", "--space", LONG),
        ("search", "--images", LONG),
        ("search", "--study", LONG),
        ("search", "--study", "a\x1bb"),
        ("search", "--study", "\udcff"),
        ("search", "--warm-start", "\udcff"),
        ("status", "--study", "a\nb"),
        ("export-best", "--out", LONG),
        ("report", "--out", LONG),
        ("data", "sample", LONG),
        ("data", "sample"),
        ("ui", "--port", "99999"),
    ],
    ids=lambda words: " ".join(words)[:40].encode("unicode_escape").decode(),
)
def test_a7_a_value_out_of_bounds_is_one_sentence(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(*words)


def test_a7_a_database_where_no_file_can_be_made_is_refused_at_once(tmp_path: Path):
    (tmp_path / "x.db.lock").mkdir()  # as in /proc, no lock can be made here, which FileLock would wait for
    with pytest.raises(StudyError, match="which cannot be used"), open_storage(f"sqlite:///{tmp_path}/x.db"):
        pass
    with pytest.raises(TrackingError, match="could not be opened"):
        connect(f"sqlite:///{tmp_path}/x.db", tmp_path, "hpo")
