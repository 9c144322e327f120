"""Predict with a bundle: posters → probabilities → labels.

A poster is the path of a file, the bytes of one, a Pillow image, or an array of pixels. Wherever several are expected,
one is taken as well.
"""

from __future__ import annotations

import gc
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from PIL import Image

from hpo.bundle.description import Description, load_description
from hpo.data.decoding import Framing, Missing, Source, decode
from hpo.errors import BundleError, DataError
from hpo.evaluation.metrics import predict
from hpo.runtime.atomic import Array
from hpo.runtime.progress import ProgressFn

if TYPE_CHECKING:
    from hpo.model.backbones.batches import Forward
    from hpo.model.classifier import Network

_BLOCK_POSTERS = 128  # decoded at once, or fewer where a bundle looks at them in many sizes
_BLOCK_BYTES = 2**29
_WORTH_EXPORTING = 256  # posters from which a faster forward pass makes up for the seconds that building it takes

Poster = Source | str | Array | Missing  # a str is a path, an array uint8 (H, W), (H, W, 3) or (H, W, 4)
Squares = dict[Framing, Array]  # a poster as each of a bundle's backbones sees it: uint8 (H, W, 3)


@dataclass(frozen=True, eq=False)
class Predicted:
    """The answer for a list of posters; rows of broken ones are left out."""

    rows: tuple[int, ...]  # (M,) which of the posters could be decoded
    probabilities: Array  # (M, L)
    broken: dict[int, str]  # row → why it could not be decoded
    n_posters: int = 0  # asked for
    posters: tuple[Poster, ...] = ()  # (n_posters,) as they were given


