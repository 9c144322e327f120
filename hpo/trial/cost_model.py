"""Cost model: predict a trial's seconds from its operations and the study's history.

A trial's work is counted from its configuration, for each of its phases: floating-point operations, and pieces that
cost the same whatever their size (steps of the optimizer, posters to read). What an operation and a piece cost is
learned from the trials that this study has finished, so patience, threads and a busy machine are in it without a word.
Costs are fitted to logarithms of seconds, so that each trial counts by its ratio, with a loss that forgives outliers
(Huber 1964; scipy's soft_l1), and are drawn slightly towards the first guess, a probe of this machine; with one
finished trial that is the median ratio. It is a forecast, not a bound: expect it within a factor of two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from statistics import median

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.optimize import least_squares
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hpo.data.dataset import Part
from hpo.model.backbones.backbone import Backbone
from hpo.model.backbones.freeze_points import FreezePoint, Tail
from hpo.model.classifier import build_head
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head, needs_map
from hpo.runtime.atomic import Array
from hpo.trial.features import FeatureSource, predicted_views

PHASES = ("features", "training", "finetuning")  # of Work, and the keys of measured seconds
PASSES_PER_STEP = 3  # a training step costs as much as three forward passes: one, and two for the gradients
_LEAST_SECONDS = 1e-3
_TRUST_IN_PROBE = 0.1  # against one finished trial, which has 1
_PROBE_SECONDS = 0.1  # for each of its two measurements


class PhaseWork(BaseModel):
    """What one phase of a trial has to do, if it uses all of its epochs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gflop: NonNegativeFloat = 0.0  # 10⁹ floating-point operations; a multiplication and an addition are two
    pieces: NonNegativeFloat = 0.0  # what costs the same whatever its size: steps of the optimizer, posters to read
    epochs: PositiveInt = 1  # equal parts that the work comes in
    max_seconds: NonNegativeFloat = 0.0  # no epoch begins after this long; 0 is no limit
    network: str = ""  # what does the work: trials of the same network predict each other best


