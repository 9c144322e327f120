"""Fault G1: the same configuration and seed give the same numbers, whatever is cached and whatever ran before."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hpo.data.dataset import Part
from hpo.model.backbones.backbone import Backbone, load_backbone
from hpo.model.backbones.feature_cache import activation_cache, feature_cache, map_cache
from hpo.model.backbones.freeze_points import Stem, Tail, find_freeze_point
from hpo.model.backbones.inference import fastest_forward, torch_forward
from hpo.model.classifier import Classifier, Ensemble, inputs_of
from hpo.trial.cost_model import WorkCounter, count_gflop
from hpo.trial.features import FeatureSource
from hpo.trial.objective import Objective
from hpo.trial.trial import EpochReport, TrialInputs, TrialResult, run_trial

NETWORKS = ("test_efficientnet", "test_resnet", "test_vit", "test_convnext")  # with BatchNorm, and with LayerNorm
HEADS = {
    "pooled": {},
    "attention": {"pooling": "attention"},
    "label_query": {"head": "label_query", "attention_heads": 2},
}
VIEWS = {"plain": {}, "averaged flips": {"flip": "average"}, "crops": {"crops": 1, "flip": "train"}}
BACKBONES = ("test_efficientnet", "test_convnext", "test_efficientnet+test_resnet")
UNFREEZE = ("none", "last_stage", "last_two_stages", "last_three_stages", "everything")

# Every head with every depth; backbones, views and BatchNorm's statistics take turns, so that each meets each head.
KINDS = [
    (head, unfreeze, BACKBONES[(at + at // 5) % 3], list(VIEWS)[(at + at // 3) % 3], ("frozen", "training")[at % 2])
    for at, (head, unfreeze) in enumerate(product(HEADS, UNFREEZE))
]


def source_of(folder: Path) -> FeatureSource:
    """A process's own source: nothing is loaded, and the cache is what ``folder`` holds."""
    return FeatureSource(folder, dict.fromkeys(NETWORKS, "random"), lambda *_: nullcontext(lambda _: None))


def seen_of(network: nn.Module) -> tuple[dict[str, bool], dict[str, bool], dict[str, np.ndarray]]:
    """The mode of each submodule, what needs a gradient, and every tensor."""
    return (
        {name: module.training for name, module in network.named_modules()},
        {name: parameter.requires_grad for name, parameter in network.named_parameters()},
        {name: tensor.numpy().copy() for name, tensor in network.state_dict().items()},
    )


def assert_same(before: tuple, network: nn.Module) -> None:
    after = seen_of(network)
    assert after[:2] == before[:2]
    assert after[2].keys() == before[2].keys()
    assert [name for name, tensor in after[2].items() if not np.array_equal(tensor, before[2][name])] == []


def run(config, parts: tuple[Part, Part], source: FeatureSource) -> tuple[TrialResult, list[EpochReport]]:
    reports: list[EpochReport] = []
    return run_trial(config, TrialInputs(*parts, source, Objective("mean_ap"), 0, reports.append)), reports


def assert_equal_to_the_last_bit(one: tuple, other: tuple) -> None:
    (result, reports), (again, reports_again) = one, other
    assert [(report.train_loss, report.value) for report in reports] == [
        (report.train_loss, report.value) for report in reports_again
    ]
    assert result.value == again.value
    assert np.array_equal(result.val_probabilities, again.val_probabilities)
    weights, weights_again = result.network.state_dict(), again.network.state_dict()
    assert [name for name in weights if not torch.equal(weights[name], weights_again[name])] == []


