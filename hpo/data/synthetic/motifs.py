"""What surrounds the characters: one flurry of small shapes and one backdrop per genre.

Several of them resemble each other on purpose (sun rays and speed lines, rain and slashes, embers and ghost
lights, a moon and a planet), as they do on real posters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hpo.data.synthetic.canvas import CIRCLE, HEIGHT, Canvas, Colour, Outline, circle, placed

# ---------------------------------------------------------------- outlines


def _toothed(n_teeth: int, inner: float, corners_per_tooth: int = 1) -> Outline:
    """Return a star (one corner per tooth) or a gear (two), with its valleys at radius ``inner``."""
    radii = np.tile(np.repeat([1.0, inner], corners_per_tooth), n_teeth)
    toothed: Outline = circle(len(radii)) * radii[:, None]
    return toothed


def _heart() -> Outline:
    t = np.linspace(0.0, 2 * np.pi, 40)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=1) / 17


def _drop() -> Outline:
    t = np.linspace(0.0, 2 * np.pi, 32)
    return np.stack([np.sin(t) * np.sin(t / 2) ** 1.6 * 0.75, -np.cos(t)], axis=1)


def _speech_bubble() -> Outline:
    rim = circle(30)
    return np.concatenate([rim[:16], [[-0.3, 1.6]], rim[17:]]) * (1.2, 0.8)


def _cloud() -> Outline:
    x = np.linspace(-1.5, 1.5, 30)
    puffs = [
        (-0.9, 0.55),
        (-0.2, 0.85),
        (0.6, 0.7),
        (1.15, 0.35),
    ]  # middle and radius of each, on a flat base
    top = np.max([np.sqrt(np.clip(radius**2 - (x - middle) ** 2, 0, None)) for middle, radius in puffs], axis=0)
    return np.stack([x, 0.35 - top], axis=1)


def _keyhole() -> Outline:
    bow = circle(20)[np.r_[12:20, 0:9]]
    return np.concatenate([bow * 0.6, [[0.5, 1.4], [-0.5, 1.4]]]) * 0.8


def _magnifier() -> Outline:
    """Return a ring with a handle as one polygon: the seam between rim and lens has no area."""
    rim, lens = CIRCLE * 0.75, CIRCLE[::-1] * 0.52
    handle = np.array([[0.12, 0.7], [0.12, 1.7], [-0.12, 1.7], [-0.12, 0.7]])
    return np.concatenate([rim[:16], handle, rim[17:], rim[:1], lens[-1:], lens, rim[:1]])


SPARKLE = _toothed(4, 0.28)
BURST = _toothed(11, 0.62)
COMPASS = _toothed(8, 0.34)
GEAR = _toothed(9, 0.74, 2)
HEXAGON = circle(6)
HEART = _heart()
DROP = _drop()
FLAME = _drop() * (0.9, 1.2)
BUBBLE = _speech_bubble()
CLOUD = _cloud()
KEYHOLE = _keyhole()
MAGNIFIER = _magnifier()
SLASH = np.array([[0, -3.2], [0.14, 0], [0, 3.2], [-0.14, 0]])
RAIN = np.array([[0.05, -2.2], [0.05, 2.2], [-0.05, 2.2], [-0.05, -2.2]])
CRYSTAL = np.array([[0, -1.2], [0.45, -0.5], [0.45, 0.6], [0, 1.1], [-0.45, 0.6], [-0.45, -0.5]])
RIGHT_HALF_PETAL = np.array([[0, 1], [0.55, 0.2], [0.5, -0.55], [0.2, -0.85], [0, -0.6]])
RIGHT_HALF_LEAF = np.array([[0, -1], [0.4, -0.4], [0.42, 0.2], [0.05, 0.9], [0, 1.3]])
RIGHT_WING = np.array([[0, 0.1], [0.4, -0.3], [1.2, -0.45], [0.5, 0.0], [0, 0.42]])
SNOWCAP = np.array([[0, 0], [0.06, 0.09], [0.02, 0.07], [-0.02, 0.1], [-0.06, 0.08]])


def mirrored(right_half: Outline) -> Outline:
    """Return a symmetric outline from its right half, given from the top to the bottom."""
    return np.concatenate([right_half, right_half[::-1] * (-1, 1)])


PETAL, LEAF, BIRD = mirrored(RIGHT_HALF_PETAL), mirrored(RIGHT_HALF_LEAF), mirrored(RIGHT_WING)


# ---------------------------------------------------------------- in the air


@dataclass(frozen=True)
class Flurry:
    """Small shapes in the air: how many at most, their radius in poster widths, how they lean (radians)."""

    outlines: tuple[Outline, ...]
    count: int
    size: float
    lean: float = 0.0
    spin: float = 0.4  # standard deviation of the lean

    def draw(self, canvas: Canvas, colour: Colour) -> None:
        """Scatter the shapes over the whole poster, the small ones fainter than the large ones."""
        rng = canvas.rng
        count = int(rng.integers(self.count // 2, self.count + 1))
        places = rng.uniform((0.45, 0.0, 0.02), (1.3, 1.0, HEIGHT * 0.86), (count, 3)).tolist()
        kinds, angles = rng.integers(len(self.outlines), size=count), rng.normal(self.lean, self.spin, count)
        for (share, x, y), kind, angle in zip(places, kinds, angles, strict=True):
            shape = placed(self.outlines[kind], x, y, self.size * share, angle)
            canvas.fill(shape, colour, min(1.0, 0.35 + 0.5 * share))


FLURRIES: dict[str, Flurry] = {
    "Action": Flurry((SLASH, FLAME), 14, 0.05, lean=0.9, spin=0.15),
    "Adventure": Flurry((BIRD, COMPASS), 11, 0.045, spin=0.15),
    "Comedy": Flurry((BUBBLE, BURST), 9, 0.06),
    "Drama": Flurry((RAIN,), 44, 0.035, lean=0.25, spin=0.02),
    "Fantasy": Flurry((SPARKLE, CRYSTAL), 16, 0.04, spin=0.2),
    "Mystery": Flurry((MAGNIFIER, KEYHOLE), 8, 0.06, lean=-0.6),
    "Romance": Flurry((HEART, PETAL), 18, 0.035, spin=0.8),
    "Sci-Fi": Flurry((GEAR, HEXAGON), 10, 0.05, spin=0.8),
    "Slice of Life": Flurry((LEAF, CLOUD), 11, 0.045, spin=0.3),
    "Supernatural": Flurry((FLAME, DROP), 12, 0.045, spin=0.15),
}


# ---------------------------------------------------------------- behind the characters


def _rays(canvas: Canvas, n_rays: int, width: float, gap: float, colour: Colour) -> None:
    """Draw wedges, ``width`` radians to either side, that point at one spot and end ``gap`` before it."""
    x, y = canvas.rng.uniform((0.3, 0.4), (0.7, 0.9))
    turn = np.linspace(0, 2 * np.pi, n_rays, endpoint=False) + canvas.rng.normal(0, 0.3 / n_rays, n_rays)
    for angle, near in zip(turn, gap * canvas.rng.uniform(0.7, 1.3, n_rays), strict=True):
        sides = [(near, angle), (1.6, angle - width), (1.6, angle + width)]
        canvas.fill([(x + r * np.cos(a), y + r * np.sin(a)) for r, a in sides], colour, 0.5)


def _speed_lines(canvas: Canvas) -> None:
    _rays(canvas, 46, 0.025, 0.42, canvas.palette.light)


def _sun_rays(canvas: Canvas) -> None:
    _rays(canvas, 12, 0.13, 0.0, canvas.palette.accent)
    for x, y in np.mgrid[0.03:1:0.14, 0.03:0.3:0.075].reshape(2, -1).T:  # printer's dots that fade downwards
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
    for x, y in far[1:7:2]:
        canvas.fill(placed(SNOWCAP, x, y), canvas.palette.light, 0.9)
    canvas.fill(_ridge(canvas, base + 0.25, 0.08, 5), canvas.palette.near)


def _castle(canvas: Canvas) -> None:
    left, ground = canvas.rng.uniform((0.0, 0.75), (0.45, 0.95))
    for tower, height in enumerate(canvas.rng.uniform(0.15, 0.5, 5)):
        x, top = left + 0.11 * tower, ground - height
        canvas.box(x, top, 0.09, HEIGHT, canvas.palette.far)
        canvas.fill([(x - 0.02, top), (x + 0.045, top - 0.16), (x + 0.11, top)], canvas.palette.near)
        canvas.disc(x + 0.045, top + 0.06, 0.012, canvas.palette.accent)
    canvas.fill(_ridge(canvas, ground + 0.05, 0.04, 3), canvas.palette.near)


def _sea(canvas: Canvas) -> None:
    x, shore = canvas.rng.uniform((0.2, 0.65), (0.8, 0.85))
    canvas.glow(x, shore - 0.03, 0.3, canvas.palette.light)
    canvas.disc(x, shore - 0.03, 0.11, canvas.palette.light)
    canvas.box(0, shore, 1, HEIGHT, canvas.palette.far)
    for depth, wobble in enumerate(canvas.rng.uniform(0.4, 1.2, 11), start=1):  # the sun on the waves
        wave = CIRCLE * (0.05 + 0.018 * depth * wobble, 0.006)
        canvas.fill(placed(wave, x, shore + 0.01 + 0.004 * depth**2), canvas.palette.light, 0.6)


def _skyline(canvas: Canvas) -> None:
    rng, x = canvas.rng, -0.03
    while x < 1:
        width, top = rng.uniform((0.08, 0.45), (0.17, 0.95))
        canvas.box(x, top, width, HEIGHT, canvas.palette.near)
        for column, floor in np.argwhere(rng.random((int(width / 0.03), 14)) < 0.35):
            window = (x + 0.012 + 0.03 * column, top + 0.03 + 0.045 * floor)
            canvas.box(*window, 0.013, 0.02, canvas.palette.accent)
        x += width + 0.012


def _planet(canvas: Canvas) -> None:
    x, y, size = canvas.rng.uniform((0.15, 0.2, 0.12), (0.85, 0.55, 0.26))
    canvas.glow(x, y, size * 1.5, canvas.palette.accent)
    canvas.disc(x, y, size, canvas.palette.far)
    canvas.disc(x - size * 0.25, y - size * 0.25, size * 0.6, canvas.palette.accent, 0.3)
    rim, gap = CIRCLE * (1.8, 0.42), CIRCLE * (1.5, 0.28)
    ring = np.concatenate([rim, rim[:1], gap[:1], gap[::-1]])
    canvas.fill(placed(ring, x, y, size, -0.35), canvas.palette.light, 0.8)


def _planet_and_city(canvas: Canvas) -> None:
    _planet(canvas)
    if canvas.rng.random() < 0.7:
        _skyline(canvas)


def _bokeh(canvas: Canvas) -> None:
    for x, y, size in canvas.rng.uniform((0, 0, 0.05), (1, 1.1, 0.17), (16, 3)):
        canvas.disc(x, y, size, canvas.palette.light, 0.28)
    x, y = canvas.rng.uniform((0.35, 0.4), (0.65, 0.65))
    canvas.fill(placed(HEART, x, y, 0.42, float(canvas.rng.normal(0, 0.12))), canvas.palette.accent, 0.45)


def _torii(canvas: Canvas) -> None:
    x, y = canvas.rng.uniform((0.2, 0.2), (0.8, 0.45))
    canvas.glow(x, y, 0.42, canvas.palette.light)
    canvas.disc(x, y, 0.22, canvas.palette.light)
    left, top = canvas.rng.uniform((-0.1, 0.4), (0.2, 0.65))
    wood = canvas.palette.near
    canvas.fill([(left, top), (left + 0.9, top), (left + 0.85, top + 0.08), (left + 0.05, top + 0.08)], wood)
    canvas.box(left + 0.08, top + 0.19, 0.74, 0.06, wood)
    for pillar in (left + 0.13, left + 0.69):
        canvas.box(pillar, top + 0.05, 0.08, HEIGHT, wood)


def _power_lines(canvas: Canvas) -> None:
    wood = canvas.palette.near
    for x, y in canvas.rng.uniform((0, 0.1), (1, 0.5), (3, 2)):
        canvas.fill(placed(CLOUD, x, y, 0.13), canvas.palette.light, 0.85)
    canvas.fill(_ridge(canvas, 0.95, 0.03, 3), canvas.palette.far)
    poles = canvas.rng.uniform((-0.05, 0.6), (0.4, 1.05))
    for x in poles:
        canvas.box(x - 0.012, 0.3, 0.024, 1.0, wood)
        canvas.box(x - 0.1, 0.36, 0.2, 0.02, wood)
    x = np.linspace(-0.2, 1.2, 24)
    for height in (0.36, 0.42, 0.5):  # wires sag between the poles: a parabola
        wire = np.stack([x, height + 0.09 - 0.25 * (x - poles.mean()) ** 2], axis=1)
        canvas.fill(np.concatenate([wire, placed(wire[::-1], 0, 0.007)]), wood, 0.9)


def _spotlight(canvas: Canvas) -> None:
    x, foot = canvas.rng.uniform((0.1, 0.3), (0.9, 0.7))
    cone = [(x - 0.03, 0), (x + 0.03, 0), (foot + 0.42, HEIGHT), (foot - 0.42, HEIGHT)]
    canvas.fill(cone, canvas.palette.accent, 0.4)
    for y in np.arange(0.04, HEIGHT, 0.09):  # light that falls through a blind
        canvas.box(0, y, 1, 0.04, canvas.palette.near, 0.55)


BACKDROPS: dict[str, Callable[[Canvas], None]] = {
    "Action": _speed_lines,
    "Adventure": _mountains,
    "Comedy": _sun_rays,
    "Drama": _sea,
    "Fantasy": _castle,
    "Mystery": _spotlight,
    "Romance": _bokeh,
    "Sci-Fi": _planet_and_city,
    "Slice of Life": _power_lines,
    "Supernatural": _torii,
}
