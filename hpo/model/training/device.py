"""Select the training device and precision: CUDA, MPS, then the CPU.

Half precision is used on GPUs alone: bfloat16 is ten times slower than fp32 on a CPU without it, and no faster on one
that has it (``benchmarks/LOG.md``). Two libraries can multiply float32 matrices for PyTorch on a CPU: on an AMD
processor oneDNN is more than twice as fast as MKL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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

    def matmul(self) -> AbstractContextManager[None]:
        """Multiply float32 matrices inside, backwards too, by the faster library of a CPU."""
        return _onednn() if self.device.type == "cpu" and _onednn_is_faster() else nullcontext()

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


@cache
def _onednn_is_faster() -> bool:
    """Say whether this is an AMD processor with AVX-512, which MKL does not use there."""
    if not (hasattr(torch.cpu, "get_capabilities") and hasattr(torch.backends.mkldnn, "matmul")):  # an older PyTorch
        return False
    cpu = torch.cpu.get_capabilities()
    return str(cpu.get("cpu_name", "")).startswith("AMD") and bool(cpu.get("avx512_f")) and not cpu.get("amx_tile")


@contextmanager
def _onednn() -> Iterator[None]:
    """Let oneDNN multiply, by the one setting that does: it allows bfloat16, which oneDNN takes up on AMX alone."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before
