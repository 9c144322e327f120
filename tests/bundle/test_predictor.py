from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from hpo.bundle.description import write_description
from hpo.bundle.predictor import Answer, Predictor
from hpo.data.decoding import Fit, Framing, Missing, decode
from hpo.errors import DataError
from hpo.evaluation.metrics import predict
from hpo.model.backbones.inference import precision

TOLERANCE = 1e-4 if precision() == "fp32" else 2e-2  # bfloat16 shows in the third decimal


@pytest.fixture
def predictor(bundle) -> Predictor:
    return Predictor.load(bundle)


def test_probabilities_are_those_that_the_trial_was_judged_by(predictor, parts, result):
    paths = parts[1].posters.paths
    np.testing.assert_allclose(predictor.probabilities(paths), result.val_probabilities, atol=TOLERANCE)


@pytest.mark.parametrize(("fit", "interpolation"), [(fit, "bicubic") for fit in get_args(Fit)] + [("pad", "nearest")])
def test_posters_become_squares_as_the_bundle_says(bundle, description, drawn, fit, interpolation):
    changes = {"fit": fit, "interpolation": interpolation, "crop_share": 0.8}
    preprocessing = description.preprocessing[0].model_copy(update=changes)
    write_description(bundle, description.model_copy(update={"preprocessing": (preprocessing,)}))
    paths = drawn.posters.paths[:3]
    images = np.stack([decode(path, Framing(64, fit, interpolation, 0.8)) for path in paths])
    predictor = Predictor.load(bundle)
    with torch.inference_mode():
        expected = torch.sigmoid(predictor.network(torch.from_numpy(images))).numpy()
    np.testing.assert_allclose(predictor.probabilities(paths), expected, atol=1e-5)
    np.testing.assert_allclose(predictor.predict(paths).probabilities, expected, atol=1e-5)


def test_predicting_one_by_one_or_together_is_the_same(predictor, drawn):
    paths = drawn.posters.paths[:5]
    together = predictor.predict(paths)
    assert together.rows == (0, 1, 2, 3, 4)
    assert together.broken == {}
    one_by_one = [predictor.predict([path]).probabilities[0] for path in paths]
    np.testing.assert_allclose(together.probabilities, one_by_one, atol=1e-5)


def test_a_path_bytes_and_an_image_get_the_same_answer(predictor, drawn):
    path = drawn.posters.paths[1]
    with Image.open(path) as image:
        answers = predictor.probabilities([path, path.read_bytes(), image])
    np.testing.assert_allclose(answers, answers[:1].repeat(3, axis=0), atol=1e-6)


