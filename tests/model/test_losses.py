from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits

from hpo.model.losses import focal_loss


def drawn(seed: int = 0, n_posters: int = 50, n_labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 3, (n_posters, n_labels)), (rng.random((n_posters, n_labels)) < 0.3).astype(float)


def reference(logits, targets, gamma, alpha, smoothing):
    """Lin et al. 2017, equation 5, written out in float64, with both weights doubled."""
    targets = targets * (1 - smoothing) + smoothing / 2
    p = 1 / (1 + np.exp(-logits))
    positive = -alpha * (1 - p) ** gamma * np.log(p)
    negative = -(1 - alpha) * p**gamma * np.log(1 - p)
    return 2 * (targets * positive + (1 - targets) * negative).mean()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_equals_the_formula(gamma, alpha, smoothing):
    logits, targets = drawn()
    loss = focal_loss(torch.from_numpy(logits), torch.from_numpy(targets), gamma, alpha, smoothing)
    assert loss.item() == pytest.approx(reference(logits, targets, gamma, alpha, smoothing), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_without_gamma_and_alpha_it_is_binary_cross_entropy(seed):
    logits, targets = map(torch.from_numpy, drawn(seed))
    expected = binary_cross_entropy_with_logits(logits, targets)
    assert focal_loss(logits, targets, gamma=0, alpha=0.5).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
def test_value_and_gradient_are_finite_at_any_logit(gamma, target):
    logits = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4]], requires_grad=True)
    loss = focal_loss(logits, torch.full_like(logits, target), gamma, 0.25)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), gamma=st.sampled_from([0.0, 1.5]), copies=st.integers(2, 5))
def test_it_is_a_mean_so_that_doubled_posters_change_nothing(seed, gamma, copies):
    logits, targets = map(torch.from_numpy, drawn(seed, n_posters=5))
    once = focal_loss(logits, targets, gamma, 0.3)
    assert once.shape == ()
    repeated = focal_loss(logits.repeat(copies, 1), targets.repeat(copies, 1), gamma, 0.3)
    assert repeated.item() == pytest.approx(once.item(), rel=1e-12)


def test_more_gamma_looks_away_from_easy_posters():
    easy, hard, targets = torch.tensor([[4.0]]), torch.tensor([[-1.0]]), torch.tensor([[1.0]])
    share = [focal_loss(easy, targets, g, 0.5) / focal_loss(hard, targets, g, 0.5) for g in (0.0, 1.0, 3.0)]
    assert share[0] > share[1] > share[2]


def test_more_alpha_weighs_positives_more():
    logits = torch.zeros(1, 1)
    positive = [focal_loss(logits, torch.ones(1, 1), 0, alpha).item() for alpha in (0.25, 0.5, 0.75)]
    negative = [focal_loss(logits, torch.zeros(1, 1), 0, alpha).item() for alpha in (0.25, 0.5, 0.75)]
    assert positive == pytest.approx([np.log(2) * factor for factor in (0.5, 1, 1.5)])
    assert negative == pytest.approx(positive[::-1])
