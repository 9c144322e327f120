from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.model.heads.pooling import LabelQueries, LabelWise

N_FEATURES, N_LABELS, CHANNELS = 7, 3, (4, 5)


@pytest.fixture(scope="module")
def queries(config):
    torch.manual_seed(0)
    trial = config.model_copy(update={"width": 16, "attention_heads": 2, "input_dropout": 0.5, "dropout": 0.5})
    queries = LabelQueries(N_FEATURES, N_LABELS, CHANNELS, trial)
    with torch.no_grad():
        queries.queries.normal_()  # as far apart as training would bring them
    return queries.eval()


def drawn(seed: int, n_posters: int = 4) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(n_posters, channels, 3, 2, generator=generator) for channels in CHANNELS]
    return torch.randn(n_posters, N_FEATURES, generator=generator), maps


def test_one_vector_for_each_label_of_each_poster(queries):
    features, maps = drawn(0)
    vectors = queries(features, maps)
    assert vectors.shape == (4 * N_LABELS, 16)
    torch.testing.assert_close(vectors[:N_LABELS], queries(features[:1], [of[:1] for of in maps]))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_posters_are_judged_apart_and_positions_have_no_order(queries, seed):
    features, maps = drawn(seed)
    torch.manual_seed(seed)
    posters, positions = torch.randperm(4), torch.randperm(6)
    shuffled = [of[posters].flatten(2)[:, :, positions].unflatten(2, (2, 3)) for of in maps]
    expected = queries(features, maps).unflatten(0, (4, N_LABELS))[posters]
    torch.testing.assert_close(queries(features[posters], shuffled), expected.flatten(0, 1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_every_source_of_tokens_is_looked_at(queries, changed):
    features, maps = drawn(0)
    sources = [features, *maps]
    sources[changed] = sources[changed].flip(1)
    assert not torch.allclose(queries(sources[0], sources[1:]), queries(features, maps), atol=1e-3)


def test_dropout_is_on_features_on_positions_and_on_what_was_attended(queries):
    dropouts = [name for name, module in queries.named_modules() if isinstance(module, torch.nn.Dropout)]
    assert dropouts == ["from_features.0", "from_maps.0.1", "from_maps.1.1", "dropout"]
    assert {module.p for module in queries.modules() if isinstance(module, torch.nn.Dropout)} == {0.5}


def test_an_output_unit_sees_its_own_labels_vector_only():
    output = LabelWise(16, N_LABELS)
    vectors = torch.randn(2 * N_LABELS, 16)
    by_hand = torch.stack([vectors[label::N_LABELS] @ output.weight[label] for label in range(N_LABELS)], dim=1)
    torch.testing.assert_close(output(vectors), by_hand + output.bias)
