"""What a peer's script reports to the driver: when a trial ended, and what its best model so far says of val and test.

The scripts import this beside them, in environments that hold no hpo. Predicting test posters is the benchmark's wish
and not the peer's, so it happens after the time is up: until then a script keeps the weights of what was best.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

RECORD = "record.jsonl"
Predict = Callable[[dict[str, Any], Path], np.ndarray]


class TimeUp(Exception):
    """The minutes are over."""


def asked() -> argparse.Namespace:
    """Read what the driver asks: a CSV (path, part, a column a label), weights, minutes, and where to keep records."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--posters", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="holds <backbone>.safetensors under timm's names")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--marks", type=float, nargs="+", required=True, help="minutes at which the best is scored")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--started", type=float, required=True, help="when the process was started, as time.time()")
    return parser.parse_args()


class Record:
    """The lines of `record.jsonl`, and the arrays that they name."""

    def __init__(self, given: argparse.Namespace) -> None:
        self._given = given
        self._kept: list[dict[str, Any]] = []

    def seconds(self) -> float:
        """Return the seconds since the process was started."""
        return time.time() - self._given.started

    def left(self) -> float:
        """Return the seconds until the time is up."""
        return self._given.minutes * 60 - self.seconds()

    def check(self) -> None:
        """Raise TimeUp when it is."""
        if self.left() < 0:
            raise TimeUp

    def trial(self) -> None:
        """Note that a trial has ended, complete or pruned."""
        self._write({"kind": "trial", "seconds": self.seconds()})

    def keep(self, network: Any, score: float, **said: Any) -> None:
        """Keep the weights of an epoch that is better than all before it, and what else predicting needs."""
        from safetensors.torch import save_file

        if self._kept and score <= self._kept[-1]["score"]:
            return
        file = self._given.out / f"kept{len(self._kept)}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file)
        self.keep_file(file, self.seconds(), score, **said)

    def keep_file(self, weights: Path, seconds: float, score: float, **said: Any) -> None:
        """Keep an epoch whose weights are on disk already; the score decides, not the order of calls."""
        self._kept.append({"weights": weights, "seconds": seconds, "score": score, **said})

    def best(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield each mark at which something was kept, and what was best of it by then."""
        for mark in self._given.marks:
            until = [kept for kept in self._kept if kept["seconds"] <= mark * 60]
            if until:
                yield mark, max(until, key=lambda kept: kept["score"])

    def finish(self, predict_test: Predict) -> None:
        """Predict test by what was best at each mark: kept with its `settings`, its `threshold` and its `val`."""
        for mark, best in self.best():
            test = predict_test(best["settings"], best["weights"])
            self.result(best["threshold"], best["val"], test, best["seconds"], mark)

    def result(
        self, threshold: float, val: np.ndarray, test: np.ndarray, seconds: float, mark: float | None = None
    ) -> None:
        """Note probabilities (N, L) on val and test, and the one threshold that the peer itself would cut them at."""
        mark = self._given.minutes if mark is None else mark
        files = {part: f"{part}{mark:g}.npy" for part in ("val", "test")}
        np.save(self._given.out / files["val"], np.asarray(val, dtype="float64"))
        np.save(self._given.out / files["test"], np.asarray(test, dtype="float64"))
        self._write({"kind": "result", "mark": mark, "seconds": seconds, "threshold": threshold, **files})

    def _write(self, line: dict[str, Any]) -> None:
        with (self._given.out / RECORD).open("a") as file:
            file.write(json.dumps(line) + "\n")
