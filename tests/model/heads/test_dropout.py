from __future__ import annotations

import pytest
import torch
from torch import nn

from hpo.model.heads.layers import Dropout

N = 200_001  # no multiple of four


@pytest.mark.parametrize("rate", [0.0, 0.003, 0.25, 0.7, 1.0])
def test_as_many_are_dropped_as_asked_and_the_mean_stays(rate):
    torch.manual_seed(0)
    dropped = Dropout(rate)(torch.ones(N))
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert dropped.mean().item() == pytest.approx(float(rate < 1), abs=0.01)
    assert len(dropped.unique()) <= 2


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(4 * (N // 4))) > 0).float().view(-1, 4)  # four to a draw
    assert torch.allclose(torch.corrcoef(kept.T), torch.eye(4), atol=0.02)


def test_the_gradient_is_that_of_what_was_kept():
    inputs = torch.randn(64, 33, requires_grad=True)
    outputs = Dropout(0.4)(inputs)
    outputs.sum().backward()
    kept = outputs != 0
    torch.testing.assert_close(inputs.grad, kept / 0.6, atol=1e-4, rtol=1e-4)


def test_equal_seeds_drop_the_same_and_nothing_is_drawn_outside_of_training():
    layer, inputs = Dropout(0.5), torch.randn(8, 9)
    torch.manual_seed(3)
    first = layer(inputs)
    torch.manual_seed(3)
    assert torch.equal(layer(inputs), first)
    state = torch.get_rng_state()
    assert torch.equal(layer.eval()(inputs), inputs)
    assert torch.equal(torch.get_rng_state(), state)


def test_half_precision_stays_half_and_views_are_taken():
    inputs = torch.randn(16, 10, dtype=torch.bfloat16).T
    assert Dropout(0.5)(inputs).dtype == torch.bfloat16
    assert isinstance(Dropout(0.5), nn.Dropout)  # what exporters and onlookers know it by
