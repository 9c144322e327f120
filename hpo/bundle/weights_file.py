"""Read the weights of an untrusted bundle within bounds, before any network is built.

``bundle.json`` says which networks to build and ``model.safetensors`` how many weights there are. What a description
asks for is compared with what the file holds while it is built, part by part: a network that takes more than the file
has is refused before its memory is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from hpo.bundle.description import checked_content, rename_tensors

_MOST_HEADER_BYTES = 2**24  # of the names and shapes; those of 60 fine-tuned networks take 3 MB
# What building a network may take beyond what stays of it, such as a classifier that timm replaces.
_SPARE_VALUES, _SPARE_TENSORS, _MODULES_A_TENSOR = 2**22, 64, 50


def read_weights(file: Path, sha256: str | None) -> dict[str, Tensor]:
    """Return the tensors of a bundle by their present names.

    Raises BundleError as ``checked_content`` does, and ValueError or SafetensorError where it holds no tensors.
    """
    content = checked_content(file, sha256)
    n_header = int.from_bytes(content[:8], "little")
    if n_header > min(_MOST_HEADER_BYTES, len(content)):
        raise ValueError(f"a header of {n_header:,} bytes")
    # What was checked is what is loaded; and a file that is mapped is read page by page, twenty times as slowly.
    return rename_tensors(load(content))


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of one part of the network, under the names that it has for them itself."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextmanager
def no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Let networks be built within, as long as they take about as many values and tensors as ``tensors`` have.

    Raises ValueError as soon as a parameter or a layer is one too many; a parameter's memory is reserved by then, but
    not yet filled.
    """
    left = {
        "values": 2 * sum(tensor.numel() for tensor in tensors.values()) + _SPARE_VALUES,
        "tensors": 2 * len(tensors) + _SPARE_TENSORS,
        "layers": _MODULES_A_TENSOR * (len(tensors) + _SPARE_TENSORS),
    }

    def take(kind: str, n: int) -> None:
        left[kind] -= n
        if left[kind] < 0:
            raise ValueError(f"bundle.json describes a network of far more {kind} than the file holds")

    def count_parameter(_: nn.Module, __: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            take("values", parameter.numel())
            take("tensors", 1)

    hooks = (
        register_module_parameter_registration_hook(count_parameter),
        register_module_module_registration_hook(lambda _, __, ___: take("layers", 1)),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_same_shapes(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless ``tensors`` are those of ``network``, by name and shape."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if differing:
        name = differing[0]
        raise ValueError(f"{name}: expected {expected.get(name, 'none')}, got {found.get(name, 'none')}")
