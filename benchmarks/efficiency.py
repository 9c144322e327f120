"""What a search finds after so many trials and so many seconds: `python -m benchmarks.efficiency`, hours on two cores.

Searches of the default space on cached features of both shared sets, over seeds that each have a split of their own:
who proposes trials, who stops them, what is tried first, in how many folds they are judged. A search is worth what the
trial that it would choose by then scores on test posters, at the thresholds that this trial found.

A portfolio is what the searches of the *other* set found best, tried first. Searches run two at a time, a thread each,
and those that `--keep FILE` holds are not run again. With fewer `--seeds`, `--trials` or `--posters` than by default it
is a try, which is not logged.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import shlex
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.machine import log, phase, shared_posters
from hpo.data.dataset import DataOptions, PreparedData, prepare_data
from hpo.data.table.rules import CatalogueRules
from hpo.evaluation.metrics import score
from hpo.model.training.loop import predict_probabilities
from hpo.settings import Paths
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import open_study
from hpo.trial.features import FeatureSource, predicted_views
from hpo.trial.objective import Objective
from hpo.trial.trainer import Trainer
from hpo.trial.trial import TrialResult

METRIC, SETS = "f1_macro", ("movie-posters", "anime-covers")
SEEDS, TRIALS, POSTERS = 10, 50, 2000
AFTER_TRIALS, AFTER_SECONDS = (10, 25, 50), (15.0, 30.0, 60.0, 120.0)
FROM_EACH = 5  # searches of the other set whose best makes its portfolio


@dataclass(frozen=True)
class Strategy:
    """How a search goes about it."""

    sampler: str = "tpe"
    pruner: str | None = "none"  # None: the one that suits the folds
    recipes: bool = False  # those of the space
    portfolio: bool = False
    folds: int = 1


STRATEGIES = {
    "random": Strategy("random"),
    "TPE": Strategy(),
    "TPE, pruning": Strategy(pruner="median"),
    "TPE, pruning, recipes": Strategy(pruner="median", recipes=True),
    "random, 5 folds, portfolio": Strategy("random", pruner=None, portfolio=True, folds=5),
    "TPE, 5 folds, recipes": Strategy(pruner=None, recipes=True, folds=5),  # the default
    "TPE, 5 folds, portfolio": Strategy(pruner=None, portfolio=True, folds=5),
}
REFERENCE, SOURCE = "TPE", "TPE, 5 folds, recipes"  # SOURCE: whose searches make portfolios


@dataclass(frozen=True)
class Job:
    """One search."""

    data: str
    strategy: str
    seed: int
    n_trials: int
    n_posters: int
    starts: tuple[Mapping[str, Any], ...] = ()  # tried first

    @property
    def key(self) -> str:
        return f"{self.data} {self.strategy} {self.seed} {self.n_trials} {self.n_posters}"


@dataclass(frozen=True)
class Step:
    """One trial that has ended."""

    seconds: float  # since the search began
    value: float | None  # None where it was pruned
    test: float | None
    params: Mapping[str, Any]


Found = list[Step]


def main() -> None:
    """Measure; log what was measured at full length."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--posters", type=int, default=POSTERS, help="of each set at most")
    parser.add_argument("--strategy", action="append", choices=list(STRATEGIES), help="default: all")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.mkdtemp()) / "efficiency.jsonl")
    asked = parser.parse_args()
    names = [name for name in STRATEGIES if name in (REFERENCE, SOURCE) or not asked.strategy or name in asked.strategy]

    def jobs(some: Sequence[str], starts: Mapping[str, tuple[Mapping[str, Any], ...]]) -> list[Job]:
        return [
            Job(data, name, seed, asked.trials, asked.posters, starts.get(data, ()))
            for seed in range(asked.seeds)
            for data in SETS
            for name in some
        ]

    found = _run(jobs([name for name in names if not STRATEGIES[name].portfolio], {}), asked.keep)
    found |= _run(jobs([name for name in names if STRATEGIES[name].portfolio], _portfolios(found)), asked.keep)
    lines = [line for data in SETS for line in _table(data, names, found)]
    if (asked.seeds, asked.trials, asked.posters) == (SEEDS, TRIALS, POSTERS):
        given = [word for name in asked.strategy or () for word in ("--strategy", name)]
        log("what a search finds", shlex.join(["python", "-m", "benchmarks.efficiency", *given]), lines)
    else:
        print("\n".join(lines))


def _run(jobs: Sequence[Job], keep: Path) -> dict[tuple[str, str, int], Found]:
    """Run the searches that ``keep`` does not hold, and add them to it."""
    kept = {}
    if keep.exists():
        kept = {entry["key"]: entry["steps"] for entry in map(json.loads, keep.read_text().splitlines())}
    todo = [job for job in jobs if job.key not in kept]
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool, keep.open("a") as file:
        for job, steps in pool.imap_unordered(_search, todo):
            kept[job.key] = [asdict(step) for step in steps]
            file.write(json.dumps({"key": job.key, "steps": kept[job.key]}) + "\n")
            file.flush()
            print(f"{job.key}: {_at(steps, n_trials=len(steps)):.3f} in {steps[-1].seconds:.0f} s", flush=True)
    return {(job.data, job.strategy, job.seed): [Step(**step) for step in kept[job.key]] for job in jobs}


