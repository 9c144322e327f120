"""Colours, and a canvas that draws filled polygons in units of the poster width.

Polygons are quick and come out the same on every machine. All lengths are in poster widths: x runs from 0 to
1, y from 0 (top) to ``HEIGHT`` (bottom).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

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


# How a title is set on a poster: letter by letter, in a style that hints at one genre.
#
# The letters are Pillow's own built-in font, so that no font needs to be installed. They are smooth already,
# which is why text is drawn on the finished poster and not on the supersampled canvas.

CREDITS = "A SYNTHETIC POSTER  -  NO SUCH SHOW EXISTS"
LARGEST_PX = 36  # for a title of one line; lines share a band of the poster
LEADING = 1.15  # line height in letter sizes
MARGIN_PX = 6  # around a glyph, for its stroke


@dataclass(frozen=True)
class Lettering:
    """A style; tracking, bounce and outline are shares of the letter size, tilt is in degrees."""

    capitals: bool = False
    tracking: float = 0.0
    bounce: float = 0.0
    tilt: float = 0.0
    outline: float = 0.0


LETTERINGS: dict[str, Lettering] = {
    "Action": Lettering(capitals=True, tilt=9, outline=0.1),
    "Adventure": Lettering(capitals=True, tracking=0.08, outline=0.06),
    "Comedy": Lettering(bounce=0.22, outline=0.14),
    "Drama": Lettering(tracking=0.12),
    "Fantasy": Lettering(tracking=0.03, bounce=0.05, outline=0.05),
    "Mystery": Lettering(capitals=True, tracking=0.35),
    "Romance": Lettering(bounce=0.08, tilt=5),
    "Sci-Fi": Lettering(capitals=True, tracking=0.22, outline=0.04),
    "Slice of Life": Lettering(tracking=0.05, bounce=0.04),
    "Supernatural": Lettering(capitals=True, bounce=0.1, tilt=-5),
}


def set_title(poster: Image.Image, title: str, style: Lettering, palette: Palette, rng: np.random.Generator) -> None:
    """Set the title over a shade at the top or the bottom of the poster, and the credits at its foot."""
    shade, at_top = _shade(), bool(rng.random() < 0.35)
    _stamp(poster, shade, poster.height - shade.height / 2, palette.near)
    if at_top:
        _stamp(poster, ImageOps.flip(shade), shade.height / 2, palette.near)
    lines = _balanced_lines(title.upper() if style.capitals else title)
    hops = rng.uniform(-style.bounce, style.bounce, len(title)).tolist()
    middle_px = 46 if at_top else poster.height - 60
    if style.outline:
        _stamp(poster, _title_mask(lines, style, hops, style.outline), middle_px, palette.near)
    _stamp(poster, _title_mask(lines, style, hops), middle_px, palette.light)
    _stamp(poster, _credits(), poster.height - 9, palette.light)


def _stamp(poster: Image.Image, mask: Image.Image, middle_px: float, colour: tuple[int, int, int]) -> None:
    """Paint ``colour`` through a mask as wide as the poster, with its middle at this height."""
    poster.paste(colour, (0, round(middle_px - mask.height / 2)), mask)


def _balanced_lines(title: str) -> list[str]:
    """Break a title in two where the halves are closest in length; a short one stays whole."""
    words = title.split()
    if len(title) < 12 or len(words) == 1:
        return [title]
    breaks = [[" ".join(words[:i]), " ".join(words[i:])] for i in range(1, len(words))]
    return min(breaks, key=lambda lines: abs(len(lines[0]) - len(lines[1])))


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)


@lru_cache(maxsize=4096)
def _width_px(letter: str, size_px: int) -> float:
    return _font(size_px).getlength(letter)


def _advances(line: str, size_px: int, style: Lettering) -> list[float]:
    """Return how far every letter moves the pen, in pixels."""
    return [_width_px(letter, size_px) + style.tracking * size_px for letter in line]


def _fitting_size_px(lines: list[str], style: Lettering) -> int:
    """Return the letter size that makes the longest line nine tenths of the poster."""
    longest = max(sum(_advances(line, 64, style)) / 64 for line in lines)
    largest_px = LARGEST_PX - 6 * (len(lines) - 1)
    return min(largest_px, 2 * int(0.45 * POSTER_SIZE_PX[0] / longest))  # even: few fonts are kept


def _title_mask(lines: list[str], style: Lettering, hops: list[float], outline: float = 0.0) -> Image.Image:
    """Return a mask, as wide as a poster, with the lines centred on it; ``hops`` lifts each letter."""
    size_px = _fitting_size_px(lines, style)
    mask = Image.new("L", (POSTER_SIZE_PX[0], round((len(lines) + 1) * LEADING * size_px)))
    hop = iter(hops)
    for row, line in enumerate(lines):
        advances = _advances(line, size_px, style)
        x, y = (mask.width - sum(advances)) / 2, (row + 0.5) * LEADING * size_px
        for letter, advance in zip(line, advances, strict=True):
            glyph = _glyph(letter, size_px, round(outline * size_px))
            mask.paste(255, (round(x) - MARGIN_PX, round(y + next(hop) * size_px) - MARGIN_PX), glyph)
            x += advance
    return mask.rotate(style.tilt, Image.Resampling.BILINEAR) if style.tilt else mask


@lru_cache(maxsize=4096)
def _glyph(letter: str, size_px: int, stroke_px: int) -> Image.Image:
    """Return the mask of one letter with a margin for its stroke; titles share most of their glyphs."""
    mask = Image.new("L", (2 * size_px + 2 * MARGIN_PX, 2 * size_px + 2 * MARGIN_PX))
    ink = ImageDraw.Draw(mask)
    ink.text((MARGIN_PX, MARGIN_PX), letter, font=_font(size_px), fill=255, stroke_width=stroke_px)
    _, _, right, bottom = mask.getbbox() or (0, 0, 1, 1)  # a space has no ink
    return mask.crop((0, 0, right, bottom))


@lru_cache(maxsize=1)
def _credits() -> Image.Image:
    return _title_mask([CREDITS], Lettering(), [0.0] * len(CREDITS))


@lru_cache(maxsize=1)
def _shade() -> Image.Image:
    """Return a mask, as wide as a poster and 100 px high, that fades from nothing to three quarters."""
    fade = Image.linear_gradient("L").point([round(0.75 * level) for level in range(256)])
    return fade.resize((POSTER_SIZE_PX[0], 100))
