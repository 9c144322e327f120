"""Draw a sample poster from the records of its genres.

A poster has slots (mood, undertone, backdrop, air, costumes). Each shows one of its genres, picked at random, and
misleads with probability ``MISLEADING``: a genre may go unseen, genres share a poster's surface, and no single motif
decides. What can be learnt stays well below 1, as on real posters.
"""

from __future__ import annotations

import cmath
from collections.abc import Mapping, Sequence
from functools import lru_cache
from textwrap import wrap
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont, ImageOps

from hpo.data.sample.genres import FIGURE, FIGURE_COLOURS, PALETTE, RECORDS, Layer
from hpo.data.sample.shows import GENRES, one_of

POSTER_SIZE_PX = (225, 320)
SUPERSAMPLING = 2  # drawn twice as large and averaged down: smooth edges, since ImageDraw has none of its own
WIDTH_PX, HEIGHT_PX = (side * SUPERSAMPLING for side in POSTER_SIZE_PX)
MISLEADING = 0.18  # chance that a slot shows a genre picked from all: set so that a good head reaches 0.65 f1_macro
CREDITS = "A SYNTHETIC POSTER  -  NO SUCH SHOW EXISTS"

Outline: TypeAlias = NDArray[np.complex128]  # (P,) corners x + iy
Floats: TypeAlias = NDArray[np.float64]
Colour: TypeAlias = tuple[int, ...]


class Storyboard(NamedTuple):
    """The genre that each slot of a poster shows."""

    mood: str
    undertone: str
    backdrop: str
    air: tuple[str, ...]  # from front to back
    costumes: tuple[str, ...]


def plan_poster(genres: tuple[str, ...], rng: np.random.Generator) -> Storyboard:
    """Fill every slot with one of the poster's genres, or with a misleading one."""
    picks = [one_of(rng, GENRES if rng.random() < MISLEADING else genres) for _ in range(7)]
    n_flurries, n_figures = int(rng.integers(1, 3)), one_of(rng, (0, 1, 1, 1, 1, 1, 1, 2, 2, 2))
    mood, undertone, backdrop = picks[:3]
    return Storyboard(mood, undertone, backdrop, tuple(picks[3 : 3 + n_flurries]), tuple(picks[5 : 5 + n_figures]))


