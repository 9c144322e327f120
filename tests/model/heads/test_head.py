from __future__ import annotations

import pytest
import torch
from torch import nn

from hpo.errors import SpaceError
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head, Standardise, needs_map
from hpo.model.training.losses import Loss

CHANNELS = (4, 5)  # of the maps of two fused backbones


def head_of(config: TrialConfig, **changes: object) -> Head:
    return Head(6, 3, config.model_copy(update=changes), CHANNELS)


def kinds(head: Head, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in head.modules() if isinstance(module, kind)]


def drawn(n_posters: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(n_posters, channels, 3, 3, generator=generator) for channels in CHANNELS]
    return torch.randn(n_posters, 6, generator=generator), maps


@pytest.mark.parametrize("hidden_layers", [0, 1, 2, 3])
def test_the_dense_layers_are_as_many_and_as_wide_as_chosen(config, hidden_layers):
    head = head_of(config, hidden_layers=hidden_layers, width=8)
    widths = [(layer.in_features, layer.out_features) for layer in kinds(head, nn.Linear)]
    hidden = [(6, 8), (8, 8), (8, 8)][:hidden_layers]
    assert widths == [*hidden, (8 if hidden_layers else 6, 3)]
    assert head.eval()(torch.zeros(5, 6)).shape == (5, 3)


@pytest.mark.parametrize(("norm", "kind"), [("batch", nn.BatchNorm1d), ("layer", nn.LayerNorm)])
def test_a_norm_after_each_hidden_layer(config, norm, kind):
    assert len(kinds(head_of(config, hidden_layers=2, norm=norm), kind)) == 2
    assert kinds(head_of(config, hidden_layers=2, norm="none"), kind) == []


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.ReLU), ("gelu", nn.GELU), ("silu", nn.SiLU)])
def test_the_activation_is_the_chosen_one(config, activation, kind):
    assert len(kinds(head_of(config, hidden_layers=2, activation=activation), kind)) == 2


def test_dropout_on_the_features_and_after_each_hidden_layer(config):
    head = head_of(config, hidden_layers=2, input_dropout=0.2, dropout=0.6)
    assert [layer.p for layer in kinds(head, nn.Dropout)] == [0.2, 0.6, 0.6]


def test_a_plain_dense_head_keeps_the_names_that_bundles_use(config):
    weights = ("weight", "bias")
    norm = (*weights, "running_mean", "running_var", "num_batches_tracked")
    expected = {"standardise.mean", "standardise.deviation"}
    expected |= {f"{layer}.{name}" for layer in ("hidden.1", "hidden.5", "output") for name in weights}
    expected |= {f"{layer}.{name}" for layer in ("hidden.2", "hidden.6") for name in norm}
    assert head_of(config, hidden_layers=2, norm="batch").state_dict().keys() == expected


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


def test_the_statistics_are_stored_but_not_trained(config):
    head = head_of(config)
    assert {"standardise.mean", "standardise.deviation"} <= head.state_dict().keys()
    assert not any(name.startswith("standardise") for name, _ in head.named_parameters())


@pytest.mark.parametrize("kind", ["dense", "label_query"])
def test_the_output_starts_at_the_labels_frequencies(config, kind):
    head = head_of(config, head=kind)
    targets = torch.tensor([[1.0, 0.0, 1.0]] * 3 + [[0.0, 0.0, 1.0]] * 6)
    head.fit_statistics(torch.randn(9, 6), targets)
    expected = torch.tensor([3.5, 0.5, 9.5]) / 10  # half a poster more of each kind, so that none is at 0 or 1
    torch.testing.assert_close(torch.sigmoid(head.output.bias.detach()), expected)


