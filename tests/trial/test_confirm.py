from __future__ import annotations

import numpy as np

from hpo.data.dataset import Part
from hpo.evaluation.metrics import score
from hpo.trial.cross_validation import out_of_fold_probabilities
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.trial import TrialInputs


def inputs(train: Part, val: Part, source: FeatureSource) -> TrialInputs:
    return TrialInputs(train, val, source, Objective("mean_ap"), seed=0)


def mean_ap(probabilities: np.ndarray, targets: np.ndarray) -> float:
    return score(probabilities, targets, np.full(targets.shape[1], 0.5)).value("mean_ap")


def test_each_training_poster_is_judged_by_a_head_that_did_not_see_it(config, parts, source) -> None:
    """Labels that have nothing to do with the posters can only be known by having seen them."""
    train, val = parts
    noise = np.random.default_rng(1).random(train.targets.shape) < 0.4
    memorising = config.model_copy(update={"dropout": 0.0, "epochs": 60})
    meaningless = Part(train.posters, noise)
    judged = out_of_fold_probabilities(memorising, 60, inputs(meaningless, val, source))
    assert mean_ap(judged, noise) < 0.65  # chance is 0.4; a head that saw them reaches 1
    assert mean_ap(out_of_fold_probabilities(memorising, 60, inputs(train, val, source)), train.targets) > 0.7


def test_it_is_deterministic_and_tells_how_far_it_is(config, parts, source) -> None:
    finished: list[int] = []
    once = out_of_fold_probabilities(config, 3, inputs(*parts, source), finished.append)
    assert np.array_equal(once, out_of_fold_probabilities(config, 3, inputs(*parts, source)))
    assert sum(finished) == len(parts[0].targets)
    assert np.isfinite(once).all()
