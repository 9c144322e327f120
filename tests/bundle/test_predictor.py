from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from hpo.bundle.bundle import write_description
from hpo.bundle.predictor import Predictor
from hpo.data.decoding import decode
from hpo.decision.metrics import predict
from hpo.model.forward import precision

TOLERANCE = 1e-4 if precision() == "fp32" else 2e-2  # bfloat16 shows in the third decimal


@pytest.fixture
def predictor(bundle) -> Predictor:
    return Predictor.load(bundle)


def test_probabilities_are_those_that_the_trial_was_judged_by(predictor, parts, result):
    paths = parts[1].posters.paths
    np.testing.assert_allclose(predictor.probabilities(paths), result.val_probabilities, atol=TOLERANCE)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_posters_become_squares_as_the_bundle_says(bundle, description, drawn, fit):
    preprocessing = {**description.preprocessing, "fit": fit}
    write_description(bundle, description.model_copy(update={"preprocessing": preprocessing}))
    paths = drawn.posters.paths[:3]
    squares = [Image.fromarray(decode(path, 64, fit)) for path in paths]  # which are alike in every fit
    predictor = Predictor.load(bundle)
    expected = predictor.probabilities(squares)
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


def test_answers_are_the_json_of_the_command_line(predictor, drawn):
    paths = drawn.posters.paths[:3]
    predicted = predictor.predict([paths[0], b"broken", paths[2]])
    answers = predictor.answers(predicted, ["first", "broken", "third"])
    assert [answer["image"] for answer in answers] == ["first", "third"]
    decided = predict(predicted.probabilities, np.array(predictor.description.thresholds))
    for answer, probabilities, row in zip(answers, predicted.probabilities, decided, strict=True):
        assert answer["probabilities"] == dict(zip(("Warm", "Moon", "Bars"), probabilities.tolist(), strict=True))
        assert answer["labels"] == [name for name, yes in zip(("Warm", "Moon", "Bars"), row, strict=True) if yes]


def test_it_sees_what_is_on_the_posters(predictor, parts):
    predicted = predictor.predict(parts[1].posters.paths)
    decided = predict(predicted.probabilities, np.array(predictor.description.thresholds))
    assert (decided == parts[1].targets).mean() > 0.8