@dataclass(frozen=True)
class Answer:
    """What is predicted of one poster."""

    labels: tuple[str, ...]
    probabilities: dict[str, float]
    poster: Poster | None = field(default=None, compare=False, repr=False)  # as it was given

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
            from hpo.bundle.foreign_graph import check_graph  # late: most bundles have none

            return cls(description, check_graph(folder, description.onnx))
        with _no_garbage_collection():
            from hpo.bundle.bundle import load_classifier  # late: an ONNX bundle needs no PyTorch

            return cls(description, load_classifier(folder, description))

    def __repr__(self) -> str:
        """Say what the model is."""
        described = self.description
        names = textwrap.shorten(", ".join(described.label_names), 80, placeholder=" ...")
        kind = f"{len(described.members)} classifiers on " if described.members else ""
        backbone = textwrap.shorten(described.backbone.replace("+", " + "), 80, placeholder=" ...")
        by = "ONNX Runtime" if isinstance(self.network, Path) else "PyTorch"
        return f"<hpo model of {len(described.label_names)} labels ({names}): {kind}{backbone}, run by {by}>"

    def probabilities(self, posters: Poster | Iterable[Poster]) -> Array:
        """Return float32 (N, L). Raises OSError or ValueError for a poster that cannot be decoded."""
        squares = [self._squares(poster) for poster in one_or_many(posters)]
        if not squares:
            return np.empty((0, len(self.description.label_names)), np.float32)
        return self._probabilities(squares, self._plain)

    def stream(self, posters: Poster | Iterable[Poster], at_least: int = 0) -> Iterator[Predicted]:
        """Answer block by block, however many posters come; rows count within a block.

        The faster forward pass is built once so many have come, or are known to come, that it is worth it.
        """
        n_seen, coming = 0, iter(one_or_many(posters))
        with ThreadPoolExecutor() as pool:
            while block := list(islice(coming, self._block_posters)):
                decoded = list(pool.map(self._decode, block))
                whole = {row: squares for row, squares in enumerate(decoded) if not isinstance(squares, str)}
                broken = {row: reason for row, reason in enumerate(decoded) if isinstance(reason, str)}
                n_seen += len(block)
                forward = self._fast if max(n_seen, at_least) >= _WORTH_EXPORTING else self._plain
                found = np.empty((0, len(self.description.label_names)), np.float32)
                if whole:
                    found = self._probabilities(list(whole.values()), forward)
                yield Predicted(tuple(whole), found, broken, len(block), tuple(block))

    def predict(self, posters: Poster | Iterable[Poster], progress: ProgressFn = lambda _: None) -> Predicted:
        """Answer for every poster that can be decoded, in batches, so that memory stays flat."""
        asked = list(one_or_many(posters))
        rows: list[int] = []
        parts = [np.empty((0, len(self.description.label_names)), np.float32)]
        broken: dict[int, str] = {}
        start = 0
        for found in self.stream(asked, at_least=len(asked)):
            rows += [start + row for row in found.rows]
            parts.append(found.probabilities)
            broken |= {start + row: reason for row, reason in found.broken.items()}
            start += found.n_posters
            progress(found.n_posters)
        return Predicted(tuple(rows), np.concatenate(parts), broken, start, tuple(asked))

    @overload
    def labels(self, probabilities: Predicted) -> list[tuple[str, ...] | None]: ...

    @overload
    def labels(self, probabilities: Array) -> list[tuple[str, ...]]: ...

    def labels(self, probabilities: Array | Predicted) -> list[tuple[str, ...] | None] | list[tuple[str, ...]]:
        """Return the predicted label names of each row of probabilities (N, L), or of one (L,).

        Of what ``predict`` returned there is an entry for each poster, None for a broken one. Raises DataError for
        probabilities of another number of labels.
        """
        if isinstance(probabilities, Predicted):
            return [None if answer is None else answer.labels for answer in self.answers(probabilities)]
        names = self.description.label_names
        try:
            table = np.atleast_2d(np.asarray(probabilities, float))
        except (TypeError, ValueError):
            table = np.empty((0, 0))
        if table.ndim != 2 or table.shape[1] != len(names):
            raise DataError(
                f"Expected what predict returned, or probabilities of shape (posters, {len(names)}), got "
                f"{type(probabilities).__name__} of shape {np.shape(table)}: call model.labels(model.predict(posters))."
            )
        chosen = predict(
            np.atleast_2d(probabilities), np.array(self.description.thresholds), self.description.min_labels
        )
        return [tuple(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]

    def answers(self, predicted: Predicted) -> list[Answer | None]:
        """Return an answer for each poster that was asked for, in their order; None for a broken one.

        Raises DataError for anything else than what ``predict`` or ``stream`` returned.
        """
        if not isinstance(predicted, Predicted):
            raise DataError(
                f"Expected what predict returned, got {type(predicted).__name__}: call "
                "model.answers(model.predict(posters))."
            )
        names, labels = self.description.label_names, self.labels(predicted.probabilities)
        found: list[Answer | None] = [None] * max(predicted.n_posters, 1 + max(predicted.rows, default=-1))
        for row, said, probabilities in zip(predicted.rows, labels, predicted.probabilities.tolist(), strict=True):
            poster = predicted.posters[row] if row < len(predicted.posters) else None
            found[row] = Answer(said, dict(zip(names, probabilities, strict=True)), poster)
        return found

    @property
    def _block_posters(self) -> int:
        bytes_a_poster = sum(3 * framing.size_px**2 for framing in set(self.framings))
        return max(1, min(_BLOCK_POSTERS, _BLOCK_BYTES // bytes_a_poster))

    @cached_property
    def _plain(self) -> Forward:
        if isinstance(self.network, Path):
            from hpo.bundle.foreign_graph import open_graph

            return open_graph(self.network, self.framings, len(self.description.label_names))
        import torch

        from hpo.model.backbones.inference import torch_forward

        return torch_forward(self.network, torch.device("cpu"), half=False)

    @cached_property
    def _fast(self) -> Forward:
        if isinstance(self.network, Path):
            return self._plain
        from hpo.model.backbones.inference import fastest_forward

        return fastest_forward(self.network, *(framing.size_px for framing in self.framings))

    def _decode(self, poster: Poster) -> Squares | str:
        if isinstance(poster, Missing):
            return poster.reason
        try:
            return self._squares(poster)
        except (OSError, ValueError) as error:
            return str(error)

    def _squares(self, poster: Poster) -> Squares:
        source = _source(poster)
        return {framing: decode(source, framing) for framing in set(self.framings)}

    def _probabilities(self, posters: Sequence[Squares], forward: Forward) -> Array:
        images = {framing: np.stack([squares[framing] for squares in posters]) for framing in set(self.framings)}
        try:
            logits = forward.over([images[framing] for framing in self.framings])  # (B, L)
        except Exception as error:  # PyTorch and ONNX Runtime have their own
            why = textwrap.shorten(str(error) or type(error).__name__, 160)
            raise BundleError(
                f"The bundle's network cannot be run on these posters ({why}): export it again."
            ) from error
        expected = len(posters), len(self.description.label_names)
        if logits.shape != expected or logits.dtype.kind != "f":
            raise BundleError(
                f"Expected {expected} numbers of this bundle's network, got {logits.dtype} {logits.shape}: export it "
                "again."
            )
        if np.isnan(logits).any():  # JSON has no word for it, and no threshold is above or below it
            raise BundleError("Expected a number for every label, got NaN from this bundle's weights: export it again.")
        return sigmoid(logits)


def one_or_many(posters: Any) -> Iterable[Any]:
    """Return posters as they are, or the only one in a list. Raises DataError for what is neither."""
    if isinstance(posters, str | os.PathLike | bytes | bytearray | memoryview | Image.Image | Missing):
        return [posters]
    if isinstance(posters, np.ndarray) and posters.dtype != object:
        return posters if posters.ndim == 4 or (posters.dtype.kind in "SU" and posters.ndim == 1) else [posters]
    if isinstance(posters, Iterable) and not isinstance(posters, Mapping):
        return posters
    raise DataError(
        f"Expected a poster or a list of posters (paths, bytes, arrays or Pillow images), got "
        f"{type(posters).__name__}: pass model.predict('poster.jpg')."
    )


def _source(poster: Any) -> Source:
    """Return a poster as what can be decoded. Raises ValueError for what is none."""
    if isinstance(poster, str | os.PathLike):
        return Path(os.fsdecode(poster))
    if isinstance(poster, bytearray | memoryview):
        return bytes(poster)
    if isinstance(poster, bytes | Image.Image):
        return poster
    if not isinstance(poster, np.ndarray):
        raise ValueError(f"expected a path, bytes, an array or a Pillow image, got {type(poster).__name__}")
    if poster.dtype != np.uint8 or poster.ndim not in (2, 3) or (poster.ndim == 3 and poster.shape[2] not in (1, 3, 4)):
        raise ValueError(f"expected uint8 pixels (height, width, 3), got {poster.dtype} {poster.shape}")
    return Image.fromarray(
        np.ascontiguousarray(poster[..., 0] if poster.ndim == 3 and poster.shape[2] == 1 else poster)
    )


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


def sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-logits)), without overflow, in the logits' own precision."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), logits.dtype)
