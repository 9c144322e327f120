from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters
from hpo.model.training import EpochResult, build_optimizer, build_schedule, train

N_FEATURES, N_LABELS = 12, 3


def learnable(n_posters: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and targets that follow from them but for some noise."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n_posters, N_FEATURES, generator=generator)
    noise = torch.randn(n_posters, N_LABELS, generator=generator)
    weights = torch.randn(N_FEATURES, N_LABELS, generator=torch.Generator().manual_seed(99))
    return features, (features @ weights + noise > 1.0).float()


def trained(
    chosen: Hyperparameters, seed: int = 0, scale: float = 1, shift: float = 0
) -> tuple[Head, list[EpochResult]]:
    features, targets = learnable()
    val_features, _ = learnable(seed=1)
    torch.manual_seed(seed)
    head = Head(N_FEATURES, N_LABELS, chosen)
    return head, list(train(head, scale * features + shift, targets, scale * val_features + shift, chosen, seed))


def schedule_of(chosen: Hyperparameters, steps_per_epoch: int = 10) -> np.ndarray:
    """The learning rate of every step, relative to the peak, and the one after the last."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=chosen.learning_rate)
    schedule = build_schedule(optimizer, chosen, steps_per_epoch)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(chosen.epochs * steps_per_epoch):
        optimizer.step()
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return np.array(rates) / chosen.learning_rate


def test_it_learns(chosen):
    _, epochs = trained(chosen)
    losses = [result.train_loss for result in epochs]
    assert losses[-1] < 0.6 * losses[0]
    _, val_targets = learnable(seed=1)
    mean_ap = average_precision_score(val_targets, epochs[-1].val_probabilities, average="macro")
    assert mean_ap > 0.85 > 2 * val_targets.mean()  # chance is the share of positives


def test_an_epoch_tells_what_it_did(chosen):
    epochs = trained(chosen.model_copy(update={"epochs": 4}))[1]
    assert [result.epoch for result in epochs] == [1, 2, 3, 4]
    for result in epochs:
        assert result.val_probabilities.shape == (300, N_LABELS)
        assert result.val_probabilities.dtype == np.float32
        assert ((result.val_probabilities >= 0) & (result.val_probabilities <= 1)).all()
        assert result.learning_rate == chosen.learning_rate
        assert result.seconds > 0


def test_the_last_probabilities_are_those_of_the_head(chosen):
    head, epochs = trained(chosen)
    assert not head.training
    with torch.inference_mode():
        probabilities = torch.sigmoid(head(learnable(seed=1)[0])).numpy()
    np.testing.assert_allclose(probabilities, epochs[-1].val_probabilities, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(chosen):
    first, again, other = (trained(chosen, seed)[1][-1].val_probabilities for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_scale_and_offset_of_the_features_do_not_matter(chosen):
    plain = trained(chosen)[1][-1].val_probabilities
    moved = trained(chosen, scale=50, shift=200)[1][-1].val_probabilities
    np.testing.assert_allclose(moved, plain, atol=5e-3)


@pytest.mark.parametrize("n_posters", range(2, 12))
@pytest.mark.parametrize("batch_size", [2, 3, 5])
def test_no_batch_holds_a_single_poster_which_batch_norm_refuses(chosen, n_posters, batch_size):
    chosen = chosen.model_copy(update={"batch_size": batch_size, "epochs": 1, "norm": "batch"})
    features, targets = learnable(n_posters)
    head = Head(N_FEATURES, N_LABELS, chosen)
    assert next(train(head, features, targets, features, chosen, 0)).val_probabilities.shape == (n_posters, N_LABELS)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_weight_decay_shrinks_matrices_and_leaves_biases_and_norms(chosen, norm):
    chosen = chosen.model_copy(update={"norm": norm, "weight_decay": 0.5, "learning_rate": 0.1})
    head = Head(N_FEATURES, N_LABELS, chosen)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(1.0)
    optimizer = build_optimizer(head, chosen)
    for parameter in head.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in head.named_parameters():
        expected = 1 - 0.1 * 0.5 if parameter.ndim == 2 else 1.0
        torch.testing.assert_close(parameter.detach(), torch.full_like(parameter, expected), msg=name)


def test_constant_stays_at_the_peak(chosen):
    assert (schedule_of(chosen.model_copy(update={"schedule": "constant"})) == 1).all()


def test_cosine_falls_from_the_peak_to_nothing(chosen):
    rates = schedule_of(chosen.model_copy(update={"schedule": "cosine"}))
    assert rates[0] == 1
    assert (np.diff(rates) < 0).all()
    assert rates[len(rates) // 2] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_one_cycle_climbs_for_a_third_and_falls_to_nothing(chosen):
    rates = schedule_of(chosen.model_copy(update={"schedule": "one_cycle"}))
    peak = int(rates.argmax())
    assert rates[0] == pytest.approx(0.04)
    assert rates[peak] == pytest.approx(1)
    assert peak == pytest.approx(0.3 * (len(rates) - 1), abs=1)
    assert (np.diff(rates[: peak + 1]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()
    assert rates[-1] == pytest.approx(0, abs=1e-12)
