from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from timm.loss import AsymmetricLossMultiLabel
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import sigmoid_focal_loss

from hpo.model.training.losses import LOSSES, Loss, LossKind, balance_classes, focal_loss, soft_f1_loss

LOGITS = st.floats(-30, 30, width=32)
GAMMAS = st.sampled_from([0.0, 0.4, 1.0, 2.0, 5.0])
MARGINS = st.sampled_from([0.0, 0.05, 0.3])
FAMILY = (  # a point on each side of every bend
    {"focal_gamma": 0.0},
    {"focal_gamma": 0.3},
    {"focal_gamma": 2.0},
    {"focal_gamma": 0.0, "focal_gamma_negatives": 0.5, "margin": 0.05},
    {"focal_gamma": 1.0, "focal_gamma_negatives": 4.0, "margin": 0.05},
    {"focal_gamma": 8.0, "focal_gamma_negatives": 0.01, "margin": 0.4, "label_smoothing": 0.1},
    {"focal_gamma": 1.0, "soft_f1": 0.5},
)


def drawn(seed: int = 0, n_posters: int = 50, n_labels: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    logits, targets = rng.normal(0, 3, (n_posters, n_labels)), rng.random((n_posters, n_labels)) < 0.3
    return torch.from_numpy(logits), torch.from_numpy(targets.astype(float))


def reference(logits, targets, gamma, alpha, smoothing=0.0, gamma_negatives=None, margin=0.0, weights=1.0):
    """The formula of the module's docstring, in float64 and without a care for stability."""
    targets = targets * (1 - smoothing) + smoothing / 2
    p = 1 / (1 + np.exp(-logits))
    p_m = np.maximum(p - margin, 0)
    positive = -weights * alpha * (1 - p) ** gamma * np.log(p)
    negative = -(1 - alpha) * p_m ** (gamma if gamma_negatives is None else gamma_negatives) * np.log(1 - p_m)
    return 2 * (targets * positive + (1 - targets) * negative).mean()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("gamma_negatives", [None, 0.0, 0.5, 4.0])
@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("smoothing", [0.0, 0.4])
@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_equals_the_formula(gamma, gamma_negatives, alpha, smoothing, margin):
    logits, targets = drawn()
    weights = np.array([0.5, 0.5, 1.0, 2.0])
    more = {"gamma_negatives": gamma_negatives, "margin": margin}
    loss = focal_loss(logits, targets, gamma, alpha, smoothing, positive_weights=torch.from_numpy(weights), **more)
    expected = reference(logits.numpy(), targets.numpy(), gamma, alpha, smoothing, weights=weights, **more)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_without_gamma_and_alpha_it_is_binary_cross_entropy(seed):
    logits, targets = drawn(seed)
    expected = binary_cross_entropy_with_logits(logits, targets)
    assert focal_loss(logits, targets, gamma=0, alpha=0.5).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(("gamma", "alpha"), [(0.0, 0.25), (2.0, 0.25), (1.5, 0.6)])
def test_with_one_gamma_it_is_torchvisions_focal_loss_twice(gamma, alpha):
    logits, targets = drawn()
    expected = 2 * sigmoid_focal_loss(logits, targets, alpha, gamma, reduction="mean")
    assert focal_loss(logits, targets, gamma, alpha).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.2])
def test_with_two_gammas_and_a_margin_it_is_timms_asl_as_a_mean(margin):
    """In value and in gradient; one poster, because timm's releases differ in whether posters are summed."""
    logits, targets = (tensor.reshape(1, -1).float() for tensor in drawn())
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = focal_loss(ours, targets, gamma=1.0, alpha=0.5, gamma_negatives=4.0, margin=margin)
    asl = AsymmetricLossMultiLabel(4, 1, clip=margin, disable_torch_grad_focal_loss=False)
    expected = asl(theirs, targets) / targets.numel()
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("point", FAMILY, ids=str)
@pytest.mark.parametrize("target", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float32, 1e30), (torch.bfloat16, 1e30), (torch.float16, 65504.0)], ids=str
)
def test_value_and_gradient_are_finite_at_any_logit(config, point, target, dtype, largest):
    extremes = [-largest, -1e4, -100.0, -17.0, 0.0, 17.0, 100.0, 1e4, largest]
    logits = torch.tensor([extremes], dtype=dtype, requires_grad=True)
    targets = torch.full_like(logits, target)
    loss = Loss.of(config.model_copy(update={"focal_alpha": 0.25, **point}), targets)(logits, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("gamma_negatives", [0.0, 0.01, 0.5, 1.0, 4.0])
def test_the_gradient_is_finite_where_the_margin_bends(gamma_negatives):
    at_margin = torch.logit(torch.tensor(0.05))
    logits = (at_margin + torch.linspace(-1e-5, 1e-5, 201)).reshape(1, -1).requires_grad_()
    focal_loss(logits, torch.zeros_like(logits), 0, 0.5, gamma_negatives=gamma_negatives, margin=0.05).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[0, :50] == 0).all()  # well below the margin nothing is learnt


