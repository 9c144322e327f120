"""Who is measured, and how each is run: a script in its own environment, or `hpo search` and `hpo export-best`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.peers.environments import python_of
from benchmarks.peers.inputs import Inputs
from benchmarks.peers.scoring import CALIBRATED, METRICS, OWN, Result, n_trials, read_results
from benchmarks.peers.usage import Usage, disk_bytes, lines_of, watch

SCRIPTS = Path(__file__).parent
GRACE_SECONDS = 1800  # to predict val and test in, which is not measured
EXPORT_SECONDS = 45  # that hpo leaves for its export, which is


@dataclass(frozen=True)
class Peer:
    """What a user would pick instead."""

    what: str
    files: tuple[str, ...]  # what the user writes
    anytime: bool = True  # one run holds all marks; otherwise each mark is a run that is given that long
    searches: bool = True
    word: str = ""  # what it cannot do

    @property
    def n_lines(self) -> int:
        """How many lines the user writes."""
        return sum(lines_of(SCRIPTS / name) for name in self.files)


PEERS = {
    "plain": Peer("Optuna + timm + DataLoader + MLflow", ("plain.py", "loop.py")),
    "ray": Peer("Ray Tune with its Optuna searcher", ("ray_tune.py", "loop.py")),
    "autogluon": Peer(
        "AutoGluon MultiModal, a predictor a label",
        ("autogluon_multimodal.py",),
        anytime=False,
        searches=False,
        word="knows no multi-label problem, so that its time is divided among the labels, each starting from zero; "
        "searches nothing by itself",
    ),
    "ludwig": Peer(
        "Ludwig, a set output",
        ("ludwig_set.py",),
        searches=False,
        word="has no encoder for these weights, so that the user registers one; no limit of time; searches nothing by "
        "itself",
    ),
}


@dataclass
class Outcome:
    """What running an entrant came to."""

    usage: Usage = field(default_factory=Usage)
    disk_bytes: int = 0
    trials_an_hour: float | None = None  # None: it has no trials
    n_lines: int = 0
    results: list[Result] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Take in a later and longer run of the same entrant: its figures count, memory is the highest of all."""
        self.usage, self.disk_bytes = self.usage + other.usage, other.disk_bytes
        self.trials_an_hour, self.n_lines = other.trials_an_hour, other.n_lines
        self.results += other.results
        self.words += other.words


def run_peer(name: str, inputs: Inputs, marks: list[float], folder: Path) -> Outcome:
    """Run a peer to the last mark, or to each."""
    peer, outcome = PEERS[name], Outcome()
    for until in [marks] if peer.anytime else [[mark] for mark in marks]:
        outcome.add(_run_script(name, inputs, until, folder / f"{name}{until[-1]:g}"))
    return outcome


def _run_script(name: str, inputs: Inputs, marks: list[float], folder: Path) -> Outcome:
    peer, minutes = PEERS[name], marks[-1]
    work, out = folder / "work", folder / "out"
    out.mkdir(parents=True)
    words = {"posters": inputs.posters, "weights": inputs.weights, "out": out, "minutes": minutes}
    given = [text for key, value in words.items() for text in (f"--{key}", str(value))]
    command = [str(python_of(name)), str(SCRIPTS / peer.files[0]), *given, "--started", str(time.time())]
    usage = watch([*command, "--marks", *map(str, marks)], *_place(work), minutes * 60 + GRACE_SECONDS)
    results = read_results(out, inputs.targets)
    trials = n_trials(out) * 60 / minutes if peer.searches else None
    return Outcome(usage, disk_bytes(work), trials, peer.n_lines, results, _complaints(folder, usage, minutes))


def _place(work: Path) -> tuple[Path, dict[str, str]]:
    """Make a folder to work in, with a home and a place for temporary files of its own: all that is left is there."""
    paths = {"HOME": work / "home", "TMPDIR": work / "tmp", "RAY_TMPDIR": work / "tmp"}
    for place in paths.values():
        place.mkdir(parents=True, exist_ok=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HPO_", "MLFLOW_", "XDG_"))}
    offline = {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return work, {**kept, **offline, **{key: str(place) for key, place in paths.items()}}


def _complaints(folder: Path, usage: Usage, minutes: float) -> list[str]:
    if not usage.in_time:
        return [f"ended by force, long after its {minutes:g} minutes"]
    if usage.code:
        last = (folder / "output.txt").read_text().strip().splitlines()[-1:]
        return [f"failed in its run of {minutes:g} minutes: {''.join(last)[:300]}"]
    return []


def run_hpo(space: str, options: str, inputs: Inputs, marks: list[float], folder: Path) -> Outcome:
    """Run hpo from cold caches: one study, stopped for its export at each mark and then continued with."""
    folder = folder / f"hpo-{space}"
    work, environment = _place(folder / "work")
    environment["PYTHONPATH"] = str(ROOT)
    hpo = [sys.executable, "-m", "hpo"]
    data = ["--data", str(inputs.csv), "--images", str(inputs.images), "--split", str(inputs.split), "--space", space]
    search = [*hpo, "search", *data, "--trials", "100000", *shlex.split(options)]
    outcome = Outcome(n_lines=2)
    for mark in marks:
        left = mark * 60 - outcome.usage.seconds - EXPORT_SECONDS
        outcome.usage += watch([*search, "--timeout", f"{left:.0f}s"], work, environment, left + GRACE_SECONDS)
        bundle = work / f"best{mark:g}"
        outcome.usage += watch([*hpo, "export-best", "--out", bundle.name], work, environment, GRACE_SECONDS)
        outcome.words = _complaints(folder, outcome.usage, mark)
        outcome.results += _result(mark, outcome.usage.seconds, bundle)
    outcome.disk_bytes = disk_bytes(work)
    outcome.trials_an_hour = _finished(hpo, work, environment) * 3600 / outcome.usage.seconds
    return outcome


def _result(mark: float, seconds: float, bundle: Path) -> list[Result]:
    if not (bundle / "bundle.json").is_file():
        return []
    test = json.loads((bundle / "bundle.json").read_text())["metrics"]["test"]
    scores = {metric: test[metric] for metric in METRICS}
    return [Result(mark, seconds, {OWN: scores, CALIBRATED: scores})]


def _finished(hpo: list[str], work: Path, environment: dict[str, str]) -> int:
    status = subprocess.run([*hpo, "status", "--json"], cwd=work, env=environment, capture_output=True, text=True)
    trials = json.loads(status.stdout)["trials"] if status.returncode == 0 else {}
    return trials.get("complete", 0) + trials.get("pruned", 0)
