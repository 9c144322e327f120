"""Running a frozen network over posters as fast as this machine can.

On a CPU without native bfloat16, ONNX Runtime fuses what PyTorch runs layer by layer, and is two to three times as
fast in the same fp32 arithmetic. One thread a batch and as many batches as cores wastes nothing at barriers, which
matters most on a machine that is also doing something else. On a CPU with native bfloat16, and on a GPU, PyTorch in
half precision and channels_last is the fast way. The precision is part of a feature cache's key, because bfloat16
shows in the third decimal; ONNX Runtime and PyTorch in fp32 agree to 1e-4 and share one.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
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
    """A network as a function of posters: uint8 (B, H, W, 3) → float32 (B, D)."""

    run: Callable[[Array], Array]
    batch_posters: int
    at_once: int = 1  # how many calls the machine runs side by side

    def over(self, images: Array, progress: Progress = lambda _: None) -> Array:
        """Run over ``images`` (N, H, W, 3) in batches and return float32 (N, D)."""
        starts = range(0, len(images), self.batch_posters)

        def one(start: int) -> Array:
            batch = images[start : start + self.batch_posters]
            rows = self.run(batch)
            progress(len(batch))
            return rows

        with ThreadPoolExecutor(self.at_once) as pool:
            return np.concatenate(list(pool.map(one, starts)))


_BATCH_ON_CPU = 8  # larger batches are no faster there and cost memory (3 GB at 64 posters of 224 px)
_BATCH_ON_GPU = 128
_LARGEST_DIFFERENCE = 1e-3  # between the exported graph and PyTorch, relative to the largest output


def precision() -> str:
    """Return the arithmetic that this machine computes features in: ``fp32`` or ``bf16``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if _cpu_has_bfloat16() else "fp32"


def _cpu_has_bfloat16() -> bool:
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def fastest_forward(network: nn.Module, image_size: int) -> Forward:
    """Return ``network`` as the fastest function that this machine offers."""
    if torch.cuda.is_available():
        return torch_forward(network.to("cuda"), torch.device("cuda"), half=precision() == "bf16")
    if precision() == "bf16":
        return torch_forward(network, torch.device("cpu"), half=True)
    exported = onnx_forward(network, image_size)
    if exported is None:
        warnings.warn("this network cannot be exported to ONNX Runtime; PyTorch runs it, more slowly", stacklevel=2)
        return torch_forward(network, torch.device("cpu"), half=False)
    return exported


def torch_forward(network: nn.Module, device: torch.device, half: bool) -> Forward:
    """PyTorch, channels_last, in bfloat16 where ``half``."""
    network = network.to(memory_format=torch.channels_last).eval()

    def forward(images: Array) -> Array:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            rows = network(torch.from_numpy(images).to(device, non_blocking=True))
        return rows.float().cpu().numpy()  # type: ignore[no-any-return]

    return Forward(forward, _BATCH_ON_GPU if device.type == "cuda" else _BATCH_ON_CPU)


def onnx_forward(network: nn.Module, image_size: int) -> Forward | None:
    """ONNX Runtime in fp32, one thread a batch; None where the network cannot be exported faithfully."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "network.onnx"
        try:
            export(network, image_size, graph)
        except Exception:  # exporters raise anything; PyTorch itself still runs every network
            return None
        session = _session(graph)

    def run(images: Array) -> Array:
        return session.run(None, {"images": images})[0]  # type: ignore[no-any-return]

    return Forward(run, _BATCH_ON_CPU, n_cores()) if _agrees(network, run, image_size) else None


def export(network: nn.Module, image_size: int, file: Path) -> None:
    """Write ``network`` as an ONNX graph: ``images`` uint8 (batch, H, W, 3) → ``rows`` float32 (batch, D)."""
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    torch._C._jit_set_onnx_log_output_stream("stderr")  # a failed graph is printed; --json has stdout to itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about shapes that are constants here
        torch.onnx.export(
            network.eval(),
            (example,),
            str(file),
            input_names=["images"],
            output_names=["rows"],
            dynamic_axes={"images": {0: "batch"}, "rows": {0: "batch"}},
            dynamo=False,  # four times as fast as the newer exporter, for the same graph
        )


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _agrees(network: nn.Module, run: Callable[[Array], Array], image_size: int) -> bool:
    images = np.random.default_rng(0).integers(0, 256, (2, image_size, image_size, 3), dtype=np.uint8)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    return bool(np.abs(run(images) - expected).max() <= _LARGEST_DIFFERENCE * np.abs(expected).max())