@pytest.mark.parametrize("point", FAMILY, ids=str)
def test_half_precision_loses_no_more_than_its_logits_do(config, point):
    logits, targets = drawn()
    half = logits.to(torch.bfloat16)
    loss = Loss.of(config.model_copy(update={"focal_alpha": 0.3, **point}), targets)
    assert loss(half, targets).item() == pytest.approx(loss(half.double(), targets).item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(half, targets).item() == pytest.approx(loss(half.double(), targets).item(), rel=1e-5)


@settings(max_examples=50, deadline=None)
@given(lower=LOGITS, step=st.floats(0, 5, width=32), gamma=GAMMAS, gamma_negatives=GAMMAS, margin=MARGINS)
def test_a_higher_logit_costs_positives_less_and_negatives_more(lower, step, gamma, gamma_negatives, margin):
    logits = torch.tensor([[lower], [lower + step]], dtype=torch.float64)
    shape = {"gamma": gamma, "alpha": 0.5, "gamma_negatives": gamma_negatives, "margin": margin}
    positive = [focal_loss(row, torch.ones(1), **shape).item() for row in logits]
    negative = [focal_loss(row, torch.zeros(1), **shape).item() for row in logits]
    assert positive[1] <= positive[0]
    assert negative[1] >= negative[0]
    assert min(positive + negative) >= 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**16), point=st.sampled_from(FAMILY), copies=st.integers(2, 5))
def test_neither_order_nor_copies_of_posters_matter(config, seed, point, copies):
    logits, targets = drawn(seed, n_posters=6)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(6)).repeat(copies)
    loss = Loss.of(config.model_copy(update={"focal_alpha": 0.3, **point}), targets)
    assert loss(logits, targets).shape == ()
    assert loss(logits[order], targets[order]).item() == pytest.approx(loss(logits, targets).item(), rel=1e-9)


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


def test_soft_f1_of_certain_answers_is_macro_f1():
    logits, targets = drawn()
    answers = logits.sign()
    expected = 1 - f1_score(targets.numpy(), (answers > 0).numpy(), average="macro")
    assert soft_f1_loss(1e4 * answers, targets).item() == pytest.approx(expected, rel=1e-12)


def test_soft_f1_leaves_out_labels_that_the_batch_does_not_have():
    logits, targets = drawn(n_labels=3)
    unseen = torch.cat([targets[:, :2], torch.zeros(50, 1)], dim=1)
    assert soft_f1_loss(logits, unseen).item() == pytest.approx(soft_f1_loss(logits[:, :2], targets[:, :2]).item())


@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_soft_f1_of_a_batch_without_positives_teaches_nothing(logit):
    logits = torch.full((5, 3), logit, requires_grad=True)
    loss = soft_f1_loss(logits, torch.zeros(5, 3))
    loss.backward()
    assert loss.item() == 1
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_soft_f1_is_a_share_of_the_loss(config, share):
    logits, targets = drawn()
    expected = (1 - share) * focal_loss(logits, targets, 1, 0.5, 0.1) + share * soft_f1_loss(logits, targets)
    loss = Loss.of(config.model_copy(update={"label_smoothing": 0.1, "soft_f1": share}), targets)
    assert loss(logits, targets).item() == pytest.approx(expected.item())


def test_rare_labels_weigh_more_and_all_of_them_one_on_average():
    targets = torch.zeros(12, 3)
    targets[:2, 0] = targets[:3, 1] = targets[:6, 2] = 1
    odds = torch.tensor([5.0, 3.0, 1.0])
    torch.testing.assert_close(balance_classes(targets, 1.0), odds / 3)
    torch.testing.assert_close(balance_classes(targets, 0.5), odds.sqrt() / odds.sqrt().mean())
    torch.testing.assert_close(balance_classes(targets.bool(), 0.0), torch.ones(3))


def test_a_label_without_positives_weighs_one_and_one_without_negatives_something():
    targets = torch.tensor([[1.0, 0.0, 1.0]] + [[0.0, 0.0, 1.0]] * 3)
    torch.testing.assert_close(balance_classes(targets, 1.0), torch.tensor([3.0, 1.625, 0.25]) / 1.625)
    torch.testing.assert_close(balance_classes(torch.zeros(4, 2), 1.0), torch.ones(2))


