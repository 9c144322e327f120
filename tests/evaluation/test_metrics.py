"""scikit-learn is the judge: every score equals its own, over a grid of cases and at random."""

from __future__ import annotations

import itertools
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, f1_score, precision_recall_fscore_support

from hpo.errors import DataError, HpoError
from hpo.evaluation.baselines import best_constant_sets, constant_baselines
from hpo.evaluation.bootstrap import bootstrap_ci95
from hpo.evaluation.metrics import METRICS, predict, score


def sklearn_headline(probabilities, targets, thresholds):
    predictions = probabilities >= thresholds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "no positive class found": those labels are left out below
        ap = [average_precision_score(targets[:, i], probabilities[:, i]) for i in range(targets.shape[1])]
    ranked = targets.any(axis=0)
    return {
        f"f1_{average}": f1_score(targets, predictions, average=average, zero_division=0)
        for average in ("macro", "micro", "samples")
    } | {"mean_ap": float(np.mean(np.array(ap)[ranked])) if ranked.any() else 0.0}


def a_case(name: str):
    rng = np.random.default_rng(0)
    probabilities = rng.random((60, 4))
    targets = rng.random((60, 4)) < 0.6 * probabilities
    match name:
        case "ties":
            probabilities = np.round(probabilities * 4) / 4
        case "all probabilities equal":
            probabilities[:] = 0.5
        case "certain":
            probabilities = np.round(probabilities)
        case "a label without positives":
            targets[:, 2] = False
        case "a label that all have":
            targets[:, 1] = True
        case "no positive at all":
            targets[:] = False
        case "nothing predicted":
            probabilities *= 0.4
        case "float32":
            probabilities = probabilities.astype(np.float32)
        case "one poster":
            probabilities, targets = probabilities[:1], targets[:1]
    return probabilities, targets, np.array([0.5, 0.3, 0.5, 0.75])


CASES = (
    "plain",
    "ties",
    "all probabilities equal",
    "certain",
    "a label without positives",
    "a label that all have",
    "no positive at all",
    "nothing predicted",
    "float32",
    "one poster",
)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_those_of_scikit_learn(name):
    probabilities, targets, thresholds = a_case(name)
    scores = score(probabilities, targets, thresholds)
    assert scores.headline() == pytest.approx(sklearn_headline(probabilities, targets, thresholds), abs=1e-12)
    assert {metric: scores.value(metric) for metric in METRICS} == scores.headline()

    judged = precision_recall_fscore_support(targets, probabilities >= thresholds, zero_division=0)
    for ours, theirs in zip((scores.precision, scores.recall, scores.f1, scores.support), judged, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert scores.n_posters == len(targets)


tables = st.tuples(st.integers(1, 12), st.integers(2, 4)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, shape, elements=st.integers(0, 8).map(lambda i: i / 8)),
        hnp.arrays(np.bool_, shape),
        hnp.arrays(np.float64, shape[1], elements=st.integers(1, 8).map(lambda i: i / 8)),
    )
)


@settings(deadline=None, max_examples=60)
@given(tables)
def test_scores_are_those_of_scikit_learn_on_any_small_table_with_ties(table):
    assert score(*table).headline() == pytest.approx(sklearn_headline(*table), abs=1e-12)


def test_average_precision_is_zero_and_left_out_of_the_mean_without_a_positive():
    scores = score([[0.9, 0.2], [0.1, 0.7]], [[1, 0], [0, 0]], [0.5, 0.5])
    assert scores.average_precision.tolist() == [1.0, 0.0]
    assert scores.value("mean_ap") == 1.0
    assert scores.value("f1_macro") == 0.5  # where the label without a positive does count


def test_a_probability_on_the_threshold_is_predicted_in_float32_too():
    probabilities = np.array([[0.1, 0.7]], dtype=np.float32)
    assert predict(probabilities, probabilities[0].astype(np.float64)).all()


