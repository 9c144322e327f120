from __future__ import annotations

import pytest
import torch
from torch import nn

from hpo.model.heads import Head, Standardise
from hpo.model.hyperparameters import Hyperparameters


def head_of(chosen: Hyperparameters, **changes: object) -> Head:
    return Head(6, 3, chosen.model_copy(update=changes))


def kinds(head: Head, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in head.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("hidden_layers", [0, 1, 2, 3])
def test_the_dense_layers_are_as_many_and_as_wide_as_chosen(chosen, hidden_layers):
    head = head_of(chosen, hidden_layers=hidden_layers, width=8)
    widths = [(layer.in_features, layer.out_features) for layer in kinds(head, nn.Linear)]
    hidden = [(6, 8), (8, 8), (8, 8)][:hidden_layers]
    assert widths == [*hidden, (8 if hidden_layers else 6, 3)]
    assert head.eval()(torch.zeros(5, 6)).shape == (5, 3)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_a_norm_after_each_hidden_layer(chosen, norm, kind):
    assert len(kinds(head_of(chosen, hidden_layers=2, norm=norm), kind)) == 2
    assert kinds(head_of(chosen, hidden_layers=2, norm="none"), kind) == []


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("gelu", nn.GELU), ("silu", nn.SiLU)])
def test_the_activation_is_the_chosen_one(chosen, activation, kind):
    assert len(kinds(head_of(chosen, hidden_layers=2, activation=activation), kind)) == 2


def test_dropout_on_the_features_and_after_each_hidden_layer(chosen):
    head = head_of(chosen, hidden_layers=2, input_dropout=0.2, dropout=0.6)
    assert [layer.p for layer in kinds(head, nn.Dropout)] == [0.2, 0.6, 0.6]


def test_features_are_standardised_by_the_training_posters():
    features = 5 * torch.randn(200, 4) + torch.tensor([0.0, 1.0, 10.0, -100.0])
    standardise = Standardise(4)
    standardise.fit(features)
    rows = standardise(features)
    torch.testing.assert_close(rows.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(rows.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_a_feature_that_never_moves_is_not_blown_up():
    standardise = Standardise(2)
    standardise.fit(torch.full((10, 2), 7.0))
    assert standardise(torch.full((1, 2), 7.01)).abs().max() <= 10.01


def test_the_statistics_are_stored_but_not_trained(chosen):
    head = head_of(chosen)
    assert {"standardise.mean", "standardise.deviation"} <= head.state_dict().keys()
    assert not any(name.startswith("standardise") for name, _ in head.named_parameters())


def test_the_output_starts_at_the_labels_frequencies(chosen):
    head = head_of(chosen)
    targets = torch.tensor([[1.0, 0.0, 1.0]] * 3 + [[0.0, 0.0, 1.0]] * 6)
    head.fit_statistics(torch.randn(9, 6), targets)
    expected = torch.tensor([3.5, 0.5, 9.5]) / 10  # half a poster more of each kind, so that none is at 0 or 1
    torch.testing.assert_close(torch.sigmoid(head.output.bias.detach()), expected)


def test_classify_is_what_follows_standardising(chosen):
    head = head_of(chosen).eval()
    features = torch.randn(9, 6)
    head.fit_statistics(features, torch.ones(9, 3))
    torch.testing.assert_close(head.classify(head.standardise(features)), head(features))