class Work(BaseModel):
    """What a trial has to do. ``model_dump(mode="json")`` and ``model_validate`` carry it as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: PhaseWork = PhaseWork()  # frozen passes of the posters and views that are not cached
    training: PhaseWork = PhaseWork()  # phase one, the head
    finetuning: PhaseWork = PhaseWork()  # phase two, head and unfrozen stages

    def phase(self, name: str) -> PhaseWork:
        """Return one of PHASES."""
        phase: PhaseWork = getattr(self, name)
        return phase


class Costs(BaseModel):
    """What work costs on this machine, both above 0."""

    model_config = ConfigDict(frozen=True)

    gflop: PositiveFloat  # seconds per GFLOP
    piece: PositiveFloat  # seconds per piece

    def seconds(self, work: PhaseWork) -> float:
        """Return how long ``work`` takes without a limit."""
        return self.gflop * work.gflop + self.piece * work.pieces


History = Sequence[tuple[Work, Mapping[str, float]]]  # finished trials: their work, and seconds by phase
_Measured = Sequence[tuple[PhaseWork, float]]  # one phase of several trials: its work and seconds


def predict_seconds(work: Work, history: History, device: str = "cpu") -> float:
    """Return the seconds that ``work`` will take; it grows with the work.

    ``history`` holds finished trials and the seconds of the phases that each ran (a pruned trial belongs here only
    without the phase that was cut short). A phase that it does not know is judged by a probe of ``device``, as if all
    epochs were used: where nothing is known, better too much than a trial that cannot finish.
    """
    return sum(_phase_seconds(work.phase(name), _measured(name, history), device) for name in PHASES)


def _measured(name: str, history: History) -> _Measured:
    """Take a phase from each trial that ran it, but for those that a limit of time ended: they say too little."""
    ran = [(work.phase(name), seconds[name]) for work, seconds in history if name in seconds]
    return [
        (work, max(taken, _LEAST_SECONDS))
        for work, taken in ran
        if work.gflop + work.pieces > 0 and not 0 < work.max_seconds <= taken
    ]


def _phase_seconds(work: PhaseWork, measured: _Measured, device: str) -> float:
    if work.gflop + work.pieces == 0:
        return 0.0
    of_its_network = [(past, taken) for past, taken in measured if past.network == work.network]
    unlimited = learn_costs(of_its_network or measured, probe(device)).seconds(work)
    last_epoch = unlimited / work.epochs  # begins before the limit and ends after it
    return min(unlimited, work.max_seconds + last_epoch) if work.max_seconds else unlimited


def learn_costs(measured: _Measured, guess: Costs) -> Costs:
    """Return the costs that explain ``measured`` best, in the units and starting from the proportions of ``guess``."""
    if not measured:
        return guess
    parts = np.array([(guess.gflop * work.gflop, guess.piece * work.pieces) for work, _ in measured])  # (T, 2) seconds
    taken = np.array([seconds for _, seconds in measured])
    scale = median(taken / parts.sum(1))  # how much slower than the guess, all in all

    def misses(log_factors: Array) -> Array:
        return np.append(np.log(parts @ np.exp(log_factors) * scale / taken), _TRUST_IN_PROBE * log_factors)

    gflop, piece = scale * np.exp(least_squares(misses, np.zeros(2), loss="soft_l1", f_scale=0.3).x)
    return Costs(gflop=guess.gflop * gflop, piece=guess.piece * piece)


@cache
def probe(device: str) -> Costs:
    """Measure ``device`` for 0.2 s: a block of a mobile network, and an optimizer's step of a small head."""
    block = _inverted_residual().to(device)
    images = torch.zeros(4, 32, 56, 56, device=device).to(memory_format=torch.channels_last)
    with torch.no_grad():
        passed = _seconds_of(lambda: block(images))
    return Costs(gflop=passed / (len(images) * count_gflop(block, images)), piece=_seconds_of(_step_on(device)))


def _inverted_residual() -> nn.Module:
    """Sandler et al. 2018, table 1: what mobile networks are made of, and slower by the operation than most."""
    wide = nn.Conv2d(128, 128, 3, padding=1, groups=128)
    return nn.Sequential(nn.Conv2d(32, 128, 1), nn.ReLU6(), wide, nn.ReLU6(), nn.Conv2d(128, 32, 1))


def _step_on(device: str) -> Callable[[], Tensor]:
    head, features = nn.Linear(64, 8, device=device), torch.zeros(32, 64, device=device)
    optimizer = torch.optim.AdamW(head.parameters())

    def step() -> Tensor:
        head(features).sum().backward()
        optimizer.step()
        return head.bias.detach()

    return step


def _seconds_of(run: Callable[[], Tensor]) -> float:
    run()  # the first call allocates
    taken: list[float] = []
    while sum(taken) < _PROBE_SECONDS:
        started = time.perf_counter()
        run().sum().item()  # a GPU is done when it has answered
        taken.append(time.perf_counter() - started)
    return median(taken)


def count_gflop(module: nn.Module, *example_inputs: Tensor) -> float:
    """Return the GFLOP of one forward pass of one poster, in evaluation mode.

    ``example_inputs`` are (B, ...) on the module's device; multiply by PASSES_PER_STEP for training. Matrix products,
    attention and convolutions are counted, which is nearly all of it.
    """
    with _as_it_was(module), torch.no_grad(), _unfused_attention(), FlopCounterMode(display=False) as counter:
        module.eval().requires_grad_(False)  # the counter refuses a parameter that a module is called with, else
        module(*example_inputs)
    return float(counter.get_total_flops()) / 1e9 / len(example_inputs[0])


@contextmanager
def _as_it_was(module: nn.Module) -> Iterator[None]:
    """Restore the mode of every submodule, which need not be that of the whole, and what is trained."""
    modes = [(part, part.training) for part in module.modules()]
    trained = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for parameter, needs_gradient in trained:
            parameter.requires_grad_(needs_gradient)


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Compute attention as matrix products: torch counts nothing for the fused kernels of a CPU."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


