"""Feature sources: backbones, cached features, maps and activations, or the posters themselves.

Everything is computed when a trial first asks, and found in the cache ever after. Activations at a freeze point are
asked for when phase two begins, so a trial that is pruned in phase one never pays for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from hpo.data.dataset import Part
from hpo.data.decoding import Fit
from hpo.data.images import DecodedImages, Posters
from hpo.errors import BackboneError
from hpo.model.backbones.backbone import Backbone, choose_columns, default_image_size, fused_names, load_backbone
from hpo.model.backbones.feature_cache import NetworkCache, activation_cache, decoded, feature_cache, map_cache
from hpo.model.backbones.freeze_points import FreezePoint, find_freeze_point
from hpo.model.backbones.views import FLIP, PLAIN, View, views_of
from hpo.model.config import TrialConfig, Unfreeze
from hpo.model.heads.head import needs_map
from hpo.model.training.dataloader import Examples, Load, StoredRows
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFactory

Views = Sequence[View]


def train_views(config: TrialConfig) -> Views:
    """Return the views that a trial trains on."""
    return views_of(config)


def predicted_views(config: TrialConfig) -> Views:
    """Return the views whose mean is a trial's prediction."""
    return (PLAIN, FLIP) if config.flip == "average" else (PLAIN,)


class FeatureSource:
    """The cache of one search, and the backbones it has loaded."""

    def __init__(self, cache_dir: Path, weights: Mapping[str, str], phase: ProgressFactory) -> None:
        self._cache_dir, self._weights, self._phase = cache_dir, weights, phase
        self._backbones: dict[tuple[str, int], Backbone] = {}
        self._refused: dict[tuple[str, int | str], BackboneError] = {}
        self._points: dict[tuple[str, int, Unfreeze], FreezePoint | None] = {}
        self._caches: dict[tuple[str, int, str, Fit, View], NetworkCache] = {}

    def backbones(self, config: TrialConfig) -> list[Backbone]:
        """Return the backbone of a trial, or the several that it fuses, with their weights."""
        return [self._backbone(name, config.image_size) for name in fused_names(config.backbone)]

    def _backbone(self, name: str, image_size: int | str) -> Backbone:
        """Load a backbone once; one that cannot be had is refused at once when another trial asks for it."""
        if (name, image_size) in self._refused:
            raise self._refused[name, image_size]
        try:
            return self._loaded(name, image_size)
        except BackboneError as error:
            self._refused[name, image_size] = error
            raise

    def _loaded(self, name: str, image_size: int | str) -> Backbone:
        size = default_image_size(name) if isinstance(image_size, str) else image_size
        if (name, size) not in self._backbones:
            self._backbones[name, size] = load_backbone(name, size, self._weights.get(name, "auto"))
        return self._backbones[name, size]

    def freeze_point(self, backbone: Backbone, unfreeze: Unfreeze) -> FreezePoint | None:
        """Return where ``backbone`` is cut; None where all of it is trained. Raises BackboneError."""
        key = backbone.name, backbone.image_size, unfreeze
        if key not in self._points:
            self._points[key] = find_freeze_point(backbone, unfreeze)
        return self._points[key]

    def feature_cache(self, backbone: Backbone, fit: Fit = "squash", view: View = PLAIN) -> NetworkCache:
        """Return the cache of a backbone's pooled features."""
        key = backbone.name, backbone.image_size, "features", fit, view
        if key not in self._caches:
            self._caches[key] = feature_cache(self._cache_dir, backbone, fit, view)
        return self._caches[key]

    def missing(self, config: TrialConfig, backbone: Backbone, train_part: Part, val_part: Part) -> tuple[int, int]:
        """Return how many posters, in how many views, ``backbone`` must still run over for a trial.

        The first are for its features, the second for the activations at its freeze point.
        """
        asked = [(train_part.posters, view) for view in train_views(config)]
        asked += [(val_part.posters, view) for view in predicted_views(config)]
        features = sum(self.feature_cache(backbone, config.fit, view).missing(posters) for posters, view in asked)
        point = None if config.unfreeze == "none" else self.freeze_point(backbone, config.unfreeze)
        if point is None:
            return features, 0
        caches = {view: activation_cache(self._cache_dir, backbone, point, config.fit, view) for _, view in asked}
        return features, sum(caches[view].missing(posters) for posters, view in asked)

    def examples(self, config: TrialConfig, part: Part, views: Views) -> Examples:
        """Return the posters of ``part`` in ``views`` for phase one: features, and maps for a head that needs them."""
        backbones = self.backbones(config)
        by_backbone = [self._features(backbone, config, part, views) for backbone in backbones]
        maps = [self._maps(backbone, config, part, views) for backbone in backbones] if needs_map(config) else []
        return Examples(len(part.posters), torch.cat(by_backbone, 1), tuple(maps))

    def _features(self, backbone: Backbone, config: TrialConfig, part: Part, views: Views) -> torch.Tensor:
        columns = choose_columns(backbone, config)
        caches = [self.feature_cache(backbone, config.fit, view) for view in views]
        self._ensure(f"features of {backbone.name}", caches, part.posters)
        return torch.cat([torch.from_numpy(cache.load(part.posters, columns)) for cache in caches])

    def _maps(self, backbone: Backbone, config: TrialConfig, part: Part, views: Views) -> StoredRows:
        caches = [map_cache(self._cache_dir, backbone, config.fit, view) for view in views]
        self._ensure(f"maps of {backbone.name}", caches, part.posters)
        return StoredRows(part.posters, tuple(cache.load for cache in caches))

    def stored(self, config: TrialConfig, part: Part, views: Views, features: torch.Tensor) -> Examples:
        """Return the posters of ``part`` for phase two.

        That is ``features`` of phase one, whose first rows are of ``views``, and for each backbone its activations at
        the freeze point, or the posters themselves.
        """
        rows = [self._activations(backbone, config, part, views) for backbone in self.backbones(config)]
        return Examples(len(part.posters), features[: len(views) * len(part.posters)], tuple(rows))

    def _activations(self, backbone: Backbone, config: TrialConfig, part: Part, views: Views) -> StoredRows:
        point = self.freeze_point(backbone, config.unfreeze)
        if point is None:
            return self._posters(backbone, config, part, views)
        caches = [activation_cache(self._cache_dir, backbone, point, config.fit, view) for view in views]
        self._ensure(f"activations of {backbone.name}", caches, part.posters)
        return StoredRows(part.posters, tuple(cache.load for cache in caches))

    def _posters(self, backbone: Backbone, config: TrialConfig, part: Part, views: Views) -> StoredRows:
        images = DecodedImages(self._cache_dir, backbone.framing(config.fit))
        decoded(images, part.posters)
        return StoredRows(part.posters, tuple(_seen(images, view) for view in views))

    def _ensure(self, what: str, caches: Sequence[NetworkCache], posters: Posters) -> None:
        missing = sum(cache.missing(posters) for cache in caches)
        if missing:
            with self._phase(what, missing) as progress:
                for cache in caches:
                    cache.ensure(posters, progress)


def _seen(images: DecodedImages, view: View) -> Load:
    def load(posters: Posters) -> Array:
        return view.apply(images.load(posters), posters.digests)

    return load
