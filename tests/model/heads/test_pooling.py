from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.model.heads.pooling import AttentionPooling, MapTokens, PooledInputs


def pooling_of(seed: int, channels: int = 6) -> AttentionPooling:
    generator = torch.Generator().manual_seed(seed)
    pooling = AttentionPooling(channels)
    with torch.no_grad():
        pooling.query.copy_(torch.randn(channels, generator=generator))
    return pooling


def test_it_begins_as_the_average_of_the_normalised_positions():
    feature_map = torch.randn(3, 6, 4, 5)
    pooling = AttentionPooling(6)
    torch.testing.assert_close(pooling(feature_map), pooling.tokens(feature_map).mean(1))


def test_a_strong_query_picks_one_position():
    feature_map = torch.randn(1, 6, 4, 5)
    pooling = AttentionPooling(6)
    wanted = pooling.tokens(feature_map)[0, 7].detach()
    with torch.no_grad():
        pooling.query.copy_(1e3 * wanted)
    torch.testing.assert_close(pooling(feature_map)[0], wanted)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_the_order_of_positions_does_not_matter_and_the_result_lies_between_them(seed):
    torch.manual_seed(seed)
    feature_map = torch.randn(2, 6, 3, 4)
    shuffled = feature_map.flatten(2)[:, :, torch.randperm(12)].unflatten(2, (4, 3))
    pooling = pooling_of(seed)
    pooled, tokens = pooling(feature_map), pooling.tokens(feature_map)
    torch.testing.assert_close(pooling(shuffled), pooled)
    assert (pooled <= tokens.amax(1) + 1e-5).all()
    assert (pooled >= tokens.amin(1) - 1e-5).all()


def test_positions_are_normalised_whatever_the_scale_and_precision_of_the_map():
    feature_map = 100 * torch.rand(2, 6, 3, 4) + 5
    tokens = MapTokens(6)(feature_map.to(torch.bfloat16))
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens.mean(2), torch.zeros(2, 12), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.std(2, correction=0), torch.ones(2, 12), atol=1e-3, rtol=0)


def test_a_head_without_maps_sees_the_features_alone():
    features = torch.randn(3, 7)
    assert PooledInputs(7, ())(features, ()) is features


def test_the_vector_of_every_map_comes_after_the_features():
    features, maps = torch.randn(3, 7), [torch.randn(3, 4, 2, 2), torch.randn(3, 5, 3, 3)]
    inputs = PooledInputs(7, (4, 5))
    vectors = inputs(features, maps)
    assert vectors.shape == (3, inputs.n_outputs) == (3, 16)
    torch.testing.assert_close(vectors[:, :7], features)
    torch.testing.assert_close(vectors[:, 11:], inputs.pooling[1](maps[1]))
