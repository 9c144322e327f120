"""Export a bundle's network as an ONNX graph and compare it with PyTorch on real posters.

fp32    the same arithmetic: probabilities agree to 1e-4 and labels are the same, or the export is refused
fp16    half the file; most CPUs convert back and gain nothing, GPUs and phones do
int8    a quarter of the file: weights a channel each, activations by the range that they have on posters
        (Jacob et al. 2018); what that costs in the search's metric is measured and written down
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from PIL import Image

from hpo.bundle.bundle import load_classifier
from hpo.bundle.description import GRAPH_FILE, Description, Graph, Precision, file_hash
from hpo.bundle.predictor import Predicted, Predictor
from hpo.data.decoding import Source
from hpo.errors import BundleError
from hpo.evaluation.counts import Bools
from hpo.evaluation.metrics import predict, score
from hpo.model.backbones.inference import export

LARGEST_DIFFERENCE = 1e-4  # of a probability, between an fp32 graph and PyTorch
_COMPARED_POSTERS = 128  # by PyTorch, which takes its time


def write_graph(
    folder: Path,
    described: Description,
    precision: Precision,
    posters: Sequence[Path] | None = None,
    targets: Bools | None = None,
) -> Graph:
    """Write ``model.onnx`` into the bundle in ``folder`` and return what is to be said of it.

    ``posters`` are what it is compared on, with ``targets`` (N, L) where they are known, for what it costs in the
    metric; without any, it is noise. Raises BundleError where the network cannot be exported, or its graph answers
    otherwise.
    """
    network, file = load_classifier(folder, described), folder / GRAPH_FILE
    torch, sizes = Predictor(described, network), [each.framing.size_px for each in described.preprocessing]
    try:
        export(network, sizes, file)
        if precision == "fp16":
            onnx.save(convert_float_to_float16(onnx.load(str(file)), keep_io_types=True), str(file))
    except Exception as error:  # exporters raise anything
        file.unlink(missing_ok=True)
        raise BundleError(
            f"{described.backbone} cannot be exported to ONNX as {precision} ({_first_line(error)}): leave --onnx out."
        ) from error
    compared: Sequence[Source] = posters or _noise()
    if posters is None or precision == "fp32":
        compared, targets = compared[:_COMPARED_POSTERS], None if targets is None else targets[:_COMPARED_POSTERS]
    return _checked(file, described, precision, torch, compared, targets)


def _noise() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)) for _ in range(8)]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _checked(
    file: Path,
    described: Description,
    precision: Precision,
    torch: Predictor,
    posters: Sequence[Source],
    targets: Bools | None,
) -> Graph:
    expected, answered = torch.predict(posters), Predictor(described, file).predict(posters)
    difference = float(np.abs(expected.probabilities - answered.probabilities).max(initial=0.0))
    decisions = np.array(described.thresholds), described.min_labels
    same = (predict(expected.probabilities, *decisions) == predict(answered.probabilities, *decisions)).all(axis=1)
    graph = Graph(
        precision=precision,
        sha256=file_hash(file),
        n_posters=len(answered.rows),
        largest_difference=difference,
        same_labels=float(same.mean()) if len(same) else 1.0,
        cost=None if targets is None else _cost(described, expected, answered, targets),
    )
    if precision == "fp32" and (difference > LARGEST_DIFFERENCE or not same.all()):
        file.unlink()
        raise BundleError(
            f"Expected an ONNX graph that answers as PyTorch does, got probabilities that differ by {difference:.1e} "
            f"and other labels for {int((~same).sum())} of {len(same)} posters: leave --onnx out."
        )
    return graph


def _cost(described: Description, expected: Predicted, answered: Predicted, targets: Bools) -> float:
    """How much lower the search's metric is by the graph, on posters that both could decode."""
    metric, thresholds = described.metrics["metric"], np.array(described.thresholds)
    by_torch, by_graph = (
        score(each.probabilities, targets[list(each.rows)], thresholds, min_labels=described.min_labels).value(metric)
        for each in (expected, answered)
    )
    return by_torch - by_graph
