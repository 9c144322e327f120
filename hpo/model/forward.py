"""Running a frozen network over posters as fast as this machine can.

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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from hpo.data.images import Progress, n_cores
from hpo.data.shards import Array


@dataclass(frozen=True)
class Forward:
    """A network as a function of posters: uint8 (B, H, W, 3), one for each of its inputs → float32 (B, ...)."""

    run: Callable[..., Array]
    batch_posters: int
    at_once: int = 1  # how many calls the machine runs side by side

    def over(self, images: Array | Sequence[Array], progress: Progress = lambda _: None) -> Array:
        """Run over ``images`` (N, H, W, 3), or one of them for each input, in batches and return float32 (N, ...)."""
        inputs = [images] if isinstance(images, np.ndarray) else images
        starts = range(0, len(inputs[0]), self.batch_posters)

        def one(start: int) -> Array:
            rows = self.run(*(posters[start : start + self.batch_posters] for posters in inputs))
            progress(len(rows))
            return rows

        with ThreadPoolExecutor(self.at_once) as pool:
            return np.concatenate(list(pool.map(one, starts)))


_BATCH_ON_CPU = 8  # larger batches are no faster there and cost memory (3 GB at 64 posters of 224 px)
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

    return Forward(run, _BATCH_ON_CPU if is_cpu else _BATCH_ON_GPU)


def onnx_forward(network: nn.Module, *image_sizes: int) -> Forward | None:
    """ONNX Runtime in fp32, one thread a batch; None where the network cannot be exported faithfully."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "network.onnx"
        try:
            export(network, image_sizes, graph)
        except Exception:  # exporters raise anything; PyTorch itself still runs every network
            return None
        session = _session(graph)

    def run(*images: Array) -> Array:
        return session.run(None, {_input(at): posters for at, posters in enumerate(images)})[0]  # type: ignore[no-any-return]

    return Forward(run, _BATCH_ON_CPU, n_cores()) if _agrees(network, run, image_sizes) else None


def export(network: nn.Module, image_sizes: Sequence[int], file: Path) -> None:
    """Write ``network`` as an ONNX graph: ``images_0``, … uint8 (batch, H, W, 3) → ``rows`` float32 (batch, ...)."""
    examples = tuple(torch.zeros(2, size, size, 3, dtype=torch.uint8) for size in image_sizes)
    inputs = [_input(at) for at in range(len(examples))]
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


def _input(at: int) -> str:
    return f"images_{at}"


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _agrees(network: nn.Module, run: Callable[..., Array], image_sizes: Sequence[int]) -> bool:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (2, size, size, 3), dtype=np.uint8) for size in image_sizes]
    with torch.inference_mode():
        expected = network(*(torch.from_numpy(posters) for posters in images)).numpy()
    return bool(np.abs(run(*images) - expected).max() <= _LARGEST_DIFFERENCE * np.abs(expected).max())
