"""How a sample poster is drawn: sky, backdrop, one or two characters, things in the air, title and credits.

The evidence model is one sentence: a poster has slots (mood, backdrop, air, costume, lettering), each slot tells of
one of its genres picked at random, and lies with probability ``MISLEADING``. So a genre may go unseen, two genres
share a poster's surface, and no single motif decides: what a frozen backbone can learn stays well below 1.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from hpo.data.characters import draw_characters
from hpo.data.motifs import BACKDROPS, FLURRIES, POSTER_SIZE_PX, SUPERSAMPLING, Colour, Canvas, Palette, blend, shifted

GENRES = tuple(sorted(BACKDROPS))
MISLEADING = 0.2  # chance that a slot shows a genre picked from all ten


def _palette(*hex_colours: str) -> Palette:
    red_green_blue = [bytes.fromhex(colour) for colour in hex_colours]
    return Palette(*((c[0], c[1], c[2]) for c in red_green_blue))


MOODS: dict[str, Palette] = {
    "Action": _palette("1b0b14", "d8432b", "6b1a1f", "1a0e12", "ff9d2e", "ffe9c7"),
    "Adventure": _palette("2f8fd0", "eaf6d8", "5fa777", "23523f", "f0b541", "fffbe6"),
    "Comedy": _palette("35c3e8", "fff2a8", "ffb13d", "e8604c", "ffde3b", "ffffff"),
    "Drama": _palette("4c5d73", "d9cbb8", "7d8793", "2d3642", "b8574b", "f3ece2"),
    "Fantasy": _palette("2b2468", "c79bf2", "5a46a6", "231a4a", "6ff0d4", "fbeaff"),
    "Mystery": _palette("0b1216", "35514f", "16262a", "070b0d", "e0b04a", "f3ead2"),
    "Romance": _palette("ff9fbd", "ffe6dc", "e88aa8", "a8476b", "ff5c8a", "fff7f5"),
    "Sci-Fi": _palette("060a24", "1f6f9f", "12335e", "070d22", "39f0ff", "e8fbff"),
    "Slice of Life": _palette("a8dcef", "fdf4dc", "a9cf9c", "6f9e7d", "f7a072", "ffffff"),
    "Supernatural": _palette("0d0b1f", "4b2f72", "231640", "0b0815", "8ff0a4", "e7e0ff"),
}


@dataclass(frozen=True)
class Lettering:
    """How a title is set: capitals, extra space between letters, bounce, tilt (degrees), outline (all shares of the size)."""

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


@dataclass(frozen=True)
class Storyboard:
    """Which genre each slot of a poster tells of."""

    mood: str
    undertone: str
    backdrop: str
    air: tuple[str, ...]
    costumes: tuple[str, ...]
    lettering: str


def storyboard(genres: tuple[str, ...], rng: np.random.Generator) -> Storyboard:
    """Fill every slot with one of the poster's genres, or with a misleading one."""

    def pick() -> str:
        candidates = GENRES if rng.random() < MISLEADING else genres
        return candidates[int(rng.integers(len(candidates)))]

    n_flurries, n_characters = int(rng.integers(1, 3)), int(rng.choice(3, p=(0.1, 0.6, 0.3)))
    air, costumes = tuple(pick() for _ in range(n_flurries)), tuple(pick() for _ in range(n_characters))
    return Storyboard(pick(), pick(), pick(), air, costumes, pick())


def draw_poster(title: str, genres: tuple[str, ...], rng: np.random.Generator) -> Image.Image:
    """Draw one poster: RGB, ``POSTER_SIZE_PX``. The same title, genres and stream give the same pixels."""
    plan = storyboard(genres, rng)
    palette = _mixed_palette(plan, rng)
    canvas = Canvas.over(_sky(palette, rng), palette, rng)
    BACKDROPS[plan.backdrop](canvas)
    for genre in plan.air[1:]:
        FLURRIES[genre].draw(canvas, palette.light)
    draw_characters(canvas, plan.costumes)
    FLURRIES[plan.air[0]].draw(canvas, MOODS[plan.air[0]].accent if rng.random() < 0.5 else palette.accent)
    poster = canvas.image.reduce(SUPERSAMPLING)
    _set_title(poster, title, LETTERINGS[plan.lettering], palette, rng)  # text is smooth already, at a quarter the cost
    return poster


# ---------------------------------------------------------------- colour


def _mixed_palette(plan: Storyboard, rng: np.random.Generator) -> Palette:
    """Return the mood's colours, tinted by the undertone and shifted a little: no two posters share one."""
    share, hue, value = float(rng.uniform(0, 0.5)), float(rng.normal(0, 0.03)), float(rng.uniform(0.85, 1.15))
    pairs = zip(astuple(MOODS[plan.mood]), astuple(MOODS[plan.undertone]), strict=True)
    return Palette(*(shifted(blend(a, b, share), hue, value) for a, b in pairs))