@pytest.mark.parametrize(("head", "unfreeze", "backbone", "views", "batch_norm"), KINDS)
def test_g1_every_kind_of_trial_gives_the_same_numbers_cold_warm_and_again(
    tmp_path, config, parts, head, unfreeze, backbone, views, batch_norm
):
    kind = {"backbone": backbone, "unfreeze": unfreeze, "batch_norm": batch_norm, **HEADS[head], **VIEWS[views]}
    trial = config.model_copy(update={**kind, "epochs": 1, "finetune_epochs": 1, "finetune_batch_size": 16})
    never_counted = run(trial, parts, source_of(tmp_path / "one"))  # on a cold cache
    source = source_of(tmp_path / "two")
    WorkCounter(source, *parts).count(trial)  # as a search does
    backbones = source.backbones(trial)
    before = [seen_of(one) for one in backbones]
    cold = run(trial, parts, source)
    again = run(trial, parts, source)  # as an export does, with what the search has loaded
    another = source_of(tmp_path / "two")
    WorkCounter(another, *parts).count(trial)
    warm = run(trial, parts, another)  # as a second worker, or a search that is resumed
    for other in (cold, again, warm):
        assert_equal_to_the_last_bit(never_counted, other)
    for one, as_loaded in zip(backbones, before, strict=True):
        assert_same(as_loaded, one)


@pytest.fixture(params=NETWORKS)
def backbone(request) -> Backbone:
    return load_backbone(request.param, 64, "random")


def looks(folder: Path, backbone: Backbone) -> dict[str, object]:
    """Everything that looks at a backbone."""
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    point = find_freeze_point(backbone, "last_stage")
    assert point is not None
    return {
        "counting": lambda: count_gflop(backbone, images),
        "finding a freeze point": lambda: find_freeze_point(backbone, "last_two_stages"),
        "a tail in training": lambda: Tail(backbone, point).train()(torch.zeros(2, *point.activation_shape)),
        "all of it in training": lambda: Tail(backbone, None).train()(images),
        "a stem": lambda: Stem(backbone, point).train()(images),
        "the cache of maps": lambda: map_cache(folder, backbone),
        "the cache of features": lambda: feature_cache(folder, backbone),
        "the cache of activations": lambda: activation_cache(folder, backbone, point),
        "exporting": lambda: fastest_forward(backbone, 64).run(images.numpy()),
        "PyTorch": lambda: torch_forward(backbone, torch.device("cpu"), half=False).run(images.numpy()),
        "a module around it": lambda: nn.Sequential(backbone).train()(images),
        "training mode": lambda: backbone.train()(images),
    }


def test_g1_a_backbone_is_the_same_before_and_after_everything_that_looks_at_it(tmp_path, backbone):
    before = seen_of(backbone)
    for name, look in looks(tmp_path, backbone).items():
        with torch.inference_mode():
            look()
        try:
            assert_same(before, backbone)
        except AssertionError as error:
            raise AssertionError(f"changed by {name}") from error


def test_g1_counting_leaves_the_mode_of_each_part_as_it_was(config):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    network.train()
    network[1].eval()
    network[0].weight.requires_grad_(False)
    before = seen_of(network)
    count_gflop(network, torch.rand(2, 3, 8, 8))
    assert_same(before, network)


def test_g1_an_ensemble_of_trials_leaves_their_backbones_as_they_were(result):
    before = [seen_of(backbone) for backbone, _ in inputs_of(result.network)]
    (classifier,) = result.classifiers
    # Training mode moves the statistics of the head's BatchNorm, and other tests predict with that head: use a copy.
    own_head = Classifier(list(classifier.backbones), copy.deepcopy(classifier.head), classifier.config)
    together = Ensemble.of([(own_head, 1.0)])
    together.train()
    together(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    for (backbone, _), as_trained in zip(inputs_of(result.network), before, strict=True):
        assert_same(as_trained, backbone)
    together.eval()


def test_a_row_is_the_same_to_the_last_bit_whichever_posters_run_beside_it(tmp_path, parts, backbone):
    train, val = parts
    together, alone = (feature_cache(tmp_path / name, backbone) for name in ("together", "alone"))
    together.ensure((train + val).posters)
    alone.ensure(val.posters.take(np.arange(3)))  # and then killed, or searched with another seed
    alone.ensure(val.posters)
    assert np.array_equal(alone.load(val.posters), together.load(val.posters))