def test_each_poster_may_have_its_own_thresholds():
    assert predict([[0.4, 0.4], [0.4, 0.4]], [[0.3, 0.5], [0.5, 0.3]]).tolist() == [
        [True, False],
        [False, True],
    ]


def test_per_label_is_a_json_table():
    scores = score(*a_case("plain"))
    table = scores.per_label(["Action", "Drama", "Horror", "Comedy"], a_case("plain")[2])
    assert json.loads(json.dumps(table)) == table
    assert list(table["Horror"]) == ["f1", "precision", "recall", "support", "threshold"]
    assert table["Comedy"]["threshold"] == 0.75
    assert table["Drama"]["support"] == int(a_case("plain")[1][:, 1].sum())


@pytest.mark.parametrize(
    ("probabilities", "targets", "thresholds", "words"),
    [
        ([[0.2, np.nan]], [[0, 1]], [0.5, 0.5], "got nan for poster 0, label 1"),
        ([[0.2, 1.5]], [[0, 1]], [0.5, 0.5], "apply the sigmoid"),
        ([[-0.1, 0.5]], [[0, 1]], [0.5, 0.5], "got -0.1"),
        ([[0.2, 0.5, 0.1]], [[0, 1]], [0.5, 0.5], r"\(1, 3\) and \(1, 2\)"),
        (np.empty((0, 2)), np.empty((0, 2)), [0.5, 0.5], "at least one poster"),
        ([0.2, 0.5], [0, 1], [0.5, 0.5], "got shape \\(2,\\)"),
        ([[0.2, 0.5]], [[0, 2]], [0.5, 0.5], "must be 0 or 1, got 2"),
        ([[0.2, 0.5]], [[0, np.nan]], [0.5, 0.5], "must be 0 or 1, got nan"),
        ([[0.2, 0.5]], [[0, 1]], [0.5, 0.5, 0.5], r"shape \(2,\), one per label, got \(3,\)"),
    ],
)
def test_bad_input_is_one_sentence(probabilities, targets, thresholds, words):
    with pytest.raises(DataError, match=words) as error:
        score(probabilities, targets, thresholds)
    assert "\n" not in str(error.value)


def test_an_unknown_metric_is_answered_with_the_closest_one():
    with pytest.raises(HpoError, match="did you mean 'f1_macro'"):
        score(*a_case("plain")).value("f1_makro")


# ---- bootstrap -----------------------------------------------------------------------------------------


def test_the_bootstrap_is_that_of_resampling_the_posters_one_by_one():
    probabilities, targets, thresholds = a_case("ties")
    rng = np.random.default_rng(5)
    naive = [
        score(probabilities[drawn], targets[drawn], thresholds).headline()
        for drawn in rng.integers(60, size=(2000, 60))
    ]
    intervals = bootstrap_ci95(probabilities, targets, thresholds, n_resamples=4000)
    for metric in METRICS:
        expected = np.percentile([one[metric] for one in naive], (2.5, 97.5))
        np.testing.assert_allclose(intervals[metric], expected, atol=0.02)


def test_the_bootstrap_depends_on_its_seed_alone():
    case = a_case("plain")
    np.random.seed(3)  # noqa: NPY002 the global state is what must not matter
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    assert bootstrap_ci95(*case, seed=1) == bootstrap_ci95(*case, seed=1) != bootstrap_ci95(*case, seed=2)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_the_bootstrap_of_many_posters_is_narrow_and_holds_the_score():
    rng = np.random.default_rng(0)
    probabilities = rng.random((10_000, 2))  # enough posters for more than one chunk of resamples
    targets = rng.random((10_000, 2)) < probabilities
    scores = score(probabilities, targets, [0.4, 0.4])
    for metric, (low, high) in bootstrap_ci95(probabilities, targets, [0.4, 0.4]).items():
        assert low < scores.value(metric) < high < low + 0.04


def test_a_single_poster_has_an_interval_of_width_zero():
    intervals = bootstrap_ci95([[0.9, 0.1]], [[1, 0]], [0.5, 0.5], n_resamples=10)
    assert intervals == {
        "f1_macro": (0.5, 0.5),
        "f1_micro": (1.0, 1.0),
        "f1_samples": (1.0, 1.0),
        "mean_ap": (1.0, 1.0),
    }