@pytest.mark.parametrize("change", [{}, {"pooling": "attention"}, {"head": "label_query"}], ids=str)
def test_classify_is_what_follows_standardising(config, change):
    head = head_of(config, **change).eval()
    features, maps = drawn(9)
    head.fit_statistics(5 * features + 1, torch.ones(9, 3))
    torch.testing.assert_close(head.classify(head.standardise(features), maps), head(features, maps))


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, False), ({"pooling": "gem"}, False), ({"pooling": "attention"}, True), ({"head": "label_query"}, True)],
    ids=str,
)
def test_who_needs_a_map_looks_at_it_and_no_one_else_does(config, change, expected):
    head = head_of(config, **change).eval()
    features, maps = drawn(5)
    other = [of.flip(1) for of in maps]
    assert needs_map(config.model_copy(update=change)) is expected
    assert torch.allclose(head(features, maps), head(features, other)) is not expected


def test_a_head_that_needs_maps_must_be_told_their_channels(config):
    with pytest.raises(ValueError, match="map_channels"):
        Head(6, 3, config.model_copy(update={"pooling": "attention"}))


def test_attention_heads_that_do_not_divide_the_width_are_one_sentence(config):
    with pytest.raises(SpaceError, match=r"got attention_heads 5 and width 32: change one of them"):
        head_of(config, head="label_query", attention_heads=5)
    head_of(config, head="dense", attention_heads=5)  # a dense head has none


CHANGES = (
    {"hidden_layers": 3},
    {"width": 16},
    {"shape": "halving"},
    {"block": "residual"},
    {"block": "gated"},
    {"activation": "gelu"},
    {"norm": "layer"},
    {"norm": "none"},
    {"dropout": 0.4},
    {"input_dropout": 0.4},
)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        *(({}, change) for change in (*CHANGES, {"pooling": "attention"}, {"head": "label_query"})),
        *(({"pooling": "attention"}, change) for change in CHANGES),
        *(({"head": "label_query"}, change) for change in (*CHANGES, {"attention_heads": 2})),
    ],
    ids=str,
)
def test_every_hyperparameter_of_the_head_changes_the_logits(config, base, change):
    trial = config.model_copy(update={"hidden_layers": 2, **base})
    logits = []
    for trained in (trial, trial.model_copy(update=change)):
        torch.manual_seed(0)  # the same weights, wherever the shapes are the same
        logits.append(head_of(trained)(*drawn(9)))
    assert not torch.allclose(*logits, atol=1e-3)


@pytest.mark.parametrize("change", [{"width": 64}, {"dropout": 0.4}, {"attention_heads": 2}], ids=str)
def test_a_label_query_head_without_hidden_layers_still_has_a_width_and_dropout(config, change):
    trial = config.model_copy(update={"head": "label_query", "hidden_layers": 0})
    logits = []
    for trained in (trial, trial.model_copy(update=change)):
        torch.manual_seed(0)
        logits.append(head_of(trained)(*drawn(9)))
    assert not torch.allclose(*logits, atol=1e-3)


@pytest.mark.parametrize("change", [{"pooling": "attention"}, {"head": "label_query", "width": 16}], ids=str)
def test_a_head_with_maps_learns_what_only_one_position_shows(config, change):
    """The channels of every map have the same mean over positions, so pooled features could not distinguish them."""
    torch.manual_seed(0)
    targets = (torch.rand(128, 2) < 0.5).float()
    feature_map = 0.1 * torch.randn(128, 6, 3, 3)
    rows = torch.arange(128)
    for label in range(2):  # a label's two channels meet at one position, or lie at two
        paths = torch.rand(128, 9).argsort(1)
        first, second = paths[:, 0], torch.where(targets[:, label] > 0, paths[:, 0], paths[:, 1])
        feature_map.flatten(2)[rows, 2 * label, first] += 4
        feature_map.flatten(2)[rows, 2 * label + 1, second] += 4
    trial = config.model_copy(update={"hidden_layers": 1, "norm": "none", "dropout": 0.0, **change})
    head = Head(2, 2, trial, (6,))
    head.fit_statistics(torch.zeros(128, 2), targets)
    optimizer, loss = torch.optim.AdamW(head.parameters(), 0.01), Loss.of(trial, targets)
    for _ in range(150):
        optimizer.zero_grad()
        loss(head(torch.zeros(128, 2), [feature_map]), targets).backward()
        optimizer.step()
    right = (head.eval()(torch.zeros(128, 2), [feature_map]) > 0) == (targets > 0.5)
    assert right.float().mean() > 0.95
