"""What a training must remember to go on as if it had never stopped: named tensors and a few numbers.

Weights alone are not enough. AdamW has its moments, the schedule its place, and dropout, shuffling and mixup go on
drawing from where they were. With all of it the epochs after a stop are those that would have come anyway, bit for bit
on one machine. The price is about three copies of what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from hpo.model.averaging import StateDict


class TrainingNumbers(BaseModel):
    """The part of a state that is no tensor."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int  # of the optimiser, so many were made
    micro_batch: int  # posters at once
    learning_rates: list[float]  # of each group, for the next step
    scaler: dict[str, int | float]  # of float16 gradients; empty where they need none


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training between two epochs. The tensors may be those that it trains: copy them before it goes on."""

    tensors: Mapping[str, Tensor]
    numbers: TrainingNumbers


def under(name: str, tensors: StateDict) -> dict[str, Tensor]:
    """Return ``tensors`` with ``name.`` before each name."""
    return {f"{name}.{own}": tensor for own, tensor in tensors.items()}


def beneath(name: str, tensors: StateDict) -> dict[str, Tensor]:
    """Return what ``under`` was given for ``name``."""
    start = f"{name}."
    return {full.removeprefix(start): tensor for full, tensor in tensors.items() if full.startswith(start)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments and steps of every parameter, as ``<number of the parameter>.<name>``."""
    return {
        f"{number}.{name}": tensor
        for number, parameter in enumerate(_parameters(optimizer))
        for name, tensor in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: StateDict) -> None:
    """Put back what ``optimizer_tensors`` returned.

    Moments get the memory layout of their parameter: fused AdamW walks through both side by side without looking, and
    would pair the wrong numbers of a channels_last kernel with a contiguous moment. So ``load_state_dict`` is no help.
    """
    for number, parameter in enumerate(_parameters(optimizer)):
        optimizer.state[parameter] = {
            name: _laid_out_like(parameter, tensor) for name, tensor in beneath(str(number), tensors).items()
        }


def _laid_out_like(parameter: Tensor, tensor: Tensor) -> Tensor:
    if tensor.shape != parameter.shape:  # the count of steps
        return tensor.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)


def _parameters(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


def random_states(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """Return where ``generator``, torch's global generator and that of a GPU are in their sequences."""
    states = {"own": generator.get_state(), "global": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state()
    return states


def restore_random(states: StateDict, generator: torch.Generator, device: torch.device) -> None:
    """Let all of them go on from where ``random_states`` saw them."""
    generator.set_state(states["own"])
    torch.set_rng_state(states["global"])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(states[device.type])
