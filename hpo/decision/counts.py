"""The arithmetic of counts that every score shares, and the arrays that it works on."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Bools: TypeAlias = NDArray[np.bool_]
Counts: TypeAlias = NDArray[Any]  # whole numbers, in an integer or a floating dtype

ZERO_DIVISION = 0.0  # 0 / 0: a label without a positive counts as 0 in f1_macro


def f1(hits: Counts, predicted: Counts, actual: Counts) -> Floats:
    """Return F1 = 2 hits / (predicted + actual), the harmonic mean of precision and recall."""
    return ratio(2 * hits, predicted + actual)


def ratio(numerator: Counts, denominator: Counts) -> Floats:
    """Return numerator / denominator in float64, and ZERO_DIVISION where the denominator is 0."""
    out = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), ZERO_DIVISION)
    np.divide(numerator, denominator, out=out, where=np.not_equal(denominator, 0), dtype=np.float64)
    return out