# ---- constant baselines --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(2, 4))))
def test_no_constant_set_beats_the_best_one(targets):
    n_labels = targets.shape[1]
    subsets = [np.array(bits, dtype=bool) for bits in itertools.product((0, 1), repeat=n_labels)]

    def value(subset, metric):
        return score(np.tile(subset.astype(float), (len(targets), 1)), targets, [0.5] * n_labels).value(metric)

    for metric in ("f1_macro", "f1_micro"):
        chosen = best_constant_sets(targets)[metric]
        assert value(chosen, metric) == pytest.approx(max(value(subset, metric) for subset in subsets))


def test_baselines_are_chosen_on_the_reference_and_scored_on_the_targets():
    training = np.array([[1, 0, 0]] * 9 + [[1, 1, 0]])  # label 0 is nearly all there is
    held_out = np.array([[1, 0, 0], [0, 1, 1]])
    baselines = constant_baselines(training, held_out)
    assert best_constant_sets(training)["f1_micro"].tolist() == [True, False, False]
    assert baselines["best constant set"]["f1_micro"] == pytest.approx(2 / (2 + 3))
    assert baselines["best constant set"]["f1_samples"] == pytest.approx(0.5)
    assert baselines["every label"]["f1_micro"] == pytest.approx(2 * 3 / (6 + 3))
    assert baselines["every label"]["f1_samples"] == pytest.approx((0.5 + 0.8) / 2)
    assert baselines["every label"]["mean_ap"] == pytest.approx(held_out.mean())  # a constant ranks nothing


def test_the_best_set_for_f1_samples_is_the_best_of_the_commonest():
    targets = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [1, 1, 0]])
    assert best_constant_sets(targets)["f1_samples"].tolist() == [True, True, False]


def test_baselines_of_two_label_sets_are_refused():
    with pytest.raises(DataError, match="the same labels, got 3 and 2"):
        constant_baselines([[1, 0, 0]], [[1, 0]])


# At least so many labels


def test_a_poster_gets_its_likeliest_labels_where_it_has_too_few():
    probabilities = [[0.9, 0.1, 0.2], [0.3, 0.2, 0.3], [0.1, 0.6, 0.7]]
    thresholds = [0.5, 0.5, 0.5]
    assert predict(probabilities, thresholds, 1).tolist() == [
        [True, False, False], [True, False, False], [False, True, True],
    ]  # fmt: skip
    assert predict(probabilities, thresholds, 2)[0].tolist() == [True, False, True]


def test_what_is_predicted_counts_before_what_is_likelier():
    """A threshold of its own may let an unlikely label in: it is one of the labels that the poster has."""
    assert predict([[0.2, 0.4]], [0.1, 0.5], 1).tolist() == [[True, False]]


def test_more_labels_than_there_are_cannot_be_asked_for():
    with pytest.raises(DataError, match="0 to 2 labels at least, got 3"):
        predict([[0.2, 0.4]], [0.1, 0.5], 3)


def test_scores_and_intervals_take_it_into_account():
    probabilities, targets, _ = a_case("plain")
    nothing = np.ones(4)
    assert score(probabilities, targets, nothing).value("f1_samples") == 0
    assert score(probabilities, targets, nothing, min_labels=1).value("f1_samples") > 0
    assert bootstrap_ci95(probabilities, targets, nothing, 50, min_labels=1)["f1_samples"][1] > 0


def test_guessing_by_base_rates_is_right_as_often_as_the_label_comes():
    targets = np.random.default_rng(7).random((5000, 3)) < [0.5, 0.3, 0.1]
    guessed = constant_baselines(targets, targets)["prior sampling"]
    assert guessed["f1_macro"] == pytest.approx(0.3, abs=0.01)  # precision and recall are both the base rate
    assert guessed["mean_ap"] == pytest.approx(0.3, abs=0.01)
