"""Run a frozen network over posters as fast as this machine can.

A network takes one batch of posters, or several of the same posters at several sizes (fused backbones), and gives rows
of any shape: features, activations or logits.

On a CPU, ONNX Runtime fuses what PyTorch runs layer by layer, and is two to three times as fast in the same fp32
arithmetic; it beats PyTorch in bfloat16 even where the CPU has that (``benchmarks/LOG.md``), so every CPU computes the
same features. One thread a batch and as many batches as cores wastes nothing at barriers, which matters most on a
machine that is also doing something else. On a GPU, PyTorch in half precision and channels_last is the fast way. The
precision is part of a feature cache's key, because bfloat16 shows in the third decimal; ONNX Runtime and PyTorch in
fp32 agree to 1e-4 and share one.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hpo.model.backbones.batches import BATCH_ON_CPU, Forward, graph_forward, input_name
from hpo.runtime.atomic import Array

_BATCH_ON_GPU = 128
_LARGEST_DIFFERENCE = 1e-3  # between the exported graph and PyTorch, relative to the largest output


def precision() -> str:
    """Return the arithmetic that this machine computes features in: ``fp32`` or ``bf16``."""
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "fp32"


def fastest_forward(network: nn.Module, *image_sizes: int) -> Forward:
    """Return ``network``, which takes posters of ``image_sizes`` px, as the fastest function of this machine."""
    if torch.cuda.is_available():
        return torch_forward(network, torch.device("cuda"), half=precision() == "bf16")
    if torch.backends.mps.is_available():
        return torch_forward(network, torch.device("mps"), half=False)
    exported = onnx_forward(network, *image_sizes)
    if exported is None:
        warnings.warn("this network cannot be exported to ONNX Runtime; PyTorch runs it, more slowly", stacklevel=2)
        return torch_forward(network, torch.device("cpu"), half=False)
    return exported


def torch_forward(network: nn.Module, device: torch.device, half: bool) -> Forward:
    """PyTorch, channels_last, in bfloat16 where ``half``. On another device than the CPU runs a copy."""
    is_cpu = device.type == "cpu"
    on_device = network if is_cpu else copy.deepcopy(network).to(device)
    on_device = on_device.to(memory_format=torch.channels_last).eval()

    def run(*images: Array) -> Array:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            rows = on_device(*(torch.from_numpy(posters).to(device, non_blocking=True) for posters in images))
        return rows.float().cpu().numpy()  # type: ignore[no-any-return]

    return Forward(run, BATCH_ON_CPU if is_cpu else _BATCH_ON_GPU)


def onnx_forward(network: nn.Module, *image_sizes: int) -> Forward | None:
    """ONNX Runtime in fp32, one thread a batch; None where the network cannot be exported faithfully."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "network.onnx"
        try:
            export(network, image_sizes, graph)
        except Exception:  # exporters raise anything; PyTorch itself still runs every network
            return None
        forward = graph_forward(graph)
    return forward if _agrees(network, forward.run, image_sizes) else None


def export(network: nn.Module, image_sizes: Sequence[int], file: Path) -> None:
    """Write ``network`` as an ONNX graph: ``images_0``, … uint8 (batch, H, W, 3) → ``rows`` float32 (batch, ...)."""
    examples = tuple(torch.zeros(2, size, size, 3, dtype=torch.uint8) for size in image_sizes)
    inputs = [input_name(at) for at in range(len(examples))]
    torch._C._jit_set_onnx_log_output_stream("stderr")  # a failed graph is printed; --json has stdout to itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about shapes that are constants here
        torch.onnx.export(
            network.eval(),
            examples,
            str(file),
            input_names=inputs,
            output_names=["rows"],
            dynamic_axes={name: {0: "batch"} for name in [*inputs, "rows"]},
            dynamo=False,  # four times as fast as the newer exporter, for the same graph
        )


def _agrees(network: nn.Module, run: Callable[..., Array], image_sizes: Sequence[int]) -> bool:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8) for size in image_sizes]
    with torch.inference_mode():
        expected = network(*(torch.from_numpy(posters) for posters in images)).numpy()
    return bool(np.abs(run(*images) - expected).max() <= _LARGEST_DIFFERENCE * np.abs(expected).max())