def _search(job: Job) -> tuple[Job, Found]:
    torch.set_num_threads(1)
    strategy, space = STRATEGIES[job.strategy], load_space(Path("default"))
    space = space if strategy.recipes else replace(space, recipes={})
    cache = Paths.of(None, None, None).cache_dir
    with tempfile.TemporaryDirectory() as folder:
        data = _prepare(job, Path(folder), cache)
        source = FeatureSource(cache, {}, phase)
        trainer = Trainer(data.part("train"), data.part("val"), source, Objective(METRIC), strategy.folds)
        study = open_study(
            f"sqlite:///{folder}/optuna.db", "s", Path(folder), job.seed, create=True, n_folds=strategy.folds,
            sampler=strategy.sampler, pruner=strategy.pruner,
        )  # fmt: skip
        study.enqueue_recipes(space)
        for params in job.starts:
            study._study.enqueue_trial(dict(params), skip_if_exists=True)
        study.set_budget(job.n_trials)
        tests: dict[int, float] = {}

        def objective(trial: RunningTrial) -> float:
            result = trainer.run(
                trial.choose(),
                job.seed,
                lambda epoch: trial.report(epoch.value, epoch.step, "") if strategy.folds == 1 else None,
                lambda fold, value: trial.report(value, fold, ""),
            )
            tests[trial.number] = _on_test(result, data, source)
            return result.value

        steps, began = [], time.perf_counter()
        for trial in study.run(space, objective, lambda: True):
            trainer.forget()
            complete = trial.number in tests
            steps.append(
                Step(
                    time.perf_counter() - began,
                    trial.value if complete else None,
                    tests.get(trial.number),
                    dict(trial.params),
                )
            )
    return job, steps


def _on_test(result: TrialResult, data: PreparedData, source: FeatureSource) -> float:
    """Score a trial on posters that its search does not look at; a matrix product, whose time is left in."""
    test = data.part("test")
    examples = source.examples(result.config, test, predicted_views(result.config))
    each = [predict_probabilities(classifier.head, examples) for classifier in result.classifiers]
    return score(np.mean(each, axis=0), test.targets, result.judged.thresholds.values).value(METRIC)


def _prepare(job: Job, folder: Path, cache: Path) -> PreparedData:
    """A random part of a set, with a split of its own for each seed."""
    csv, images = shared_posters(job.data)
    rows = pd.read_csv(csv, dtype=str)
    some = folder / "some.csv"
    rows.sample(min(job.n_posters, len(rows)), random_state=job.seed).to_csv(some, index=False)
    rules = CatalogueRules()
    return prepare_data(
        DataOptions(csv=some, images=images, rules=rules, val_size=0.15, test_size=0.25, seed=job.seed), cache, phase
    )


def _portfolios(found: Mapping[tuple[str, str, int], Found]) -> dict[str, tuple[Mapping[str, Any], ...]]:
    """For each set, the best trial of each of the first searches of the other one."""
    portfolios = {}
    for data, other in zip(SETS, reversed(SETS), strict=True):
        searches = [steps for (name, strategy, _), steps in found.items() if (name, strategy) == (other, SOURCE)]
        portfolios[data] = tuple(_best(steps).params for steps in searches[:FROM_EACH])
    return portfolios


def _best(steps: Found) -> Step:
    return max(steps, key=lambda step: -math.inf if step.value is None else step.value)


def _at(steps: Found, *, n_trials: int | None = None, seconds: float | None = None) -> float:
    """The test score of the trial with the best value by then; not a number where there is none."""
    so_far = steps[:n_trials] if seconds is None else [step for step in steps if step.seconds <= seconds]
    test = _best(so_far).test if so_far else None
    return math.nan if test is None else test


def _table(data: str, names: Sequence[str], found: Mapping[tuple[str, str, int], Found]) -> list[str]:
    """A row a strategy: test scores, and how far they are from those of the reference on the same splits."""
    seeds = sorted({seed for name, _, seed in found if name == data})
    looks = [{"n_trials": n} for n in AFTER_TRIALS] + [{"seconds": s} for s in AFTER_SECONDS]
    titles = [f"{n} trials" for n in AFTER_TRIALS] + [f"{s:.0f} s" for s in AFTER_SECONDS]
    scores = {
        name: np.array([[_at(found[data, name, seed], **look) for look in looks] for seed in seeds]) for name in names
    }
    rows = []
    for name in names:
        cells = []
        for column in range(len(looks)):
            mine, reference = scores[name][:, column], scores[REFERENCE][:, column]
            cells.append(f"{np.nanmean(mine):.3f}{_difference(mine - reference) if name != REFERENCE else ''}")
        whole = np.mean([found[data, name, seed][-1].seconds for seed in seeds])
        rows.append(f"| {name} | {' | '.join(cells)} | {whole:.0f} |")
    return [
        f"\n{data}, {len(seeds)} seeds, {METRIC} on test of the trial chosen by then; after it, what it is above "
        f"{REFERENCE} on the same splits, ± its standard error.\n",
        f"| strategy | {' | '.join(titles)} | seconds in all |",
        f"| --- {'| --- ' * (len(titles) + 1)}|",
        *rows,
    ]


def _difference(values: np.ndarray) -> str:
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return ""
    return f" ({values.mean():+.4f} ± {values.std(ddof=1) / len(values) ** 0.5:.4f})"


if __name__ == "__main__":
    main()
