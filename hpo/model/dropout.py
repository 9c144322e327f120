"""Dropout that costs next to nothing on a CPU.

PyTorch draws the masks of a CPU in one thread, a number at a time: a third of the time in which heads trained. Here one
draw of 64 bits decides on four inputs, eight times as fast for 256 × 1,700 of them (``benchmarks/LOG.md``), at a rate
that is rounded to 1 / 65,536.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
