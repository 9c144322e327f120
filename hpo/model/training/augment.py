"""Random augmentation of posters and features during training.

Images are augmented for each poster on its own, and before normalisation, since torchvision's colour operations and
its fast resize want uint8. At 224 px a crop costs about 1 ms a poster and core, RandAugment 2 to 5, little beside
training stages on it. What a step draws depends on the seed and the step's number alone, so steps may be prepared
ahead, in any order and in any thread.

Flips and crops: torchvision's. TrivialAugment: Müller & Hutter 2021. RandAugment: Cubuk et al. 2020. Random erasing:
Zhong et al. 2020. Mixup: Zhang et al. 2018, equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torchvision.transforms import v2

from hpo.model.config import TrialConfig

Transform = Callable[[Tensor], Tensor]  # uint8 (3, H, W) → uint8 (3, H, W)

_GREY = 128  # what networks see as 0, as in decoding
_STRENGTHS = 31  # 0 to 30


@dataclass(frozen=True, eq=False)
class ImageAugmentation:
    """Draws a new version of each poster of a batch; does nothing where nothing was chosen."""

    transforms: tuple[Transform, ...]
    seed: int

    @classmethod
    def of(cls, config: TrialConfig, size_px: int, seed: int) -> ImageAugmentation:
        """Return what ``config`` asks for, for posters of ``size_px``: crop, flip, colours and shapes, erasing."""
        transforms: list[Transform] = []
        if config.random_crop < 1:
            transforms.append(v2.RandomResizedCrop(size_px, scale=(config.random_crop, 1.0), antialias=True))
        if config.flip != "none":
            transforms.append(v2.RandomHorizontalFlip())
        if config.augment != "none":
            transforms.append(_AUGMENTS[config.augment](config.augment_strength))
        if config.erasing:
            transforms.append(v2.RandomErasing(config.erasing, value=_GREY))
        return cls(tuple(transforms), seed)

    def __call__(self, images: Tensor, step: int) -> Tensor:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3), the same for the same seed and ``step``; safe in threads."""
        if not self.transforms:
            return images
        with _DrawingFrom(_generator(self.seed, step)):
            posters = [self._one(image) for image in images.movedim(-1, 1)]
        return torch.stack(posters).movedim(1, -1)

    def _one(self, image: Tensor) -> Tensor:
        for transform in self.transforms:
            image = transform(image)
        return image


class _Trivial:
    """TrivialAugment: one operation a poster, its strength uniform from 0 to a largest.

    The operations are RandAugment's, "RA" in the paper, because torchvision's TrivialAugmentWide has no strength.
    """

    def __init__(self, largest_strength: int) -> None:
        self._by_strength = [_rand_augment(strength, n_operations=1) for strength in range(largest_strength + 1)]

    def __call__(self, image: Tensor) -> Tensor:
        return self._by_strength[int(torch.randint(len(self._by_strength), ()))](image)


def _rand_augment(strength: int, n_operations: int = 2) -> Transform:
    bilinear = v2.InterpolationMode.BILINEAR
    transform: Transform = v2.RandAugment(n_operations, strength, _STRENGTHS, bilinear, fill=[_GREY] * 3)
    return transform


_AUGMENTS: Mapping[str, Callable[[int], Transform]] = {"trivial": _Trivial, "rand": _rand_augment}


class _DrawingFrom(TorchFunctionMode):
    """Make what would draw from torch's global generator, as all of torchvision does, draw from this one.

    The mode is the thread's own. Forking the global generator instead would pull it from under dropout in the thread
    that trains.
    """

    _DRAWS = frozenset(
        {torch.rand, torch.randn, torch.randint, torch.randperm, Tensor.uniform_, Tensor.normal_, Tensor.random_}
    )

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        drawn = {"generator": self._generator} if func in self._DRAWS else {}
        return func(*args, **{**(kwargs or {}), **drawn})


def _generator(seed: int, step: int) -> torch.Generator:
    mixed = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


def mix(
    inputs: Sequence[Tensor], targets: Tensor, alpha: float, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Mix each poster of a batch with another, inputs and targets alike: λ x + (1 - λ) x', λ ~ Beta(alpha, alpha).

    ``inputs`` are any floating-point tensors (B, ...) of the same posters: features, activations (B, C, H, W) or
    images. ``targets`` (B, L) become soft. One λ for the batch, as in the paper's code; alpha 0 mixes nothing.
    """
    if not alpha:
        return list(inputs), targets
    share = _beta(alpha, generator)
    partners = torch.randperm(len(targets), generator=generator).to(targets.device)
    return [_blend(rows, partners, share) for rows in inputs], _blend(targets, partners, share)


def _beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha) by its inverse: torch's own sampler accepts no generator."""
    return float(betaincinv(alpha, alpha, torch.rand((), generator=generator, dtype=torch.float64).item()))


def _blend(rows: Tensor, partners: Tensor, share: float) -> Tensor:
    return torch.lerp(rows[partners], rows, share)


def add_noise(standardised: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add normal noise of ``deviation`` to standardised features (B, D), in the generator's draws; 0 adds nothing."""
    if not deviation:
        return standardised
    noise = torch.randn(standardised.shape, generator=generator, device=generator.device)
    return standardised.add(noise.to(standardised), alpha=deviation)
