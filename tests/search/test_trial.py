from __future__ import annotations

from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from hpo.data.images import DecodedImages
from hpo.decision.metrics import METRICS, score
from hpo.decision.thresholds import DEFAULT_STRATEGY, STRATEGIES, fit
from hpo.errors import BackboneError
from hpo.model.backbones import load_backbone
from hpo.search.space.space import load_space
from hpo.search.trial import EpochReport, FeatureSource, TrialResult, run_trial

DEFAULT = load_space(Path("default"))

# Values to try where the space's own do not suit 40 tiny posters, or where it fixes one.
VALUES = {
    "backbone": ["test_efficientnet", "test_resnet"],
    "image_size": [64, 96, "native"],
    "fit": ["squash", "crop", "pad"],
    "batch_size": [8, 16, 32],
    "epochs": [2, 3],
    "patience": [1, 6],
}
CHANGES_THE_NUMBER_OF_EPOCHS = ("epochs", "patience")


def values_of(name: str) -> list[object]:
    """Every choice, or both ends of a range; a new fixed parameter needs its own line in VALUES."""
    return VALUES[name] if name in VALUES else DEFAULT.searched[name].extremes()


def when_of(name: str) -> dict[str, object]:
    """Values of other parameters under which this one applies."""
    parameter = DEFAULT.searched.get(name)
    return {} if parameter is None else {other: values[0] for other, values in parameter.when.items()}


def assert_same(one: TrialResult, other: TrialResult) -> None:
    assert np.array_equal(one.val_probabilities, other.val_probabilities)
    assert (one.value, one.n_epochs) == (other.value, other.n_epochs)


@pytest.mark.parametrize("name", [*DEFAULT.searched, *DEFAULT.fixed])
def test_every_hyperparameter_of_the_default_space_changes_what_is_trained(name, chosen, parts, source):
    briefly = {"epochs": 3, "patience": 3, "hidden_layers": 2, "dropout": 0.2, **when_of(name)}
    if name == "patience":
        briefly |= {"epochs": 40, "learning_rate": 0.05}
    results = [
        run_trial(chosen.model_copy(update={**briefly, name: value}), *parts, source, "f1_macro", seed=0)
        for value in values_of(name)
    ]
    assert len(results) > 1
    for one, other in combinations(results, 2):
        if name in CHANGES_THE_NUMBER_OF_EPOCHS:
            assert one.n_epochs != other.n_epochs
        else:
            assert not np.allclose(one.val_probabilities, other.val_probabilities, atol=1e-6)


def test_the_same_values_and_seed_give_the_same_result(chosen, parts, source, result):
    assert_same(run_trial(chosen, *parts, source, "f1_macro", seed=0), result)
    other = run_trial(chosen, *parts, source, "f1_macro", seed=1)
    assert not np.array_equal(other.val_probabilities, result.val_probabilities)


def test_it_learns_what_the_posters_show(result, parts):
    scores = result.judged.scores
    chance = parts[1].targets.mean()  # mean AP of a random order
    assert scores.mean_ap > 0.8 > 1.5 * chance
    assert result.value == scores.f1_macro > 0.7


def test_every_threshold_strategy_is_judged_on_the_best_epoch(result, parts):
    targets = parts[1].targets
    assert tuple(result.strategies) == tuple(STRATEGIES)
    for name, judged in result.strategies.items():
        expected = fit(name, result.val_probabilities, targets, "f1_macro")
        assert np.array_equal(judged.thresholds.values, expected.values)
        assert judged.scores.f1_macro == score(result.val_probabilities, targets, expected.values).f1_macro
    assert result.judged is result.strategies[DEFAULT_STRATEGY]


@pytest.mark.parametrize("metric", METRICS)
def test_the_best_epoch_is_kept_not_the_last(chosen, parts, source, metric):
    reports: list[EpochReport] = []
    overfits = chosen.model_copy(update={"epochs": 12, "patience": 12, "learning_rate": 0.05})
    result = run_trial(overfits, *parts, source, metric, 0, reports.append)
    values = [report.value for report in reports]
    assert [report.epoch for report in reports] == list(range(1, 13))
    assert result.value == max(values) == result.judged.scores.value(metric)
    assert result.best_epoch == values.index(max(values)) + 1  # the first of equals
    assert result.n_epochs == 12


def test_a_trial_ends_when_its_patience_does(chosen, parts, source):
    impatient = chosen.model_copy(update={"epochs": 100, "patience": 3, "learning_rate": 0.02})
    result = run_trial(impatient, *parts, source, "f1_macro", 0)
    assert result.n_epochs == result.best_epoch + 3 < 100


def test_the_deployable_network_gives_the_probabilities_of_the_best_epoch(tmp_path, result, parts):
    images = DecodedImages(tmp_path, 64)
    images.ensure(parts[1].posters)
    with torch.inference_mode():
        logits = result.classifier()(torch.from_numpy(images.load(parts[1].posters)))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), result.val_probabilities, atol=2e-2)


def test_whatever_the_report_raises_stops_the_trial_there(chosen, parts, source):
    seen: list[int] = []

    def prune(report: EpochReport) -> None:
        seen.append(report.epoch)
        if report.epoch == 2:
            raise StopAsking

    with pytest.raises(StopAsking):
        run_trial(chosen, *parts, source, "f1_macro", 0, prune)
    assert seen == [1, 2]


class StopAsking(Exception):
    """As Optuna's TrialPruned."""


# Features


def test_features_are_computed_in_one_phase_and_then_found(tmp_path, chosen, parts):
    phases: list[tuple[str, int]] = []
    finished: list[int] = []

    @contextmanager
    def phase(name: str, n_posters: int):
        phases.append((name, n_posters))
        yield finished.append

    source = FeatureSource(tmp_path, {"test_resnet": "random"}, phase)
    resnet = chosen.model_copy(update={"backbone": "test_resnet"})
    _, first = source.features(resnet, *parts)
    assert phases == [("features of test_resnet", 60)]
    assert sum(finished) == 60
    _, again = source.features(resnet.model_copy(update={"pooling": "avg+max"}), *parts)
    assert len(phases) == 1
    assert [rows.shape[0] for rows in again] == [40, 20]
    assert again[0].shape[1] == 2 * first[0].shape[1]


def test_each_fit_has_its_own_features_of_one_backbone(source, chosen, parts):
    fits = [source.features(chosen.model_copy(update={"fit": fit}), parts[1]) for fit in ("squash", "crop", "pad")]
    assert len({id(backbone) for backbone, _ in fits}) == 1
    for (_, [one]), (_, [other]) in combinations(fits, 2):
        assert not torch.allclose(one, other, atol=1e-2)


def test_native_is_the_size_that_the_backbone_was_made_for(source):
    assert source.cache("test_resnet", "native").backbone.image_size == 160
    assert source.cache("test_resnet", "native") is source.cache("test_resnet", 160)


def test_weights_are_those_that_the_space_names(tmp_path, source):
    expected = load_backbone("test_efficientnet", 64, "random").fingerprint()
    assert source.cache("test_efficientnet", 64).backbone.fingerprint() == expected
    with pytest.raises(BackboneError, match="found none"):
        FeatureSource(tmp_path, {"test_resnet": "nowhere.pth"}, phase=None).cache("test_resnet", 64)
