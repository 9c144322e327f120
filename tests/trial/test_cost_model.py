from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from hpo.model.backbones.architectures import Architecture
from hpo.model.backbones.backbone import Backbone
from hpo.model.backbones.freeze_points import Tail, find_freeze_point
from hpo.trial.cost_model import PHASES, Costs, PhaseWork, Work, count_gflop, learn_costs, predict_seconds, probe

GUESS = Costs(gflop=0.02, piece=1e-3)


def random_phase(rng: np.random.Generator, network: str = "") -> PhaseWork:
    return PhaseWork(gflop=10 ** rng.uniform(0, 3), pieces=10 ** rng.uniform(1, 4), epochs=10, network=network)


def random_work(rng: np.random.Generator) -> Work:
    return Work(**{name: random_phase(rng) for name in PHASES})


def seconds_on(costs: dict[str, Costs], work: Work) -> dict[str, float]:
    return {name: costs[name].seconds(work.phase(name)) for name in PHASES}


@pytest.mark.parametrize("n_trials", [3, 10])
@pytest.mark.parametrize("slowdown", [0.05, 1, 40])
def test_new_trials_are_predicted_within_a_factor_of_two(n_trials, slowdown):
    rng = np.random.default_rng(n_trials)
    costs = Costs(gflop=slowdown * GUESS.gflop * 1.5, piece=slowdown * GUESS.piece / 1.5)
    measured = [(work, costs.seconds(work) * rng.uniform(0.8, 1.25)) for work in map(random_phase, [rng] * n_trials)]
    learned = learn_costs(measured, GUESS)
    for work in map(random_phase, [rng] * 20):
        assert 0.5 < learned.seconds(work) / costs.seconds(work) < 2


@pytest.mark.parametrize("slowdown", [0.05, 1, 40])
def test_one_trial_tells_how_slow_the_machine_is(slowdown):
    work = PhaseWork(gflop=300, pieces=2000)
    learned = learn_costs([(work, slowdown * GUESS.seconds(work))], GUESS)
    assert learned.gflop == pytest.approx(slowdown * GUESS.gflop)
    assert learned.piece == pytest.approx(slowdown * GUESS.piece)


def test_history_mends_a_guess_of_the_wrong_proportions():
    rng = np.random.default_rng(0)
    costs = Costs(gflop=0.004, piece=0.02)  # steps a hundred times as dear, against operations, as in the guess
    learned = learn_costs([(work, costs.seconds(work)) for work in map(random_phase, [rng] * 10)], GUESS)
    assert 0.5 < learned.gflop / costs.gflop < 2
    assert 0.5 < learned.piece / costs.piece < 2


def test_a_trial_that_was_held_up_misleads_nobody():
    rng = np.random.default_rng(0)
    measured = [(work, GUESS.seconds(work)) for work in map(random_phase, [rng] * 9)]
    held_up = [(work, 50 * seconds) for work, seconds in measured[:2]]
    learned, work = learn_costs([*held_up, *measured[2:]], GUESS), random_phase(rng)
    assert learned.seconds(work) == pytest.approx(GUESS.seconds(work), rel=0.3)


def test_a_whole_trial_is_the_sum_of_its_phases():
    rng = np.random.default_rng(0)
    costs = {name: Costs(gflop=0.01 * factor, piece=0.002 / factor) for factor, name in enumerate(PHASES, start=1)}
    history = [(work, seconds_on(costs, work)) for work in map(random_work, [rng] * 8)]
    work = random_work(rng)
    truth = sum(seconds_on(costs, work).values())
    assert 0.5 < predict_seconds(work, history) / truth < 2


def test_a_history_of_trials_that_stop_early_expects_it_of_the_next():
    rng = np.random.default_rng(0)
    history = [(Work(training=work), {"training": 0.3 * GUESS.seconds(work)}) for work in map(random_phase, [rng] * 10)]
    work = random_phase(rng)
    assert predict_seconds(Work(training=work), history) == pytest.approx(0.3 * GUESS.seconds(work), rel=0.3)


def test_trials_of_the_same_network_count_where_there_are_any():
    work = PhaseWork(gflop=100, network="slow")
    history = [(Work(finetuning=work), {"finetuning": 80.0})]
    history += [(Work(finetuning=PhaseWork(gflop=100, network="fast")), {"finetuning": 10.0})] * 5
    assert predict_seconds(Work(finetuning=work), history) == pytest.approx(80, rel=0.1)
    unseen = PhaseWork(gflop=100, network="new")
    assert predict_seconds(Work(finetuning=unseen), history) == pytest.approx(10, rel=0.5)


def test_a_phase_that_never_ran_is_judged_by_the_probe():
    work = Work(training=PhaseWork(pieces=10), finetuning=PhaseWork(gflop=100, pieces=50))
    seconds = predict_seconds(work, [(Work(training=PhaseWork(pieces=20)), {"training": 2.0})])
    assert seconds == pytest.approx(1 + probe("cpu").seconds(work.finetuning), rel=1e-3)


