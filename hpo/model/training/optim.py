"""Optimiser, parameter groups, learning-rate schedules and weight averaging.

Phase one trains the head at one rate. Phase two trains the head faster than the stages, whose weights are good
already, and each stage faster than the one before it, because what lies deeper is more about ImageNet (layer-wise
decay: Howard & Ruder 2018, section 3.2; Clark et al. 2020). Weight decay is decoupled (Loshchilov & Hutter 2019) and
spares what only shifts and scales: decaying that costs fit and buys nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypedDict

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hpo.model.config import TrialConfig

# Averages of weights, which generalise better than the last ones at no cost to prediction.
#
# ``Ema`` follows every step (Polyak & Juditsky 1992; the warm start is TensorFlow's): it pays with one more copy of the
# weights, and helps most where the learning rate stays high. ``greedy_soup`` averages the best epochs as long as that
# helps on val (Wortsman et al. 2022, algorithm 1): it pays with one evaluation per epoch kept.

StateDict: TypeAlias = Mapping[str, Tensor]


class Ema:
    """An exponential moving average of a network's weights and buffers.

    It begins as a copy of the weights after the first step. From then on step t keeps min(decay, (1 + t) / (10 + t))
    of the average, so that a short training does not end on a memory of its start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._averaged = AveragedModel(network, multi_avg_fn=self._follow, use_buffers=True)
        self._averaged.eval()

    @property
    def module(self) -> nn.Module:
        """The averaged network, in evaluation mode: score this one, and keep its state_dict."""
        return self._averaged.module

    def update(self) -> None:
        """Take the network's weights into the average; call it after each step of the optimizer."""
        self._averaged.update_parameters(self._network)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights and the count of updates."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: StateDict) -> None:
        """Continue from what ``state_dict`` returned."""
        self._averaged.load_state_dict(state)

    def _follow(
        self, average: tuple[Tensor, ...] | list[Tensor], current: tuple[Tensor, ...] | list[Tensor], _: Tensor | int
    ) -> None:
        if not average[0].is_floating_point():  # counts and indices: their average, cut to an integer, would drift
            for kept, now in zip(average, current, strict=True):
                kept.copy_(now)
            return
        # the count passed here may lie on a GPU, and reading it would wait for the step; the average's own does not
        t = int(self._averaged.n_averaged)
        follow = get_ema_multi_avg_fn(min(self._decay, (1 + t) / (10 + t)))  # type: ignore[no-untyped-call]
        follow(average, current, t)


def greedy_soup(
    candidates: Sequence[tuple[float, StateDict]], evaluate: Callable[[StateDict], float]
) -> tuple[float, dict[str, Tensor], int]:
    """Average the candidates, best value first, leaving out each that would lower the average's value.

    ``candidates`` are (value, weights) of one architecture, ``evaluate`` gives the value of other weights; larger is
    better. Returns (value, weights, ingredients): never worse than the best candidate. Floating-point tensors are
    averaged in float32 and keep their type, others are the best candidate's. Raises ValueError without candidates.
    """
    if not candidates:
        raise ValueError("Expected at least one candidate for a soup, got none.")
    (value, best), *others = sorted(candidates, key=lambda candidate: candidate[0], reverse=True)
    soup, n_ingredients = _in_float32(best), 1
    for _, state in others:
        tasted = _stirred(soup, state, 1 / (n_ingredients + 1))
        value_with = evaluate(_in_types_of(best, tasted))
        if value_with >= value:
            value, soup, n_ingredients = value_with, tasted, n_ingredients + 1
    return value, _in_types_of(best, soup), n_ingredients


def _in_float32(state: StateDict) -> dict[str, Tensor]:
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _stirred(soup: StateDict, state: StateDict, share: float) -> dict[str, Tensor]:
    """Return the soup with ``share`` of it being ``state``."""
    return {
        name: torch.lerp(tensor, state[name].float(), share) if tensor.is_floating_point() else tensor
        for name, tensor in soup.items()
    }


def _in_types_of(original: StateDict, state: StateDict) -> dict[str, Tensor]:
    return {name: tensor.to(original[name].dtype) for name, tensor in state.items()}


NamedParameters: TypeAlias = Iterable[tuple[str, nn.Parameter]]
Factor: TypeAlias = Callable[[float], float]  # progress through a phase, 0 to 1 → share of the peak learning rate

