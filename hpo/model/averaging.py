"""Averages of weights, which generalise better than the last ones at no cost to prediction.

``Ema`` follows every step (Polyak & Juditsky 1992; the warm start is TensorFlow's): it pays with one more copy of the
weights, and helps most where the learning rate stays high. ``greedy_soup`` averages the best epochs as long as that
helps on val (Wortsman et al. 2022, algorithm 1): it pays with one evaluation per epoch kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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
        """Go on from what ``state_dict`` returned."""
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
