from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from hpo.model.config import TrialConfig
from hpo.model.heads.head import Head
from hpo.model.training.dataloader import Examples
from hpo.model.training.loop import EpochResult, train_head

N_FEATURES, N_LABELS = 12, 3


def learnable(n_posters: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and targets that follow from them but for some noise."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n_posters, N_FEATURES, generator=generator)
    noise = torch.randn(n_posters, N_LABELS, generator=generator)
    weights = torch.randn(N_FEATURES, N_LABELS, generator=torch.Generator().manual_seed(99))
    return features, (features @ weights + noise > 1.0).float()


def trained(config: TrialConfig, seed: int = 0, scale: float = 1, shift: float = 0) -> tuple[Head, list[EpochResult]]:
    features, targets = learnable()
    val_features, _ = learnable(seed=1)
    torch.manual_seed(seed)
    head = Head(N_FEATURES, N_LABELS, config)
    examples, val = (Examples(len(rows), scale * rows + shift) for rows in (features, val_features))
    return head, list(train_head(head, examples, targets, val, config, seed))


def test_it_learns(config):
    _, epochs = trained(config)
    losses = [result.train_loss for result in epochs]
    assert losses[-1] < 0.6 * losses[0]
    _, val_targets = learnable(seed=1)
    mean_ap = average_precision_score(val_targets, epochs[-1].val_probabilities, average="macro")
    assert mean_ap > 0.85 > 2 * val_targets.mean()  # chance is the share of positives


def test_an_epoch_tells_what_it_did(config):
    epochs = trained(config.model_copy(update={"epochs": 4}))[1]
    assert [result.epoch for result in epochs] == [1, 2, 3, 4]
    for result in epochs:
        assert result.val_probabilities.shape == (300, N_LABELS)
        assert result.val_probabilities.dtype == np.float32
        assert ((result.val_probabilities >= 0) & (result.val_probabilities <= 1)).all()
        assert result.learning_rate == config.learning_rate
        assert result.seconds > 0


def test_the_last_probabilities_are_those_of_the_head(config):
    head, epochs = trained(config)
    assert not head.training
    with torch.inference_mode():
        probabilities = torch.sigmoid(head(learnable(seed=1)[0])).numpy()
    np.testing.assert_allclose(probabilities, epochs[-1].val_probabilities, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(config):
    first, again, other = (trained(config, seed)[1][-1].val_probabilities for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_scale_and_offset_of_the_features_do_not_matter(config):
    plain = trained(config)[1][-1].val_probabilities
    moved = trained(config, scale=50, shift=200)[1][-1].val_probabilities
    np.testing.assert_allclose(moved, plain, atol=5e-3)


@pytest.mark.parametrize("n_posters", range(2, 12))
@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_no_batch_holds_a_single_poster_which_batch_norm_refuses(config, n_posters, batch_size):
    config = config.model_copy(update={"batch_size": batch_size, "epochs": 1, "norm": "batch"})
    features, targets = learnable(n_posters)
    head = Head(N_FEATURES, N_LABELS, config)
    examples = Examples(n_posters, features)
    result = next(train_head(head, examples, targets, examples, config, 0))
    assert result.val_probabilities.shape == (n_posters, N_LABELS)


@pytest.mark.parametrize("more", [{"l1": 0.05}, {"mixup": 0.5}, {"feature_noise": 1.0}, {"clip_norm": 0.01}])
def test_each_regulariser_changes_what_is_learnt(config, more):
    plain, regularised = (trained(config.model_copy(update=update))[1][-1] for update in ({}, more))
    assert not np.allclose(plain.val_probabilities, regularised.val_probabilities, atol=1e-4)


def test_l1_shrinks_the_weights(config):
    sizes = [
        sum(p.abs().sum() for p in trained(config.model_copy(update={"l1": l1}))[0].parameters() if p.ndim > 1)
        for l1 in (0.0, 0.01)
    ]
    assert sizes[1] < 0.7 * sizes[0]


def test_a_moving_average_is_what_is_judged(config):
    head, epochs = trained(config.model_copy(update={"averaging": "ema", "ema_decay": 0.9}))
    assert epochs[-1].evaluated is not head
    np.testing.assert_array_equal(epochs[-1].predict_val(), epochs[-1].val_probabilities)
    with torch.inference_mode():
        last = torch.sigmoid(head(learnable(seed=1)[0])).numpy()
    assert not np.allclose(last, epochs[-1].val_probabilities, atol=1e-4)


def test_predictions_of_several_views_are_the_mean_of_their_logits(config):
    features, targets = learnable(60)
    moved = features + 0.5
    both = Examples(60, torch.cat([features, moved]))
    head = Head(N_FEATURES, N_LABELS, config)
    *_, last = train_head(head, both, targets, both, config, 0)
    with torch.inference_mode():
        expected = torch.sigmoid((head(features) + head(moved)) / 2).numpy()
    np.testing.assert_allclose(last.val_probabilities, expected, atol=1e-6)


def test_no_epoch_begins_after_the_limit(config):
    assert len(trained(config.model_copy(update={"max_seconds": 1e-9, "epochs": 9}))[1]) == 1