def test_broken_posters_are_reported_and_the_others_answered(predictor, drawn, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no poster")
    first, second = drawn.posters.paths[:2]
    finished: list[int] = []
    posters = [first, tmp_path / "broken.jpg", b"", second, tmp_path / "nowhere.png"]
    predicted = predictor.predict(posters, finished.append)
    assert predicted.rows == (0, 3)
    assert predicted.broken == {1: "not an image", 2: "an empty file", 4: "no such file or directory"}
    assert sum(finished) == 5
    np.testing.assert_allclose(predicted.probabilities, predictor.probabilities([first, second]), atol=1e-5)


def test_no_posters_and_none_that_can_be_decoded(predictor):
    for posters in ([], [b"broken"]):
        predicted = predictor.predict(posters)
        assert predicted.rows == ()
        assert predicted.probabilities.shape == (0, 3)


def test_the_fast_way_with_many_posters_agrees_with_the_plain_one(predictor, drawn):
    many = [path for path in drawn.posters.paths for _ in range(5)]
    plain = predictor.probabilities(drawn.posters.paths).repeat(5, axis=0)
    finished: list[int] = []
    predicted = predictor.predict(many, finished.append)
    assert predicted.rows == tuple(range(300))
    assert sum(finished) == 300
    np.testing.assert_allclose(predicted.probabilities, plain, atol=TOLERANCE)


def test_a_label_is_predicted_at_its_threshold(predictor):
    thresholds = np.array(predictor.description.thresholds)
    probabilities = np.stack([thresholds, np.nextafter(thresholds, 0), [0, 1, 0]])
    assert predictor.labels(probabilities) == [("Warm", "Moon", "Bars"), (), ("Moon",)]


def test_answers_name_labels_and_probabilities(predictor, drawn):
    paths = drawn.posters.paths[:3]
    predicted = predictor.predict([paths[0], b"broken", paths[2]])
    answers = predictor.answers(predicted)
    assert predicted.rows == (0, 2)
    decided = predict(predicted.probabilities, np.array(predictor.description.thresholds))
    assert answers[1] is None
    assert [answer.poster for answer in (answers[0], answers[2])] == [paths[0], paths[2]]
    for answer, probabilities, row in zip((answers[0], answers[2]), predicted.probabilities, decided, strict=True):
        assert answer.probabilities == dict(zip(("Warm", "Moon", "Bars"), probabilities.tolist(), strict=True))
        assert answer.labels == tuple(name for name, yes in zip(("Warm", "Moon", "Bars"), row, strict=True) if yes)


def as_array(path):
    return np.asarray(Image.open(path).convert("RGB"))


ONE = {
    "a path": lambda path: path,
    "the text of a path": str,
    "bytes": lambda path: path.read_bytes(),
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "an image": Image.open,
    "an array": as_array,
}


@pytest.mark.parametrize("what", ONE)
def test_u13_one_poster_is_predicted_as_a_list_of_one(predictor, drawn, what):
    path = drawn.posters.paths[0]
    predicted = predictor.predict(ONE[what](path))
    assert (predicted.n_posters, predicted.broken) == (1, {})
    np.testing.assert_allclose(predicted.probabilities, predictor.probabilities([path]), atol=1e-3)
    [answer] = predictor.answers(predicted)
    assert predictor.labels(predicted) == [answer.labels]
    assert predictor.labels(predicted.probabilities[0]) == [answer.labels]


def test_u13_many_come_as_any_iterable_or_as_one_array(predictor, drawn):
    paths = drawn.posters.paths[:3]
    expected = predictor.probabilities(paths)
    for many in (tuple(paths), (path for path in paths), np.array([str(path) for path in paths])):
        np.testing.assert_allclose(predictor.predict(many).probabilities, expected, atol=1e-5)
    images = np.stack([as_array(path) for path in paths])
    np.testing.assert_allclose(predictor.predict(images).probabilities, expected, atol=1e-3)


def test_u13_what_is_no_poster_is_broken_and_what_is_no_list_is_one_sentence(predictor):
    predicted = predictor.predict([None, 5, np.zeros((64, 64, 3)), "nowhere.jpg"])
    assert predicted.broken[0] == "expected a path, bytes, an array or a Pillow image, got NoneType"
    assert predicted.broken[2] == "expected uint8 pixels (height, width, 3), got float64 (64, 64, 3)"
    assert predictor.answers(predicted) == predictor.labels(predicted) == [None] * 4
    for wrong in (None, 5, {"a": 1}):
        with pytest.raises(DataError, match="Expected a poster or a list of posters"):
            predictor.predict(wrong)
    with pytest.raises(DataError, match="Expected what predict returned"):
        predictor.answers(["a.jpg"])
    for wrong in (np.zeros((2, 7)), "a.jpg", None):
        with pytest.raises(DataError, match=r"probabilities of shape \(posters, 3\)"):
            predictor.labels(wrong)


def test_u13_its_repr_says_what_it_is(predictor):
    assert repr(predictor) == "<hpo model of 3 labels (Warm, Moon, Bars): test_efficientnet, run by PyTorch>"


def test_a_label_is_the_surer_the_farther_its_probability_is_from_its_threshold():
    answer = Answer(("A",), {"A": 0.9, "B": 0.5, "C": 0.0, "D": 0.25})
    sure = answer.sure({"A": 0.8, "B": 0.5, "C": 0.3, "D": 0.5})
    assert sure == {"A": pytest.approx(0.5), "B": 0.0, "C": 1.0, "D": 0.5}
    assert Answer((), {"A": 1.0}).sure({"A": 1.0}) == {"A": 1.0}


def test_posters_may_come_one_by_one_without_end(predictor, drawn):
    paths = list(drawn.posters.paths[:3])
    coming = (poster for poster in [*paths, Missing("not to be had")] * 100)
    blocks = list(predictor.stream(coming))
    assert sum(found.n_posters for found in blocks) == 400
    assert all(found.n_posters <= 128 for found in blocks)
    assert sum(len(found.rows) for found in blocks) == 300
    assert {reason for found in blocks for reason in found.broken.values()} == {"not to be had"}
    expected = predictor.probabilities(paths)
    for found in blocks:
        np.testing.assert_allclose(found.probabilities[:3], expected, atol=TOLERANCE)


def test_it_sees_what_is_on_the_posters(predictor, parts):
    predicted = predictor.predict(parts[1].posters.paths)
    decided = predict(predicted.probabilities, np.array(predictor.description.thresholds))
    assert (decided == parts[1].targets).mean() > 0.8


# Fused backbones


def test_fused_backbones_see_each_poster_in_their_own_way(fused_bundle, fused, parts, monkeypatch):
    predictor = Predictor.load(fused_bundle)
    assert predictor.framings == (Framing(64), Framing(64, interpolation="bilinear"))
    paths = parts[1].posters.paths
    np.testing.assert_allclose(predictor.probabilities(paths), fused.val_probabilities, atol=TOLERANCE)
    monkeypatch.setattr("hpo.bundle.predictor._WORTH_EXPORTING", 1)
    predicted = predictor.predict([*paths, b"broken"])
    np.testing.assert_allclose(predicted.probabilities, fused.val_probabilities, atol=TOLERANCE)
    assert predicted.broken == {len(paths): "not an image"}


def test_backbones_that_see_the_same_share_the_decoding(fused_bundle, drawn, monkeypatch):
    predictor = Predictor.load(fused_bundle)
    predictor.framings = (Framing(64), Framing(64))
    decoded: list[Framing] = []

    def counting(source, framing):
        decoded.append(framing)
        return decode(source, framing)

    monkeypatch.setattr("hpo.bundle.predictor.decode", counting)
    predictor.predict(drawn.posters.paths[:5])
    assert decoded == [Framing(64)] * 5
