"""The loss of a trial: binary focal loss over labels, which contains binary cross-entropy (gamma = 0).

Source: Lin, Goyal, Girshick, He & Dollár, "Focal Loss for Dense Object Detection" (2017), equation 5, here with soft
targets so that it composes with label smoothing: positives and negatives each keep their own modulating factor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def focal_loss(logits: Tensor, targets: Tensor, gamma: float, alpha: float, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean focal loss of ``logits`` (B, L) against ``targets`` (B, L) in 0..1, as a scalar.

    ``alpha`` weighs positives and ``1 - alpha`` negatives; both are doubled, so that alpha = 0.5 weighs nothing and
    gamma = 0 is then exactly ``binary_cross_entropy_with_logits``. Works on log-probabilities: finite for any logit.
    """
    targets = targets * (1 - label_smoothing) + label_smoothing / 2
    log_p, log_not_p = logsigmoid(logits), logsigmoid(-logits)  # (B, L)
    if gamma == 0:  # exp(0 * -inf) would be NaN, and the factor is 1 anyway
        positive, negative = log_p, log_not_p
    else:
        positive = torch.exp(gamma * log_not_p) * log_p  # (1 - p)^gamma log p
        negative = torch.exp(gamma * log_p) * log_not_p  # p^gamma log(1 - p)
    return -2 * (alpha * targets * positive + (1 - alpha) * (1 - targets) * negative).mean()
