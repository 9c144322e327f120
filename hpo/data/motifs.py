"""The shapes of the sample posters: a canvas in poster widths, small outlines, and one backdrop per genre.

Everything is a filled polygon, because polygons are quick and look the same on every machine. All lengths are in
poster widths: x runs from 0 to 1, y from 0 (top) to ``HEIGHT`` (bottom). Several motifs resemble each other on
purpose (sun rays and speed lines, rain and slashes, embers and ghost lights), as they do on real posters.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

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
    h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in colour))
    r, g, b = colorsys.hsv_to_rgb((h + hue) % 1.0, s, min(1.0, v * value))
    return round(255 * r), round(255 * g), round(255 * b)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that lies ``share`` (0..1) of the way from the first to the second."""
    r, g, b = (round(a + (z - a) * share) for a, z in zip(first, second, strict=True))
    return r, g, b


@dataclass(frozen=True)
class Palette:
    """Six colours that set a poster's mood, from the top of the sky to the brightest light."""

    sky_top: Colour
    sky_low: Colour
    far: Colour
    near: Colour
    accent: Colour
    light: Colour


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
        pixels = (np.asarray(corners, dtype=float) * PX).ravel().tolist()
        if opacity == 1.0:
            self.paint.polygon(pixels, fill=colour)
        else:
            self.glaze.polygon(pixels, fill=(*colour, round(255 * opacity)))

    def disc(self, x: float, y: float, radius: float, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a circle around (x, y)."""
        self.fill(CIRCLE * radius + (x, y), colour, opacity)

    def glow(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Lay four translucent discs over each other: a cheap blur."""
        for share in (1.0, 0.8, 0.62, 0.48):
            self.disc(x, y, radius * share, colour, 0.13)


def placed(outline: Outline, x: float, y: float, size: float, angle: float = 0.0) -> Outline:
    """Return the outline (P, 2) turned by ``angle`` radians, scaled to radius ``size`` and moved to (x, y)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return outline @ np.array([[cos, sin], [-sin, cos]]) * size + (x, y)


# ---------------------------------------------------------------- outlines


def _circle(n_corners: int = 40) -> Outline:
    turn = np.linspace(0.0, 2 * np.pi, n_corners, endpoint=False)
    return np.stack([np.sin(turn), -np.cos(turn)], axis=1)


def _toothed(n_teeth: int, inner: float, corners_per_tooth: int = 1) -> Outline:
    """Return a star (one corner per tooth) or a gear (two), with its valleys at radius ``inner``."""
    radii = np.tile(np.repeat([1.0, inner], corners_per_tooth), n_teeth)
    return _circle(len(radii)) * radii[:, None]


def _heart() -> Outline:
    t = np.linspace(0.0, 2 * np.pi, 40)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1) / 17


def _teardrop() -> Outline:
    t = np.linspace(0.0, 2 * np.pi, 32)
    return np.stack([np.sin(t) * np.sin(t / 2) ** 1.6 * 0.75, -np.cos(t)], axis=1)


def _magnifier() -> Outline:
    lens = _circle() * 0.7  # the seam between rim and lens has no area: one polygon draws a ring
    rim = np.concatenate([lens, lens[:1], lens[:1] * 0.72, lens[::-1] * 0.72, lens[:1]])
    handle = np.array([[-0.13, 0.68], [-0.13, 1.6], [0.13, 1.6], [0.13, 0.68]])
    return np.concatenate([rim[:20], handle[::-1], rim[20:]]) - (0.0, 0.3)


CIRCLE = _circle()
SPARKLE = _toothed(4, 0.28)
BURST = _toothed(11, 0.62)
COMPASS = _toothed(8, 0.34)
GEAR = _toothed(9, 0.74, 2)
HEXAGON = _circle(6)
HEART = _heart()
DROP = _teardrop()
FLAME = _teardrop() * (0.9, 1.2)
CRYSTAL = np.array([[0, -1.2], [0.45, -0.5], [0.45, 0.6], [0, 1.1], [-0.45, 0.6], [-0.45, -0.5]])
PETAL = np.array(
    [[0, 1], [0.55, 0.2], [0.5, -0.55], [0.2, -0.85], [0, -0.6], [-0.2, -0.85], [-0.5, -0.55], [-0.55, 0.2]]
)
LEAF = np.array(
    [[0, -1], [0.4, -0.4], [0.42, 0.2], [0.05, 0.9], [0, 1.3], [-0.05, 0.9], [-0.42, 0.2], [-0.4, -0.4]]
)
SLASH = np.array([[0, -3.2], [0.14, 0], [0, 3.2], [-0.14, 0]])
RAIN = np.array([[0.05, -2.2], [0.05, 2.2], [-0.05, 2.2], [-0.05, -2.2]])
BIRD = np.array(
    [[-1.2, -0.45], [-0.4, -0.3], [0, 0.1], [0.4, -0.3], [1.2, -0.45], [0.5, 0.0], [0, 0.42], [-0.5, 0.0]]
)
BUBBLE = np.concatenate([_circle(30)[:16] * (1.2, 0.8), [[-0.35, 1.3]], _circle(30)[17:] * (1.2, 0.8)])
CLOUD = np.concatenate(
    [
        _circle(12)[9:] * 0.6 + (-0.9, 0.2),
        _circle(12)[9:] + (-0.1, 0.1),
        _circle(12)[:4] + (0.1, 0.1),
        _circle(12)[:4] * 0.6 + (0.9, 0.2),
    ]
)
KEYHOLE = np.concatenate([_circle(20)[11:] * 0.6, _circle(20)[:9] * 0.6, [[0.5, 1.2], [-0.5, 1.2]]]) - (
    0,
    0.3,
)
MAGNIFIER = _magnifier()


@dataclass(frozen=True)
class Flurry:
    """Small shapes that fill the air: which, how many, how large (radius, poster widths), how much they turn."""

    outlines: tuple[Outline, ...]
    count: int
    size: float
    tilt: float = 0.0
    spin: float = 0.4

    def draw(self, canvas: Canvas, colour: Colour) -> None:
        """Scatter the shapes over the whole poster, the small ones fainter than the large ones."""
        rng = canvas.rng
        for _ in range(int(rng.integers(self.count // 2, self.count + 1))):
            outline = self.outlines[int(rng.integers(len(self.outlines)))]
            share = float(rng.uniform(0.45, 1.3))
            x, y = float(rng.uniform(0, 1)), float(rng.uniform(0.02, HEIGHT * 0.86))
            angle = self.tilt + float(rng.normal(0, self.spin))
            canvas.fill(placed(outline, x, y, self.size * share, angle), colour, min(1.0, 0.35 + 0.5 * share))


FLURRIES: dict[str, Flurry] = {
    "Action": Flurry((SLASH, FLAME), 14, 0.05, tilt=0.9, spin=0.15),
    "Adventure": Flurry((BIRD, COMPASS), 11, 0.045, spin=0.15),
    "Comedy": Flurry((BUBBLE, BURST), 9, 0.06),
    "Drama": Flurry((RAIN,), 60, 0.03, tilt=0.25, spin=0.02),
    "Fantasy": Flurry((SPARKLE, CRYSTAL), 16, 0.04, spin=0.2),
    "Mystery": Flurry((MAGNIFIER, KEYHOLE), 8, 0.06, tilt=-0.6),
    "Romance": Flurry((HEART, PETAL), 18, 0.035, spin=0.8),
    "Sci-Fi": Flurry((GEAR, HEXAGON), 10, 0.05, spin=0.8),
    "Slice of Life": Flurry((LEAF, CLOUD), 11, 0.045, spin=0.3),
    "Supernatural": Flurry((FLAME, DROP), 12, 0.045, spin=0.15),
}


# ---------------------------------------------------------------- backdrops


def _rays(canvas: Canvas, n_rays: int, width: float, gap: float, colour: Colour, opacity: float) -> None:
    """Draw wedges that point at one spot and end ``gap`` before it."""
    x, y = float(canvas.rng.uniform(0.3, 0.7)), float(canvas.rng.uniform(0.4, 0.9))
    for angle in np.linspace(0, 2 * np.pi, n_rays, endpoint=False) + canvas.rng.normal(
        0, 0.3 / n_rays, n_rays
    ):
        near, far = gap * canvas.rng.uniform(0.7, 1.3), 1.6
        sides = [(near, angle), (far, angle - width), (far, angle + width)]
        canvas.fill([(x + r * np.cos(a), y + r * np.sin(a)) for r, a in sides], colour, opacity)


def _speed_lines(canvas: Canvas) -> None:
    _rays(canvas, 46, 0.025, 0.42, canvas.palette.light, 0.55)


def _sun_rays(canvas: Canvas) -> None:
    _rays(canvas, 12, 0.13, 0.0, canvas.palette.accent, 0.5)
    for x, y in np.argwhere(np.ones((8, 4))) * (0.14, 0.075) + (0.03, 0.03):
        canvas.disc(x, y, 0.024 - 0.05 * y, canvas.palette.light, 0.7)


def _ridge(canvas: Canvas, base: float, roughness: float, n_peaks: int) -> Outline:
    """Return a closed landscape (P, 2) whose skyline wanders around ``base``."""
    x = np.linspace(-0.05, 1.05, 2 * n_peaks + 1)
    up = np.where(np.arange(len(x)) % 2, -roughness, roughness * 0.5)
    y = base + up * canvas.rng.uniform(0.5, 1.4, len(x))
    return np.concatenate([np.stack([x, y], axis=1), [[1.05, HEIGHT], [-0.05, HEIGHT]]])


def _mountains(canvas: Canvas) -> None:
    base = float(canvas.rng.uniform(0.6, 0.85))
    far = _ridge(canvas, base, 0.2, 3)
    canvas.fill(far, canvas.palette.far)
    for peak in far[1:7:2]:  # snow on every peak
        canvas.fill(
            peak + [(0, 0), (0.06, 0.09), (0.02, 0.07), (-0.02, 0.1), (-0.06, 0.08)],
            canvas.palette.light,
            0.9,
        )
    canvas.fill(_ridge(canvas, base + 0.25, 0.08, 5), canvas.palette.near)


def _castle(canvas: Canvas) -> None:
    left, ground = float(canvas.rng.uniform(0.0, 0.45)), float(canvas.rng.uniform(0.75, 0.95))
    for x, height in zip(left + np.arange(5) * 0.11, canvas.rng.uniform(0.15, 0.5, 5), strict=True):
        top = ground - height
        canvas.fill([(x, HEIGHT), (x, top), (x + 0.09, top), (x + 0.09, HEIGHT)], canvas.palette.far)
        canvas.fill([(x - 0.02, top), (x + 0.045, top - 0.16), (x + 0.11, top)], canvas.palette.near)
        canvas.disc(x + 0.045, top + 0.06, 0.012, canvas.palette.accent)
    canvas.fill(_ridge(canvas, ground + 0.05, 0.04, 3), canvas.palette.near)


def _sea(canvas: Canvas) -> None:
    x, shore = float(canvas.rng.uniform(0.2, 0.8)), float(canvas.rng.uniform(0.65, 0.85))
    canvas.glow(x, shore - 0.03, 0.3, canvas.palette.light)
    canvas.disc(x, shore - 0.03, 0.11, canvas.palette.light)
    canvas.fill([(0, shore), (1, shore), (1, HEIGHT), (0, HEIGHT)], canvas.palette.far)
    for depth in np.arange(1, 12):
        y, reach = shore + 0.004 * depth**2 + 0.01, 0.05 + 0.018 * depth * canvas.rng.uniform(0.4, 1.2)
        canvas.fill(CIRCLE * (reach, 0.006) + (x, y), canvas.palette.light, 0.6)


def _skyline(canvas: Canvas) -> None:
    rng, x = canvas.rng, -0.03
    while x < 1:
        width, top = float(rng.uniform(0.08, 0.17)), float(rng.uniform(0.45, 0.95))
        canvas.fill([(x, top), (x + width, top), (x + width, HEIGHT), (x, HEIGHT)], canvas.palette.near)
        for wx, wy in np.argwhere(rng.random((int(width / 0.03), 14)) < 0.35) * (0.03, 0.045) + (
            x + 0.012,
            top + 0.03,
        ):
            canvas.fill(
                [(wx, wy), (wx + 0.013, wy), (wx + 0.013, wy + 0.02), (wx, wy + 0.02)],
                canvas.palette.accent,
                0.85,
            )
        x += width + 0.012


def _planet(canvas: Canvas) -> None:
    x, y, size = (float(v) for v in canvas.rng.uniform((0.15, 0.2, 0.12), (0.85, 0.55, 0.26)))
    canvas.glow(x, y, size * 1.5, canvas.palette.accent)
    canvas.disc(x, y, size, canvas.palette.far)
    canvas.disc(x - size * 0.25, y - size * 0.25, size * 0.6, canvas.palette.accent, 0.3)
    ring = np.concatenate([CIRCLE * (1.8, 0.42), CIRCLE[:1] * (1.8, 0.42), (CIRCLE * (1.5, 0.28))[::-1]])
    canvas.fill(placed(ring, x, y, size, -0.35), canvas.palette.light, 0.8)


def _city_in_space(canvas: Canvas) -> None:
    _planet(canvas)
    if canvas.rng.random() < 0.7:
        _skyline(canvas)


def _bokeh(canvas: Canvas) -> None:
    for x, y, size in canvas.rng.uniform((0, 0, 0.05), (1, 1.1, 0.17), (16, 3)):
        canvas.disc(x, y, size, canvas.palette.light, 0.28)
    x, y = (float(v) for v in canvas.rng.uniform((0.35, 0.4), (0.65, 0.65)))
    canvas.fill(placed(HEART, x, y, 0.42, float(canvas.rng.normal(0, 0.12))), canvas.palette.accent, 0.45)


def _torii(canvas: Canvas) -> None:
    moon = canvas.rng.uniform((0.2, 0.2), (0.8, 0.45))
    canvas.glow(*moon, 0.42, canvas.palette.light)
    canvas.disc(*moon, 0.22, canvas.palette.light)
    gate = np.array([[0, 0], [1, 0], [0.95, 0.08], [0.85, 0.08], [0.85, 0.2], [0.92, 0.2], [0.92, 0.26], [0.85, 0.26],
                     [0.88, 1.2], [0.78, 1.2], [0.76, 0.26], [0.24, 0.26], [0.22, 1.2], [0.12, 1.2], [0.15, 0.26],
                     [0.08, 0.26], [0.08, 0.2], [0.15, 0.2], [0.15, 0.08], [0.05, 0.08]])  # fmt: skip
    canvas.fill(
        gate * 0.9 + (canvas.rng.uniform(-0.1, 0.2), canvas.rng.uniform(0.4, 0.65)), canvas.palette.near
    )


def _power_lines(canvas: Canvas) -> None:
    for x, y in canvas.rng.uniform((0, 0.1), (1, 0.5), (3, 2)):
        canvas.fill(placed(CLOUD, x, y, 0.13), canvas.palette.light, 0.85)
    canvas.fill(_ridge(canvas, 0.95, 0.03, 3), canvas.palette.far)
    poles = np.sort(canvas.rng.uniform(0.05, 0.95, 2)) + (-0.1, 0.1)
    for x in poles:
        canvas.fill(
            [(x - 0.012, 0.3), (x + 0.012, 0.3), (x + 0.016, 1.3), (x - 0.016, 1.3)], canvas.palette.near
        )
        canvas.fill([(x - 0.1, 0.36), (x + 0.1, 0.36), (x + 0.1, 0.38), (x - 0.1, 0.38)], canvas.palette.near)
    x = np.linspace(-0.2, 1.2, 24)
    for height in (0.36, 0.42, 0.5):  # wires sag between the poles: a parabola over the middle of the poster
        wire = np.stack([x, height + 0.09 - 0.25 * (x - poles.mean()) ** 2], axis=1)
        canvas.fill(np.concatenate([wire, wire[::-1] + (0, 0.007)]), canvas.palette.near, 0.9)


def _spotlight(canvas: Canvas) -> None:
    x, foot = (float(v) for v in canvas.rng.uniform((0.1, 0.3), (0.9, 0.7)))
    canvas.fill(
        [(x - 0.03, 0), (x + 0.03, 0), (foot + 0.42, HEIGHT), (foot - 0.42, HEIGHT)],
        canvas.palette.accent,
        0.4,
    )
    for y in np.arange(0.04, HEIGHT, 0.09):  # light that falls through a blind
        canvas.fill([(0, y), (1, y), (1, y + 0.04), (0, y + 0.04)], canvas.palette.near, 0.55)


BACKDROPS: dict[str, Callable[[Canvas], None]] = {
    "Action": _speed_lines,
    "Adventure": _mountains,
    "Comedy": _sun_rays,
    "Drama": _sea,
    "Fantasy": _castle,
    "Mystery": _spotlight,
    "Romance": _bokeh,
    "Sci-Fi": _city_in_space,
    "Slice of Life": _power_lines,
    "Supernatural": _torii,
}
