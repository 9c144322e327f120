"""Save and load bundles: folders with a trained classifier as JSON, safetensors and ONNX, without pickle.

JSON, safetensors and ONNX, no pickle.

    bundle.json          labels, thresholds, backbone, preprocessing, hyperparameters, metrics, fingerprints, versions
    model.safetensors    every weight and buffer of the classifier
    model.onnx           the same network for ONNX Runtime, where it was asked for
    trained_on.npy       digests of the posters that it was made from
    README.md            the model card

The classifier is one network, or an ensemble of several under shared backbones; both are used alike.

A bundle knows nothing of studies or MLflow; a registered model is a bundle with a few lines around it. What is read
without PyTorch is in ``description.py``; here are the weights.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hpo.bundle.description import (
    CARD_FILE,
    WEIGHTS_FILE,
    Description,
    Member,
    Preprocessing,
    replace_folder,
    write_description,
)
from hpo.bundle.trained_on import Digests, write_digests
from hpo.bundle.weights_file import below, check_same_shapes, no_larger_than, read_weights
from hpo.errors import BundleError, disk_cure
from hpo.model.backbones.architectures import find_architecture
from hpo.model.backbones.backbone import Backbone, build_backbone
from hpo.model.classifier import Classifier, Ensemble, EnsemblePart, Network, inputs_of


def made_of(network: Network) -> dict[str, Any]:
    """Return what a Description says of the network itself."""
    inputs = inputs_of(network)
    members: tuple[Member, ...] = ()
    config = network.config if isinstance(network, Classifier) else network.parts[0].config
    if isinstance(network, Ensemble):
        members = tuple(
            Member(
                weight=min(1.0, part.weight),
                inputs=part.inputs,
                averages_flips=part.averages_flips,
                params=part.config,
            )
            for part in network.parts
        )
    return {
        "backbone": "+".join(backbone.name for backbone, _ in inputs),
        "backbone_weights": tuple(backbone.source for backbone, _ in inputs),
        "preprocessing": tuple(Preprocessing.of(backbone, fit) for backbone, fit in inputs),
        "params": config,
        "members": members,
    }


def save_bundle(
    folder: Path, description: Description, classifier: Network, card: str, digests: Digests | None = None
) -> None:
    """Write a bundle to ``folder``, which appears whole or not at all. Raises BundleError when the disk refuses.

    ``digests`` are those of the posters that it was made from.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as temporary:
            staged = Path(temporary) / "bundle"
            staged.mkdir()
            weights = {key: tensor.contiguous() for key, tensor in classifier.state_dict().items()}
            save_file(weights, staged / WEIGHTS_FILE)
            (staged / WEIGHTS_FILE).chmod(0o644)  # safetensors lets only the owner read it
            if digests is not None:
                write_digests(staged, digests)
            write_description(staged, description)
            (staged / CARD_FILE).write_text(card, encoding="utf-8")
            replace_folder(staged, folder)
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"The bundle could not be written to {folder} ({getattr(error, 'strerror', None) or error}): "
            f"{disk_cure(error)} or choose another folder with --out."
        ) from error


def load_classifier(folder: Path, description: Description) -> Network:
    """Rebuild the network of a bundle. Raises BundleError when the weights are missing, altered or do not fit."""
    file = folder / WEIGHTS_FILE
    try:
        tensors = read_weights(file, description.fingerprints.get("model"))
        backbones = [_backbone(at, description, tensors) for at in range(len(description.backbones))]
        with no_larger_than(tensors):
            network = _untrained(backbones, description)
        check_same_shapes(network, tensors)
        _take(network, tensors)
    except BundleError:
        raise
    except Exception as error:  # networks that are built from a stranger's arguments raise anything
        reason = textwrap.shorten(str(error) or type(error).__name__, 160)
        raise BundleError(
            f"The weights in {file} do not fit timm's {textwrap.shorten(description.backbone, 160)!r} ({reason}): "
            f"install timm {description.versions.get('timm', 'of the time')} or export the bundle again."
        ) from error
    return network


def _backbone(at: int, description: Description, tensors: Mapping[str, Tensor]) -> Backbone:
    """Build one of the backbones, which the file must hold before the next is built."""
    preprocessing, mine = description.preprocessing[at], below(tensors, f"backbones.{at}.")
    recorded, size = preprocessing.model_dump(), preprocessing.image_size
    name = description.backbones[at]
    with no_larger_than(mine):
        if preprocessing.arguments:  # of any size: names and shapes first
            skeleton = find_architecture(name, recorded).skeleton(size)
            check_same_shapes(skeleton, below(mine, "network."))
        backbone = build_backbone(name, size, recorded)
    check_same_shapes(backbone, mine)
    return backbone


def _take(network: Network, tensors: dict[str, Tensor]) -> None:
    """Let a network have ``tensors`` themselves, as those of the types that it was built with, instead of copies."""
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    same = {name: tensor.to(kinds.get(name, tensor.dtype)) for name, tensor in tensors.items()}
    network.load_state_dict(same, assign=True)


def _untrained(backbones: list[Backbone], description: Description) -> Network:
    n_labels = len(description.label_names)
    if not description.members:
        return Classifier.untrained(backbones, n_labels, description.params)
    parts = [EnsemblePart(one.weight, one.params, one.inputs, one.averages_flips) for one in description.members]
    return Ensemble.untrained(backbones, n_labels, parts)
