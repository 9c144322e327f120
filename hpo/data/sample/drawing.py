"""Draw a sample poster from the records of its genres.

A poster has slots (mood, undertone, backdrop, air, costumes). Each shows one of its genres, picked at random, and
misleads with probability ``MISLEADING``: a genre may go unseen, and no single motif decides.
"""

from __future__ import annotations

import cmath
from collections.abc import Mapping, Sequence
from functools import lru_cache
from textwrap import wrap
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

from hpo.data.sample.genres import FIGURE, FIGURE_COLOURS, PALETTE, RECORDS, Layer
from hpo.data.sample.shows import GENRES, one_of

POSTER_SIZE_PX = (225, 320)
SUPERSAMPLING = 2  # drawn twice as large and averaged down: smooth edges, since ImageDraw has none of its own
WIDTH_PX, HEIGHT_PX = (side * SUPERSAMPLING for side in POSTER_SIZE_PX)
MISLEADING = 0.12  # chance that a slot shows a genre picked from all: set so that a good head reaches 0.65 f1_macro
CREDITS = "SYNTHETIC SAMPLE"
SHADE = Image.linear_gradient("L").resize((POSTER_SIZE_PX[0], 120))  # a mask, from nothing to opaque

Outline: TypeAlias = NDArray[np.complex128]  # (P,) corners x + iy
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
    n_flurries, n_figures = one_of(rng, (1, 2)), one_of(rng, (0, 1, 1, 1, 1, 1, 1, 2, 2, 2))
    return Storyboard(picks[0], picks[1], picks[2], tuple(picks[3 : 3 + n_flurries]), tuple(picks[5 : 5 + n_figures]))


def draw_poster(title: str, genres: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """Draw one poster: RGB, ``POSTER_SIZE_PX``. The same title, genres and stream give the same pixels."""
    plan = plan_poster(genres, rng)
    colours = _mixed_palette(plan, rng)
    share = np.linspace(0, 1, HEIGHT_PX)[:, None, None] ** rng.uniform(0.6, 1.6)
    sky = np.array(colours["sky_top"]) * (1 - share) + np.array(colours["sky_low"]) * share  # (HEIGHT_PX, 1, 3)
    canvas = Canvas(Image.fromarray(sky.astype(np.uint8)).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.NEAREST), rng)
    for layer in RECORDS[plan.backdrop].backdrop:
        canvas.lay(layer, colours)
    for genre in plan.air[1:]:
        canvas.lay(RECORDS[genre].air, {**colours, "tint": colours["light"]})
    for genre, side in zip(plan.costumes, (-0.22, 0.22), strict=False):
        _draw_figure(canvas, RECORDS[genre].costume, colours, side if len(plan.costumes) == 2 else 0.0)
    in_front = RECORDS[plan.air[0]]
    canvas.lay(in_front.air, {**colours, "tint": ImageColor.getrgb(f"#{in_front.palette.split()[4]}")})
    poster = canvas.image.reduce(SUPERSAMPLING)
    _set_title(poster, title, colours, at_top=bool(rng.random() < 0.35))
    return poster


@lru_cache(maxsize=256)
def read_sprite(text: str) -> tuple[Outline, list[tuple[slice, str, float]]]:
    """Return the corners of a sprite's parts; and for each its place in x, y, x, y, ..., its colour, its opacity."""
    outlines: list[Outline] = []
    parts = []
    for words in map(str.split, text.split(";")):
        *shape, named = (word for word in words if "," not in word)
        pairs = [tuple(map(float, word.split(","))) for word in words if "," in word]
        outline: Outline = np.array([complex(x, y) / 100 for x, y in pairs], dtype=complex)
        if len(outline) == 2:  # a rectangle is an ellipse of four corners, enlarged
            turn = np.linspace(0.25, 2.25, 4 if "box" in shape else 24, endpoint=False) * np.pi
            reach = (outline[1] - outline[0]) / (2**0.5 if "box" in shape else 2)
            outline = outline.mean() + np.sin(turn) * reach.real + 1j * np.cos(turn) * reach.imag
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


