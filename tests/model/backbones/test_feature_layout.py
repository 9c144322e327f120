from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.model.backbones.architectures import FeatureLayout, pool

LAYOUT = FeatureLayout(final=10, stages=(2, 3, 5, 7))


def test_the_whole_vector_is_final_and_every_statistic_of_every_stage_once():
    assert LAYOUT.width == 10 + 3 * (2 + 3 + 5 + 7)
    final, *statistics = (
        LAYOUT.columns("final", "avg"),
        *(LAYOUT.columns("all_stages", p) for p in ("avg", "max", "gem")),
    )
    assert sorted([*final, *(column for columns in statistics for column in columns)]) == list(range(LAYOUT.width))


def test_several_statistics_are_those_of_each():
    average, maximum = (LAYOUT.columns("all_stages", pooling) for pooling in ("avg", "max"))
    assert sorted([*average, *maximum]) == LAYOUT.columns("all_stages", "avg+max").tolist()
    assert LAYOUT.columns("all_stages", "attention").tolist() == average.tolist()


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ("final", range(10)),
        ("last_stage", range(40, 47)),  # 10 final, then (2 + 3 + 5) × 3 columns of the earlier stages
        ("last_two_stages", [*range(25, 30), *range(40, 47)]),
        ("all_stages", [10, 11, *range(16, 19), *range(25, 30), *range(40, 47)]),
        ("stages_and_final", [*range(12), *range(16, 19), *range(25, 30), *range(40, 47)]),
    ],
)
def test_the_columns_of_average_pooling(features, expected):
    assert LAYOUT.columns(features, "avg").tolist() == list(expected)


def test_a_network_of_two_stages_has_no_more_to_give():
    layout = FeatureLayout(final=4, stages=(2, 3))
    assert layout.columns("all_stages", "max").tolist() == layout.columns("last_two_stages", "max").tolist()
    assert layout.columns("last_two_stages", "max").tolist() == [6, 7, 13, 14, 15]


def test_the_map_is_that_of_the_deepest_stage():
    assert LAYOUT.map_channels == 7


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_columns_find_what_pooling_put_there(channels, side, seed):
    generator = torch.Generator().manual_seed(seed)
    final = torch.randn(3, 4, generator=generator)
    stages = [torch.randn(3, 2, 6, 6, generator=generator), torch.randn(3, channels, side, side, generator=generator)]
    layout = FeatureLayout(4, (2, channels))
    features = pool(final, stages)
    assert features.shape == (3, layout.width)
    positions = stages[1].flatten(2)
    by_hand = {
        "avg": positions.mean(2),
        "max": positions.amax(2),
        "gem": (positions.clamp_min(1e-6) ** 3).mean(2) ** (1 / 3),
    }
    for pooling, expected in by_hand.items():
        torch.testing.assert_close(features[:, layout.columns("last_stage", pooling)], expected)
    assert torch.equal(features[:, layout.columns("final", "avg")], final)


@given(st.floats(0, 60_000), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_generalised_mean_lies_between_average_and_maximum_in_half_precision_too(largest, seed):
    stage = (largest * torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(seed))).half()
    layout = FeatureLayout(1, (3,))
    features = pool(torch.zeros(2, 1), [stage])
    average, maximum, generalised = (features[:, layout.columns("last_stage", p)] for p in ("avg", "max", "gem"))
    assert (average <= generalised * 1.0001 + 2e-6).all()
    assert (generalised <= maximum * 1.0001 + 2e-6).all()


def test_the_generalised_mean_has_a_slope_everywhere():
    stage = torch.tensor([-1.0, 0.0, 1e-7, 2.0]).view(1, 1, 2, 2).requires_grad_()
    dead = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pool(torch.zeros(1, 1), [stage, dead]).sum().backward()
    assert stage.grad.isfinite().all()
    assert dead.grad.isfinite().all()