def test_a_limit_of_time_ends_a_phase_with_the_epoch_that_it_interrupts():
    free = PhaseWork(gflop=1000, epochs=10)
    limited = free.model_copy(update={"max_seconds": 30.0})
    history = [(Work(finetuning=free), {"finetuning": 100.0})]
    assert predict_seconds(Work(finetuning=limited), history) == pytest.approx(40, rel=0.05)
    cut_short = [(Work(finetuning=limited), {"finetuning": 38.0})] * 9  # says little of what the work would take
    assert predict_seconds(Work(finetuning=free), history + cut_short) == pytest.approx(100, rel=0.05)


def test_nothing_to_do_takes_no_time():
    assert predict_seconds(Work(), []) == 0


amounts = st.floats(0, 1e6)


@settings(max_examples=50)
@given(amounts, amounts, amounts, amounts, st.floats(0, 100))
def test_more_work_never_takes_less_time(gflop, pieces, more_gflop, more_pieces, limit):
    history = [(Work(training=PhaseWork(gflop=g, pieces=p)), {"training": s}) for g, p, s in [(10, 99, 2), (500, 9, 8)]]
    less = PhaseWork(gflop=gflop, pieces=pieces, epochs=5, max_seconds=limit)
    more = less.model_copy(update={"gflop": gflop + more_gflop, "pieces": pieces + more_pieces})
    assert predict_seconds(Work(training=less), history) <= predict_seconds(Work(training=more), history) * (1 + 1e-9)


def test_work_travels_as_json():
    work = random_work(np.random.default_rng(0))
    assert Work.model_validate(json.loads(json.dumps(work.model_dump(mode="json")))) == work
    with pytest.raises(ValidationError):
        PhaseWork(gflop=-1)


def test_gflop_of_a_poster_whatever_the_batch():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).train()
    expected = 2 * 30 * 30 * 8 * 3 * 9 / 1e9  # a multiplication and an addition for each weight and position
    assert count_gflop(network, torch.zeros(1, 3, 32, 32)) == pytest.approx(expected)
    assert count_gflop(network, torch.zeros(5, 3, 32, 32)) == pytest.approx(expected)
    assert network.training


@pytest.mark.parametrize("trained", [False, True])
def test_gflop_of_attention_is_counted(trained):
    attention = nn.MultiheadAttention(16, 2, batch_first=True).train(trained)
    tokens = torch.zeros(3, 64, 16)
    projections, products = 4 * 2 * 64 * 16 * 16, 2 * 2 * 64 * 64 * 16
    assert count_gflop(attention, tokens, tokens, tokens) == pytest.approx((projections + products) / 1e9)
    assert torch.backends.mha.get_fastpath_enabled()


class WithQuery(nn.Module):
    """A network that calls a module with a parameter of its own, as attention pooling does with its query."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.project = nn.Parameter(torch.zeros(1, 1, 16)), nn.Linear(16, 16)

    def forward(self, tokens):
        return (self.project(self.query) @ tokens.mT).sum()


def test_g3_a_network_with_a_learned_query_is_counted_frozen_and_trained():
    network, tokens = WithQuery(), torch.zeros(1, 4, 16)
    expected = pytest.approx((2 * 16 * 16 + 2 * 16 * 4) / 1e9)
    assert count_gflop(network, tokens) == expected
    assert network.query.requires_grad
    assert count_gflop(network.requires_grad_(False), tokens) == expected
    assert not network.query.requires_grad


@pytest.mark.parametrize("unfreeze", ["last_stage", "last_two_stages", "everything"])
def test_g3_a_tail_with_attention_pooling_is_counted(unfreeze):
    backbone = smallest_with_attention_pooling()
    point = find_freeze_point(backbone, unfreeze)
    tail = Tail(backbone, point)
    inputs = torch.zeros(1, 32, 32, 3, dtype=torch.uint8) if point is None else torch.zeros(1, *point.activation_shape)
    assert any(parameter.requires_grad for parameter in tail.backbone.network.attn_pool.parameters())
    assert 0 < count_gflop(tail, inputs) <= count_gflop(backbone, torch.zeros(1, 32, 32, 3, dtype=torch.uint8))


def smallest_with_attention_pooling() -> Backbone:
    """A vision transformer with SigLIP's pooling, four blocks deep."""
    arguments = {
        "patch_size": 8,
        "embed_dim": 32,
        "depth": 4,
        "num_heads": 2,
        "global_pool": "map",
        "class_token": False,
    }
    config = {**timm.get_pretrained_cfg("vit_tiny_patch16_224").to_dict(), "input_size": (3, 32, 32)}
    architecture = Architecture("vit_tiny_patch16_224", "vit_tiny_patch16_224", config, arguments)
    torch.manual_seed(0)
    return Backbone(architecture, architecture.build(32), 32, "test")
