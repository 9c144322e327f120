"""What the champion may claim: its recipe and its own thresholds, on posters that neither has seen.

The champion's validation score flatters: its thresholds and its best epoch were chosen on those posters, and it is
the luckiest of many trials. So its recipe is trained once more per fold, for exactly as many epochs as the champion,
on the other folds and the validation posters; no group of posters lies in two folds, as in the split. The
out-of-fold probabilities of the training posters are then cut at the champion's thresholds, which were fitted on
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
from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters
from hpo.model.training import train
from hpo.search.trial import FeatureSource

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
    _, (features, val_features) = source.features(chosen, train_part, val_part)
    targets = torch.from_numpy(train_part.targets.astype(np.float32))
    val_targets = torch.from_numpy(val_part.targets.astype(np.float32))
    groups = np.arange(len(targets)) if train_part.groups is None else train_part.groups
    folds = torch.from_numpy(deal_folds(train_part.targets, groups, N_FOLDS, seed))
    probabilities = np.empty(train_part.targets.shape, np.float32)
    for fold in range(N_FOLDS):
        held_out = folds == fold
        torch.manual_seed(seed)
        head = Head(features.shape[1], targets.shape[1], chosen)
        seen = torch.cat([features[~held_out], val_features]), torch.cat([targets[~held_out], val_targets])
        epochs = train(head, *seen, features[held_out], chosen, seed)
        *_, last = islice(epochs, n_epochs)
        probabilities[held_out.numpy()] = last.val_probabilities
        progress(int(held_out.sum()))
    return probabilities
