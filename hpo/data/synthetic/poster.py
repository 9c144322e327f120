"""How a sample poster comes together: sky, backdrop, characters, things in the air, title and credits.

The evidence model is one sentence: a poster has slots (mood, undertone, backdrop, air, costumes, lettering),
each slot tells of one of its genres picked at random, and lies with probability ``MISLEADING``. So a genre
may go unseen, genres share a poster's surface, and no single motif decides: what can be learnt stays well
below 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from hpo.data.synthetic.canvas import POSTER_SIZE_PX, SUPERSAMPLING, Canvas, Palette, blend, shifted
from hpo.data.synthetic.characters import draw_characters
from hpo.data.synthetic.lettering import LETTERINGS, set_title
from hpo.data.synthetic.motifs import BACKDROPS, FLURRIES

# Chance that a slot shows a genre picked from all ten: set so that a good head reaches about 0.65 f1_macro.
MISLEADING = 0.18

MOODS: dict[str, Palette] = {
    "Action": Palette.of("1b0b14", "d8432b", "6b1a1f", "1a0e12", "ff9d2e", "ffe9c7"),
    "Adventure": Palette.of("2f8fd0", "eaf6d8", "5fa777", "23523f", "f0b541", "fffbe6"),
    "Comedy": Palette.of("35c3e8", "fff2a8", "ffb13d", "e8604c", "ffde3b", "ffffff"),
    "Drama": Palette.of("4c5d73", "d9cbb8", "7d8793", "2d3642", "b8574b", "f3ece2"),
    "Fantasy": Palette.of("2b2468", "c79bf2", "5a46a6", "231a4a", "6ff0d4", "fbeaff"),
    "Mystery": Palette.of("0b1216", "35514f", "16262a", "070b0d", "e0b04a", "f3ead2"),
    "Romance": Palette.of("ff9fbd", "ffe6dc", "e88aa8", "a8476b", "ff5c8a", "fff7f5"),
    "Sci-Fi": Palette.of("060a24", "1f6f9f", "12335e", "070d22", "39f0ff", "e8fbff"),
    "Slice of Life": Palette.of("a8dcef", "fdf4dc", "a9cf9c", "6f9e7d", "f7a072", "ffffff"),
    "Supernatural": Palette.of("0d0b1f", "4b2f72", "231640", "0b0815", "8ff0a4", "e7e0ff"),
}
GENRES = tuple(MOODS)


@dataclass(frozen=True)
class Storyboard:
    """Which genre each slot of a poster tells of."""

    mood: str
    undertone: str
    backdrop: str
    air: tuple[str, ...]
    costumes: tuple[str, ...]
    lettering: str


def plan_poster(genres: tuple[str, ...], rng: np.random.Generator) -> Storyboard:
    """Fill every slot with one of the poster's genres, or with a misleading one."""

    def pick() -> str:
        candidates = GENRES if rng.random() < MISLEADING else genres
        return candidates[int(rng.integers(len(candidates)))]

    n_flurries, n_characters = int(rng.integers(1, 3)), int(rng.choice(3, p=(0.1, 0.6, 0.3)))
    air, costumes = tuple(pick() for _ in range(n_flurries)), tuple(pick() for _ in range(n_characters))
    return Storyboard(pick(), pick(), pick(), air, costumes, pick())


def draw_poster(title: str, genres: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """Draw one poster: RGB, ``POSTER_SIZE_PX``. The same title, genres and stream give the same pixels."""
    plan = plan_poster(genres, rng)
    palette = _mixed_palette(plan, rng)
    canvas = Canvas.over(_sky(palette, rng), palette, rng)
    BACKDROPS[plan.backdrop](canvas)
    for genre in plan.air[1:]:
        FLURRIES[genre].draw(canvas, palette.light)
    draw_characters(canvas, plan.costumes)
    in_front = plan.air[0]
    FLURRIES[in_front].draw(canvas, MOODS[in_front].accent if rng.random() < 0.5 else palette.accent)
    poster = canvas.image.reduce(SUPERSAMPLING)
    set_title(poster, title, LETTERINGS[plan.lettering], palette, rng)
    return poster


def _mixed_palette(plan: Storyboard, rng: np.random.Generator) -> Palette:
    """Return the mood's colours, tinted by the undertone and shifted a little: no two posters share one."""
    share, value = rng.uniform((0.0, 0.85), (0.5, 1.15)).tolist()
    hue = float(rng.normal(0, 0.03))
    pairs = zip(MOODS[plan.mood], MOODS[plan.undertone], strict=True)
    return Palette(*(shifted(blend(main, tint, share), hue, value) for main, tint in pairs))


def _sky(palette: Palette, rng: np.random.Generator) -> Image.Image:
    """Return a gradient from the sky's top to its low colour, at the supersampled size."""
    top, low = np.array(palette.sky_top), np.array(palette.sky_low)
    share = np.linspace(0, 1, 64)[:, None] ** rng.uniform(0.6, 1.6)
    column = (top + (low - top) * share).round().astype(np.uint8)  # (64, 3)
    width, height = (side * SUPERSAMPLING for side in POSTER_SIZE_PX)
    smooth = Image.fromarray(column[:, None, :]).resize((1, height), Image.Resampling.BILINEAR)
    return smooth.resize((width, height), Image.Resampling.NEAREST)
