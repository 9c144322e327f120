from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from hpo.errors import SpaceError
from hpo.model.heads.head import Head, check_fits_memory, check_head, training_bytes


@pytest.mark.parametrize("change", [{}, {"block": "gated", "hidden_layers": 3}, {"head": "label_query"}], ids=str)
def test_the_estimate_is_four_times_the_parameters(config, change):
    head = Head(30, 3, config.model_copy(update=change), (8,))
    assert training_bytes(lambda: [head]) == 4 * sum(4 * parameter.numel() for parameter in head.parameters())


def test_the_estimate_allocates_nothing_and_leaves_the_seed_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert training_bytes(lambda: [nn.Linear(10**9, 10**6)]) == 16 * (10**15 + 10**6)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_memory_that_is_asked_for_is_what_the_system_has_available(config, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000, total=10**12))
    with pytest.raises(SpaceError, match=r"0\.0 GB of memory available"):
        check_fits_memory(lambda: [nn.Linear(10, 10)], config)


def test_a_head_that_fits_is_let_through(config):
    check_fits_memory(lambda: [nn.Linear(10, 10)], config)


@pytest.mark.parametrize("kind", ["dense", "label_query"])
def test_a_head_too_wide_for_memory_is_one_sentence(config, kind):
    trial = config.model_copy(update={"head": kind, "width": 8192, "hidden_layers": 2})
    with pytest.raises(SpaceError, match=r"width 8192, hidden_layers 2\): lower width or hidden_layers") as caught:
        check_head(10**10, 3, trial, (8,))
    assert str(caught.value).count("\n") == 0
