from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hpo.data.dataset import Part
from hpo.data.splits.split import deal_folds
from hpo.evaluation.bootstrap import bootstrap_ci95
from hpo.evaluation.metrics import score
from hpo.evaluation.thresholds import cross_fit
from hpo.model.classifier import Ensemble
from hpo.trial.cross_validation import judged_by_other_folds, run_folds
from hpo.trial.description import reported_figure
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.trial import JudgedEpoch, TrialInputs, TrialResult, run_trial


@pytest.fixture(scope="module")
def everything(parts) -> Part:
    """All 60 posters; each two that follow each other belong together."""
    train, val = parts
    together = train + val
    return Part(together.posters, together.targets, np.arange(60) // 2)


def test_u11_the_reported_figure_of_a_trial_is_cross_fitted_with_its_interval_over_groups(folded, everything):
    result, *_ = folded
    table = result.val_probabilities, everything.targets
    thresholds = cross_fit("calibrated", *table, "f1_macro")
    figure = reported_figure(result)
    assert figure["value"] == score(*table, thresholds).value("f1_macro")
    interval = bootstrap_ci95(*table, thresholds, groups=everything.groups)["f1_macro"]
    assert figure["ci95"] == pytest.approx(list(interval), abs=0)


def inputs(everything: Part, source: FeatureSource, **callbacks: Any) -> TrialInputs:
    """Train and val whose sum is ``everything``."""
    train, val = everything.take(np.arange(40)), everything.take(np.arange(40, 60))
    return TrialInputs(train, val, source, Objective("f1_macro"), 0, **callbacks)


@pytest.fixture(scope="module")
def folded(config, everything, source):
    epochs, folds = [], []
    result = run_folds(
        config,
        inputs(
            everything,
            source,
            report=lambda epoch: epochs.append((epoch.fold, epoch.epoch)),
            report_fold=lambda *fold: folds.append(fold),
        ),
        3,
        "average",
    )
    return result, epochs, folds


def test_every_poster_is_judged_by_a_network_that_did_not_see_it_or_its_group(folded, config, everything, source):
    result, epochs, folds = folded
    assert np.array_equal(result.judged_on.posters.digests, everything.posters.digests)
    assert np.array_equal(result.judged_on.targets, everything.targets)
    assert np.array_equal(result.judged_on.groups, everything.groups)
    assert [fold for fold, _ in folds] == [0, 1, 2]
    assert sorted({fold for fold, _ in epochs}) == [0, 1, 2]
    assert result.n_epochs == len(epochs)
    assert result.value == Objective("f1_macro").judge(result.val_probabilities, everything.targets)[0]
    dealt = deal_folds(everything.targets, everything.groups, 3, 0)
    assert all(len(set(dealt[everything.groups == group])) == 1 for group in everything.groups)
    for fold, value in folds:
        kept, held_out = (everything.take(np.flatnonzero(which)) for which in (dealt != fold, dealt == fold))
        alone = run_trial(config, TrialInputs(kept, held_out, source, Objective("f1_macro"), 0))
        reported = result.val_probabilities[dealt == fold]
        assert any(np.array_equal(reported, epoch.probabilities) for epoch in alone.judged_epochs["frozen"])
        assert value == alone.value


@pytest.fixture(scope="module")
def fold_results(config, everything, source):
    """Three folds of a trial that trains for six epochs."""
    dealt = deal_folds(everything.targets, everything.groups, 3, 0)
    longer = config.model_copy(update={"epochs": 6, "patience": 6})
    of_folds = [
        [everything.take(np.flatnonzero(which)) for which in (dealt != fold, dealt == fold)] for fold in range(3)
    ]
    return [run_trial(longer, TrialInputs(*parts, source, Objective("f1_macro"), 0)) for parts in of_folds]


def told(result: TrialResult, **values: list[float]) -> TrialResult:
    """Return a fold whose epochs of each phase have these values, and probabilities that name phase and epoch."""
    shape = result.judged_on.targets.shape
    epochs = {
        phase: [
            JudgedEpoch(value, np.full(shape, (at + 1) / 10 + (0.05 if phase == "finetune" else 0), np.float32))
            for at, value in enumerate(of_phase)
        ]
        for phase, of_phase in values.items()
    }
    return replace(result, judged_epochs=epochs)


def epochs_of(results: list[TrialResult]) -> list[float]:
    return [round(float(judged[0, 0]), 3) for judged in judged_by_other_folds(results)]


def test_a_folds_epoch_is_the_best_of_the_other_folds_and_never_its_own(fold_results):
    values = [[0.9, 0.1, 0.2], [0.1, 0.5, 0.2], [0.2, 0.3, 0.6]]
    results = [told(one, frozen=of_fold) for one, of_fold in zip(fold_results, values, strict=True)]
    assert epochs_of(results) == [0.2, 0.1, 0.1]  # means without each: .15 .40 .40; .55 .20 .40; .50 .30 .20


def test_a_folds_own_values_have_no_say_in_what_is_reported_of_it(fold_results):
    before = judged_by_other_folds(fold_results)
    for fold, one in enumerate(fold_results):
        turned = [JudgedEpoch(1.0 - epoch.value, epoch.probabilities) for epoch in one.judged_epochs["frozen"]]
        others = [*fold_results]
        others[fold] = replace(one, judged_epochs={"frozen": turned})
        np.testing.assert_array_equal(judged_by_other_folds(others)[fold], before[fold])


def test_a_fold_that_stopped_early_is_taken_as_it_was_last(fold_results):
    values = [[0.9, 0.8], [0.1, 0.2, 0.7], [0.1, 0.3, 0.8]]
    results = [told(one, frozen=of_fold) for one, of_fold in zip(fold_results, values, strict=True)]
    assert epochs_of(results) == [0.2, 0.3, 0.3]  # the first has two epochs, and counts as 0.8 in the third


def test_the_other_folds_choose_between_the_phases_too(fold_results):
    frozen, tuned = [[0.4], [0.4], [0.4]], [[0.9], [0.1], [0.2]]
    results = [told(o, frozen=f, finetune=t) for o, f, t in zip(fold_results, frozen, tuned, strict=True)]
    assert epochs_of(results) == [0.1, 0.15, 0.15]  # the first alone was better for fine-tuning, and others gain by it


def test_of_a_soup_the_epochs_that_help_the_other_folds_are_averaged(fold_results):
    soups = [replace(one, config=one.config.model_copy(update={"averaging": "soup"})) for one in fold_results]
    before = judged_by_other_folds(soups)
    for fold, (one, reported) in enumerate(zip(soups, before, strict=True)):
        epochs = [epoch.probabilities for epoch in one.judged_epochs["frozen"]]
        assert np.min(epochs, axis=0).min() <= reported.min() <= reported.max() <= np.max(epochs, axis=0).max()
        own = replace(one, judged_on=replace(one.judged_on, targets=~one.judged_on.targets))
        turned = [*soups[:fold], own, *soups[fold + 1 :]]  # the fold's own labels have no say either
        np.testing.assert_array_equal(judged_by_other_folds(turned)[fold], reported)


def test_the_model_is_the_average_of_the_folds(folded, drawn):
    result, _, _ = folded
    assert isinstance(result.network, Ensemble)
    assert len(result.network.backbones) == 1
    assert [part.weight for part in result.network.parts] == pytest.approx([1 / 3] * 3)


def test_or_one_that_was_trained_on_everything_for_the_median_of_epochs(folded, config, everything, source):
    averaged, _, _ = folded
    refit = run_folds(config, inputs(everything, source), 3, "refit")
    np.testing.assert_array_equal(refit.val_probabilities, averaged.val_probabilities)
    assert refit.value == averaged.value
    alone = run_trial(
        config, TrialInputs(everything, everything, source, Objective("f1_macro"), 0, epochs=averaged.epochs)
    )
    assert alone.n_epochs == averaged.best_epoch
    for mine, theirs in zip(refit.network.head.parameters(), alone.network.head.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_what_a_report_raises_stops_the_trial_there(config, everything, source):
    seen = []

    class Behind(Exception):
        pass

    def stop(fold: int, value: float) -> None:
        seen.append(fold)
        if fold == 1:
            raise Behind

    with pytest.raises(Behind):
        run_folds(config, inputs(everything, source, report_fold=stop), 3, "average")
    assert seen == [0, 1]