def _sky(palette: Palette, rng: np.random.Generator) -> Image.Image:
    """Return a gradient from the sky's top to its low colour, at the supersampled size."""
    top, low = np.array(palette.sky_top), np.array(palette.sky_low)
    share = np.linspace(0, 1, 64)[:, None] ** rng.uniform(0.6, 1.6)
    column = (top + (low - top) * share).round().astype(np.uint8)  # (64, 3)
    width, height = (side * SUPERSAMPLING for side in POSTER_SIZE_PX)
    smooth = Image.fromarray(column[:, None, :]).resize((1, height), Image.Resampling.BILINEAR)
    return smooth.resize((width, height), Image.Resampling.NEAREST)


# ---------------------------------------------------------------- lettering

CREDITS = "A SYNTHETIC POSTER  -  NO SUCH SHOW EXISTS"


@lru_cache(maxsize=64)
def _font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size_px)  # ships inside Pillow: no font needs to be installed


def _balanced_lines(title: str) -> list[str]:
    """Break a title in two where the halves are closest in length; a short one stays whole."""
    words = title.split()
    if len(title) < 12 or len(words) == 1:
        return [title]
    breaks = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return list(min(breaks, key=lambda lines: abs(len(lines[0]) - len(lines[1]))))


def _letters_mask(
    line: str, size_px: int, style: Lettering, outline_px: int, hops: list[float]
) -> Image.Image:
    """Set one line letter by letter on a mask, 1.7 sizes high and as wide as it needs."""
    font, step = _font(size_px), style.tracking * size_px
    widths = [font.getlength(letter) + step for letter in line]
    mask = Image.new("L", (round(sum(widths)) + size_px, round(1.7 * size_px)))
    ink, x = ImageDraw.Draw(mask), 0.5 * size_px
    for letter, width, hop in zip(line, widths, hops, strict=True):
        y = (0.25 + style.bounce * hop) * size_px
        ink.text((x, y), letter, font=font, fill=255, stroke_width=outline_px)
        x += width
    return mask.rotate(style.tilt, Image.Resampling.BILINEAR, expand=True) if style.tilt else mask


def _stamp(poster: Image.Image, mask: Image.Image, middle_px: float, colour: Colour) -> None:
    """Paint ``colour`` through a mask that is centred across the poster, with its middle at this height."""
    corner = ((poster.width - mask.width) // 2, round(middle_px - mask.height / 2))
    poster.paste(colour, corner, mask)


@lru_cache(maxsize=1)
def _credits_mask() -> Image.Image:
    return _letters_mask(CREDITS, 8, Lettering(tracking=0.03), 0, [0.0] * len(CREDITS))


@lru_cache(maxsize=1)
def _shade_mask() -> Image.Image:
    """Return a mask, as wide as a poster and 100 px high, that fades from nothing to three quarters."""
    fade = Image.linear_gradient("L").point([round(0.75 * level) for level in range(256)])
    return fade.resize((POSTER_SIZE_PX[0], 100))


def _title_size_px(lines: list[str], style: Lettering) -> int:
    """Return the letter size that makes the longest line nine tenths of the poster, at most 38 px."""
    longest = max(_font(64).getlength(line) / 64 + style.tracking * len(line) for line in lines)
    return min(38, 2 * int(0.9 * POSTER_SIZE_PX[0] / longest / 2))  # even, so that few fonts need to be kept


def _set_title(
    poster: Image.Image, title: str, style: Lettering, palette: Palette, rng: np.random.Generator
) -> None:
    """Set the title over a shade at the top or the bottom, and the credits at the foot."""
    shade, at_top = _shade_mask(), bool(rng.random() < 0.35)
    _stamp(poster, shade, poster.height - shade.height / 2, palette.near)
    if at_top:
        _stamp(poster, ImageOps.flip(shade), shade.height / 2, palette.near)
    lines = _balanced_lines(title.upper() if style.capitals else title)
    size_px = _title_size_px(lines, style)
    middle_px = (42 if at_top else poster.height - 54) - (len(lines) - 1) / 2 * 1.15 * size_px
    for row, line in enumerate(lines):
        _set_line(poster, line, middle_px + row * 1.15 * size_px, size_px, style, palette, rng)
    _stamp(poster, _credits_mask(), poster.height - 9, palette.light)


def _set_line(
    poster: Image.Image,
    line: str,
    middle_px: float,
    size_px: int,
    style: Lettering,
    palette: Palette,
    rng: np.random.Generator,
) -> None:
    """Set one line of the title: first its dark outline, then its face."""
    hops = rng.uniform(-1, 1, len(line)).tolist()
    if style.outline:
        outline = _letters_mask(line, size_px, style, round(style.outline * size_px), hops)
        _stamp(poster, outline, middle_px, palette.near)
    _stamp(poster, _letters_mask(line, size_px, style, 0, hops), middle_px, palette.light)
