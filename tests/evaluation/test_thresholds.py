"""The exact strategies against brute force, the calibrated one against an oracle, and all against laws."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hpo.errors import DataError, HpoError
from hpo.evaluation.metrics import METRICS, predict, score
from hpo.evaluation.thresholds import DEFAULT_STRATEGY, STRATEGIES, cross_fit, cross_fitted_scores, fit

F1_METRICS = ("f1_macro", "f1_micro", "f1_samples")
GRID = 6  # few levels, so that ties are the rule


def tables(max_posters: int = 7, max_labels: int = 3, lowest: int = 0, highest: int = GRID):
    """Probabilities on a coarse grid, 0 and 1 among them, with any targets."""
    levels = st.integers(lowest, highest).map(lambda i: i / GRID)
    return st.tuples(st.integers(1, max_posters), st.integers(1, max_labels)).flatmap(
        lambda shape: st.tuples(
            hnp.arrays(np.float64, shape, elements=levels),
            hnp.arrays(np.bool_, shape),
        )
    )


def every_threshold(probabilities):
    """Every threshold in (0, 1] that decides differently, without a thought about midpoints."""
    return [threshold for threshold in {*np.ravel(probabilities).tolist(), 1.0} if threshold > 0]


def reached(strategy, probabilities, targets, metric):
    return score(probabilities, targets, fit(strategy, probabilities, targets, metric).values).value(metric)


def drawn_posters(n_posters, base_logits, seed, noise=0.0, slope=1.0, shift=0.0):
    """Targets drawn from true logits, and raw probabilities that distort those by slope, shift and noise."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(base_logits, 1.5, size=(n_posters, len(base_logits)))
    targets = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    raw = slope * (logits + noise * rng.normal(size=logits.shape)) + shift
    return (1 / (1 + np.exp(-raw))).astype(np.float32), targets


# ---- exactness -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=200)
@given(tables())
def test_per_label_reaches_the_f1_macro_of_brute_force(table):
    probabilities, targets = table
    best = [
        max(score(p[:, None], t[:, None], [threshold]).value("f1_macro") for threshold in every_threshold(p))
        for p, t in zip(probabilities.T, targets.T, strict=True)
    ]
    assert reached("per_label", probabilities, targets, "f1_macro") == pytest.approx(np.mean(best), abs=1e-12)


@settings(deadline=None, max_examples=500)
@given(tables())
def test_per_label_reaches_the_joint_f1_micro_of_brute_force(table):
    probabilities, targets = table
    true_positives, predicted = [], []
    for p, t in zip(probabilities.T, targets.T, strict=True):
        decisions = [p >= threshold for threshold in every_threshold(p)]
        true_positives.append(np.array([(decision & t).sum() for decision in decisions]))
        predicted.append(np.array([decision.sum() for decision in decisions]))
    # Every combination of the labels' thresholds, one axis per label.
    all_true, all_predicted = (functools.reduce(np.add.outer, counts) for counts in (true_positives, predicted))
    best = np.max(2 * all_true / np.maximum(all_predicted + targets.sum(), 1))
    assert reached("per_label", probabilities, targets, "f1_micro") == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize("metric", F1_METRICS)
@settings(deadline=None, max_examples=60)
@given(tables())
def test_global_reaches_the_best_single_threshold_of_brute_force(metric, table):
    probabilities, targets = table
    n_labels = targets.shape[1]
    everywhere = ([threshold] * n_labels for threshold in every_threshold(probabilities))
    best = max(score(probabilities, targets, thresholds).value(metric) for thresholds in everywhere)
    assert reached("global", probabilities, targets, metric) == pytest.approx(best, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables())
def test_no_single_label_improves_the_f1_samples_of_per_label(table):
    probabilities, targets = table
    fitted = fit("per_label", probabilities, targets, "f1_samples").values
    value = score(probabilities, targets, fitted).value("f1_samples")
    for label in range(targets.shape[1]):
        for threshold in every_threshold(probabilities[:, label]):
            moved = fitted.copy()
            moved[label] = threshold
            assert score(probabilities, targets, moved).value("f1_samples") <= value + 1e-9


@pytest.mark.parametrize("metric", F1_METRICS)
@settings(deadline=None, max_examples=60)
@given(table=tables(max_posters=12), threshold=st.floats(0.01, 1.0))
def test_exact_thresholds_never_score_below_a_fixed_one_on_their_own_posters(metric, table, threshold):
    probabilities, targets = table
    fixed = score(probabilities, targets, np.full(targets.shape[1], threshold)).value(metric)
    shared = reached("global", probabilities, targets, metric)
    assert fixed <= shared + 1e-9
    assert shared <= reached("per_label", probabilities, targets, metric) + 1e-9


