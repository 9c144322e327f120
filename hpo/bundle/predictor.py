"""A bundle at work: posters → probabilities → labels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hpo.bundle.bundle import Description, load_classifier, load_description
from hpo.data.decoding import Framing, Source, decode
from hpo.data.images import Progress
from hpo.data.shards import Array
from hpo.decision.metrics import predict
from hpo.model.ensemble import Network
from hpo.model.forward import Forward, fastest_forward, torch_forward

_BLOCK_POSTERS = 128  # decoded at once
_WORTH_EXPORTING = 256  # posters from which a faster forward pass makes up for the seconds that building it takes

Squares = dict[Framing, Array]  # a poster as each of a bundle's backbones sees it: uint8 (H, W, 3)


@dataclass(frozen=True)
class Predicted:
    """The answer for a list of posters; rows of broken ones are left out."""

    rows: tuple[int, ...]  # (M,) which of the posters could be decoded
    probabilities: Array  # (M, L)
    broken: dict[int, str]  # row → why it could not be decoded


class Predictor:
    """The classifier of a bundle, ready to answer."""

    def __init__(self, description: Description, classifier: Network) -> None:
        self.description = description
        self.classifier = classifier
        self.framings = tuple(preprocessing.framing for preprocessing in description.preprocessing)  # one a backbone

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Load the bundle in ``folder``. Raises BundleError."""
        description = load_description(folder)
        return cls(description, load_classifier(folder, description))

    def probabilities(self, posters: Sequence[Source]) -> Array:
        """Return float32 (N, L). Raises OSError or ValueError for a poster that cannot be decoded."""
        return self._probabilities([self._squares(poster) for poster in posters], self._plain)

    def predict(self, posters: Sequence[Source], progress: Progress = lambda _: None) -> Predicted:
        """Answer for every poster that can be decoded, in batches, so that memory stays flat."""
        forward = self._fast if len(posters) >= _WORTH_EXPORTING else self._plain
        rows: list[int] = []
        parts = [np.empty((0, len(self.description.label_names)), np.float32)]
        broken: dict[int, str] = {}
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(posters), _BLOCK_POSTERS):
                decoded = list(pool.map(self._decode, posters[start : start + _BLOCK_POSTERS]))
                whole = {row: squares for row, squares in enumerate(decoded, start) if not isinstance(squares, str)}
                broken |= {row: reason for row, reason in enumerate(decoded, start) if isinstance(reason, str)}
                rows += whole
                if whole:
                    parts.append(self._probabilities(list(whole.values()), forward))
                progress(len(decoded))
        return Predicted(tuple(rows), np.concatenate(parts), broken)

    def labels(self, probabilities: Array) -> list[tuple[str, ...]]:
        """Return the predicted label names of each row of ``probabilities`` (N, L)."""
        names = self.description.label_names
        chosen = predict(probabilities, np.array(self.description.thresholds), self.description.min_labels)
        return [tuple(name for name, yes in zip(names, row, strict=True) if yes) for row in chosen]

    def answers(self, predicted: Predicted, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return JSON-able ``{image, labels, probabilities}`` for each decoded poster; ``names`` are those of all."""
        label_names = self.description.label_names
        rows = zip(
            predicted.rows,
            predicted.probabilities.tolist(),
            self.labels(predicted.probabilities),
            strict=True,
        )
        return [
            {
                "image": names[row],
                "labels": list(labels),
                "probabilities": dict(zip(label_names, probabilities, strict=True)),
            }
            for row, probabilities, labels in rows
        ]

    @cached_property
    def _plain(self) -> Forward:
        return torch_forward(self.classifier, torch.device("cpu"), half=False)

    @cached_property
    def _fast(self) -> Forward:
        return fastest_forward(self.classifier, *(framing.size_px for framing in self.framings))

    def _decode(self, poster: Source) -> Squares | str:
        try:
            return self._squares(poster)
        except (OSError, ValueError) as error:
            return str(error)

    def _squares(self, poster: Source) -> Squares:
        return {framing: decode(poster, framing) for framing in set(self.framings)}

    def _probabilities(self, posters: Sequence[Squares], forward: Forward) -> Array:
        images = {framing: np.stack([squares[framing] for squares in posters]) for framing in set(self.framings)}
        logits = forward.over([images[framing] for framing in self.framings])  # (B, L)
        return torch.sigmoid(torch.from_numpy(logits)).numpy()
