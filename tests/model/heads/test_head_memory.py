from __future__ import annotations

import psutil
import pytest
import torch
from torch import nn

from hpo.errors import SpaceError
from hpo.model.heads import head as head_memory
from hpo.model.heads.head import Head, available_bytes, check_fits_memory, check_head, training_bytes


@pytest.mark.parametrize("change", [{}, {"block": "gated", "hidden_layers": 3}, {"head": "label_query"}], ids=str)
def test_the_estimate_is_four_times_the_parameters(config, change):
    head = Head(30, 3, config.model_copy(update=change), (8,))
    assert training_bytes(lambda: [head]) == 4 * sum(4 * parameter.numel() for parameter in head.parameters())


def test_the_estimate_allocates_nothing_and_leaves_the_seed_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert training_bytes(lambda: [nn.Linear(10**9, 10**6)]) == 16 * (10**15 + 10**6)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_memory_available_is_what_the_system_says(monkeypatch, tmp_path):
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr(head_memory, "_MEMINFO", meminfo)
    meminfo.write_text("MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    1234567 kB\n")
    assert available_bytes() == 1_234_567 * 1024
    for unknown in ("MemTotal:       16000000 kB\n", None):  # an old kernel, another system
        meminfo.write_text(unknown) if unknown else meminfo.unlink()
        assert available_bytes() == psutil.virtual_memory().total


def test_the_memory_available_is_part_of_the_machines():
    assert 0 < available_bytes() <= psutil.virtual_memory().total


def test_a_head_that_fits_is_let_through(config):
    check_fits_memory(lambda: [nn.Linear(10, 10)], config)


@pytest.mark.parametrize("kind", ["dense", "label_query"])
def test_a_head_too_wide_for_memory_is_one_sentence(config, kind):
    trial = config.model_copy(update={"head": kind, "width": 8192, "hidden_layers": 2})
    with pytest.raises(SpaceError, match=r"width 8192, hidden_layers 2\): lower width or hidden_layers") as caught:
        check_head(10**10, 3, trial, (8,))
    assert str(caught.value).count("\n") == 0