# ---- laws of every strategy ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None, max_examples=40)
@given(table=tables(), metric=st.sampled_from(list(METRICS)))
def test_thresholds_are_usable_numbers_whatever_the_posters(strategy, table, metric):
    probabilities, targets = table
    thresholds = fit(strategy, probabilities.astype(np.float32), targets, metric)
    assert thresholds.values.shape == (targets.shape[1],)
    assert thresholds.values.dtype == np.float64
    assert ((thresholds.values > 0) & (thresholds.values <= 1)).all()
    as_stored = thresholds.values.astype(np.float32)
    decisions = predict(probabilities.astype(np.float32), thresholds.values)
    assert (decisions == predict(probabilities.astype(np.float32), as_stored)).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(deadline=None, max_examples=40)
@given(table=tables(), metric=st.sampled_from(list(METRICS)), seed=st.integers(0, 99))
def test_the_order_of_the_posters_does_not_matter(strategy, table, metric, seed):
    probabilities, targets = table
    shuffled = np.random.default_rng(seed).permutation(len(targets))
    here = fit(strategy, probabilities, targets, metric)
    there = fit(strategy, probabilities[shuffled], targets[shuffled], metric)
    np.testing.assert_allclose(there.values, here.values, rtol=1e-5)
    assert there.fallback_labels == here.fallback_labels


def test_starts_that_are_equally_good_up_to_rounding_are_taken_in_their_order():
    """The mean F1 of these posters is summed in their order, and two starts are equal but for its rounding."""
    low, high = 1 / 6, 1 / 3
    probabilities = np.array([[0, 0], [0, high], [low, high], [0, high], [low, high], [0, 0], [0, 0]])
    targets = np.ones((7, 2), dtype=bool)
    targets[2, 0] = False
    here = fit("per_label", probabilities, targets, "f1_samples").values
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(7)
        there = fit("per_label", probabilities[shuffled], targets[shuffled], "f1_samples").values
        np.testing.assert_allclose(there, here, rtol=1e-5)


@pytest.mark.parametrize("metric", F1_METRICS)
@settings(deadline=None, max_examples=60)
@given(table=tables(lowest=1, highest=GRID - 1))
def test_exact_decisions_depend_on_the_ranking_alone(metric, table):
    probabilities, targets = table
    assume(targets.any(axis=0).all())  # labels that fall back take a threshold that compares across labels
    squared = probabilities**2  # rises strictly within 0..1
    here = fit("global", probabilities, targets, metric).values
    there = fit("global", squared, targets, metric).values
    assert (predict(squared, there) == predict(probabilities, here)).all()
    if metric != "f1_samples":  # whose start at 0.5 does compare with a number
        here = fit("per_label", probabilities, targets, metric).values
        there = fit("per_label", squared, targets, metric).values
        assert (predict(squared, there) == predict(probabilities, here)).all()


def test_calibrated_decisions_do_not_change_under_another_temperature():
    plain, targets = drawn_posters(500, [-2.0, -0.5], seed=0)
    cooled, _ = drawn_posters(500, [-2.0, -0.5], seed=0, slope=0.4, shift=1.5)
    for metric in F1_METRICS:
        here, there = (fit("calibrated", p, targets, metric).values for p in (plain, cooled))
        assert (predict(plain, here) != predict(cooled, there)).mean() <= 0.002  # float32 may round one over


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_mean_ap_takes_the_thresholds_of_f1_macro(strategy):
    table = drawn_posters(100, [-1.0, 0.0], seed=1)
    by_ap, by_f1 = fit(strategy, *table, "mean_ap"), fit(strategy, *table, "f1_macro")
    assert by_ap.values.tolist() == by_f1.values.tolist()
    assert by_ap.metric == "f1_macro"


# ---- thresholds between neighbours ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("low", [1e-6, 0.3, 0.5, 0.9])
def test_neighbouring_floats_are_told_apart(dtype, low):
    low = dtype(low)
    high = np.nextafter(low, dtype(1))
    probabilities = np.array([[low], [high]], dtype=dtype)
    threshold = fit("per_label", probabilities, [[0], [1]]).values
    assert predict(probabilities, threshold).ravel().tolist() == [False, True]
    if dtype != np.float64:
        assert predict(probabilities, threshold.astype(np.float32)).ravel().tolist() == [False, True]


def test_the_threshold_lies_midway_between_the_last_taken_and_the_first_left():
    assert fit("per_label", [[0.25], [0.75], [0.75]], [[0], [1], [1]]).values.tolist() == [0.5]


