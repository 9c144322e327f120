"""Stored views of a poster (mirrored, cropped): augmentation for cached features.

A frozen backbone is worth caching only if it sees the same pixels every time, so what a poster is augmented with is
drawn once, by its digest. A view costs one pass of the backbone over all posters, and then nothing ever again; the
price is that every epoch sees the same few crops (fresh ones, in phase two, are in ``hpo.model.training.augment``).

Crops are those of Szegedy et al. 2015, section 6, as in torchvision's RandomResizedCrop: an area uniform in
[smallest share, 1] and an aspect ratio log-uniform in [3/4, 4/3], resized to the whole poster's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image

from hpo.model.config import TrialConfig
from hpo.runtime.atomic import Array

_LARGEST_RATIO = 4 / 3  # of a crop's width to its height; the smallest is its inverse
_ATTEMPTS = 10  # to draw a crop that fits into the poster, as torchvision


class Box(NamedTuple):
    """A rectangle in shares of the poster's width and height, so that backbones of any size see the same crop."""

    left: float
    top: float
    right: float
    bottom: float


_WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class View:
    """One way of looking at every poster: whole or a crop of its own, as it is or mirrored."""

    crop: int = 0  # the number of the crop, from 1; 0 is the whole poster
    scale: float = 1.0  # smallest share of the poster's area in the crop
    mirrored: bool = False

    @property
    def key(self) -> str:
        """The view's name in caches: plain, flip, crop1-0.60, crop2-0.60-flip. Equal keys mean equal pixels."""
        if not self.crop:
            return "flip" if self.mirrored else "plain"
        return f"crop{self.crop}-{self.scale:.2f}" + "-flip" * self.mirrored

    def apply(self, images: Array, digests: Sequence[bytes]) -> Array:
        """Return the view of ``images`` uint8 (N, H, W, 3) as uint8 (N, H, W, 3).

        ``digests`` are those of the posters' bytes: a poster's crop depends on nothing else. The plain view is the
        array itself.
        """
        if self.crop:
            cropped = [_crop(image, self.box(digest)) for image, digest in zip(images, digests, strict=True)]
            images = np.stack(cropped) if cropped else images
        return np.ascontiguousarray(images[:, :, ::-1]) if self.mirrored else images

    def box(self, digest: bytes) -> Box:
        """Return where the crop of the poster with ``digest`` lies, before it is mirrored."""
        # Random, and not NumPy's generator, promises the same numbers in every version; caches outlive versions
        draw = Random(digest + self.crop.to_bytes(2, "big"))
        for _ in range(_ATTEMPTS):
            area = self.scale + (1 - self.scale) * draw.random()
            ratio = _LARGEST_RATIO ** (2 * draw.random() - 1)
            width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
            left, top = draw.random() * (1 - width), draw.random() * (1 - height)
            if max(width, height) <= 1:
                return Box(left, top, left + width, top + height)
        return _WHOLE


PLAIN = View()
FLIP = View(mirrored=True)


def views_of(config: TrialConfig) -> tuple[View, ...]:
    """Return the views to train on: the plain one, the mirrored one, then crops, every second of them mirrored.

    The smallest share is rounded to hundredths: a search over it shares what earlier trials have cached.
    """
    flips = config.flip != "none"
    scale = round(config.crop_scale, 2)
    crops = [View(number, scale, flips and number % 2 == 0) for number in range(1, config.crops + 1)]
    return (PLAIN, *[FLIP] * flips, *crops)


def _crop(image: Array, box: Box) -> Array:
    """(H, W, 3) → (H, W, 3), with the resampling that decoded the poster."""
    height, width, _ = image.shape
    pixels = (box.left * width, box.top * height, box.right * width, box.bottom * height)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, pixels))
