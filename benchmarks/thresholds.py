"""Fitting thresholds for many posters and labels: `python -m benchmarks.thresholds`.

Drawn probabilities of 100,000 posters and 100 labels, common and rare. Beside the exact cuts stands what one would
write with scikit-learn: `precision_recall_curve` label by label, and the threshold with the best F1 of its points.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.metrics import precision_recall_curve

from benchmarks.machine import log, median_seconds
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import fit
from hpo.runtime.atomic import Array

POSTERS, LABELS, REPEATS, SEED = 100_000, 100, 3, 0


def main() -> None:
    """Measure and log."""
    rng = np.random.default_rng(SEED)
    logits = rng.normal(np.linspace(0, -4, LABELS), 1.2, (POSTERS, LABELS))
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    targets = rng.random(probabilities.shape) < probabilities
    cuts = fit("per_label", probabilities, targets).values
    theirs = _by_scikit_learn(probabilities, targets)
    values = [score(probabilities, targets, thresholds).value("f1_macro") for thresholds in (cuts, theirs)]
    exact, by_hand = (
        median_seconds(lambda: fit("per_label", probabilities, targets), REPEATS),
        median_seconds(lambda: _by_scikit_learn(probabilities, targets), REPEATS),
    )
    others = [
        ("calibrated", "f1_macro"),
        ("calibrated", "f1_micro"),
        ("per_label", "f1_micro"),
    ]
    lines = [
        f"{POSTERS:,} posters × {LABELS} labels, medians of {REPEATS}.\n",
        f"- exact per label: {exact:.2f} s (3 s is the goal); a loop over scikit-learn's curve {by_hand:.2f} s; "
        f"ours is {by_hand / exact:.1f} × as fast (10 is the goal), f1_macro {values[0]:.6f} and {values[1]:.6f}",
    ]
    for strategy, metric in others:
        spent = median_seconds(partial(fit, strategy, probabilities, targets, metric), REPEATS)
        lines.append(f"- {strategy} for {metric}: {spent:.2f} s")
    log("thresholds of many posters", "python -m benchmarks.thresholds", lines)


def _by_scikit_learn(probabilities: Array, targets: Array) -> Array:
    return np.array([_best_of_curve(p, t) for p, t in zip(probabilities.T, targets.T, strict=True)])


def _best_of_curve(probabilities: Array, targets: Array) -> float:
    precision, recall, thresholds = precision_recall_curve(targets, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[np.argmax(f1[:-1])])


if __name__ == "__main__":
    main()
