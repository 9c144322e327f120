"""Occlusion maps: how much a label's logit drops when a region of a poster is covered.

Occlusion (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2): a grey
window slides over the poster, and the logit z = log(p / (1 - p)) of each label is compared with that of the poster
itself. It asks nothing of a network but answers, so that it serves single models, fused backbones, ensembles and ONNX
graphs alike, without PyTorch; libraries of explanations need a PyTorch module, and gradients of one.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from hpo.bundle.predictor import Predictor
from hpo.data.decoding import MIN_SIDE_PX, PADDING, Source, whole
from hpo.runtime.atomic import Array

CELLS = 8  # of a map, in each direction
_WINDOW = 2  # cells in each direction: a sixteenth of the poster
_STEPS = CELLS - _WINDOW + 1
PASSES = 1 + _STEPS**2  # posters that a network looks at for one map
_SURE = 1e-6  # a probability nearer to 0 or 1 has no logit that float32 could hold


def evidence(predictor: Predictor, poster: Source, n_posters: int = 1) -> Array:
    """Return for each label how much each cell of a poster speaks for it: float32 (L, CELLS, CELLS), top row first.

    A cell's evidence is the mean over the windows w that cover it of z(poster) - z(poster with w grey), in units of the
    logit; negative where the label is likelier without that region. Cells divide the poster as it is seen, upright and
    whole, whatever square of it the network gets. ``n_posters`` is how many will be asked for in all: for many, the
    faster forward pass is worth building.

    Raises OSError or ValueError for a poster that cannot be decoded.
    """
    # Twice what the network sees: it is scaled down once more, as a file would be.
    upright = _enlarged(whole(poster, 2 * max(framing.size_px for framing in predictor.framings)))
    corners = [(row, column) for row in range(_STEPS) for column in range(_STEPS)]
    seen = (upright, *(_covered(upright, row, column) for row, column in corners))
    blocks = predictor.stream(seen, at_least=n_posters * PASSES)
    probabilities = np.concatenate([found.probabilities for found in blocks]).clip(_SURE, 1 - _SURE)
    logits = np.log(probabilities) - np.log1p(-probabilities)  # (PASSES, L)
    lost = logits[0] - logits[1:]
    total = np.zeros((lost.shape[1], CELLS, CELLS), np.float32)
    times = np.zeros((CELLS, CELLS), np.float32)
    for drop, (row, column) in zip(lost, corners, strict=True):
        cells = slice(row, row + _WINDOW), slice(column, column + _WINDOW)
        total[:, *cells] += drop[:, None, None]
        times[cells] += 1
    return total / times


def _enlarged(poster: Image.Image) -> Image.Image:
    """A strip that was made so small that it would no longer pass for a poster is made larger again."""
    shorter = min(poster.size)
    return poster if shorter >= MIN_SIDE_PX else ImageOps.scale(poster, MIN_SIDE_PX / shorter)


def _covered(poster: Image.Image, row: int, column: int) -> Image.Image:
    """Cover a window in the grey that networks see as nothing."""
    left, right = (round(poster.width * cell / CELLS) for cell in (column, column + _WINDOW))
    top, bottom = (round(poster.height * cell / CELLS) for cell in (row, row + _WINDOW))
    covered = poster.copy()
    covered.paste(PADDING, (left, top, right, bottom))
    return covered
