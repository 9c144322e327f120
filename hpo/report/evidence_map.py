"""Evidence as a picture that is laid over a poster: orange where a region speaks for a label, blue where against it."""

from __future__ import annotations

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from hpo.data.shards import Array

_FOR, _AGAINST = (230, 110, 0), (0, 114, 210)  # told apart by all kinds of colour vision
_FULL = 0.3  # of a logit, at least, for the strongest colour: less is noise that should look like it
_OPAQUE = 200  # of 255, where evidence is strongest
_TOLD = 0.25  # of the strongest colour: a paler blue is not worth a word
_THIRDS = (("upper left", "upper middle", "upper right"), ("left", "middle", "right"),
           ("lower left", "lower middle", "lower right"))  # fmt: skip


class EvidenceMap(NamedTuple):
    """A map within a page."""

    source: str  # a data URI of a PNG, one pixel a cell, to be laid over all of the poster
    words: str  # for whoever does not see it


def draw_evidence(evidence: Array) -> EvidenceMap:
    """Draw the evidence (G, G) for one label, top row first."""
    strength = (evidence / max(_FULL, float(np.abs(evidence).max()))).clip(-1, 1)
    pixels = np.empty((*evidence.shape, 4), np.uint8)
    pixels[..., :3] = np.where(evidence[..., None] >= 0, _FOR, _AGAINST)
    pixels[..., 3] = np.round(_OPAQUE * np.abs(strength))
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG", optimize=True)
    encoded = base64.b64encode(content.getvalue()).decode("ascii")
    return EvidenceMap(f"data:image/png;base64,{encoded}", _in_words(evidence, strength))


def _in_words(evidence: Array, strength: Array) -> str:
    most, least = _place(evidence), _place(-evidence)
    seen = f"it is seen most in the {most}" if evidence.max() > 0 else "no region speaks for it"
    if strength.min() > -_TOLD:
        return seen
    if evidence.max() > 0 and most == least:
        return f"{seen}, beside what speaks most against it"
    return f"{seen}; the {least} speaks most against it"


def _place(evidence: Array) -> str:
    """Name the third of the poster, in each direction, where there is most."""
    row, column = np.unravel_index(int(evidence.argmax()), evidence.shape)
    n_rows, n_columns = evidence.shape
    return _THIRDS[3 * int(row) // n_rows][3 * int(column) // n_columns]