def test_a_hopeless_label_is_never_predicted_where_that_is_best():
    probabilities = np.array([[0.9, 0.9], [0.8, 0.8], [0.1, 0.7], [0.1, 0.6]])
    targets = np.array([[1, 0], [1, 0], [0, 0], [0, 0]])
    thresholds = fit("per_label", probabilities, targets, "f1_micro")
    assert thresholds.values[1] == 1.0
    assert not predict(probabilities, thresholds.values)[:, 1].any()


def test_certain_probabilities_have_a_threshold_too():
    probabilities = np.array([[0.0], [0.0], [1.0], [1.0]], dtype=np.float32)
    targets = np.array([[0], [0], [1], [1]])
    for strategy in STRATEGIES:
        assert reached(strategy, probabilities, targets, "f1_macro") == 1.0


# ---- calibrated ----------------------------------------------------------------------------------------


def f1_at(threshold, probabilities, targets):
    return score(probabilities, targets, np.array([threshold])).value("f1_macro")


@pytest.mark.parametrize("distortion", [{}, {"slope": 0.5, "shift": -1.0}, {"slope": 3.0}, {"noise": 1.0}])
@pytest.mark.parametrize("base_logit", [-2.5, -1.0, 1.0])
def test_the_calibrated_threshold_is_within_a_hundredth_of_the_oracle_on_new_posters(base_logit, distortion):
    fitted = fit(DEFAULT_STRATEGY, *drawn_posters(2_000, [base_logit], seed=0, **distortion))
    new = drawn_posters(50_000, [base_logit], seed=1, **distortion)
    oracle = fit("per_label", *new)  # the best threshold that hindsight could have chosen
    assert fitted.fallback_labels == ()
    assert f1_at(fitted.values[0], *new) >= f1_at(oracle.values[0], *new) - 0.01


def test_the_calibration_finds_the_distortion_and_undoes_it():
    raw, targets = drawn_posters(50_000, [-1.0], seed=0, slope=0.5, shift=1.0)
    calibration = fit("calibrated", raw, targets).calibration
    assert calibration.slopes[0] == pytest.approx(2.0, abs=0.1)  # 1 / 0.5
    assert calibration.intercepts[0] == pytest.approx(-2.0, abs=0.1)
    assert calibration.apply(raw).mean() == pytest.approx(targets.mean(), abs=1e-3)


@pytest.mark.parametrize("metric", ["f1_micro", "f1_samples"])
def test_metrics_that_pool_the_labels_share_one_calibrated_threshold(metric):
    raw, targets = drawn_posters(1_000, [-2.0, -1.0, 0.5], seed=0, slope=0.7)
    thresholds = fit("calibrated", raw, targets, metric)
    calibrated = thresholds.calibration.apply(thresholds.values[None, :])
    assert np.ptp(calibrated) < 1e-5
    if metric == "f1_micro":  # half the F1 that it expects of itself
        assert 2 * calibrated.mean() == pytest.approx(
            score(raw, targets, thresholds.values).value("f1_micro"), abs=0.03
        )


@pytest.mark.parametrize("gap", [1e-6, 0.1, 0.9])
def test_separable_posters_are_separated_by_finite_numbers(gap):
    probabilities = np.repeat([0.5 - gap / 2, 0.5 + gap / 2], [180, 20])[:, None]
    targets = probabilities > 0.5
    thresholds = fit("calibrated", probabilities, targets)
    assert np.isfinite([thresholds.calibration.slopes, thresholds.calibration.intercepts]).all()
    assert reached("calibrated", probabilities, targets, "f1_macro") == 1.0


@pytest.mark.parametrize("metric", F1_METRICS)
def test_labels_that_cannot_be_calibrated_fall_back_to_the_global_threshold_and_are_named(metric):
    probabilities, targets = drawn_posters(300, [-1.0] * 5, seed=0)
    targets[:, 0] = False
    targets[:, 1] = True
    probabilities[:, 2] = 0.25
    targets[:, 3] = probabilities[:, 3] < 0.2  # the wrong way round: a falling map
    thresholds = fit("calibrated", probabilities, targets, metric)
    assert thresholds.fallback_labels == (0, 1, 2, 3)
    shared = fit("global", probabilities, targets, metric).values[0]
    assert thresholds.values[:4].tolist() == [shared] * 4
    assert thresholds.values[4] != shared


def test_a_label_without_positives_falls_back_in_per_label_too():
    probabilities, targets = drawn_posters(100, [-1.0, -1.0], seed=0)
    targets[:, 1] = False
    thresholds = fit("per_label", probabilities, targets, "f1_macro")
    assert thresholds.fallback_labels == (1,)
    assert thresholds.values[1] == fit("global", probabilities, targets, "f1_macro").values[1]