def draw_poster(title: str, genres: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """Draw one poster: RGB, ``POSTER_SIZE_PX``. The same title, genres and stream give the same pixels."""
    plan = plan_poster(genres, rng)
    palette = _mixed_palette(plan, rng)
    colours = _named((*PALETTE, "ray", "mist"), [*palette, palette[[1, 4]].mean(axis=0), palette[[1, 5]].mean(axis=0)])
    canvas = Canvas(_sky(palette[0], palette[1], rng), rng)
    for layer in RECORDS[plan.backdrop].backdrop:
        canvas.lay(layer, colours)
    for genre in plan.air[1:]:
        canvas.lay(RECORDS[genre].air, {**colours, "tint": colours["light"]})
    for genre, side in zip(plan.costumes, (-0.22, 0.22), strict=False):
        _draw_figure(canvas, RECORDS[genre].costume, colours, side if len(plan.costumes) == 2 else 0.0)
    own_tint = ImageColor.getrgb(f"#{RECORDS[plan.air[0]].palette.split()[4]}")
    canvas.lay(RECORDS[plan.air[0]].air, {**colours, "tint": one_of(rng, (own_tint, colours["accent"]))})
    poster = canvas.image.reduce(SUPERSAMPLING)
    _set_title(poster, title, colours, at_top=bool(rng.random() < 0.35))
    return poster


# ---------------------------------------------------------------- sprites


@lru_cache(maxsize=256)
def read_sprite(text: str) -> tuple[Outline, list[tuple[slice, str, float]]]:
    """Read a sprite in the language of ``genres``.

    Returns the corners of all its parts, and of each part where its numbers x, y, x, y, ... are, its colour's name and
    its opacity.
    """
    outlines: list[Outline] = []
    parts = []
    for words in map(str.split, text.split(";")):
        *shape, named = (word for word in words if "," not in word)
        pairs = [tuple(map(float, word.split(","))) for word in words if "," in word]
        outline: Outline = np.array([complex(x, y) / 100 for x, y in pairs], dtype=complex)
        if len(outline) == 2:
            outline = _between(outline[0], outline[1], n_corners=4 if "box" in shape else 28)
        if "mirror" in shape:
            outline = np.concatenate([outline, -outline[::-1].conj()])
        for _ in range(2 if "round" in shape else 0):  # Chaikin's corner cutting
            outline = (np.outer(outline, (0.75, 0.25)) + np.outer(np.roll(outline, -1), (0.25, 0.75))).ravel()
        colour, _, percent = named.partition("/")
        for side in (outline, -outline.conj()) if "twin" in shape else (outline,):
            start = 2 * sum(map(len, outlines))
            parts.append((slice(start, start + 2 * len(side)), colour, int(percent or 100) / 100))
            outlines.append(side)
    return np.concatenate(outlines), parts


def _between(first: complex, last: complex, n_corners: int) -> Outline:
    """Return the ellipse between two corners, or with four corners the rectangle."""
    turn = np.linspace(0, 2 * np.pi, n_corners, endpoint=False) + np.pi / 4
    reach = (last - first) / (np.sqrt(2) if n_corners == 4 else 2)
    outline: Outline = (first + last) / 2 + np.sin(turn) * reach.real + 1j * np.cos(turn) * reach.imag
    return outline


class Canvas:
    """A poster being drawn, and its random stream. Places and sizes are in poster widths."""

    def __init__(self, image: Image.Image, rng: np.random.Generator) -> None:
        self.image, self.rng = image, rng
        self._opaque, self._glaze = ImageDraw.Draw(image), ImageDraw.Draw(image, "RGBA")  # to glaze is slower

    def stamp(self, sprite: str, colours: Mapping[str, Colour], place: Sequence[float], flip: int) -> None:
        """Draw a sprite at x, y, in a size and turned by radians; a ``flip`` of -1 mirrors it first."""
        x, y, size, turn = place
        corners, parts = read_sprite(sprite)
        placed = (corners if flip == 1 else -corners.conj()) * cmath.rect(size, turn) + complex(x, y)
        numbers = (placed * WIDTH_PX).view(np.float64).tolist()
        for where, name, opacity in parts:
            colour = colours.get(name) or ImageColor.getrgb(name)
            if opacity == 1:
                self._opaque.polygon(numbers[where], fill=colour)
            else:
                self._glaze.polygon(numbers[where], fill=(*colour, round(255 * opacity)))

    def lay(self, layer: Layer, colours: Mapping[str, Colour]) -> None:
        """Draw the copies of a layer."""
        rng, count = self.rng, layer.count
        if layer.layout == "scatter":
            count = int(rng.integers((count + 1) // 2, count + 1))
        low, high = zip(layer.x, layer.y, layer.size, layer.turn, strict=True)
        places = rng.uniform(low, high, (count, 4))  # x, y, size, turn
        if layer.layout == "row":
            places[:, 0] = np.linspace(*layer.x, count) + rng.uniform(-0.3, 0.3) / count
        elif layer.layout == "ring":
            places[:, :2] = places[0, :2]
            places[:, 3] += np.linspace(0, 2 * np.pi, count, endpoint=False)
        for place, number in zip(places.tolist(), rng.integers(2 * len(layer.sprites), size=count), strict=True):
            self.stamp(layer.sprites[number // 2], colours, place, flip=1 - 2 * (number % 2))


def _draw_figure(canvas: Canvas, costume: str, colours: Mapping[str, Colour], side: float) -> None:
    """Draw a bust in the lower half; ``side`` is where a pair's figure stands, 0 for a single one."""
    rng = canvas.rng
    own: dict[str, Colour] = {name: ImageColor.getrgb(one_of(rng, options)) for name, options in FIGURE_COLOURS.items()}
    dye = one_of(rng, (colours["accent"], colours["light"], own["hair"]))
    own["coat"] = tuple((0.6 * np.array(colours["near"]) + 0.4 * np.array(dye)).astype(int).tolist())
    x, y = 0.5 + side + rng.normal(0, 0.05 if side else 0.12), rng.uniform(0.62, 0.82)
    size, flip = rng.uniform(0.12, 0.2) * (0.8 if side else 1.0), one_of(rng, (-1, 1))
    dressed = {**colours, **_named(tuple(own), tuple(own.values()))}
    for sprite in (*(one_of(rng, options) for options in FIGURE), costume):
        canvas.stamp(sprite, dressed, (x, y, size, 0.0), flip)


# ---------------------------------------------------------------- colours and title


def _named(names: tuple[str, ...], colours: Sequence[Colour | Floats]) -> dict[str, Colour]:
    """Return colours (K, 3) by name, and each in a ``dark_`` shade."""
    shades = np.concatenate([np.array(colours), 0.82 * np.array(colours)]).clip(0, 255).astype(int).tolist()
    return dict(zip((*names, *(f"dark_{name}" for name in names)), map(tuple, shades), strict=True))


def _mixed_palette(plan: Storyboard, rng: np.random.Generator) -> Floats:
    """Return the mood's colours (6, 3), tinted by the undertone and shifted a little: no two posters share them."""
    mood, undertone = (np.array([[*bytes.fromhex(c)] for c in RECORDS[g].palette.split()]) for g in plan[:2])
    mixed: Floats = (mood + rng.uniform(0, 0.5) * (undertone - mood)) * rng.uniform(0.85, 1.15) * rng.normal(1, 0.04, 3)
    return mixed.clip(0, 255)


def _sky(top: Floats, low: Floats, rng: np.random.Generator) -> Image.Image:
    """Return a gradient from the top to the low colour, at the supersampled size."""
    share = np.linspace(0, 1, HEIGHT_PX)[:, None, None] ** rng.uniform(0.6, 1.6)
    column = Image.fromarray((top + (low - top) * share).astype(np.uint8))
    return column.resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.NEAREST)


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # Pillow's own, so that none needs to be installed


def _text_mask(text: str, size_px: int, height_px: int) -> Image.Image:
    mask = Image.new("L", (POSTER_SIZE_PX[0], height_px))
    middle = (mask.width / 2, mask.height / 2)
    ImageDraw.Draw(mask).multiline_text(middle, text, 255, _font(size_px), "mm", spacing=2, align="center")
    return mask


@lru_cache(maxsize=1)
def _fixed_masks() -> tuple[Image.Image, Image.Image]:
    """Return the masks of a shade that fades from nothing to three quarters, and of the credits."""
    shade = Image.linear_gradient("L").resize((POSTER_SIZE_PX[0], 96))
    return shade.point([level * 3 // 4 for level in range(256)]), _text_mask(CREDITS, 8, 12)


def _set_title(poster: Image.Image, title: str, colours: Mapping[str, Colour], at_top: bool) -> None:
    """Set the title over a shade at the top or the bottom of the poster, and the credits at its foot."""
    shade, credits = _fixed_masks()
    lines = wrap(title, max(10, len(title) // 2 + 3))
    longest = _font(32).getlength(max(lines, key=len)) / 32
    text = _text_mask("\n".join(lines), min(34, int(0.9 * poster.width / longest)), 84)
    ground = ImageOps.flip(shade) if at_top else shade.copy()
    outline = text.filter(ImageFilter.BoxBlur(2)).point([min(255, 4 * level) for level in range(256)])
    ground.paste(255, (0, 0), outline)
    top = 0 if at_top else poster.height - ground.height
    poster.paste(colours["near"], (0, top), ground)
    poster.paste(colours["light"], (0, top), text)
    poster.paste(colours["light"], (0, poster.height - 14), credits)
