"""Each stage of a search beside a bare loop of the same work: `python -m benchmarks.limits`, some minutes on two cores.

The stages that have a benchmark of their own are measured by it; here are those that have none, thresholds and Optuna,
and the table of all. A gap is a share of the bare loop's speed: 1 is the limit, 0.85 the goal, and what stands beside
it is what the rest buys.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
from sklearn.linear_model import LogisticRegression

from benchmarks import decode, features, finetune, heads, tracking
from benchmarks.machine import Gap, log, median_seconds
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import fit
from hpo.runtime.atomic import Array
from hpo.space.load import load_space
from hpo.study.running_trial import RunningTrial
from hpo.study.study import open_study

POSTERS, LABELS, TRIALS, EPOCHS, REPEATS, SEED = 600, 10, 100, 10, 15, 0
GOAL = 0.85


def main() -> None:
    """Measure and log."""
    gaps = [
        measure() for measure in (decode.gap, features.gap, heads.gap, finetune.gap, _thresholds, _optuna, tracking.gap)
    ]
    lines = [
        "| stage | ours | bare | speed of ours | what ours does besides |",
        "| --- | --- | --- | --- | --- |",
        *(f"| {gap.stage} | {_time(gap.ours)} | {_time(gap.bare)} | {gap.speed:.2f} | {gap.besides} |" for gap in gaps),
        f"\nMedians; {GOAL} is the goal, and a stage under it says what the rest buys.",
    ]
    log("each stage beside its bare loop", "python -m benchmarks.limits", lines)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def _thresholds() -> Gap:
    """Platt's calibration by scikit-learn, and the cut at half of the best expected F1, label by label."""
    rng = np.random.default_rng(SEED)
    probabilities = rng.beta(1, 4, (POSTERS, LABELS)).astype(np.float32)
    targets = rng.random(probabilities.shape) < probabilities

    def ours() -> None:
        score(probabilities, targets, fit("calibrated", probabilities, targets).values)

    def bare() -> None:
        cuts = np.array([_half_of_the_best(p, t) for p, t in zip(probabilities.T, targets.T, strict=True)])
        score(probabilities, targets, cuts)

    stage, besides = f"calibrated thresholds of {LABELS} labels, {POSTERS} posters", "labels drawn to their common map"
    return Gap(stage, median_seconds(ours, REPEATS), median_seconds(bare, REPEATS), besides)


def _half_of_the_best(probabilities: Array, targets: Array) -> float:
    logits = np.log(probabilities / (1 - probabilities))[:, None]
    calibrated = np.sort(LogisticRegression(C=1e6).fit(logits, targets).predict_proba(logits)[:, 1])[::-1]
    expected = 2 * calibrated.cumsum() / (np.arange(1, len(calibrated) + 1) + calibrated.sum())
    return float(expected.max() / 2)


def _optuna() -> Gap:
    """A trial that trains nothing: parameters of the default space, epochs reported, a dozen facts noted."""
    space = load_space(Path("default"))

    def work(trial: optuna.Trial | RunningTrial, note: Callable[[str, object], None]) -> float:
        note("metrics", {f"val/{n}": 0.5 for n in range(110)})
        for fact in range(10):
            note(f"fact {fact}", fact)
        return 0.4

    with tempfile.TemporaryDirectory() as folder:
        study = open_study(f"sqlite:///{folder}/ours.db", "s", Path(folder), SEED, create=True)
        study.set_budget(TRIALS)

        def ours(trial: RunningTrial) -> float:
            trial.choose()
            for epoch in range(EPOCHS):
                trial.report(0.4, epoch, f"epoch {epoch}")
            return work(trial, lambda name, value: trial.note(**{name: value}))

        began = time.perf_counter()
        for _ in study.run(space, ours, lambda: True):
            pass
        by_us = (time.perf_counter() - began) / TRIALS

        def theirs(trial: optuna.Trial) -> float:
            space.sample(trial)
            for epoch in range(EPOCHS):
                trial.report(0.4, epoch)
                trial.should_prune()
            return work(trial, trial.set_user_attr)

        plain = optuna.create_study(
            storage=f"sqlite:///{folder}/bare.db", direction="maximize", pruner=optuna.pruners.MedianPruner(),
            sampler=optuna.samplers.TPESampler(seed=SEED, multivariate=True, group=True, constant_liar=True),
        )  # fmt: skip
        began = time.perf_counter()
        plain.optimize(theirs, n_trials=TRIALS)
        by_hand = (time.perf_counter() - began) / TRIALS
    return Gap("Optuna, a trial", by_us, by_hand, "an exact budget, claims under a lock, what dead workers leave")


if __name__ == "__main__":
    main()
