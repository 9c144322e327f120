"""Which regions of a poster speak for a label."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hpo.bundle.occlusion import CELLS, PASSES, evidence
from hpo.bundle.predictor import Predictor, sigmoid
from hpo.data.decoding import Framing
from tests.bundle.test_onnx import with_graph

WHITE = 255
HALF = CELLS // 2


class Looking(Predictor):
    """Two labels: one is as likely as the upper left quarter of the square is bright, the other as it is dark."""

    _plain = _fast = None

    def __init__(self, *framings: Framing) -> None:
        self.framings, self.n_seen = framings, 0
        self.description = SimpleNamespace(label_names=("bright", "dark"))

    def _probabilities(self, posters, forward):
        self.n_seen += len(posters)
        logits = []
        for squares in posters:
            half = [square[: len(square) // 2, : len(square) // 2] for square in squares.values()]
            brightness = 4 * (np.mean([quarter.mean() / 255 for quarter in half]) - 0.5)
            logits.append((brightness, -brightness))
        return sigmoid(np.array(logits, np.float32))


def poster(width: int, height: int, turned: bool = False) -> Image.Image:
    """A white one; ``turned``, a file whose orientation says that it lies upside down."""
    image = Image.new("RGB", (width, height), (WHITE,) * 3)
    if turned:
        image.getexif()[0x0112] = 3
    return image


@pytest.mark.parametrize("fits", [["squash"], ["pad"], ["squash", "crop"]])
@pytest.mark.parametrize("turned", [False, True])
def test_the_region_that_is_looked_at_speaks_for_the_label(fits, turned):
    predictor = Looking(*(Framing(32 * at, fit=fit) for at, fit in enumerate(fits, 1)))
    found = evidence(predictor, poster(200, 200, turned))
    assert found.shape == (2, CELLS, CELLS)
    assert found.dtype == np.float32
    assert predictor.n_seen == PASSES
    assert found[0, : HALF - 1, : HALF - 1].min() > 0.02
    assert np.abs(found[0, HALF + 1 :, :]).max() < 0.01
    assert np.abs(found[0, :, HALF + 1 :]).max() < 0.01
    np.testing.assert_allclose(found[1], -found[0], atol=1e-4)


def test_what_is_cropped_away_speaks_for_nothing():
    found = evidence(Looking(Framing(32, fit="crop")), poster(400, 200))[0]  # its middle half is seen
    assert np.abs(found[:, :1]).max() < 1e-3
    assert found[: HALF - 1, 3].min() > 0.02


def test_cells_are_those_of_the_poster_and_not_of_the_square():
    found = evidence(Looking(Framing(64, fit="pad")), poster(100, 200))[0]  # between bars left and right
    assert found[: HALF - 1, : HALF - 1].min() > 0.01
    assert np.abs(found[:, HALF + 1 :]).max() < 0.01


def test_a_poster_that_is_framed_in_grey_has_the_cells_of_its_frame():
    framed = Image.new("RGB", (200, 200), (128,) * 3)
    framed.paste((WHITE,) * 3, (0, 0, 200, 50))
    found = evidence(Looking(Framing(32)), framed)[0]
    assert found[0, 0] > 0.02
    assert np.abs(found[3:]).max() < 1e-3


def test_a_strip_is_explained_too():
    found = evidence(Looking(Framing(32)), poster(1000, 20))[0]
    assert found[0, 0] > 0.02 > np.abs(found[HALF + 1 :]).max()


def test_the_graph_says_what_the_network_says(bundle, drawn):
    with_graph(bundle, posters=drawn.posters.paths[:4])
    by_graph, by_torch = Predictor.load(bundle), Predictor.load(bundle, graph=False)
    first = drawn.posters.paths[0]
    np.testing.assert_allclose(evidence(by_graph, first), evidence(by_torch, first), atol=1e-3)


def test_a_poster_that_cannot_be_decoded(tmp_path):
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(OSError, match="not an image"):
        evidence(Looking(Framing(32)), tmp_path / "a.jpg")
