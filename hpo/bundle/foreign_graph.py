"""Check an untrusted ONNX graph: only operators that the export writes, no external data, bounded constants.

Refused before ONNX Runtime sees it: operators that no export of ours writes (a loop may never end), graphs and
functions within the graph, weights in other files (they would be read from the current folder), and constants that ask
for more memory than any network does. A batch that takes too long is stopped.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from hpo.bundle.description import GRAPH_FILE, Graph, checked_content
from hpo.data.decoding import Framing
from hpo.errors import BundleError
from hpo.model.backbones.batches import Forward, graph_forward

# What the exporter wrote for 60 families of timm's and for every head, and what it writes for their relatives.
OPERATORS = frozenset([
    "Abs", "Add", "And", "ArgMax", "AveragePool", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "Concat",
    "Constant", "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "CumSum", "DepthToSpace", "Div", "Dropout", "Einsum",
    "Elu", "Equal", "Erf", "Exp", "Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization", "HardSigmoid", "HardSwish",
    "Identity", "InstanceNormalization", "LSTM", "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log",
    "LogSoftmax", "MatMul", "Max", "MaxPool", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "OneHot", "Or", "PRelu", "Pad",
    "Pow", "Range", "Reciprocal", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare", "Relu", "Reshape", "Resize", "Round", "ScatterElements", "ScatterND", "Shape", "Sigmoid", "Sign",
    "Sin", "Slice", "Softmax", "Softplus", "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile",
    "TopK", "Transpose", "Trilu", "Unsqueeze", "Where",
])  # fmt: skip
_DOMAINS = ("", "ai.onnx")
_SIZE_INPUTS = {"ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Pad": (1,), "Range": (1,), "Resize": (2, 3)}
_MOST_VALUES = 2**26  # that a constant may ask for: 256 MB of float32
_MOST_SECONDS = 600.0  # for a batch of eight posters; the largest network of timm's takes one, an ensemble some forty


def check_graph(folder: Path, graph: Graph) -> Path:
    """Return the ONNX graph of the bundle in ``folder``.

    Raises BundleError when it is missing or altered, cannot be read, or holds what no export holds.
    """
    file = folder / GRAPH_FILE
    content = checked_content(file, graph.sha256)
    try:
        _check_model(onnx.load_model_from_string(content))
    except Exception as error:  # protobuf has its own, which derive from nothing else
        raise _refused(file, error) from error
    return file


def _check_model(model: onnx.ModelProto) -> None:
    """Raise ValueError for what no export writes."""
    if model.functions or model.training_info:
        raise ValueError("it holds functions or training, expected a plain graph")
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        if node.op_type not in OPERATORS or node.domain not in _DOMAINS:
            raise ValueError(f"it holds the operator {_named(node)}, which no export writes")
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                raise ValueError(f"it holds a graph within {_named(node)}")
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ValueError(f"it holds sparse tensors in {_named(node)}")
            tensors += [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors]
    if model.graph.sparse_initializer:
        raise ValueError("it holds sparse tensors")
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ValueError("it keeps weights in another file")
        if tensor.data_type == onnx.TensorProto.STRING:
            raise ValueError("it holds text")
    _check_sizes(model)


def _named(node: onnx.NodeProto) -> str:
    return textwrap.shorten(repr(f"{node.domain}.{node.op_type}" if node.domain else node.op_type), 60)


def _check_sizes(model: onnx.ModelProto) -> None:
    """Raise ValueError where a constant asks for tensors of a size that no network has."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                constants[node.output[0]] = attribute.t
    for node in model.graph.node:
        for at in _SIZE_INPUTS.get(node.op_type, ()):
            tensor = constants.get(node.input[at]) if at < len(node.input) else None
            if tensor is not None and math.prod(max(1.0, abs(value)) for value in _values(tensor)) > _MOST_VALUES:
                raise ValueError(f"{_named(node)} asks for more than {_MOST_VALUES:,} values")


def _values(tensor: onnx.TensorProto) -> Iterator[float]:
    return map(float, onnx.numpy_helper.to_array(tensor).ravel()[:64])


def open_graph(graph: Path, framings: Sequence[Framing], n_labels: int) -> Forward:
    """Open a graph that was checked, and try it on a blank poster: it may be one of something else."""
    blank = [np.zeros((1, framing.size_px, framing.size_px, 3), np.uint8) for framing in framings]
    try:
        # From its content, which has no folder that further files could be read from.
        forward = graph_forward(graph.read_bytes(), _MOST_SECONDS)
        logits = forward.over(blank)
        if logits.shape != (1, n_labels) or logits.dtype.kind != "f":
            raise ValueError(
                f"it answers with {logits.shape} of {logits.dtype}, not with numbers for {n_labels} labels"
            )
    except Exception as error:  # ONNX Runtime has its own, which derive from nothing else
        raise _refused(graph, error) from error
    return forward


def _refused(graph: Path, error: Exception) -> BundleError:
    why = textwrap.shorten(str(error), 160)
    return BundleError(f"{graph} is not a graph of this bundle that can be run ({why}): export it again.")
