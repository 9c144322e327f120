"""Examples → probabilities, by a network that is being trained or was.

What is in memory is predicted at once, what is read from the cache in chunks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hpo.data.shards import Array
from hpo.model.device import Device, best_device
from hpo.model.examples import Examples

_CHUNK_POSTERS = 64  # predicted at once where inputs are read from the cache


def predict_probabilities(network: nn.Module, examples: Examples, device: Device | None = None) -> Array:
    """Return float32 probabilities (N, L); where the posters have several views, of the mean of their logits."""
    device = device or best_device()
    rows = torch.arange(len(examples.features))
    batches = torch.split(rows, _CHUNK_POSTERS if examples.stored else len(rows))
    with torch.inference_mode(), device.matmul():
        logits = torch.cat([_predict(network, inputs, device) for _, inputs in examples.batches(batches)])
    mean = logits.view(examples.n_views, examples.n_posters, -1).mean(0)
    return torch.sigmoid(mean).numpy()


def _predict(network: nn.Module, inputs: list[Tensor], device: Device) -> Tensor:
    with device.autocast():
        logits: Tensor = network(*(as_float(device.put(tensor)) for tensor in inputs))
    return logits.float().cpu()


def as_float(tensor: Tensor) -> Tensor:
    """Return cached activations, which are half precision, as float32; posters stay uint8 until a backbone's levels."""
    if tensor.dtype is not torch.float16:
        return tensor
    converted = tensor.float()
    return converted.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else converted
