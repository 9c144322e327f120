"""What the champion may claim: its recipe and its own thresholds, on posters that neither has seen.

The champion's score on one validation part is optimistic: its thresholds and its best epoch were chosen on those
posters, and it is the luckiest of many trials. So its recipe is trained once more per fold, for exactly as many epochs
as the champion, on the other folds and the validation posters; no group of posters lies in two folds, as in the split.
The out-of-fold probabilities of the training posters are then cut at the champion's thresholds, which were fitted on
other posters. That is many more posters than a test part has, and hence a narrower interval. What remains is the
choice of the recipe itself, a small part of the flattery.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import torch

from hpo.data.images import Progress
from hpo.data.prepare import Part
from hpo.data.shards import Array
from hpo.data.splits.splits import deal_folds
from hpo.model.classifier import build_head
from hpo.model.examples import joined
from hpo.model.hyperparameters import Hyperparameters
from hpo.model.training import train_head
from hpo.search.source import FeatureSource, predicted_views, train_views

N_FOLDS = 5


def out_of_fold_probabilities(
    chosen: Hyperparameters,
    n_epochs: int,
    train_part: Part,
    val_part: Part,
    source: FeatureSource,
    seed: int,
    progress: Progress = lambda _: None,
) -> Array:
    """Return float32 (N_train, L): each training poster by a head that did not see it."""
    views = train_views(chosen)
    train_examples, val_examples = (source.examples(chosen, part, views) for part in (train_part, val_part))
    targets = torch.from_numpy(train_part.targets.astype(np.float32))
    val_targets = torch.from_numpy(val_part.targets.astype(np.float32))
    groups = np.arange(len(targets)) if train_part.groups is None else train_part.groups
    folds = torch.from_numpy(deal_folds(train_part.targets, groups, N_FOLDS, seed))
    n_predicted = len(predicted_views(chosen))  # the first of the views that are trained on
    probabilities = np.empty(train_part.targets.shape, np.float32)
    for fold in range(N_FOLDS):
        held_out, kept = (folds == fold).nonzero().ravel(), (folds != fold).nonzero().ravel()
        torch.manual_seed(seed)
        head = build_head(source.backbones(chosen), targets.shape[1], chosen)
        seen = joined(train_examples.select(kept), val_examples)
        asked = train_examples.select(held_out).first_views(n_predicted)
        epochs = train_head(head, seen, torch.cat([targets[kept], val_targets]), asked, chosen, seed)
        *_, last = islice(epochs, n_epochs)
        probabilities[held_out.numpy()] = last.val_probabilities
        progress(len(held_out))
    return probabilities
