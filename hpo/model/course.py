"""How each phase of a trial trains its network: what differs between a head alone and a head with unfrozen stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.model.augment import ImageAugmentation
from hpo.model.finetune import FineTuned
from hpo.model.heads import Head
from hpo.model.hyperparameters import Hyperparameters
from hpo.model.optimisers import Factor, Group, finetune_groups, finetune_schedule, head_groups, head_schedule


@dataclass(frozen=True)
class Course:
    """How one phase trains its network."""

    epochs: int
    batch_size: int
    groups: Sequence[Group]
    factor: Factor  # of the learning rates, by progress
    feature_noise: float = 0.0
    augmentations: Sequence[ImageAugmentation] = ()  # for each backbone, where all of it is trained from posters

    def n_steps(self, n_posters: int) -> int:
        """Return the steps of an epoch over ``n_posters``; none has a single poster, unless there is but one."""
        return max(1, min(round(n_posters / self.batch_size), n_posters // 2))


def head_course(head: Head, chosen: Hyperparameters) -> Course:
    """Phase one: the head alone."""
    return Course(
        chosen.epochs, chosen.batch_size, head_groups(head, chosen), head_schedule(chosen), chosen.feature_noise
    )


def finetune_course(network: FineTuned, chosen: Hyperparameters, seed: int) -> Course:
    """Phase two: head and unfrozen stages."""
    sizes = network.image_sizes if chosen.unfreeze == "everything" else ()
    return Course(
        chosen.finetune_epochs,
        chosen.finetune_batch_size,
        finetune_groups(network.head, network.stages(), chosen),
        finetune_schedule(chosen),
        augmentations=[ImageAugmentation.of(chosen, size_px, seed) for size_px in sizes],
    )
