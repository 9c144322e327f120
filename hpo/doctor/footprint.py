"""Estimate the disk and memory that a search needs from its space.

Networks are built on torch's meta device, which has shapes and no memory, and asked what comes out of each stage; the
rows of the caches follow (``hpo.model.backbones.feature_cache``). Activations at a freeze point are taken to be the
output of the last frozen stage, which is where it lies in all but odd architectures. It is a forecast for an empty
cache, of every value in the space: a search that never tries some of them needs less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hpo.data.splits.near_duplicates import THUMBNAIL_PX
from hpo.errors import BackboneError
from hpo.model.backbones.architectures import FeatureLayout, find_architecture, run
from hpo.model.backbones.freeze_points import UNFROZEN_STAGES
from hpo.model.config import FUSE
from hpo.space.space import SearchSpace

_FLOAT32, _FLOAT16 = 4, 2
_TRIAL_BYTES = 1e6  # rows of two databases, probabilities, figures
_BUNDLE_OVERHEAD = 1.2  # a bundle is its weights, a head and a card


@dataclass(frozen=True)
class Shapes:
    """What a backbone makes of one poster, and how large it is."""

    image_size: int  # px
    interpolation: str
    final: int
    stages: tuple[tuple[int, ...], ...]  # (C, H, W) of each stage kept, from the shallowest
    weights_bytes: int

    @property
    def feature_bytes(self) -> int:
        """Of the cached vector, in float32."""
        return _FLOAT32 * FeatureLayout(self.final, tuple(stage[0] for stage in self.stages)).width

    def stage_bytes(self, depth: int) -> int:
        """Of the map of the stage that is ``depth`` above the deepest, in float16."""
        return _FLOAT16 * math.prod(self.stages[max(0, len(self.stages) - 1 - depth)])


@dataclass(frozen=True)
class Needs:
    """Bytes that a search needs."""

    cache: float  # on disk, images, features, maps and activations
    state: float  # on disk, databases and models
    temporary: float  # on disk, models on their way to MLflow, of all workers
    features_of_a_worker: float  # in memory
    uncounted: tuple[str, ...]  # backbones whose shapes could not be found


def measure(name: str, image_size: int | None = None) -> Shapes:
    """Return the shapes of a backbone at ``image_size`` px, or its own. Raises BackboneError, NotImplementedError."""
    architecture = find_architecture(name)
    size = image_size or architecture.image_size
    skeleton = architecture.skeleton(size).eval()
    with torch.device("meta"), torch.inference_mode():
        final, stages = run(skeleton, torch.zeros(1, 3, size, size))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in skeleton.parameters())
    maps = tuple(tuple(stage.shape[1:]) for stage in stages)
    return Shapes(size, str(architecture.config.get("interpolation")), final.shape[1], maps, weights)


def forecast(space: SearchSpace, n_posters: int, trials: int, workers: int) -> Needs:
    """Return what a search over ``space`` needs; ``n_posters`` in all three parts."""
    measured: dict[str, list[Shapes]] = {}
    uncounted: list[str] = []
    for name in space.backbones:
        try:
            measured[name] = [measure(name, size) for size in _image_sizes(space)]
        except (BackboneError, NotImplementedError):  # the check of weights says the first, the second stays possible
            uncounted.append(name)
    shapes = [shape for of_one in measured.values() for shape in of_one]
    model = _BUNDLE_OVERHEAD * max((_bundle_bytes(space, measured)), default=0)
    return Needs(
        cache=n_posters * (_image_bytes(space, shapes) + _row_bytes(space, shapes)),
        state=trials * _TRIAL_BYTES + _n_models(space, trials) * model,
        temporary=2 * workers * model,
        features_of_a_worker=n_posters * _n_views(space) * max(_feature_bytes(space, measured), default=0),
        uncounted=tuple(uncounted),
    )


def _image_sizes(space: SearchSpace) -> list[int | None]:
    return [size if isinstance(size, int) else None for size in space.values_of("image_size")]


def _image_bytes(space: SearchSpace, shapes: Sequence[Shapes]) -> int:
    """Decoded posters of each size and fit, and the thumbnails that show which look alike."""
    sizes = {(shape.image_size, shape.interpolation) for shape in shapes}
    return 3 * (THUMBNAIL_PX**2 + _n_fits(space) * sum(side**2 for side, _ in sizes))


def _row_bytes(space: SearchSpace, shapes: Sequence[Shapes]) -> int:
    """Rows of frozen networks in every view and fit: features, maps for heads that attend, activations."""
    depths = {UNFROZEN_STAGES[value] for value in space.values_of("unfreeze") if value in UNFROZEN_STAGES}
    if _attends(space):
        depths.add(0)
    rows = sum(shape.feature_bytes + sum(shape.stage_bytes(depth) for depth in depths) for shape in shapes)
    return _n_fits(space) * _n_views(space) * rows


def _attends(space: SearchSpace) -> bool:
    return "attention" in space.values_of("pooling") or "label_query" in space.values_of("head")


def _n_fits(space: SearchSpace) -> int:
    return max(1, len(space.values_of("fit")))


def _n_views(space: SearchSpace) -> int:
    mirrored = any(value != "none" for value in space.values_of("flip"))
    crops = max((_number(value) for value in space.values_of("crops")), default=0)
    return 1 + mirrored + int(crops)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _n_models(space: SearchSpace, trials: int) -> float:
    """Champions are kept, and fine-tuned models all: of ``trials`` in random order, about ln(trials) are a new best."""
    unfreezes = any(value != "none" for value in space.values_of("unfreeze"))
    return trials if unfreezes else 1 + math.log(trials)


def _bundle_bytes(space: SearchSpace, measured: dict[str, list[Shapes]]) -> list[int]:
    return [sum(measured[name][0].weights_bytes for name in names) for names in _counted_choices(space, measured)]


def _feature_bytes(space: SearchSpace, measured: dict[str, list[Shapes]]) -> list[int]:
    return [sum(measured[name][0].feature_bytes for name in names) for names in _counted_choices(space, measured)]


def _counted_choices(space: SearchSpace, measured: dict[str, list[Shapes]]) -> list[list[str]]:
    """The single backbones of each choice, where all of them were measured."""
    choices = [choice.split(FUSE) for choice in space.backbone_choices]
    return [names for names in choices if all(name in measured for name in names)]