@pytest.mark.parametrize(
    "change",
    [
        {"focal_gamma": 2.0},
        {"focal_gamma_negatives": 3.0},
        {"focal_alpha": 0.4},
        {"margin": 0.1},
        {"label_smoothing": 0.1},
        {"class_balance": 0.5},
        {"soft_f1": 0.2},
    ],
    ids=str,
)
def test_every_hyperparameter_of_the_loss_changes_its_gradient(config, change):
    logits, targets = drawn()
    gradients = []
    for trial in (config, config.model_copy(update=change)):
        leaf = logits.clone().requires_grad_()
        Loss.of(trial, targets)(leaf, targets).backward()
        gradients.append(leaf.grad)
    assert not torch.allclose(*gradients, rtol=1e-3)


def test_the_chosen_loss_is_the_family_at_that_point(config):
    logits, targets = drawn()
    point = {"focal_gamma": 1.0, "focal_gamma_negatives": 4.0, "focal_alpha": 0.6, "margin": 0.05}
    trial = config.model_copy(update={**point, "label_smoothing": 0.1, "class_balance": 1.0, "soft_f1": 0.25})
    weights = balance_classes(targets, 1.0)
    family = focal_loss(logits, targets, 1.0, 0.6, 0.1, gamma_negatives=4.0, margin=0.05, positive_weights=weights)
    expected = 0.75 * family + 0.25 * soft_f1_loss(logits, targets)
    assert Loss.of(trial, targets)(logits, targets).item() == pytest.approx(expected.item())


# ---- every entry of the registry ---------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", LOSSES.values(), ids=LOSSES)


@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_loss_is_a_finite_scalar_with_a_finite_gradient(config, kind, dtype):
    logits, targets = drawn()
    leaf = (10 * logits).to(dtype).requires_grad_()
    loss = kind.build(config, targets)(leaf, targets)
    loss.backward()
    assert loss.shape == ()
    assert loss >= 0
    assert torch.isfinite(loss)
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad.any()


@KINDS
def test_every_loss_falls_where_the_logits_approach_the_targets(config, kind):
    logits, targets = drawn()
    loss = kind.build(config, targets)
    right = 4 * (2 * targets - 1)
    values = [loss(logits.lerp(right, share), targets).item() for share in (0.0, 0.5, 1.0)]
    assert values[0] > values[1] > values[2]


@KINDS
def test_every_loss_ignores_the_order_of_posters_and_of_labels(config, kind):
    logits, targets = drawn()
    weighted = config.model_copy(update={"class_balance": 1.0})
    rows, columns = torch.arange(50).flip(0), torch.tensor([2, 0, 3, 1])
    expected = kind.build(weighted, targets)(logits, targets).item()
    moved_logits, moved = (table[rows][:, columns] for table in (logits, targets))
    assert kind.build(weighted, moved)(moved_logits, moved).item() == pytest.approx(expected, rel=1e-6)


def test_the_neutral_configuration_is_binary_cross_entropy(config):
    logits, targets = drawn()
    neutral = config.model_copy(update={"focal_gamma": 0.0, "focal_alpha": 0.5, "label_smoothing": 0.0})
    expected = binary_cross_entropy_with_logits(logits, targets).item()
    assert Loss.of(neutral, targets)(logits, targets).item() == pytest.approx(expected, rel=1e-12)


def test_class_weights_weigh_the_positives_of_each_label(config):
    """The gradient of a label's positives is that without weights, times the label's weight."""
    logits, targets = drawn()
    weights = balance_classes(targets, 0.5)
    gradients = []
    for balance in (0.0, 0.5):
        leaf = logits.clone().requires_grad_()
        Loss.of(config.model_copy(update={"class_balance": balance}), targets)(leaf, targets).backward()
        gradients.append(leaf.grad)
    expected = torch.where(targets > 0, gradients[0] * weights, gradients[0])
    torch.testing.assert_close(gradients[1], expected)


def test_a_loss_that_is_added_to_the_registry_takes_its_share(monkeypatch, config):
    def squared(logits, targets):
        return (torch.sigmoid(logits) - targets).square().mean()

    logits, targets = drawn()
    before = Loss.of(config, targets)(logits, targets)
    added = LossKind("brier", build=lambda config, targets: squared, share=lambda config: config.mixup)
    monkeypatch.setitem(LOSSES, "brier", added)
    assert Loss.of(config, targets)(logits, targets) == before  # a share of 0 changes nothing
    blended = Loss.of(config.model_copy(update={"mixup": 0.25}), targets)(logits, targets)
    assert blended.item() == pytest.approx((0.75 * before + 0.25 * squared(logits, targets)).item())
