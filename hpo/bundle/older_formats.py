"""Bundles of earlier formats, read as if they had been written today.

Format 1 knew one backbone: its preprocessing and the origin of its weights stood alone, and the names of its tensors
began with ``backbone.``. Since format 2 there is a list, with one entry for each of the backbones that are fused. Since
format 3 there are ensembles and ``min_labels``, and since format 4 an ONNX graph may lie beside the weights; their
defaults mean what there was before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_ONE_EACH = ("preprocessing", "backbone_weights")
_ONLY_BACKBONE, _FIRST_BACKBONE = "backbone.", "backbones.0."


def read_description(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an older ``bundle.json`` holds in the words of the present format."""
    listed = {}
    if content["format_version"] == 1:
        listed = {key: [content[key]] for key in _ONE_EACH if key in content}
    return {**content, **listed, "format_version": 4}


def rename_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an older ``model.safetensors`` under the names of the present format."""
    return {
        _FIRST_BACKBONE + name.removeprefix(_ONLY_BACKBONE) if name.startswith(_ONLY_BACKBONE) else name: tensor
        for name, tensor in tensors.items()
    }
