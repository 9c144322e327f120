"""The characters on the sample posters: busts with large eyes, wild hair and a costume that hints at one genre."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpo.data.motifs import CIRCLE, DROP, HEART, Canvas, Colour, blend, shifted

SKINS: tuple[Colour, ...] = ((255, 224, 200), (250, 210, 180), (226, 172, 134), (170, 112, 80))
HAIRS: tuple[Colour, ...] = ((40, 34, 48), (92, 58, 40), (224, 180, 92), (196, 70, 60), (90, 120, 200), (236, 150, 190),
                             (216, 222, 235), (86, 160, 130))  # fmt: skip


@dataclass(frozen=True)
class Hero:
    """A character's bust; positions on it are in head radii from the middle of the face."""

    canvas: Canvas
    x: float
    y: float
    radius: float

    def fill(self, corners: ArrayLike, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a polygon with corners (P, 2) in head radii."""
        placed = np.asarray(corners, dtype=float) * self.radius + (self.x, self.y)
        self.canvas.fill(placed, colour, opacity)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill an ellipse around (x, y) with these half axes."""
        self.fill(CIRCLE * (width, height) + (x, y), colour)


def draw_characters(canvas: Canvas, costumes: tuple[str, ...]) -> None:
    """Draw one or two busts in the lower half, each dressed for one genre."""
    rng = canvas.rng
    spread = 0.22 if len(costumes) == 2 else 0.0
    for genre, side in zip(costumes, (-1, 1), strict=False):
        x = 0.5 + side * spread + float(rng.normal(0, 0.05 + 0.08 * (spread == 0)))
        radius = float(rng.uniform(0.12, 0.2)) * (0.8 if spread else 1.0)
        _draw_hero(Hero(canvas, x, float(rng.uniform(0.62, 0.82)), radius), genre)


def _choice(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(rng.integers(len(colours)))]


def _draw_hero(hero: Hero, genre: str) -> None:
    rng, palette = hero.canvas.rng, hero.canvas.palette
    hair, skin = _choice(rng, HAIRS), _choice(rng, SKINS)
    coat = blend(palette.near, _choice(rng, (palette.accent, palette.light, hair)), 0.35)
    _draw_hair_behind(hero, hair)
    hero.fill([(-0.3, 0.6), (0.3, 0.6), (0.4, 1.5), (-0.4, 1.5)], shifted(skin, 0, 0.86))
    hero.fill(
        [
            (-0.35, 1.15),
            (0.35, 1.15),
            (1.35, 1.5),
            (1.75, 2.4),
            (2.0, 6),
            (-2.0, 6),
            (-1.75, 2.4),
            (-1.35, 1.5),
        ],
        coat,
    )
    hero.fill([(-0.4, 1.13), (0.4, 1.13), (0, 2.1)], palette.light)
    hero.fill([(-0.09, 1.5), (0.09, 1.5), (0.17, 2.7), (0, 2.95), (-0.17, 2.7)], palette.accent)
    _draw_face(hero, skin, hair)
    COSTUMES[genre](hero)


def _draw_hair_behind(hero: Hero, hair: Colour) -> None:
    rng = hero.canvas.rng
    if rng.random() < 0.5:  # long hair
        length = float(rng.uniform(1.4, 3.2))
        hero.fill(
            [
                (-1.15, -0.3),
                (-0.6, -1.1),
                (0.6, -1.1),
                (1.15, -0.3),
                (1.3, length),
                (0, length * 0.8),
                (-1.3, length),
            ],
            hair,
        )
    else:  # spikes
        turn = np.linspace(-2.6, 2.6, 19)
        reach = np.where(np.arange(19) % 2, rng.uniform(1.3, 1.7), 1.05)
        hero.fill(np.stack([np.sin(turn) * reach, -np.cos(turn) * reach], axis=1), hair)


def _draw_face(hero: Hero, skin: Colour, hair: Colour) -> None:
    rng = hero.canvas.rng
    jaw = np.where(CIRCLE[:, 1:] > 0, 1 - 0.3 * CIRCLE[:, 1:] ** 2, 1.0)
    hero.fill(CIRCLE * np.concatenate([jaw * 0.95, np.ones_like(jaw) * 1.05], axis=1), skin)
    iris = shifted(hair, float(rng.uniform(0, 1)), 1.1)
    for side in (-0.42, 0.42):
        hero.oval(side, 0.22, 0.2, 0.3, (30, 24, 36))
        hero.oval(side, 0.27, 0.15, 0.21, iris)
        hero.oval(side - 0.06, 0.12, 0.07, 0.09, (255, 255, 255))
        hero.oval(side * 1.35, 0.55, 0.15, 0.06, blend(skin, (240, 110, 110), 0.4))
    hero.oval(0, 0.68, float(rng.uniform(0.06, 0.16)), 0.04, (150, 60, 60))
    crown = CIRCLE[np.abs(np.arctan2(CIRCLE[:, 0], -CIRCLE[:, 1])) < 1.75] * 1.12
    crown = crown[np.argsort(crown[:, 0])]
    fringe = np.linspace(1.05, -1.05, 9)
    teeth = np.where(np.arange(9) % 2, -0.5, 0.05) + rng.uniform(-0.1, 0.1, 9)
    hero.fill(np.concatenate([crown, np.stack([fringe, teeth], axis=1)]), hair)


# ---------------------------------------------------------------- costumes


def _headband(hero: Hero) -> None:
    red, steel = (200, 40, 40), (205, 212, 225)
    hero.fill([(-1.1, -0.55), (1.1, -0.55), (1.1, -0.25), (-1.1, -0.25)], red)
    hero.fill([(1.0, -0.5), (2.1, -0.9), (1.9, -0.5), (2.2, -0.2), (1.0, -0.3)], red)
    hero.fill([(1.2, 3.5), (1.45, 3.5), (2.15, -1.5), (2.1, -2.1), (1.85, -1.6)], steel)
    hero.fill([(0.9, 2.6), (0.92, 2.4), (1.85, 2.55), (1.83, 2.75)], (60, 46, 40))


def _straw_hat(hero: Hero) -> None:
    hero.oval(0, -0.65, 1.9, 0.38, (214, 172, 84))
    hero.fill([(-0.95, -0.7), (-0.8, -1.45), (0, -1.65), (0.8, -1.45), (0.95, -0.7)], (236, 200, 110))
    hero.fill([(-0.97, -0.68), (-0.93, -0.95), (0.93, -0.95), (0.97, -0.68)], (196, 62, 48))


def _grin_and_sweat(hero: Hero) -> None:
    hero.fill([(-0.42, 0.5), (0.42, 0.5), (0.25, 0.85), (0, 0.93), (-0.25, 0.85)], (140, 40, 50))
    hero.fill([(-0.4, 0.5), (0.4, 0.5), (0.36, 0.6), (-0.36, 0.6)], (255, 255, 255))
    hero.fill(DROP * 0.35 + (1.15, -0.5), (120, 205, 250))
    hero.fill(DROP * 0.25 + (-1.25, -0.2), (120, 205, 250))


def _umbrella(hero: Hero) -> None:
    dome = CIRCLE[np.argsort(CIRCLE[:, 0], kind="stable")]
    dome = dome[dome[:, 1] <= 0.01] * (2.1, 1.2)
    scallops = np.stack([np.linspace(2.1, -2.1, 13), np.where(np.arange(13) % 2, -0.25, 0.0)], axis=1)
    hero.fill([(1.2, -1.3), (1.28, -1.3), (1.28, 3), (1.2, 3)], (50, 44, 50))
    hero.fill(np.concatenate([dome, scallops]) + (0.35, -0.75), hero.canvas.palette.accent)


def _witch_hat(hero: Hero) -> None:
    cloth = blend(hero.canvas.palette.near, (110, 60, 170), 0.6)
    hero.oval(0, -0.7, 1.85, 0.34, cloth)
    hero.fill([(-1.0, -0.7), (-0.35, -2.1), (0.55, -2.6), (0.35, -1.9), (1.0, -0.7)], cloth)
    hero.fill([(-1.0, -0.7), (-0.9, -0.95), (0.9, -0.95), (1.0, -0.7)], hero.canvas.palette.accent)


def _fedora(hero: Hero) -> None:
    hero.fill(
        [(-1.1, -0.3), (1.1, -0.3), (0.98, 0.35), (-0.98, 0.35)], (10, 8, 14), 0.55
    )  # eyes in its shadow
    hero.oval(0, -0.5, 1.6, 0.28, (48, 40, 44))
    hero.fill(
        [(-0.95, -0.5), (-0.85, -1.4), (-0.3, -1.55), (0, -1.4), (0.3, -1.55), (0.85, -1.4), (0.95, -0.5)],
        (62, 52, 56),
    )
    hero.fill([(-0.97, -0.55), (-0.94, -0.82), (0.94, -0.82), (0.97, -0.55)], (20, 16, 20))


def _ribbon(hero: Hero) -> None:
    pink = (250, 96, 140)
    hero.fill([(0.7, -0.95), (-0.1, -1.6), (-0.15, -0.6)], pink)
    hero.fill([(0.7, -0.95), (1.5, -1.6), (1.55, -0.5)], pink)
    hero.oval(0.7, -0.97, 0.2, 0.2, (220, 60, 110))
    for side in (-0.62, 0.62):
        hero.oval(side, 0.5, 0.26, 0.13, (255, 140, 150))
    hero.fill(HEART * 0.3 + (-1.4, -1.3), pink)


def _visor(hero: Hero) -> None:
    glass = (60, 235, 250)
    hero.fill(
        [(-1.1, -0.1), (1.1, -0.1), (0.98, 0.5), (0.2, 0.58), (0, 0.45), (-0.2, 0.58), (-0.98, 0.5)],
        glass,
        0.72,
    )
    for side in (-1.12, 1.12):
        hero.oval(side, 0.15, 0.25, 0.42, (216, 222, 232))
    hero.fill([(1.1, 0), (1.2, 0), (1.45, -1.5), (1.38, -1.5)], (216, 222, 232))
    hero.oval(1.42, -1.5, 0.1, 0.1, (255, 70, 90))


def _sailor_collar(hero: Hero) -> None:
    navy = (44, 60, 110)
    hero.fill(
        [
            (-0.5, 1.05),
            (-1.35, 1.55),
            (-1.15, 2.3),
            (0, 2.75),
            (1.15, 2.3),
            (1.35, 1.55),
            (0.5, 1.05),
            (0, 2.1),
        ],
        navy,
    )
    hero.fill([(-1.2, 2.1), (0, 2.55), (1.2, 2.1), (1.18, 2.18), (0, 2.65), (-1.18, 2.18)], (255, 255, 255))
    hero.fill([(0, 2.5), (-0.6, 2.2), (-0.5, 3.0), (0, 2.65), (0.5, 3.0), (0.6, 2.2)], (214, 64, 70))


def _fox_ears(hero: Hero) -> None:
    for side in (-1, 1):
        hero.fill([(side * 0.25, -1.0), (side * 0.85, -2.0), (side * 1.1, -0.6)], (236, 232, 226))
        hero.fill([(side * 0.45, -1.0), (side * 0.82, -1.7), (side * 0.98, -0.7)], (196, 70, 76))
        hero.fill([(side * 0.75, 0.42), (side * 0.95, 0.36), (side * 0.62, 0.56)], (196, 40, 50))
    hero.fill(DROP * (0.16, 0.3) + (0, -0.62), (196, 40, 50))


COSTUMES: dict[str, Callable[[Hero], None]] = {
    "Action": _headband,
    "Adventure": _straw_hat,
    "Comedy": _grin_and_sweat,
    "Drama": _umbrella,
    "Fantasy": _witch_hat,
    "Mystery": _fedora,
    "Romance": _ribbon,
    "Sci-Fi": _visor,
    "Slice of Life": _sailor_collar,
    "Supernatural": _fox_ears,
}
