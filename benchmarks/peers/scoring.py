"""The scores of all, by hpo's own code: at the peer's own threshold, and at those that hpo would choose on val."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.record import RECORD
from hpo.evaluation.metrics import Scores, score
from hpo.evaluation.thresholds import fit

METRICS = ("f1_macro", "f1_micro", "mean_ap")
OWN, CALIBRATED = "own threshold", "calibrated per label"


@dataclass(frozen=True)
class Result:
    """The scores on test of what was best at a mark."""

    mark: float  # minutes
    seconds: float  # since when it was there
    scores: dict[str, dict[str, float]]  # thresholds → metric → value


def read_results(out: Path, targets: dict[str, NDArray[np.bool_]]) -> list[Result]:
    """Score what a peer's script recorded in `out`; thresholds are fitted on val, scores are those of test."""
    return [
        Result(line["mark"], line["seconds"], _score(out, line, targets))
        for line in _lines(out)
        if line["kind"] == "result"
    ]


def n_trials(out: Path) -> int:
    """Return how many trials ended, as the script recorded it."""
    return sum(line["kind"] == "trial" for line in _lines(out))


def _lines(out: Path) -> list[dict]:
    record = out / RECORD
    return [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []


def _score(out: Path, line: dict, targets: dict[str, NDArray[np.bool_]]) -> dict[str, dict[str, float]]:
    val, test = (np.load(out / line[part]) for part in ("val", "test"))
    own = np.full(test.shape[1], line["threshold"])
    calibrated = fit("calibrated", val, targets["val"]).values
    return {
        OWN: _headline(score(test, targets["test"], own)),
        CALIBRATED: _headline(score(test, targets["test"], calibrated)),
    }


def _headline(scores: Scores) -> dict[str, float]:
    return {metric: scores.value(metric) for metric in METRICS}
