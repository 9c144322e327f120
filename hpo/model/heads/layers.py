"""Hidden layers of a head: plain, residual or gated blocks.

A residual block keeps what it was given and learns a correction (He et al. 2016, "Deep Residual Learning for Image
Recognition"), so depth costs a small head little; a gated one lets each unit be switched off by the input (Dauphin et
al. 2017, "Language Modeling with Gated Convolutional Networks", equation 1), for twice the weights.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from hpo.model.config import TrialConfig

# Dropout that costs next to nothing on a CPU.
#
# PyTorch draws the masks of a CPU in one thread, a number at a time: a third of the time in which heads trained. Here
# one draw of 64 bits decides on four inputs, eight times as fast for 256 × 1,700 of them (``benchmarks/LOG.md``), at a
# rate that is rounded to 1 / 65,536.

_LEVELS = 2**16  # of a 16-bit number, four of which are drawn at once


class Dropout(nn.Dropout):
    """``nn.Dropout`` (Srivastava et al. 2014), drawn quickly where it is on a CPU, from PyTorch's global generator."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs of any shape → the same, each zero with probability ``p`` in training and the others scaled up."""
        if not self.training or inputs.device.type != "cpu":
            return super().forward(inputs)
        n_dropped = round(self.p * _LEVELS)  # of the levels
        if n_dropped in (0, _LEVELS):
            return super().forward(inputs)
        kept = _draw(inputs) >= n_dropped - _LEVELS // 2
        return inputs * kept.to(inputs.dtype).mul_(_LEVELS / (_LEVELS - n_dropped))


def _draw(inputs: Tensor) -> Tensor:
    """Return a 16-bit number, evenly from all of them, for each of the inputs."""
    n = inputs.numel()
    bits = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return bits.view(torch.int16)[:n].view(inputs.shape)


SMALLEST_WIDTH = 8  # halving stops here
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
_NORMS: dict[str, type[nn.Module]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def hidden_widths(config: TrialConfig) -> list[int]:
    """Return the units of each hidden layer; ``halving`` halves from the second one on."""
    if config.shape == "constant":
        return [config.width] * config.hidden_layers
    return [max(SMALLEST_WIDTH, config.width // 2**layer) for layer in range(config.hidden_layers)]


def hidden_blocks(n_inputs: int, config: TrialConfig) -> list[nn.Module]:
    """Return the modules, to be applied one after another, that take (N, n_inputs) to (N, last width)."""
    widths = [n_inputs, *hidden_widths(config)]
    return [module for before, after in pairwise(widths) for module in _block(before, after, config)]


class Residual(nn.Module):
    """x + f(x), with a projection of x only where the widths differ."""

    def __init__(self, before: int, after: int, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.projection = nn.Identity() if before == after else nn.Linear(before, after, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, before) → (N, after)."""
        total: Tensor = self.projection(vectors) + self.branch(vectors)
        return total


class Gated(nn.Module):
    """f(x) * sigmoid(g(x)), where g is one dense layer."""

    def __init__(self, before: int, after: int, content: nn.Module) -> None:
        super().__init__()
        self.content = content
        self.gate = nn.Linear(before, after)

    def forward(self, vectors: Tensor) -> Tensor:
        """(N, before) → (N, after)."""
        gated: Tensor = self.content(vectors) * torch.sigmoid(self.gate(vectors))
        return gated


def _block(before: int, after: int, config: TrialConfig) -> list[nn.Module]:
    norm = [] if config.norm == "none" else [_NORMS[config.norm](after)]
    layer = [nn.Linear(before, after), *norm, _ACTIVATIONS[config.activation]()]
    dropout = Dropout(config.dropout)
    if config.block == "residual":
        return [Residual(before, after, nn.Sequential(*layer, dropout))]
    if config.block == "gated":
        return [Gated(before, after, nn.Sequential(*layer)), dropout]
    return [*layer, dropout]  # not wrapped: bundles name these weights hidden.1, hidden.2, ...