# ---- what a strategy may claim -------------------------------------------------------------------------


def test_the_claim_is_what_new_posters_give_and_the_fit_on_its_own_posters_is_not():
    base_logits = [-2.5] * 8  # rare labels: lucky gaps to be had
    flattered, claims, honest = [], [], []
    new = drawn_posters(20_000, base_logits, seed=99, noise=1.5)
    for seed in range(8):
        seen = drawn_posters(300, base_logits, seed=seed, noise=1.5)
        thresholds = fit("per_label", *seen).values
        flattered.append(score(*seen, thresholds).value("f1_macro"))
        claims.append(cross_fitted_scores("per_label", *seen).value("f1_macro"))
        honest.append(score(*new, thresholds).value("f1_macro"))
    assert np.mean(flattered) > np.mean(honest) + 0.03
    assert np.mean(claims) == pytest.approx(np.mean(honest), abs=0.02)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_poster_has_no_say_in_the_thresholds_it_is_judged_by(strategy):
    probabilities, targets = drawn_posters(40, [-1.0, 0.0], seed=0)
    before = cross_fit(strategy, probabilities, targets)
    altered = probabilities.copy()
    altered[7] = 1 - altered[7]
    after = cross_fit(strategy, altered, targets)
    assert after[7].tolist() == before[7].tolist()
    assert before.shape == targets.shape


@pytest.mark.parametrize("seed", range(10))
def test_folds_share_out_the_positives_of_a_rare_label(seed):
    targets = np.zeros((50, 2), dtype=bool)
    targets[:2, 0], targets[:30, 1] = True, True
    # Were both positives of label 0 in one fold, its threshold there would be fitted without any.
    assert cross_fitted_scores("per_label", 0.2 + 0.6 * targets, targets, n_folds=2, seed=seed).value("f1_macro") == 1.0


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("probabilities", "targets", "words"),
    [
        ([[0.2, np.nan]], [[0, 1]], "got nan"),
        ([[0.2, 7.0]], [[0, 1]], "0..1"),
        ([[0.2, 0.5]], [[0, 1], [1, 0]], "one shape"),
        (np.empty((0, 2)), np.empty((0, 2)), "at least one poster"),
    ],
)
def test_bad_tables_are_refused(strategy, probabilities, targets, words):
    with pytest.raises(DataError, match=words):
        fit(strategy, probabilities, targets)


def test_unknown_names_are_answered_with_the_closest_one():
    with pytest.raises(HpoError, match="did you mean 'calibrated'"):
        fit("calibrate", [[0.5]], [[1]])
    with pytest.raises(HpoError, match="did you mean 'f1_samples'"):
        fit("global", [[0.5]], [[1]], "f1_sample")


def test_one_poster_cannot_be_cross_fitted():
    with pytest.raises(DataError, match="needs 2 posters"):
        cross_fitted_scores("global", [[0.5, 0.2]], [[1, 0]])


def posters(n: int, seed: int):
    """Calibrated probabilities of labels from common to rare."""
    rng = np.random.default_rng(seed)
    probabilities = 1 / (1 + np.exp(-rng.normal(np.linspace(0, -3.5, 8), 1.2, (n, 8))))
    return probabilities, rng.random(probabilities.shape) < probabilities


def test_calibrated_thresholds_reach_more_than_exact_ones_on_new_posters():
    gained = []
    for seed in range(12):
        seen, (probabilities, targets) = posters(150, seed), posters(4000, 100 + seed)
        exact, calibrated = (fit(name, *seen).values for name in ("per_label", "calibrated"))
        values = [score(probabilities, targets, thresholds).value("f1_macro") for thresholds in (exact, calibrated)]
        gained.append(values[1] - values[0])
    assert np.mean(gained) > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("metric", ["f1_macro", "f1_micro", "f1_samples"])
def test_every_strategy_answers_for_a_single_poster_and_for_equal_probabilities(strategy, metric):
    for table in ((np.array([[0.3, 0.6]]), np.array([[1, 0]])), (np.full((6, 2), 0.5), np.eye(6, 2))):
        thresholds = fit(strategy, *table, metric)
        assert thresholds.strategy == strategy
        assert ((thresholds.values > 0) & (thresholds.values <= 1)).all()


def test_labels_without_a_positive_get_the_global_threshold_and_are_named():
    probabilities, targets = posters(80, 1)
    targets[:, 2] = False
    thresholds = fit("per_label", probabilities, targets)
    assert thresholds.fallback_labels == (2,)
    assert thresholds.values[2] == pytest.approx(fit("global", probabilities, targets).values[2])
