from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from hpo.data.decoding import decode
from hpo.data.images import Posters
from hpo.errors import ResourceError
from hpo.model.backbones.backbone import Backbone, choose_columns, load_backbone
from hpo.model.backbones.feature_cache import activation_cache, decoded, feature_cache
from hpo.model.backbones.freeze_points import FreezePoint, find_freeze_point
from hpo.model.backbones.views import FLIP, PLAIN
from hpo.model.classifier import build_head
from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head
from hpo.model.training.dataloader import Examples, StoredRows
from hpo.model.training.finetune import FineTuned
from hpo.model.training.loop import EpochResult, finetune_phase, train

VIEWS = (PLAIN, FLIP)
SEED, BATCH, N_VAL = 3, 8, 20
BEHIND_THE_CUT = ("blocks.4.", "conv_head.", "bn2.")  # the last stage of test_efficientnet and what follows


@dataclass(frozen=True)
class Cached:
    """40 posters in two views, the first 20 of them for val as well: all that phase two reads."""

    backbone: Backbone
    point: FreezePoint
    images: Tensor  # uint8 (V * N, H, W, 3)
    features: Tensor  # (V * N, layout.width)
    stored: StoredRows
    targets: Tensor  # (N, L)

    def examples(self, config: TrialConfig) -> Examples:
        columns = choose_columns(self.backbone, config)
        return Examples(len(self.targets), self.features[:, columns], (self.stored,))

    def network(self, config: TrialConfig) -> FineTuned:
        torch.manual_seed(0)
        head = build_head([self.backbone], self.targets.shape[1], config)
        head.fit_statistics(self.examples(config).features[: len(self.targets)], self.targets)
        return FineTuned([self.backbone], [self.point], head, config)

    def train(self, network: FineTuned, config: TrialConfig) -> list[EpochResult]:
        examples, phase = self.examples(config), finetune_phase(network, config, SEED)
        val = examples.select(torch.arange(N_VAL)).first_views(1)
        return list(train(network, examples, self.targets, val, phase, config, SEED))


@pytest.fixture(scope="module")
def cached(drawn, tmp_path_factory) -> Cached:
    folder, posters = tmp_path_factory.mktemp("cache"), drawn.posters.take(range(40))
    backbone = with_fitted_batch_norm(load_backbone("test_efficientnet", 64, "random"), posters)
    point = find_freeze_point(backbone, "last_stage")
    activations = [activation_cache(folder, backbone, point, view=view) for view in VIEWS]
    features = [feature_cache(folder, backbone, view=view) for view in VIEWS]
    for cache in (*activations, *features):
        cache.ensure(posters)
    pixels = decoded(features[0].images, posters)
    return Cached(
        backbone,
        point,
        torch.from_numpy(np.concatenate([view.apply(pixels, posters.digests) for view in VIEWS])),
        torch.from_numpy(np.concatenate([cache.load(posters) for cache in features])),
        StoredRows(posters, tuple(cache.load for cache in activations)),
        torch.from_numpy(drawn.targets[:40].astype(np.float32)),
    )


def with_fitted_batch_norm(backbone: Backbone, posters: Posters) -> Backbone:
    """Let every BatchNorm know the posters, as those of a trained backbone do."""
    pixels = torch.from_numpy(np.stack([decode(path, backbone.framing()) for path in posters.paths]))
    for module in backbone.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain average
    backbone.network.train()
    with torch.no_grad():
        backbone(pixels)
    backbone.network.eval()
    return backbone


@pytest.fixture
def tuned(config) -> TrialConfig:
    """Phase two of binary cross-entropy without any chance but the order of the posters."""
    return config.model_copy(
        update={
            "unfreeze": "last_stage",
            "norm": "none",
            "dropout": 0.0,
            "focal_gamma": 0.0,
            "weight_decay": 0.0,
            "finetune_schedule": "constant",
            "warm_up": 0.0,
            "finetune_batch_size": BATCH,
            "finetune_epochs": 4,
            "finetune_learning_rate": 2e-3,
            "finetune_head_learning_rate": 2e-3,
        }
    )


# The same training, through the whole backbone


def through_the_whole_backbone(cached: Cached, head: Head, config: TrialConfig) -> tuple[list[float], Tensor]:
    """Return the loss of each epoch and val's probabilities: fine-tuning as any tutorial writes it."""
    backbone, columns = copy.deepcopy(cached.backbone), choose_columns(cached.backbone, config)
    stages = [p for name, p in backbone.network.named_parameters() if name.startswith(BEHIND_THE_CUT)]
    for parameter in stages:
        parameter.requires_grad_(True)
    rates = config.finetune_learning_rate, config.finetune_head_learning_rate
    groups = [{"params": p, "lr": lr} for p, lr in zip((stages, list(head.parameters())), rates, strict=True)]
    optimizer, generator = torch.optim.AdamW(groups, weight_decay=0.0), torch.Generator().manual_seed(SEED)
    n_posters = len(cached.targets)
    losses = []
    for _ in range(config.finetune_epochs):
        set_training(backbone, config.batch_norm == "training")
        order = torch.randperm(n_posters, generator=generator)
        rows = order + n_posters * torch.randint(len(VIEWS), (n_posters,), generator=generator)
        total = 0.0
        for batch in rows.split(BATCH):
            logits = head(backbone(cached.images[batch])[:, columns])
            loss = binary_cross_entropy_with_logits(logits, cached.targets[batch % n_posters])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / n_posters)
    with torch.inference_mode():
        logits = head(backbone.eval()(cached.images[:N_VAL])[:, columns])
    return losses, torch.sigmoid(logits)


