from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import linear, relu

from hpo.model.heads.layers import Gated, Residual, hidden_blocks, hidden_widths


@pytest.mark.parametrize(
    ("width", "shape", "expected"),
    [(64, "constant", [64, 64, 64]), (64, "halving", [64, 32, 16]), (20, "halving", [20, 10, 8])],
)
def test_widths_are_constant_or_halve_down_to_eight(config, width, shape, expected):
    trial = config.model_copy(update={"hidden_layers": 3, "width": width, "shape": shape})
    assert hidden_widths(trial) == expected


@pytest.fixture
def bare(config):
    """One hidden layer of eight units without norm or dropout."""
    return config.model_copy(update={"hidden_layers": 1, "width": 8, "norm": "none", "dropout": 0.0})


@pytest.mark.parametrize("n_inputs", [8, 6])
def test_a_residual_block_adds_to_what_it_was_given(bare, n_inputs):
    (block,) = hidden_blocks(n_inputs, bare.model_copy(update={"block": "residual"}))
    vectors = torch.randn(5, n_inputs)
    dense = block.branch[0]
    kept = vectors if n_inputs == 8 else linear(vectors, block.projection.weight)
    torch.testing.assert_close(block(vectors), kept + relu(linear(vectors, dense.weight, dense.bias)))


def test_a_residual_block_projects_only_where_widths_differ(bare):
    trial = bare.model_copy(update={"hidden_layers": 3, "block": "residual"})
    blocks = [module for module in hidden_blocks(6, trial) if isinstance(module, Residual)]
    assert [type(block.projection) for block in blocks] == [nn.Linear, nn.Identity, nn.Identity]


def test_a_gated_block_multiplies_by_a_gate_of_its_input(bare):
    block, _ = hidden_blocks(6, bare.model_copy(update={"block": "gated"}))
    vectors = torch.randn(5, 6)
    dense, gate = block.content[0], block.gate
    content = relu(linear(vectors, dense.weight, dense.bias))
    torch.testing.assert_close(block(vectors), content * torch.sigmoid(linear(vectors, gate.weight, gate.bias)))


@pytest.mark.parametrize("block", ["plain", "residual", "gated"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("shape", ["constant", "halving"])
def test_every_matrix_of_every_block_is_trained(config, block, norm, shape):
    change = {"hidden_layers": 3, "width": 16, "block": block, "norm": norm, "shape": shape, "activation": "gelu"}
    trial = config.model_copy(update=change)
    blocks = nn.Sequential(*hidden_blocks(6, trial))
    vectors = blocks(torch.randn(9, 6))
    (vectors * torch.randn_like(vectors)).sum().backward()
    assert vectors.shape == (9, hidden_widths(trial)[-1])
    unused = [name for name, weight in blocks.named_parameters() if weight.ndim > 1 and not weight.grad.any()]
    assert unused == []


def test_dropout_ends_every_block(config):
    for block in ("plain", "residual", "gated"):
        trial = config.model_copy(update={"hidden_layers": 1, "block": block, "dropout": 0.5, "norm": "none"})
        blocks = nn.Sequential(*hidden_blocks(6, trial))
        assert [module.p for module in blocks.modules() if isinstance(module, nn.Dropout)] == [0.5]
        assert not torch.equal(blocks(torch.ones(1, 6)), blocks.eval()(torch.ones(1, 6)))


def test_a_gate_is_not_dropped(config):
    trial = config.model_copy(update={"hidden_layers": 1, "block": "gated", "dropout": 0.5})
    block, dropout = hidden_blocks(6, trial)
    assert isinstance(block, Gated)
    assert isinstance(dropout, nn.Dropout)
    assert not any(isinstance(module, nn.Dropout) for module in block.modules())
