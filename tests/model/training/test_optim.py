from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hpo.model.training.optim import (
    build_optimizer,
    build_schedule,
    finetune_groups,
    finetune_schedule,
    head_groups,
    head_schedule,
    schedule_factor,
)

SCHEDULES = ["constant", "cosine", "one_cycle"]


def head() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def stages(n_stages: int = 3):
    return [list(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).named_parameters()) for _ in range(n_stages)]


def curve(schedule: str, warm_up: float) -> np.ndarray:
    factor = schedule_factor(schedule, warm_up)
    return np.array([factor(progress) for progress in np.linspace(0, 1, 101)])


def test_learning_rates_fall_from_the_head_to_the_shallowest_stage(config):
    update = {"finetune_learning_rate": 1e-4, "finetune_head_learning_rate": 5e-4, "layer_decay": 0.5}
    groups = finetune_groups(head(), stages(), config.model_copy(update=update))
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx(
        {
            "head": 5e-4,
            "head undecayed": 5e-4,
            "stage1": 0.25e-4,
            "stage1 undecayed": 0.25e-4,
            "stage2": 0.5e-4,
            "stage2 undecayed": 0.5e-4,
            "stage3": 1e-4,
            "stage3 undecayed": 1e-4,
        }
    )


def test_every_parameter_that_is_trained_is_in_one_group(config):
    classifier, unfrozen = head(), stages(2)
    classifier[0].bias.requires_grad_(False)
    grouped = [parameter for group in finetune_groups(classifier, unfrozen, config) for parameter in group["params"]]
    everything = [*classifier.named_parameters(), *unfrozen[0], *unfrozen[1]]
    assert {id(p) for p in grouped} == {id(p) for _, p in everything if p.requires_grad}
    assert len(grouped) == len({id(p) for p in grouped})


def test_weight_decay_spares_biases_norms_tokens_and_positions(config):
    vit = timm.create_model("test_vit", num_classes=0)
    groups = finetune_groups(nn.Linear(4, 2), [vit.named_parameters()], config)
    names = {id(parameter): name for name, parameter in vit.named_parameters()}
    spared = {names[id(p)] for g in groups if g["weight_decay"] == 0 for p in g["params"] if id(p) in names}
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.mlp.fc1.bias"} <= spared
    assert vit.no_weight_decay() & names.keys() <= spared
    assert "blocks.0.mlp.fc1.weight" not in spared
    assert all(g["weight_decay"] == config.weight_decay for g in groups if not g["name"].endswith("undecayed"))


def test_a_frozen_stage_has_no_group(config):
    frozen = stages(1)
    for _, parameter in frozen[0]:
        parameter.requires_grad_(False)
    assert [group["name"] for group in finetune_groups(head(), frozen, config)] == ["head", "head undecayed"]


def test_weight_decay_shrinks_matrices_alone(config):
    classifier = head()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    update = {"weight_decay": 0.5, "learning_rate": 0.1}
    build_optimizer(head_groups(classifier, config.model_copy(update=update))).step()
    for parameter in classifier.parameters():
        expected = 1 - 0.1 * 0.5 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected))


def test_groups_keep_their_proportions_through_a_schedule(config):
    config = config.model_copy(update={"layer_decay": 0.5, "warm_up": 0.2})
    groups = finetune_groups(head(), stages(2), config)
    optimizer = build_optimizer(groups)
    schedule = build_schedule(optimizer, finetune_schedule(config), n_steps=10)
    for step in range(10):
        factor = finetune_schedule(config)(step / 10)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([factor * g["lr"] for g in groups])
        optimizer.step()
        schedule.step()
    optimizer.step()
    schedule.step()  # a step past the end, which accumulated batches can bring, stays at the end
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_phase_one_climbs_in_one_cycle_alone(config, schedule):
    factor = head_schedule(config.model_copy(update={"schedule": schedule, "warm_up": 0.5}))
    assert factor(0.0) == (pytest.approx(0.04) if schedule == "one_cycle" else 1.0)
    if schedule == "one_cycle":
        assert factor(0.3) == pytest.approx(1)
        assert factor(0.15) == pytest.approx(0.52)


def test_the_shapes():
    assert (curve("constant", 0.0) == 1).all()
    cosine = curve("cosine", 0.0)
    assert cosine[[0, 50, 100]] == pytest.approx([1, 0.5, 0], abs=1e-12)
    cycle = curve("one_cycle", 0.3)
    assert cycle[[0, 30, 65, 100]] == pytest.approx([0.04, 1, 0.5, 0], abs=1e-12)
    assert curve("constant", 0.2)[[0, 20, 100]] == pytest.approx([0.04, 1, 1])


@given(st.sampled_from(SCHEDULES), st.floats(0, 0.95))
def test_a_learning_rate_climbs_until_the_warm_up_ends_and_never_again(schedule, warm_up):
    factors = curve(schedule, warm_up)
    assert ((factors > -1e-12) & (factors <= 1)).all()
    after = factors[int(np.ceil(100 * warm_up)) + 1 :]
    assert (np.diff(after) <= 1e-12).all()
    assert factors[-1] == pytest.approx(1 if schedule == "constant" else 0, abs=1e-9)
