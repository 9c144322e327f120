"""Label-error scores: how strongly a model disagrees with given labels.

How much an entry's labels are doubted follows confident learning, in its form for several labels: each label is judged
alone, by the probability that the model gives to the opposite of what is written, and the worst labels make the
entry's score (an exponential moving average over the sorted probabilities, Thyagarajan et al. 2022). Confident
learning does not compare raw probabilities, as a rare label's are low throughout, but measures each label by a
threshold of its own (Northcutt, Jiang and Chuang 2021). Here that is the label's decision threshold: its odds are taken
for even ones, so that a doubt above a half means that the model would write the opposite.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels. JAIR 70 (2021).
Thyagarajan, Snorrason, Northcutt, Mueller: Identifying Incorrect Annotations in Multi-Label Classification Data.
arXiv:2211.13895 (2022).
"""

from __future__ import annotations

import numpy as np

from hpo.evaluation.counts import Bools, Floats

_WORST = 0.8  # the share of the worst label in an entry's doubt, of the next in what is left, and so on
_SMALLEST = 1e-7  # a probability or threshold of 0 or 1 has no odds


def label_doubts(probabilities: Floats, written: Bools, thresholds: Floats) -> Floats:
    """Return (N, L) in 0..1: the probability of the opposite of what is written, with the threshold's odds as even."""
    odds = np.exp(_log_odds(probabilities) - _log_odds(thresholds))
    present = odds / (1 + odds)
    return np.asarray(np.where(written, 1 - present, present))


def _log_odds(values: Floats) -> Floats:
    inside = np.clip(np.asarray(values, np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def entry_doubts(doubts: Floats) -> Floats:
    """Return (N,): doubts (N, L) averaged with the worst label weighing most."""
    n_labels = doubts.shape[1]
    weights = _WORST * (1 - _WORST) ** np.arange(n_labels)
    weights[-1] = (1 - _WORST) ** (n_labels - 1)
    return np.asarray(-np.sort(-doubts, axis=1) @ weights)
