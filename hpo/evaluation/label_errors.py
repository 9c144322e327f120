"""Label-error scores: how strongly a model disagrees with given labels.

The scores follow confident learning in its form for several labels: each label is scored alone, by the probability that
the model gives to the opposite of what is written, and the worst labels make the entry's score (an exponential moving
average over the sorted probabilities, Thyagarajan et al. 2022). Confident learning does not compare raw probabilities,
as a rare label's are low throughout, but measures each label by a threshold of its own (Northcutt, Jiang and Chuang
2021). Here that is the label's decision threshold: its odds are taken for even ones, so that a score above a half means
that the model would write the opposite.

Sources:
    Northcutt, Jiang & Chuang 2021, Confident learning: estimating uncertainty in dataset labels (JAIR 70).
    Thyagarajan, Snorrason, Northcutt & Mueller 2022, Identifying incorrect annotations in multi-label classification
        data (arXiv:2211.13895).
"""

from __future__ import annotations

import numpy as np

from hpo.evaluation.counts import Bools, Floats

_WORST = 0.8  # the share of the worst label in an entry's score, of the next in what is left, and so on
_SMALLEST = 1e-7  # a probability or threshold of 0 or 1 has no odds


def label_issue_scores(probabilities: Floats, written: Bools, thresholds: Floats) -> Floats:
    """Return (N, L) in 0..1: the probability of the opposite of what is written, with the threshold's odds as even.

    Probabilities are (N, L) in 0..1, `written` (N, L) says which labels an entry has, thresholds are (L,) in 0..1.
    """
    odds = np.exp(_log_odds(probabilities) - _log_odds(thresholds))
    present = odds / (1 + odds)
    return np.asarray(np.where(written, 1 - present, present))


def _log_odds(values: Floats) -> Floats:
    inside = np.clip(np.asarray(values, np.float64), _SMALLEST, 1 - _SMALLEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def entry_issue_scores(label_scores: Floats) -> Floats:
    """Return (N,) in 0..1: `label_issue_scores` (N, L), averaged with the worst label weighing most."""
    n_labels = label_scores.shape[1]
    weights = _WORST * (1 - _WORST) ** np.arange(n_labels)
    weights[-1] = (1 - _WORST) ** (n_labels - 1)
    return np.asarray(-np.sort(-label_scores, axis=1) @ weights)
