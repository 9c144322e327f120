"""What an optimiser is told: parameter groups with their own learning rates, and the rates' course over a phase.

Phase one trains the head at one rate. Phase two trains the head faster than the stages, whose weights are good
already, and each stage faster than the one before it, because what lies deeper is more about ImageNet (layer-wise
decay: Howard & Ruder 2018, section 3.2; Clark et al. 2020). Weight decay is decoupled (Loshchilov & Hutter 2019) and
spares what only shifts and scales: decaying that costs fit and buys nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias, TypedDict

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hpo.model.hyperparameters import Hyperparameters

NamedParameters: TypeAlias = Iterable[tuple[str, nn.Parameter]]
Factor: TypeAlias = Callable[[float], float]  # progress through a phase, 0 to 1 → share of the peak learning rate

_UNDECAYED = ("bias", "token", "pos_embed")  # in names: what timm's models list in no_weight_decay()
_FIRST_FACTOR = 0.04  # where a climb begins, 1/25 as in torch's OneCycleLR
_HEAD_CLIMB = 0.3  # share of one_cycle that climbs in phase one (Smith & Topin 2018, as in torch's OneCycleLR)


class Group(TypedDict):
    """One of AdamW's parameter groups; the name is for logs."""

    name: str
    params: list[nn.Parameter]
    lr: float
    weight_decay: float


def head_groups(head: nn.Module, chosen: Hyperparameters) -> list[Group]:
    """Return the groups of phase one: the head, with and without weight decay."""
    return _groups("head", head.named_parameters(), chosen.learning_rate, chosen.weight_decay)


def finetune_groups(head: nn.Module, stages: Sequence[NamedParameters], chosen: Hyperparameters) -> list[Group]:
    """Return the groups of phase two: the head and each unfrozen stage, with and without weight decay.

    ``stages`` go from shallow to deep. The deepest has finetune_learning_rate, each before it layer_decay times that of
    the next. Parameters that need no gradient are left out, and so are groups of none. Names are head, stage1 (the
    shallowest), stage2 ..., and the same followed by "undecayed".
    """
    groups = _groups("head", head.named_parameters(), chosen.finetune_head_learning_rate, chosen.weight_decay)
    for number, parameters in enumerate(stages, start=1):
        rate = chosen.finetune_learning_rate * chosen.layer_decay ** (len(stages) - number)
        groups += _groups(f"stage{number}", parameters, rate, chosen.weight_decay)
    return groups


def _groups(name: str, parameters: NamedParameters, rate: float, weight_decay: float) -> list[Group]:
    trained = [(full_name, parameter) for full_name, parameter in parameters if parameter.requires_grad]
    decayed = [parameter for full_name, parameter in trained if _is_decayed(full_name, parameter)]
    undecayed = [parameter for full_name, parameter in trained if not _is_decayed(full_name, parameter)]
    both: list[Group] = [
        {"name": name, "params": decayed, "lr": rate, "weight_decay": weight_decay},
        {"name": f"{name} undecayed", "params": undecayed, "lr": rate, "weight_decay": 0.0},
    ]
    return [group for group in both if group["params"]]


def _is_decayed(full_name: str, parameter: nn.Parameter) -> bool:
    """Tell matrices and kernels from biases, scales of norms, tokens and embeddings of positions."""
    own_name = full_name.rpartition(".")[2]
    return parameter.ndim > 1 and not any(word in own_name for word in _UNDECAYED)


def build_optimizer(groups: Sequence[Group]) -> torch.optim.AdamW:
    """Return AdamW over ``groups``, fused, which is the fastest on CPU, CUDA and MPS alike."""
    return torch.optim.AdamW([dict(group) for group in groups], fused=True)


def build_schedule(optimizer: torch.optim.Optimizer, factor: Factor, n_steps: int) -> LambdaLR:
    """Let every group's learning rate follow ``factor`` over ``n_steps``; step it after each of the optimizer's."""
    return LambdaLR(optimizer, lambda step: factor(min(1.0, step / n_steps)))


def head_schedule(chosen: Hyperparameters) -> Factor:
    """Return the course of phase one: only one_cycle climbs."""
    return schedule_factor(chosen.schedule, _HEAD_CLIMB if chosen.schedule == "one_cycle" else 0.0)


def finetune_schedule(chosen: Hyperparameters) -> Factor:
    """Return the course of phase two: each schedule climbs for warm_up first."""
    return schedule_factor(chosen.finetune_schedule, chosen.warm_up)


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