def set_training(backbone: Backbone, training: bool) -> None:
    for name, module in backbone.network.named_modules():
        module.training = training and f"{name}.".startswith(BEHIND_THE_CUT)


@pytest.mark.parametrize("features", ["final", "all_stages"])
@pytest.mark.parametrize("batch_norm", ["frozen", "training"])
def test_from_cached_activations_the_losses_are_those_of_the_whole_backbone(cached, tuned, features, batch_norm):
    config = tuned.model_copy(update={"features": features, "batch_norm": batch_norm})
    network = cached.network(config)
    expected, probabilities = through_the_whole_backbone(cached, copy.deepcopy(network.head), config)
    epochs = cached.train(network, config)
    assert expected[-1] < 0.8 * expected[0]
    assert [result.train_loss for result in epochs] == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(epochs[-1].val_probabilities, probabilities, atol=1e-2)


def test_cached_features_count_only_where_the_stages_are_frozen(cached, tuned):
    examples, network = cached.examples(tuned), cached.network(tuned).eval()
    features, activations = examples.take(torch.arange(4))
    with torch.inference_mode():
        expected = network(features, activations.float())
        elsewhere = network(features + network.decides, activations.float())
        moved = network(features + ~network.decides, activations.float())
    assert torch.equal(elsewhere, expected)
    assert not torch.allclose(moved, expected, atol=1e-3)


def test_the_classifier_is_the_whole_of_what_was_trained(cached, tuned):
    network = cached.network(tuned)
    *_, last = cached.train(network, tuned)
    with torch.inference_mode():
        probabilities = torch.sigmoid(network.classifier()(cached.images[:N_VAL]))
    np.testing.assert_allclose(last.val_probabilities, probabilities, atol=5e-3)


def test_fused_backbones_share_the_numbering_from_the_deepest_stage(cached, tuned):
    deeper = find_freeze_point(cached.backbone, "last_three_stages")
    head = build_head([cached.backbone] * 2, 3, tuned)
    stages = FineTuned([cached.backbone] * 2, [cached.point, deeper], head, tuned).stages()
    assert [len({name.split(".")[1] for name, _ in stage if name.startswith("blocks")}) for stage in stages] == [1] * 3
    names = [[name for name, _ in stage] for stage in stages]
    assert len(names[-1]) == 2 * len(set(names[-1]))  # both backbones' last stage


# Memory and time


class LittleMemory:
    """A machine that trains on so many posters at once, and no more."""

    def __init__(self, n_posters: int) -> None:
        self.n_posters = n_posters

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled() and len(inputs[0]) > self.n_posters:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def trained_with(cached: Cached, config: TrialConfig, n_posters: int) -> tuple[FineTuned, list[EpochResult]]:
    network = cached.network(config)
    network.tails[0].register_forward_pre_hook(LittleMemory(n_posters))
    return network, cached.train(network, config)


@pytest.mark.parametrize(("fits", "micro_batch"), [(7, 4), (3, 2), (1, 1)])
def test_where_memory_runs_out_smaller_batches_give_the_same_weights(cached, tuned, fits, micro_batch):
    rates = dict.fromkeys(("finetune_learning_rate", "finetune_head_learning_rate"), 2e-4)
    brief = tuned.model_copy(update={"finetune_epochs": 1, **rates})
    whole, [at_once] = trained_with(cached, brief, BATCH)
    parts, [in_parts] = trained_with(cached, brief, fits)
    assert (at_once.micro_batch, in_parts.micro_batch) == (BATCH, micro_batch)
    assert in_parts.train_loss == pytest.approx(at_once.train_loss, abs=1e-5)
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-5)


def test_no_part_of_a_batch_holds_a_single_poster_which_batch_norm_refuses(cached, tuned):
    config = tuned.model_copy(update={"finetune_batch_size": 7, "norm": "batch", "finetune_epochs": 1})
    _, [result] = trained_with(cached, config, 6)  # batches of 6 and 7
    assert result.micro_batch == 3


def test_one_poster_too_many_is_refused_with_the_cure(cached, tuned):
    with pytest.raises(ResourceError, match="even that did not fit: choose a smaller backbone"):
        trained_with(cached, tuned, 0)


def test_other_errors_are_not_taken_for_memory(cached, tuned):
    def fail(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    network = cached.network(tuned)
    network.head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        cached.train(network, tuned)


def test_no_epoch_begins_after_the_limit(cached, tuned):
    assert len(cached.train(cached.network(tuned), tuned.model_copy(update={"max_seconds": 1e-9}))) == 1
