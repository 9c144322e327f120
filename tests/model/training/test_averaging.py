from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpo.model.training.optim import Ema, greedy_soup


def trajectory(network: nn.Module, values: list[float], decay: float) -> Ema:
    ema = Ema(network, decay)
    for value in values:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(value)
        ema.update()
    return ema


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=40), st.floats(0.5, 0.999))
def test_ema_is_the_recurrence_in_its_docstring(values, decay):
    average = values[0]
    for t, value in enumerate(values[1:], start=1):
        keep = min(decay, (1 + t) / (10 + t))
        average = keep * average + (1 - keep) * value
    ema = trajectory(nn.Linear(2, 1), values, decay)
    np.testing.assert_allclose(ema.module.weight.detach().numpy(), average, atol=1e-4)


def test_a_short_training_does_not_remember_its_start():
    ema = trajectory(nn.Linear(2, 1), [100.0] + [1.0] * 20, decay=0.999)
    assert ema.module.bias.item() == pytest.approx(1, abs=0.01)


def test_statistics_are_averaged_and_the_network_itself_is_left_alone():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = Ema(network, 0.9)
    for seed in range(30):
        network.train()(torch.randn(8, 3, generator=torch.Generator().manual_seed(seed)) + 5)
        ema.update()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    followed, current = ema.module[1].running_mean, network[1].running_mean
    assert 0 < (followed - current).norm() < 0.5 * current.norm()
    assert network.training
    assert not ema.module.training
    ema.module(torch.randn(1, 3))  # one poster: evaluation mode
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def states(*values: float) -> list[dict[str, torch.Tensor]]:
    return [{"w": torch.full((2,), value), "n": torch.tensor(int(value))} for value in values]


def closeness(to: float):
    return lambda state: -abs(float(state["w"].mean()) - to)


def test_the_soup_keeps_what_helps_and_leaves_out_what_does_not():
    evaluate = closeness(to=2.0)
    candidates = [(evaluate(state), state) for state in states(9.0, 1.0, 3.5)]
    value, soup, n_ingredients = greedy_soup(candidates, evaluate)
    assert n_ingredients == 2  # 1 and 3.5; with 9 it would be worse
    assert soup["w"].tolist() == [2.25, 2.25]
    assert value == pytest.approx(-0.25)
    assert soup["n"] == 1  # an integer is the best candidate's


def test_an_ingredient_that_changes_nothing_is_kept_as_in_the_paper():
    _, soup, n_ingredients = greedy_soup([(0.5, state) for state in states(1.0, 2.0, 6.0)], lambda _: 0.5)
    assert n_ingredients == 3
    assert soup["w"].tolist() == [3.0, 3.0]


@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=8), st.floats(-4, 4, width=32))
def test_the_soup_is_never_worse_than_its_best_ingredient(values, to):
    evaluate = closeness(to)
    candidates = [(evaluate(state), state) for state in states(*values)]
    value, soup, n_ingredients = greedy_soup(candidates, evaluate)
    assert value >= max(value for value, _ in candidates)
    assert value == pytest.approx(evaluate(soup), abs=1e-5)
    assert 1 <= n_ingredients <= len(values)


def test_half_precision_is_averaged_in_float32():
    many = [(0.5, {"w": torch.full((1,), value, dtype=torch.float16)}) for value in [1.0] * 31 + [1.0625]]
    _, soup, _ = greedy_soup(many, lambda _: 0.5)
    assert soup["w"].dtype == torch.float16
    assert soup["w"].item() == pytest.approx(1 + 0.0625 / 32, abs=1e-3)


def test_no_candidates():
    with pytest.raises(ValueError, match="at least one candidate"):
        greedy_soup([], lambda _: 0.0)


def test_a_moving_average_leaves_integers_and_truth_values_as_they_are():
    network = nn.Linear(2, 2)
    network.register_buffer("columns", torch.arange(50))
    network.register_buffer("decides", torch.arange(50) % 2 == 0)
    ema = Ema(network, 0.99)
    for _ in range(200):
        ema.update()
    assert torch.equal(ema.module.columns, network.columns)
    assert torch.equal(ema.module.decides, network.decides)