# What a trial will have to do, counted from its hyperparameters before it runs: the input of a forecast.


class WorkCounter:
    """Counts the work of trials on one set of posters; what a network costs is counted once."""

    def __init__(self, source: FeatureSource, train_part: Part, val_part: Part, n_folds: int = 1) -> None:
        self._source, self._train_part, self._val_part, self._n_folds = source, train_part, val_part, n_folds
        self._gflop: dict[tuple[str, int, str], float] = {}

    def count(self, config: TrialConfig) -> Work:
        """Return the work of ``config``, if it uses all of its epochs."""
        return Work(features=self._features(config), training=self._training(config), finetuning=self._tuning(config))

    def _features(self, config: TrialConfig) -> PhaseWork:
        """Passes over posters that are not cached: for features, and for activations as far as the freeze point."""
        passes = gflop = 0.0
        for backbone in self._source.backbones(config):
            features, activations = self._source.missing(config, backbone, self._train_part, self._val_part)
            passes += features + activations
            if features + activations:
                gflop += (features + activations) * self.forward_gflop(backbone)
        return PhaseWork(gflop=gflop, pieces=passes, network=config.backbone)

    def _training(self, config: TrialConfig) -> PhaseWork:
        head = build_head(self._source.backbones(config), self._train_part.targets.shape[1], config)
        gflop = self._passes(config) * _head_gflop(head)
        n_steps = len(self._train_part.posters) / config.batch_size
        return PhaseWork(
            gflop=gflop * config.epochs * self._n_folds,
            pieces=n_steps * config.epochs * self._n_folds,
            epochs=config.epochs * self._n_folds,
            max_seconds=config.max_seconds * self._n_folds,
            network=f"{config.head} on maps" if needs_map(config) else config.head,
        )

    def _tuning(self, config: TrialConfig) -> PhaseWork:
        if config.unfreeze == "none":
            return PhaseWork()
        gflop = sum(
            self._tail_gflop(backbone, self._source.freeze_point(backbone, config.unfreeze), config)
            for backbone in self._source.backbones(config)
        )
        n_steps = len(self._train_part.posters) / config.finetune_batch_size
        return PhaseWork(
            gflop=gflop * self._passes(config) * config.finetune_epochs * self._n_folds,
            pieces=n_steps * config.finetune_epochs * self._n_folds,
            epochs=config.finetune_epochs * self._n_folds,
            max_seconds=config.max_seconds * self._n_folds,
            network=f"{config.backbone} {config.unfreeze}",
        )

    def _passes(self, config: TrialConfig) -> float:
        """Forward passes of one poster that an epoch costs: training, then validation in its views."""
        n_val = len(self._val_part.posters) * len(predicted_views(config))
        return PASSES_PER_STEP * len(self._train_part.posters) + n_val

    def forward_gflop(self, backbone: Backbone) -> float:
        """Return what one poster's pass through all of ``backbone`` costs."""
        key = backbone.name, backbone.image_size, "all"
        if key not in self._gflop:
            self._gflop[key] = count_gflop(backbone, _blank(backbone))
        return self._gflop[key]

    def _tail_gflop(self, backbone: Backbone, point: FreezePoint | None, config: TrialConfig) -> float:
        if point is None:
            return self.forward_gflop(backbone)
        key = backbone.name, backbone.image_size, config.unfreeze
        if key not in self._gflop:
            self._gflop[key] = count_gflop(Tail(backbone, point), torch.zeros(1, *point.activation_shape))
        return self._gflop[key]


def _blank(backbone: Backbone) -> Tensor:
    return torch.zeros(1, backbone.image_size, backbone.image_size, 3, dtype=torch.uint8)


def _head_gflop(head: Head) -> float:
    """A multiplication and an addition for each weight."""
    return 2e-9 * sum(parameter.numel() for parameter in head.parameters())
