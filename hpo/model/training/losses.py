"""Losses: a registry of them, whose entries a trial blends by shares.

The first entry, ``focal``, is a family that contains cross-entropy, focal loss and ASL. Positives and negatives of a
label are weighed apart. With p the probability of the label and p_m = max(p - margin, 0):

    positive: -2 alpha w_l (1 - p)^gamma log p                negative: -2 (1 - alpha) p_m^gamma_negatives log(1 - p_m)

Binary cross-entropy has gammas 0, alpha 0.5 and margin 0; the focal loss (Lin, Goyal, Girshick, He & Dollár 2017,
"Focal Loss for Dense Object Detection", equation 5) one gamma; ASL (Ridnik et al. 2021, "Asymmetric Loss For
Multi-Label Classification", equations 4 to 7) two gammas and a margin. Targets may lie between 0 and 1, which is how
label smoothing and mixup compose with all of it. Everything works on log-probabilities, in float32 or better, so that
value and gradient are finite for any finite logit of any precision; an infinite logit is left to show as a loss that is
not finite. Soft F1 is a surrogate of the metric itself, but sees one batch, so it wants large batches.

Another loss is one more entry of ``LOSSES``, and the hyperparameters that it reads in ``hpo.model.config``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from hpo.model.config import TrialConfig

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # logits (B, L), targets (B, L) in 0..1 → scalar

_SMALLEST_COUNT = 1e-6  # posters; keeps F1 from 0 / 0, and its square is still a float32


@dataclass(frozen=True)
class LossKind:
    """A kind of loss: how a configuration parametrises it, and its share of the whole loss.

    ``build`` takes the training targets (N, L) as well, of which class weights are made.
    """

    name: str
    build: Callable[[TrialConfig, Tensor], LossFunction]
    share: Callable[[TrialConfig], float]  # in 0..1; of the first kind 1, of others of what came before them


@dataclass(frozen=True, eq=False)  # tensors have no truth value that == could return
class Loss:
    """Logits (B, L) and targets (B, L) in 0..1 → scalar: the mean over batch and labels of one trial's blend."""

    terms: tuple[tuple[float, LossFunction], ...]  # shares and losses, in the order of LOSSES

    @classmethod
    def of(cls, config: TrialConfig, targets: Tensor) -> Loss:
        """Return the loss that ``config`` describes, with classes balanced as in the training ``targets`` (N, L)."""
        shares = ((kind.share(config), kind) for kind in LOSSES.values())
        return cls(tuple((share, kind.build(config, targets)) for share, kind in shares if share))

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the blend of all terms: each takes its share of what the terms before it make together."""
        (_, first), *others = self.terms
        total = first(logits, targets)
        for share, term in others:
            total = total.lerp(term(logits, targets), share)
        return total


def focal_loss(
    logits: Tensor,
    targets: Tensor,
    gamma: float,
    alpha: float,
    label_smoothing: float = 0.0,
    *,
    gamma_negatives: float | None = None,
    margin: float = 0.0,
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Return the mean focal loss of ``logits`` (B, L) against ``targets`` (B, L) in 0..1, as a scalar.

    ``alpha`` weighs positives and ``1 - alpha`` negatives; both are doubled, so that alpha = 0.5 weighs nothing and
    gamma = 0 is then exactly ``binary_cross_entropy_with_logits``. ``gamma_negatives`` None is gamma; ``margin`` in
    0..1 is subtracted from the probability of negatives; ``positive_weights`` (L,) multiply each label's positives.
    """
    logits = _at_least_float32(logits)
    targets = targets.to(logits.dtype)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / 2
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)  # (B, L)
    positive = _focus(log_p, log_not_p, gamma)
    if positive_weights is not None:
        positive = positive * positive_weights.to(logits)
    if margin:
        log_p, log_not_p = _forgive(logits, margin)
    negative = _focus(log_not_p, log_p, gamma if gamma_negatives is None else gamma_negatives)
    return -2 * torch.lerp((1 - alpha) * negative, alpha * positive, targets).mean()


def soft_f1_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return 1 - macro F1 of the batch, as a scalar, with probabilities in place of yes and no.

    The mean is over the labels that have positives in this batch: F1 of the others is 0 whatever the logits are, and
    would only scale the gradient by how many a batch happens to miss.
    """
    logits = _at_least_float32(logits)
    probabilities, targets = torch.sigmoid(logits), targets.to(logits.dtype)
    true_positives = (probabilities * targets).sum(0)  # (L,) in posters
    predicted, actual = probabilities.sum(0), targets.sum(0)
    f1 = 2 * true_positives / (predicted + actual).clamp_min(_SMALLEST_COUNT)
    return 1 - f1.sum() / (actual > 0).sum().clamp_min(1)


def _focal(config: TrialConfig, targets: Tensor) -> LossFunction:
    balance = config.class_balance
    return partial(
        focal_loss,
        gamma=config.focal_gamma,
        alpha=config.focal_alpha,
        label_smoothing=config.label_smoothing,
        gamma_negatives=config.focal_gamma_negatives,
        margin=config.margin,
        positive_weights=balance_classes(targets, balance) if balance else None,
    )


LOSSES: dict[str, LossKind] = {
    kind.name: kind
    for kind in (
        LossKind("focal", _focal, share=lambda config: 1.0),
        # Label smoothing and class weights are for the focal share: F1 counts the targets.
        LossKind("soft_f1", lambda config, targets: soft_f1_loss, share=lambda config: config.soft_f1),
    )
}


def balance_classes(targets: Tensor, exponent: float) -> Tensor:
    """Return weights (L,) of positives by ``targets`` (N, L): (negatives / positives)^exponent, of mean 1.

    A label without positives shows nothing of its frequency: it weighs 1 and has no part in the mean. A label without
    negatives counts as having one, so that its weight is not 0.
    """
    positives = targets.sum(0, dtype=torch.float32)
    negatives = (len(targets) - positives).clamp_min(1)
    weights = (negatives / positives.clamp_min(1)) ** exponent
    seen = positives > 0
    mean = (weights * seen).sum() / seen.sum().clamp_min(1)
    return torch.where(seen, weights / mean, 1.0)


def _focus(log_right: Tensor, log_wrong: Tensor, gamma: float) -> Tensor:
    """(1 - p)^gamma log p, where p is the probability of what is right."""
    if gamma == 0:  # the factor is 1
        return log_right
    return torch.exp(gamma * log_wrong) * log_right


def _forgive(logits: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Return the logarithms of p_m = max(p - margin, 0) and of 1 - p_m.

    1 - p_m = min(1 - p + margin, 1) never is below the margin, so its logarithm is safe. That of p_m is not: it is
    held at the smallest normal number, where the factor 0 of log(1 - p_m) still makes the loss and its gradient 0.
    """
    not_p = (torch.sigmoid(-logits) + margin).clamp_max(1)
    smallest = torch.finfo(logits.dtype).tiny
    return torch.log((1 - not_p).clamp_min(smallest)), torch.log(not_p)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
