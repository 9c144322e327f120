"""Finds the best multi-label poster-genre classifier that a machine can train, and proves it.

``load`` opens what a search has exported::

    from hpo import load

    model = load("bundle-movies-auto")
    for answer in model.answers(model.predict(["a.jpg", "b.jpg"])):
        print(answer and answer.labels)  # None for a poster that cannot be read
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpo.bundle.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["load"]


def load(folder: str | Path) -> Predictor:
    """Return the classifier of a bundle, ready to answer.

    Its ``predict(posters)`` takes one poster or many (paths, bytes, arrays or Pillow images) and returns probabilities
    (N, L) of those that can be decoded, its ``answers`` turns these into labels, an answer for each poster. Raises
    BundleError where ``folder`` is not a whole bundle.
    """
    from hpo.bundle.predictor import Predictor  # late, so that ``hpo --help`` answers at once

    return Predictor.load(Path(folder))
