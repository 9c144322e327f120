"""Where a network trains and in which arithmetic: CUDA, then Apple's MPS, then the CPU.

Half precision is used on GPUs alone: bfloat16 is ten times slower than fp32 on a CPU without it, and no faster on one
that has it (``benchmarks/LOG.md``).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Device:
    """A device and the half precision that it multiplies in, if any."""

    device: torch.device
    half: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        """Multiply in half precision inside, where there is one."""
        return torch.autocast(self.device.type, self.half, enabled=self.half is not None)

    def gradient_scaler(self) -> torch.amp.GradScaler:
        """float16 gradients underflow unless the loss is scaled; bfloat16 and float32 have the range."""
        return torch.amp.GradScaler(self.device.type, enabled=self.half is torch.float16)

    def put(self, tensor: Tensor) -> Tensor:
        """Bring ``tensor`` here; from pinned memory the copy runs beside the arithmetic."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)


@cache
def best_device() -> Device:
    """Return the fastest device of this machine."""
    if torch.cuda.is_available():
        return Device(torch.device("cuda"), torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    if torch.backends.mps.is_available():
        return Device(torch.device("mps"), None)
    return Device(torch.device("cpu"), None)
