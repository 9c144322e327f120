"""What pruning is worth at equal wall-clock: `python -m benchmarks.pruning`, about 25 minutes on two cores.

Searches of fine_tune on a few hundred anime covers, small and with one backbone, so that a search holds enough trials
for a pruner to compare: each pruner against none, over five seeds, all stopped at the same second. The two cores must
be idle, or the median rule, which waits for ten complete trials, has too few to say anything. Recipes, which are never
pruned, are left out. Numbers on the command line (`20 1`: seconds a search, seeds) are a try that is not logged.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.machine import log, phase, shared_posters
from hpo.data.dataset import DataOptions, Part, PreparedData, prepare_data
from hpo.data.table.rules import CatalogueRules
from hpo.model.config import TrialConfig
from hpo.space.load import load_space
from hpo.space.space import SearchSpace
from hpo.study.pruners import PRUNERS
from hpo.study.running_trial import OutOfTime, RunningTrial
from hpo.study.study import open_study
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport, Report, TrialInputs, run_trial

METRIC, BACKBONE, IMAGE_SIZE, POSTERS = "f1_macro", "tf_efficientnet_lite0", 64, 500
SECONDS, SEEDS = 70.0, 5
Found = tuple[float, int, int]  # best value on val, complete trials, pruned ones


def main() -> None:
    """Measure; log what was measured at full length."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    n_seeds = int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS
    with tempfile.TemporaryDirectory() as folder:
        searches = _Searches(Path(folder), seconds)
        found: dict[str, list[Found]] = {name: [] for name in ("none", *(name for name in PRUNERS if name != "none"))}
        for seed in range(n_seeds):
            for name, results in found.items():
                results.append(searches.run(name, seed))
                print(f"seed {seed}, {name}: {results[-1]}", file=sys.stderr, flush=True)
    lines = _table(found, seconds, len(searches.train))
    if len(sys.argv) > 1:
        print("\n".join(lines))
    else:
        log("pruning at equal wall-clock", "python -m benchmarks.pruning", lines)


class _Searches:
    """Searches of one small space on one split, with the features and activations of every trial in the cache."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self.space = _space()
        data = _prepare(folder)
        self.train, self.val = data.part("train"), data.part("val")
        self.source = FeatureSource(folder / "cache", {}, phase)
        _fill_cache(self.space, self.source, self.train, self.val)

    def run(self, pruner: str, seed: int) -> Found:
        """Search until the time is over; the current trial is then abandoned."""
        url = f"sqlite:///{self.folder}/optuna.db"
        study = open_study(url, f"{pruner}-{seed}", self.folder / "locks", seed, create=True, pruner=pruner)
        study.set_budget(10_000)
        deadline = time.monotonic() + self.seconds

        def objective(trial: RunningTrial) -> float:
            def report(epoch: EpochReport) -> None:
                if time.monotonic() > deadline:
                    raise OutOfTime("the search is over")
                trial.report(epoch.value, epoch.step, f"epoch {epoch.epoch}")

            return self._trial(trial.choose(), seed, report)

        with suppress(OutOfTime):
            list(study.run(self.space, objective, lambda: time.monotonic() < deadline))
        best, counts = study.best(), study.counts()
        return (best.value or 0.0) if best is not None else 0.0, counts.complete, counts.pruned

    def _trial(self, config: TrialConfig, seed: int, report: Report) -> float:
        return run_trial(config, TrialInputs(self.train, self.val, self.source, Objective(METRIC), seed, report)).value


def _space() -> SearchSpace:
    space = load_space(Path("fine_tune"))
    searched = {name: parameter for name, parameter in space.searched.items() if name != "backbone"}
    fixed = {**space.fixed, "backbone": BACKBONE, "image_size": IMAGE_SIZE, "flip": "none"}
    return replace(space, searched=searched, fixed=fixed, recipes={})


def _prepare(folder: Path) -> PreparedData:
    csv, images = shared_posters("anime-covers")
    some = folder / "some.csv"
    pd.read_csv(csv, dtype=str).head(POSTERS).to_csv(some, index=False)
    options = DataOptions(csv=some, images=images, rules=CatalogueRules(), val_size=0.3, test_size=0.05, seed=0)
    return prepare_data(options, folder / "cache", phase)


def _fill_cache(space: SearchSpace, source: FeatureSource, train: Part, val: Part) -> None:
    """One short trial for each depth: caches are computed once ever, and no search of the benchmark pays for them."""
    defaults = {name: parameter.default for name, parameter in space.searched.items() if parameter.has_default}
    for unfreeze in ("last_stage", "last_two_stages"):
        config = space.rebuild({**defaults, "unfreeze": unfreeze, "finetune_epochs": 3})
        run_trial(config, TrialInputs(train, val, source, Objective(METRIC), seed=0))


def _table(found: dict[str, list[Found]], seconds: float, n_train: int) -> list[str]:
    """Each pruner's best trial, and how far that is from the unpruned search of the same seed."""
    unpruned = np.array([best for best, *_ in found["none"]])
    return [
        f"{len(unpruned)} seeds, {seconds:.0f} s a search; fine_tune with {BACKBONE} at {IMAGE_SIZE} px on {n_train} "
        "posters, caches filled.\n",
        f"| pruner | best {METRIC} on val | less that without pruning | complete | pruned |",
        "| --- | --- | --- | --- | --- |",
        *(_row(name, results, unpruned) for name, results in found.items()),
        "\nMean ± standard error over seeds; trials are means.",
    ]


def _row(name: str, results: list[Found], unpruned: np.ndarray) -> str:
    best, complete, pruned = np.array(results, float).T
    return (
        f"| {name} | {_mean(best, '.4f')} | {_mean(best - unpruned, '+.4f')} | {complete.mean():.1f} "
        f"| {pruned.mean():.1f} |"
    )


def _mean(values: np.ndarray, form: str) -> str:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{values.mean():{form}} ± {error:.4f}"


if __name__ == "__main__":
    main()