_UNDECAYED = ("bias", "token", "pos_embed")  # in names: what timm's models list in no_weight_decay()
_FIRST_FACTOR = 0.04  # where a climb begins, 1/25 as in torch's OneCycleLR
_HEAD_CLIMB = 0.3  # share of one_cycle that climbs in phase one (Smith & Topin 2018, as in torch's OneCycleLR)


class ParameterGroup(TypedDict):
    """One of AdamW's parameter groups; the name is for logs."""

    name: str
    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def head_groups(head: nn.Module, config: TrialConfig) -> list[ParameterGroup]:
    """Return the groups of phase one: the head, with and without weight decay."""
    return _groups("head", head.named_parameters(), config.learning_rate, config.weight_decay)


def finetune_groups(head: nn.Module, stages: Sequence[NamedParameters], config: TrialConfig) -> list[ParameterGroup]:
    """Return the groups of phase two: the head and each unfrozen stage, with and without weight decay.

    ``stages`` go from shallow to deep. The deepest has finetune_learning_rate, each before it layer_decay times that of
    the next. Parameters that need no gradient are left out, and so are groups of none. Names are head, stage1 (the
    shallowest), stage2 ..., and the same followed by "undecayed".
    """
    groups = _groups("head", head.named_parameters(), config.finetune_head_learning_rate, config.weight_decay)
    for number, parameters in enumerate(stages, start=1):
        rate = config.finetune_learning_rate * config.layer_decay ** (len(stages) - number)
        groups += _groups(f"stage{number}", parameters, rate, config.weight_decay)
    return groups


def _groups(name: str, parameters: NamedParameters, rate: float, weight_decay: float) -> list[ParameterGroup]:
    trained = [(full_name, parameter) for full_name, parameter in parameters if parameter.requires_grad]
    decayed = [parameter for full_name, parameter in trained if _is_decayed(full_name, parameter)]
    undecayed = [parameter for full_name, parameter in trained if not _is_decayed(full_name, parameter)]
    both: list[ParameterGroup] = [
        {"name": name, "params": decayed, "lr": rate, "weight_decay": weight_decay},
        {"name": f"{name} undecayed", "params": undecayed, "lr": rate, "weight_decay": 0.0},
    ]
    return [group for group in both if group["params"]]


def _is_decayed(full_name: str, parameter: nn.Parameter) -> bool:
    """Distinguish matrices and kernels from biases, scales of norms, tokens and embeddings of positions."""
    own_name = full_name.rpartition(".")[2]
    return parameter.ndim > 1 and not any(word in own_name for word in _UNDECAYED)


def build_optimizer(groups: Sequence[ParameterGroup]) -> torch.optim.AdamW:
    """Return AdamW over ``groups``, fused, which is the fastest on CPU, CUDA and MPS alike."""
    return torch.optim.AdamW([dict(group) for group in groups], fused=True)


def build_schedule(optimizer: torch.optim.Optimizer, factor: Factor, n_steps: int) -> LambdaLR:
    """Let every group's learning rate follow ``factor`` over ``n_steps``; step it after each of the optimizer's."""
    return LambdaLR(optimizer, lambda step: factor(min(1.0, step / n_steps)))


def head_schedule(config: TrialConfig) -> Factor:
    """Return the learning rate of phase one by progress: only one_cycle climbs."""
    return schedule_factor(config.schedule, _HEAD_CLIMB if config.schedule == "one_cycle" else 0.0)


def finetune_schedule(config: TrialConfig) -> Factor:
    """Return the learning rate of phase two by progress: each schedule climbs for warm_up first."""
    return schedule_factor(config.finetune_schedule, config.warm_up)


def schedule_factor(schedule: str, warm_up: float) -> Factor:
    """Return the share of the peak learning rate by progress, both from 0 to 1.

    ``schedule``: ``constant``; ``cosine``, half a cosine to 0 over the whole phase; ``one_cycle``, the same over what
    remains after ``warm_up``, the share of the phase (0 to 1, exclusive) that climbs in a line. So ``cosine`` never
    reaches the peak where it climbs as well, and is ``one_cycle`` where neither does.
    """

    def climb(progress: float) -> float:
        return 1.0 if progress >= warm_up else _FIRST_FACTOR + (1 - _FIRST_FACTOR) * progress / warm_up

    def after_climb(progress: float) -> float:
        return max(0.0, (progress - warm_up) / (1 - warm_up))

    shapes: dict[str, Factor] = {
        "constant": lambda _: 1.0,
        "cosine": _half_cosine,
        "one_cycle": lambda progress: _half_cosine(after_climb(progress)),
    }
    shape = shapes[schedule]
    return lambda progress: climb(progress) * shape(progress)


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))
