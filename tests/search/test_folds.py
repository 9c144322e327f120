from __future__ import annotations

import numpy as np
import pytest
import torch

from hpo.data.prepare import Part
from hpo.data.splits.splits import deal_folds
from hpo.model.ensemble import Ensemble
from hpo.search.folds import run_folds
from hpo.search.objective import Objective
from hpo.search.trial import run_trial


@pytest.fixture(scope="module")
def everything(parts) -> Part:
    """All 60 posters; each two that follow each other belong together."""
    train, val = parts
    together = train + val
    return Part(together.posters, together.targets, np.arange(60) // 2)


@pytest.fixture(scope="module")
def folded(chosen, everything, source):
    epochs, folds = [], []
    result = run_folds(
        chosen, everything, source, Objective("f1_macro"), 0, 3, "average",
        lambda fold, epoch: epochs.append((fold, epoch.epoch)), lambda *fold: folds.append(fold),
    )  # fmt: skip
    return result, epochs, folds


def test_every_poster_is_judged_by_a_network_that_did_not_see_it_or_its_group(folded, chosen, everything, source):
    result, epochs, folds = folded
    assert result.judged_on is everything
    assert [fold for fold, _ in folds] == [0, 1, 2]
    assert sorted({fold for fold, _ in epochs}) == [0, 1, 2]
    assert result.n_epochs == len(epochs)
    assert result.value == Objective("f1_macro").judge(result.val_probabilities, everything.targets)[0]
    dealt = deal_folds(everything.targets, everything.groups, 3, 0)
    assert all(len(set(dealt[everything.groups == group])) == 1 for group in everything.groups)
    for fold, value in folds:
        kept, held_out = (everything.take(np.flatnonzero(which)) for which in (dealt != fold, dealt == fold))
        alone = run_trial(chosen, kept, held_out, source, Objective("f1_macro"), 0)
        np.testing.assert_array_equal(result.val_probabilities[dealt == fold], alone.val_probabilities)
        assert value == alone.value


def test_the_model_is_the_average_of_the_folds(folded, drawn):
    result, _, _ = folded
    assert isinstance(result.network, Ensemble)
    assert len(result.network.backbones) == 1
    assert [part.weight for part in result.network.parts] == pytest.approx([1 / 3] * 3)


def test_or_one_that_was_trained_on_everything_for_the_median_of_epochs(folded, chosen, everything, source):
    averaged, _, _ = folded
    refit = run_folds(chosen, everything, source, Objective("f1_macro"), 0, 3, "refit")
    np.testing.assert_array_equal(refit.val_probabilities, averaged.val_probabilities)
    assert refit.value == averaged.value
    alone = run_trial(chosen, everything, everything, source, Objective("f1_macro"), 0, epochs=averaged.epochs)
    assert alone.n_epochs == averaged.best_epoch
    for mine, theirs in zip(refit.network.head.parameters(), alone.network.head.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_what_a_report_raises_stops_the_trial_there(chosen, everything, source):
    seen = []

    class Behind(Exception):
        pass

    def stop(fold: int, value: float) -> None:
        seen.append(fold)
        if fold == 1:
            raise Behind

    with pytest.raises(Behind):
        run_folds(chosen, everything, source, Objective("f1_macro"), 0, 3, "average", report_fold=stop)
    assert seen == [0, 1]