class Canvas:
    """A poster being drawn, and its random stream. Places and sizes are in poster widths."""

    def __init__(self, image: Image.Image, rng: np.random.Generator) -> None:
        self.image, self.rng = image, rng
        self._opaque, self._glaze = ImageDraw.Draw(image), ImageDraw.Draw(image, "RGBA")  # to glaze is slower

    def stamp(self, sprite: str, colours: Mapping[str, Colour], place: Sequence[float], flip: int) -> None:
        """Draw a sprite at x, y, in a size and turned by radians; a ``flip`` of -1 mirrors it first."""
        (corners, parts), (x, y, size, turn) = read_sprite(sprite), place
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
        rng, most = self.rng, layer.copies
        count = int(rng.integers((most + 1) // 2, most + 1)) if layer.layout == "scatter" else most
        low, high = zip(layer.x, layer.y, layer.size, layer.turn, strict=True)
        places = rng.uniform(low, high, (count, 4))  # x, y, size, turn
        if layer.layout == "row":
            places[:, 0] = np.linspace(*layer.x, count) + rng.uniform(-0.3, 0.3) / count
        elif layer.layout == "ring":
            places[:, :2] = places[0, :2]
            places[:, 3] += np.linspace(0, 2 * np.pi, count, endpoint=False)
        numbers = rng.integers(2 * len(layer.sprites), size=count).tolist()  # two for each, one mirrored
        for place, number in zip(places.tolist(), numbers, strict=True):
            self.stamp(layer.sprites[number // 2], colours, place, 1 - 2 * (number % 2))


def _draw_figure(canvas: Canvas, costume: str, colours: Mapping[str, Colour], side: float) -> None:
    """Draw a bust in the lower half; ``side`` is where a pair's figure stands, 0 for a single one."""
    rng = canvas.rng
    own = {name: ImageColor.getrgb(one_of(rng, options)) for name, options in FIGURE_COLOURS.items()}
    dye = one_of(rng, (colours["accent"], colours["light"], own["hair"]))
    coat = 0.6 * np.array(colours["near"]) + 0.4 * np.array(dye)
    dressed = {**colours, **_named((*own, "coat"), np.array([*own.values(), coat]))}
    x, y, turn = 0.5 + side + rng.normal(0, 0.05 if side else 0.12), rng.uniform(0.62, 0.82), rng.normal(0, 0.08)
    size, flip = rng.uniform(0.12, 0.2) * (0.8 if side else 1.0), one_of(rng, (-1, 1))
    for sprite in (*(one_of(rng, options) for options in FIGURE), costume):
        canvas.stamp(sprite, dressed, (x, y, size, turn), flip)


def _named(names: tuple[str, ...], colours: NDArray[np.float64]) -> dict[str, Colour]:
    """Return colours (K, 3) by name, and each in a ``dark_`` shade."""
    shades = np.concatenate([colours, 0.82 * colours]).clip(0, 255).astype(int).tolist()
    return dict(zip((*names, *(f"dark_{name}" for name in names)), map(tuple, shades), strict=True))


def _mixed_palette(plan: Storyboard, rng: np.random.Generator) -> dict[str, Colour]:
    """Return the mood's colours, tinted by the undertone and shifted a little: no two posters share them."""
    mood, tint = (np.array([[*bytes.fromhex(c)] for c in RECORDS[genre].palette.split()]) for genre in plan[:2])
    mixed = (mood + rng.uniform(0, 0.5) * (tint - mood)) * rng.uniform(0.85, 1.15) * rng.normal(1, 0.04, 3)  # (6, 3)
    ray, mist = mixed[[1, 4]].mean(axis=0), mixed[[1, 5]].mean(axis=0)
    return _named((*PALETTE, "ray", "mist"), np.array([*mixed, ray, mist]))


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # Pillow's own, so that none needs to be installed


def _set_title(poster: Image.Image, title: str, colours: Mapping[str, Colour], at_top: bool) -> None:
    """Set the title over a shade at the top or the bottom of the poster, and the credits at its foot."""
    lines = wrap(title, max(10, len(title) // 2 + 3))
    font = _font(min(34, 390 // max(map(len, lines))))
    shade = ImageOps.flip(SHADE) if at_top else SHADE
    poster.paste(colours["dark_near"], (0, 0 if at_top else poster.height - shade.height), shade)
    ink, middle = ImageDraw.Draw(poster), poster.width / 2
    place = (middle, 42 if at_top else poster.height - 56)
    ink.multiline_text(place, "\n".join(lines), colours["light"], font, "mm", spacing=2, align="center")
    ink.text((middle, poster.height - 9), CREDITS, colours["light"], _font(8), "mm")
