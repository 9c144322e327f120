"""What a trial will have to do, counted from its hyperparameters before it runs: the input of a forecast."""

from __future__ import annotations

import torch
from torch import Tensor

from hpo.data.prepare import Part
from hpo.model.backbones import Backbone
from hpo.model.classifier import build_head
from hpo.model.freeze_points import FreezePoint, Tail
from hpo.model.heads import Head, needs_map
from hpo.model.hyperparameters import Hyperparameters
from hpo.search.forecast import PASSES_PER_STEP, PhaseWork, Work, count_gflop
from hpo.search.source import FeatureSource, predicted_views


class WorkCounter:
    """Counts the work of trials on one set of posters; what a network costs is counted once."""

    def __init__(self, source: FeatureSource, train_part: Part, val_part: Part) -> None:
        self._source, self._train_part, self._val_part = source, train_part, val_part
        self._gflop: dict[tuple[str, int, str], float] = {}

    def count(self, chosen: Hyperparameters) -> Work:
        """Return the work of ``chosen``, if it uses all of its epochs."""
        return Work(features=self._features(chosen), training=self._training(chosen), finetuning=self._tuning(chosen))

    def _features(self, chosen: Hyperparameters) -> PhaseWork:
        """Passes over posters that are not cached: for features, and for activations as far as the freeze point."""
        passes = gflop = 0.0
        for backbone in self._source.backbones(chosen):
            features, activations = self._source.missing(chosen, backbone, self._train_part, self._val_part)
            passes += features + activations
            if features + activations:
                gflop += (features + activations) * self.forward_gflop(backbone)
        return PhaseWork(gflop=gflop, pieces=passes, network=chosen.backbone)

    def _training(self, chosen: Hyperparameters) -> PhaseWork:
        head = build_head(self._source.backbones(chosen), self._train_part.targets.shape[1], chosen)
        gflop = self._passes(chosen) * _head_gflop(head)
        n_steps = len(self._train_part.posters) / chosen.batch_size
        return PhaseWork(
            gflop=gflop * chosen.epochs,
            pieces=n_steps * chosen.epochs,
            epochs=chosen.epochs,
            max_seconds=chosen.max_seconds,
            network=f"{chosen.head} on maps" if needs_map(chosen) else chosen.head,
        )

    def _tuning(self, chosen: Hyperparameters) -> PhaseWork:
        if chosen.unfreeze == "none":
            return PhaseWork()
        gflop = sum(
            self._tail_gflop(backbone, self._source.freeze_point(backbone, chosen.unfreeze), chosen)
            for backbone in self._source.backbones(chosen)
        )
        n_steps = len(self._train_part.posters) / chosen.finetune_batch_size
        return PhaseWork(
            gflop=gflop * self._passes(chosen) * chosen.finetune_epochs,
            pieces=n_steps * chosen.finetune_epochs,
            epochs=chosen.finetune_epochs,
            max_seconds=chosen.max_seconds,
            network=f"{chosen.backbone} {chosen.unfreeze}",
        )

    def _passes(self, chosen: Hyperparameters) -> float:
        """Forward passes of one poster that an epoch costs: training, then validation in its views."""
        n_val = len(self._val_part.posters) * len(predicted_views(chosen))
        return PASSES_PER_STEP * len(self._train_part.posters) + n_val

    def forward_gflop(self, backbone: Backbone) -> float:
        """Return what one poster's pass through all of ``backbone`` costs."""
        key = backbone.name, backbone.image_size, "all"
        if key not in self._gflop:
            self._gflop[key] = count_gflop(backbone, _blank(backbone))
        return self._gflop[key]

    def _tail_gflop(self, backbone: Backbone, point: FreezePoint | None, chosen: Hyperparameters) -> float:
        if point is None:
            return self.forward_gflop(backbone)
        key = backbone.name, backbone.image_size, chosen.unfreeze
        if key not in self._gflop:
            self._gflop[key] = count_gflop(Tail(backbone, point), torch.zeros(1, *point.activation_shape))
        return self._gflop[key]


def _blank(backbone: Backbone) -> Tensor:
    return torch.zeros(1, backbone.image_size, backbone.image_size, 3, dtype=torch.uint8)


def _head_gflop(head: Head) -> float:
    """A multiplication and an addition for each weight."""
    return 2e-9 * sum(parameter.numel() for parameter in head.parameters())
