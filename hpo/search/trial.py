"""One trial, framework-free: hyperparameters → a trained head, its thresholds and what they score.

Thresholds are part of the trial. After every epoch the objective is the chosen metric at the calibrated cut
(``hpo.decision.calibration``), because F1 at 0.5 ranks trials almost at random; the best epoch is kept, and every
threshold strategy is scored on it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpo.data.decoding import Fit
from hpo.data.images import Phase
from hpo.data.prepare import Part
from hpo.data.shards import Array
from hpo.decision.metrics import Scores, score
from hpo.decision.thresholds import DEFAULT_STRATEGY, STRATEGIES, Thresholds, fit
from hpo.model.backbones import Backbone, choose_columns, default_image_size, load_backbone
from hpo.model.classifier import Classifier
from hpo.model.features import FeatureCache
from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters
from hpo.model.training import train


@dataclass(frozen=True)
class EpochReport:
    """What a watcher, the pruner and MLflow learn of one epoch."""

    epoch: int  # from 1
    value: float  # the objective after this epoch
    train_loss: float
    scores: Scores  # on val, at the calibrated thresholds of this epoch
    learning_rate: float


Report = Callable[[EpochReport], None]  # raises to stop the trial, which is how a study prunes


@dataclass(frozen=True, eq=False)
class Judged:
    """One threshold strategy on the validation posters."""

    thresholds: Thresholds
    scores: Scores


@dataclass(frozen=True, eq=False)
class TrialResult:
    """A finished trial: everything that is logged, kept or deployed of it."""

    chosen: Hyperparameters
    value: float  # the metric at the calibrated thresholds, best epoch
    best_epoch: int
    n_epochs: int
    strategies: dict[str, Judged]
    val_probabilities: Array  # (N_val, L)
    head: Head
    backbone: Backbone
    seconds: dict[str, float]  # features, training, thresholds

    @property
    def judged(self) -> Judged:
        """The strategy that the objective and a bundle use."""
        return self.strategies[DEFAULT_STRATEGY]

    def classifier(self) -> Classifier:
        """Return the deployable network."""
        return Classifier(self.backbone, self.head, self.chosen)


class FeatureSource:
    """Features by backbone: computed when a trial first asks, found in the cache ever after."""

    def __init__(self, cache_dir: Path, weights: Mapping[str, str], phase: Phase) -> None:
        self._cache_dir, self._weights, self._phase = cache_dir, weights, phase
        self._backbones: dict[tuple[str, int], Backbone] = {}
        self._caches: dict[tuple[str, int, Fit], FeatureCache] = {}

    def cache(self, name: str, image_size: int | str, fit: Fit = "squash") -> FeatureCache:
        """Return the cache of a backbone at a size and fit, with the backbone's weights loaded."""
        size = default_image_size(name) if isinstance(image_size, str) else image_size
        if (name, size, fit) not in self._caches:
            self._caches[name, size, fit] = FeatureCache.open(self._cache_dir, self._backbone(name, size), fit)
        return self._caches[name, size, fit]

    def _backbone(self, name: str, size: int) -> Backbone:
        if (name, size) not in self._backbones:
            self._backbones[name, size] = load_backbone(name, size, self._weights.get(name, "auto"))
        return self._backbones[name, size]

    def features(self, chosen: Hyperparameters, *parts: Part) -> tuple[Backbone, list[Tensor]]:
        """Return the backbone and the chosen features float32 (N, D) of each part."""
        cache = self.cache(chosen.backbone, chosen.image_size, chosen.fit)
        columns = choose_columns(cache.backbone, chosen)
        missing = sum(cache.missing(part.posters) for part in parts)
        if missing:
            with self._phase(f"features of {chosen.backbone}", missing) as progress:
                for part in parts:
                    cache.ensure(part.posters, progress)
        return cache.backbone, [torch.from_numpy(cache.load(part.posters, columns)) for part in parts]


@dataclass
class _Best:
    """The best epoch so far, and how long nothing was better."""

    value: float = -1.0
    epoch: int = 0
    probabilities: Array = field(default_factory=lambda: np.empty(0))
    weights: dict[str, Tensor] = field(default_factory=dict)

    def update(self, report: EpochReport, probabilities: Array, head: Head) -> None:
        if report.value > self.value:
            self.value, self.epoch, self.probabilities = report.value, report.epoch, probabilities
            self.weights = copy.deepcopy(head.state_dict())


def run_trial(
    chosen: Hyperparameters,
    train_part: Part,
    val_part: Part,
    source: FeatureSource,
    metric: str,
    seed: int,
    report: Report = lambda _: None,
) -> TrialResult:
    """Train one head and judge it. Whatever ``report`` raises stops the trial and comes out of here."""
    started = time.perf_counter()
    backbone, (features, val_features) = source.features(chosen, train_part, val_part)
    loaded = time.perf_counter()
    torch.manual_seed(seed)  # the same start for every trial: what differs is what was chosen
    head = Head(features.shape[1], train_part.targets.shape[1], chosen)
    targets = torch.from_numpy(train_part.targets.astype(np.float32))
    best, epoch = _Best(), 0
    for result in train(head, features, targets, val_features, chosen, seed):
        scores = _judge(DEFAULT_STRATEGY, result.val_probabilities, val_part, metric).scores
        epoch, value = result.epoch, scores.value(metric)
        told = EpochReport(epoch, value, result.train_loss, scores, result.learning_rate)
        best.update(told, result.val_probabilities, head)
        report(told)
        if epoch - best.epoch >= chosen.patience:
            break
    trained = time.perf_counter()
    head.load_state_dict(best.weights)
    strategies = {name: _judge(name, best.probabilities, val_part, metric) for name in STRATEGIES}
    seconds = {
        "features": loaded - started,
        "training": trained - loaded,
        "thresholds": time.perf_counter() - trained,
    }
    return TrialResult(chosen, best.value, best.epoch, epoch, strategies, best.probabilities, head, backbone, seconds)


def _judge(strategy: str, probabilities: Array, part: Part, metric: str) -> Judged:
    thresholds = fit(strategy, probabilities, part.targets, metric)
    return Judged(thresholds, score(probabilities, part.targets, thresholds.values))
