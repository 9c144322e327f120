"""A bundle at work: posters → probabilities → labels."""

from __future__ import annotations

import gc
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpo.bundle.description import Description, checked_graph, load_description
from hpo.data.decoding import Framing, Missing, Source, decode
from hpo.data.images import Progress
from hpo.data.shards import Array
from hpo.decision.metrics import predict
from hpo.errors import BundleError

if TYPE_CHECKING:
    from hpo.model.batches import Forward
    from hpo.model.ensemble import Network

_BLOCK_POSTERS = 128  # decoded at once
_WORTH_EXPORTING = 256  # posters from which a faster forward pass makes up for the seconds that building it takes

Poster = Source | str | Missing  # a str is a path
Squares = dict[Framing, Array]  # a poster as each of a bundle's backbones sees it: uint8 (H, W, 3)


@dataclass(frozen=True)
class Predicted:
    """The answer for a list of posters; rows of broken ones are left out."""

    rows: tuple[int, ...]  # (M,) which of the posters could be decoded
    probabilities: Array  # (M, L)
    broken: dict[int, str]  # row → why it could not be decoded
    n_posters: int = 0  # asked for


@dataclass(frozen=True)
class Answer:
    """What is predicted of one poster."""

    labels: tuple[str, ...]
    probabilities: dict[str, float]

    def sure(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        """Return for each label how far its probability is from its threshold, as a share of the way to certainty."""
        return {label: _how_sure(p, thresholds[label]) for label, p in self.probabilities.items()}


def _how_sure(probability: float, threshold: float) -> float:
    if probability >= threshold:
        return (probability - threshold) / (1 - threshold) if threshold < 1 else 1.0
    return (threshold - probability) / threshold


class Predictor:
    """The classifier of a bundle, ready to answer; PyTorch is loaded only where a network has to be run by it."""

    def __init__(self, description: Description, network: Network | Path) -> None:
        """Answer by a network, or by the file of its ONNX graph."""
        self.description = description
        self.network = network
        self.framings = tuple(preprocessing.framing for preprocessing in description.preprocessing)  # one a backbone

    @classmethod
    def load(cls, folder: Path, *, graph: bool = True) -> Predictor:
        """Load the bundle in ``folder``: its ONNX graph where it has one and ``graph``, else its network.

        Raises BundleError.
        """
        description = load_description(folder)
        if graph and description.onnx is not None:
            return cls(description, checked_graph(folder, description.onnx))
        with _no_garbage_collection():
            from hpo.bundle.bundle import load_classifier  # late: an ONNX bundle needs no PyTorch

            return cls(description, load_classifier(folder, description))

    def probabilities(self, posters: Sequence[Source]) -> Array:
        """Return float32 (N, L). Raises OSError or ValueError for a poster that cannot be decoded."""
        return self._probabilities([self._squares(poster) for poster in posters], self._plain)

    def stream(self, posters: Iterable[Poster], at_least: int = 0) -> Iterator[Predicted]:
        """Answer block by block, however many posters come; rows count within a block.

        The faster forward pass is built once so many have come, or are known to come, that it is worth it.
        """
        n_seen, coming = 0, iter(posters)
        with ThreadPoolExecutor() as pool:
            while block := list(islice(coming, _BLOCK_POSTERS)):
                decoded = list(pool.map(self._decode, block))
                whole = {row: squares for row, squares in enumerate(decoded) if not isinstance(squares, str)}
                broken = {row: reason for row, reason in enumerate(decoded) if isinstance(reason, str)}
                n_seen += len(block)
                forward = self._fast if max(n_seen, at_least) >= _WORTH_EXPORTING else self._plain
                found = np.empty((0, len(self.description.label_names)), np.float32)
                if whole:
                    found = self._probabilities(list(whole.values()), forward)
                yield Predicted(tuple(whole), found, broken, len(block))

    def predict(self, posters: Sequence[Poster], progress: Progress = lambda _: None) -> Predicted:
        """Answer for every poster that can be decoded, in batches, so that memory stays flat.

        A poster is the path of a file, the bytes of one, or a Pillow image.
        """
        rows: list[int] = []
        parts = [np.empty((0, len(self.description.label_names)), np.float32)]
        broken: dict[int, str] = {}
        start = 0
        for found in self.stream(posters, at_least=len(posters)):
            rows += [start + row for row in found.rows]
            parts.append(found.probabilities)
            broken |= {start + row: reason for row, reason in found.broken.items()}
            start += found.n_posters
            progress(found.n_posters)
        return Predicted(tuple(rows), np.concatenate(parts), broken, start)

    def labels(self, probabilities: Array) -> list[tuple[str, ...]]:
        """Return the predicted label names of each row of ``probabilities`` (N, L)."""
        names = self.description.label_names
        chosen = predict(probabilities, np.array(self.description.thresholds), self.description.min_labels)
        return [tuple(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]

    def answers(self, predicted: Predicted) -> list[Answer]:
        """Return the answer for each decoded poster."""
        names, labels = self.description.label_names, self.labels(predicted.probabilities)
        return [
            Answer(said, dict(zip(names, probabilities, strict=True)))
            for said, probabilities in zip(labels, predicted.probabilities.tolist(), strict=True)
        ]

    @cached_property
    def _plain(self) -> Forward:
        if isinstance(self.network, Path):
            return _opened(self.network, self.framings, len(self.description.label_names))
        import torch

        from hpo.model.forward import torch_forward

        return torch_forward(self.network, torch.device("cpu"), half=False)

    @cached_property
    def _fast(self) -> Forward:
        if isinstance(self.network, Path):
            return self._plain
        from hpo.model.forward import fastest_forward

        return fastest_forward(self.network, *(framing.size_px for framing in self.framings))

    def _decode(self, poster: Poster) -> Squares | str:
        if isinstance(poster, Missing):
            return poster.reason
        try:
            return self._squares(Path(poster) if isinstance(poster, str) else poster)
        except (OSError, ValueError) as error:
            return str(error)

    def _squares(self, poster: Source) -> Squares:
        return {framing: decode(poster, framing) for framing in set(self.framings)}

    def _probabilities(self, posters: Sequence[Squares], forward: Forward) -> Array:
        images = {framing: np.stack([squares[framing] for squares in posters]) for framing in set(self.framings)}
        logits = forward.over([images[framing] for framing in self.framings])  # (B, L)
        if np.isnan(logits).any():  # JSON has no word for it, and no threshold is above or below it
            raise BundleError("Expected a number for every label, got NaN from this bundle's weights: export it again.")
        return sigmoid(logits)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Importing timm makes a million objects that stay: to look through them again and again takes a third of it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _opened(graph: Path, framings: Sequence[Framing], n_labels: int) -> Forward:
    """Open an ONNX graph, and try it on a blank poster: it may be one of something else."""
    from hpo.model.batches import graph_forward

    blank = [np.zeros((1, framing.size_px, framing.size_px, 3), np.uint8) for framing in framings]
    try:
        # From its content: weights in files beside it, which nothing has checked, are refused.
        forward = graph_forward(graph.read_bytes())
        logits = forward.over(blank)
        if logits.shape != (1, n_labels):
            raise ValueError(f"it answers with {logits.shape}, not with {n_labels} labels")
    except Exception as error:  # ONNX Runtime has its own, which derive from nothing else
        why = textwrap.shorten(str(error), 160)
        raise BundleError(f"{graph} is not a graph of this bundle that can be run ({why}): export it again.") from error
    return forward


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-logits)), without overflow, in the logits' own precision."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), logits.dtype)
