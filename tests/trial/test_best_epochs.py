from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hpo.model.training.checkpoint import EpochResult
from hpo.trial.trial import BestEpochs


def result(epoch: int, network: nn.Linear) -> EpochResult:
    """An epoch after which the network's only weight is its number."""

    def predict() -> np.ndarray:
        return network.weight.detach().numpy().copy()

    with torch.no_grad():
        network.weight.fill_(epoch)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return EpochResult(epoch, 0.0, predict(), 0.0, 0.0, network, 1, predict, lambda: weights, lambda: None)  # type: ignore[arg-type, return-value]


def taken(values: list[float], **how: bool) -> tuple[BestEpochs, EpochResult]:
    network, found = nn.Linear(1, 1, bias=False), BestEpochs(**{"soup": False, "newest": False, **how})
    for epoch, value in enumerate(values, start=1):
        last = result(epoch, network)
        found.take(value, last)
    return found, last


@pytest.mark.parametrize(("newest", "expected"), [(False, 2), (True, 4)])
def test_the_first_of_the_best_is_kept_or_the_newest(newest, expected):
    found, last = taken([0.1, 0.6, 0.6, 0.2], newest=newest)
    best = found.outcome(last, lambda _: pytest.fail("nothing is judged again"))
    assert best.epoch == expected
    assert list(found.weights()) == [expected]
    assert last.evaluated.weight.item() == expected


def test_a_soup_keeps_a_few_of_the_best_and_averages_those_that_help():
    found, last = taken([0.5, 0.7, 0.6, 0.9, 0.1, 0.3, 0.4], soup=True)
    assert sorted(found.weights()) == [1, 2, 3, 4, 7]
    best = found.outcome(last, lambda rows: 1 - abs(rows.item() - 3) / 10)  # 4 alone is 0.9, 4 and 2 are 3
    assert (best.value, best.epoch) == (1.0, 4)
    assert best.probabilities.item() == last.evaluated.weight.item() == 3


def test_epochs_told_again_with_the_kept_weights_alone_lead_to_the_same_outcome():
    values = [0.5, 0.7, 0.6, 0.9, 0.1]
    found, _ = taken(values)
    again = BestEpochs(soup=False, newest=False)
    network = nn.Linear(1, 1, bias=False)
    for epoch, value in enumerate(values, start=1):
        last = result(epoch, network)
        kept = found.weights().get(epoch, {})
        again.take(value, EpochResult(**{**vars(last), "weights": lambda kept=kept: kept}))
    assert again.outcome(last, lambda _: 0.0).weights == found.weights()[4]
