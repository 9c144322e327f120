"""How a poster had best become a square: `python -m benchmarks.fit [movie-posters|anime-covers]`.

Three good recipes are trained on each of several splits with each fit, from features of the same backbone. What is
compared is f1_macro on posters that neither training nor thresholds saw, at the thresholds that a bundle would carry;
the splits are the pairs, so what makes one split harder than another cancels out.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np

from benchmarks.machine import log, phase, shared_posters
from hpo.data.dataset import DataOptions, PreparedData, prepare_data
from hpo.data.decoding import Fit
from hpo.data.table.rules import CatalogueRules
from hpo.evaluation.metrics import score
from hpo.model.config import TrialConfig
from hpo.model.training.loop import predict_probabilities
from hpo.trial.features import FeatureSource, predicted_views
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs, run_trial

FITS: tuple[Fit, ...] = get_args(Fit)
SPLITS = 10
SCORES = ("val f1_macro", "test f1_macro", "test mean AP")
COMMON = {
    "backbone": "tf_efficientnet_lite0",
    "image_size": 224,
    "input_dropout": 0.2,
    "weight_decay": 0.1,
    "label_smoothing": 0.05,
    "focal_gamma": 1.0,
    "focal_alpha": 0.5,
    "schedule": "cosine",
    "batch_size": 256,
    "epochs": 20,
    "patience": 5,
}
RECIPES = (
    {"features": "all_stages", "hidden_layers": 0, "learning_rate": 3e-3},
    {"features": "all_stages", "hidden_layers": 1, "dropout": 0.5, "norm": "batch", "learning_rate": 1e-3},
    {"features": "stages_and_final", "hidden_layers": 1, "dropout": 0.5, "norm": "batch", "learning_rate": 1e-3},
)


def main() -> None:
    """Measure and log."""
    name = sys.argv[1] if len(sys.argv) > 1 else "movie-posters"
    with tempfile.TemporaryDirectory() as folder:
        source = FeatureSource(Path(folder), {}, phase)
        measured = np.array([_measure(_prepare(name, Path(folder), seed), source) for seed in range(SPLITS)])
    by_split = measured.mean(axis=2)  # (splits, fits, scores): a mean over the recipes
    lines = [
        f"{name}, {COMMON['backbone']} at {COMMON['image_size']} px, {len(RECIPES)} recipes × {SPLITS} splits.\n",
        "| fit | " + " | ".join(SCORES) + " | test f1_macro against squash | recipes |",
        "| --- " * (len(SCORES) + 3) + "|",
        *(_row(by_split, measured, at) for at in range(len(FITS))),
    ]
    log(f"how a poster becomes a square: {name}", f"python -m benchmarks.fit {name}", lines)


def _prepare(name: str, cache_dir: Path, seed: int) -> PreparedData:
    csv, images = shared_posters(name)
    options = DataOptions(csv=csv, images=images, rules=CatalogueRules(), val_size=0.1, test_size=0.1, seed=seed)
    return prepare_data(options, cache_dir, phase)


def _measure(data: PreparedData, source: FeatureSource) -> list[list[list[float]]]:
    """Return SCORES by fit and recipe."""
    return [
        [_scores(data, source, TrialConfig.model_validate({**COMMON, **recipe, "fit": fit})) for recipe in RECIPES]
        for fit in FITS
    ]


def _scores(data: PreparedData, source: FeatureSource, config: TrialConfig) -> list[float]:
    train, val, test = (data.part(name) for name in ("train", "val", "test"))
    result = run_trial(config, TrialInputs(train, val, source, Objective("f1_macro"), seed=0))
    examples = source.examples(config, test, predicted_views(config))
    probabilities = predict_probabilities(result.classifiers[0].head, examples)  # (N, L)
    on_test = score(probabilities, test.targets, result.judged.thresholds.values)
    return [result.value, on_test.value("f1_macro"), on_test.value("mean_ap")]


def _row(by_split: np.ndarray, measured: np.ndarray, at: int) -> str:
    means = " | ".join(f"{mean:.4f}" for mean in by_split[:, at].mean(axis=0))
    if at == 0:
        return f"| {FITS[at]} | {means} | | |"
    gains = by_split[:, at, 1] - by_split[:, 0, 1]  # (splits,)
    error = gains.std(ddof=1) / math.sqrt(len(gains))
    by_recipe = (measured[:, at, :, 1] - measured[:, 0, :, 1]).mean(axis=0)
    each = ", ".join(f"{gain:+.4f}" for gain in by_recipe)
    return f"| {FITS[at]} | {means} | {gains.mean():+.4f} ± {error:.4f} | {each} |"


if __name__ == "__main__":
    main()
