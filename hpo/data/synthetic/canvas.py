"""Colours, and a canvas that draws filled polygons in poster widths.

Polygons are quick and come out the same on every machine. All lengths are in poster widths: x runs from 0 to
1, y from 0 (top) to ``HEIGHT`` (bottom).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

POSTER_SIZE_PX = (225, 320)
HEIGHT = POSTER_SIZE_PX[1] / POSTER_SIZE_PX[0]
SUPERSAMPLING = 2  # drawn twice as large and averaged down: smooth edges, since ImageDraw has none of its own
PX = POSTER_SIZE_PX[0] * SUPERSAMPLING  # drawn pixels per poster width

Outline: TypeAlias = NDArray[np.float64]  # (P, 2) corners x, y around the origin, radius about 1
Colour: TypeAlias = tuple[int, int, int]


def shifted(colour: Colour, hue: float, value: float) -> Colour:
    """Turn the hue by a share of the colour circle and multiply the brightness."""
    h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    r, g, b = colorsys.hsv_to_rgb((h + hue) % 1.0, s, min(1.0, v * value))
    return round(255 * r), round(255 * g), round(255 * b)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that lies ``share`` (0..1) of the way from the first to the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second, strict=True))
    return r, g, b


class Palette(NamedTuple):
    """Six colours that set a poster's mood, from the top of the sky to the brightest light."""

    sky_top: Colour
    sky_low: Colour
    far: Colour
    near: Colour
    accent: Colour
    light: Colour

    @classmethod
    def of(cls, *hex_colours: str) -> Palette:
        """Read the six colours from ``rrggbb`` texts, in the order of the fields."""
        channels = [bytes.fromhex(colour) for colour in hex_colours]
        return cls(*((c[0], c[1], c[2]) for c in channels))


def circle(n_corners: int = 32) -> Outline:
    """Return the unit circle's corners (P, 2), clockwise from the top."""
    turn = np.linspace(0.0, 2 * np.pi, n_corners, endpoint=False)
    return np.stack([np.sin(turn), -np.cos(turn)], axis=1)


CIRCLE = circle()


def placed(outline: Outline, x: float, y: float, size: float = 1.0, angle: float = 0.0) -> Outline:
    """Return the outline (P, 2) turned by ``angle`` radians, scaled to radius ``size``, moved to (x, y)."""
    if angle:
        cos, sin = np.cos(angle), np.sin(angle)
        outline = outline @ np.array([[cos, sin], [-sin, cos]])
    moved: Outline = outline * size + (x, y)
    return moved


@dataclass(frozen=True)
class Canvas:
    """A poster being drawn, with the palette and the random stream that its strokes share."""

    image: Image.Image
    palette: Palette
    rng: np.random.Generator
    paint: ImageDraw.ImageDraw  # opaque
    glaze: ImageDraw.ImageDraw  # blends with what lies below: several times slower, so only where it is needed

    @classmethod
    def over(cls, image: Image.Image, palette: Palette, rng: np.random.Generator) -> Canvas:
        """Return a canvas that draws over ``image``, RGB of ``POSTER_SIZE_PX`` times ``SUPERSAMPLING``."""
        return cls(image, palette, rng, ImageDraw.Draw(image), ImageDraw.Draw(image, "RGBA"))

    def fill(self, corners: ArrayLike, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a polygon with corners (P, 2) in poster widths; ``opacity`` is in 0..1."""
        brush, ink = self._brush(colour, opacity)
        brush.polygon((np.asarray(corners, dtype=float) * PX).ravel().tolist(), fill=ink)

    def box(self, left: float, top: float, width: float, height: float, colour: Colour, opacity: float = 1.0) -> None:
        """Fill an upright rectangle."""
        brush, ink = self._brush(colour, opacity)
        brush.rectangle([left * PX, top * PX, (left + width) * PX, (top + height) * PX], fill=ink)

    def _brush(self, colour: Colour, opacity: float) -> tuple[ImageDraw.ImageDraw, tuple[int, ...]]:
        return (self.paint, colour) if opacity == 1.0 else (self.glaze, (*colour, round(255 * opacity)))

    def disc(self, x: float, y: float, radius: float, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a circle around (x, y)."""
        self.fill(placed(CIRCLE, x, y, radius), colour, opacity)

    def glow(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Lay four translucent discs over each other: a cheap blur."""
        for share in (1.0, 0.8, 0.62, 0.48):
            self.disc(x, y, radius * share, colour, 0.13)
