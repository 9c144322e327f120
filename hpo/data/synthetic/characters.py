"""The characters on the sample posters: busts with large eyes, wild hair and one genre's costume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hpo.data.synthetic.canvas import CIRCLE, Canvas, Colour, blend, placed, shifted
from hpo.data.synthetic.motifs import DROP, HEART, mirrored

SKINS: tuple[Colour, ...] = ((255, 224, 200), (250, 210, 180), (226, 172, 134), (170, 112, 80))
DARK_HAIRS: tuple[Colour, ...] = ((40, 34, 48), (92, 58, 40), (90, 120, 200), (86, 160, 130))
LIGHT_HAIRS: tuple[Colour, ...] = ((224, 180, 92), (196, 70, 60), (236, 150, 190), (216, 222, 235))
WHITE, INK, RED = (255, 255, 255), (30, 24, 36), (200, 40, 40)


@dataclass(frozen=True)
class Hero:
    """A character's bust; positions on it are in head radii from the middle of the face."""

    canvas: Canvas
    x: float
    y: float
    radius: float

    def fill(self, corners: ArrayLike, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a polygon with corners (P, 2) in head radii."""
        self.canvas.fill(placed(np.asarray(corners, dtype=float), self.x, self.y, self.radius), colour, opacity)

    def fill_mirrored(self, right_half: ArrayLike, colour: Colour, opacity: float = 1.0) -> None:
        """Fill a symmetric shape, given its right half from the top to the bottom."""
        self.fill(mirrored(np.asarray(right_half, dtype=float)), colour, opacity)

    def oval(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill an ellipse around (x, y) with these half axes."""
        self.fill(placed(CIRCLE * (width, height), x, y), colour)


def draw_characters(canvas: Canvas, costumes: tuple[str, ...]) -> None:
    """Draw up to two busts in the lower half, each dressed for one genre."""
    rng, is_pair = canvas.rng, len(costumes) == 2
    for genre, side in zip(costumes, (-1, 1), strict=False):
        x = 0.5 + 0.22 * side * is_pair + float(rng.normal(0, 0.05 if is_pair else 0.13))
        radius = float(rng.uniform(0.12, 0.2)) * (0.8 if is_pair else 1.0)
        _draw_hero(Hero(canvas, x, float(rng.uniform(0.62, 0.82)), radius), genre)


def _draw_hero(hero: Hero, genre: str) -> None:
    hair, skin = _choice(hero, DARK_HAIRS + LIGHT_HAIRS), _choice(hero, SKINS)
    _draw_hair_behind(hero, hair)
    _draw_body(hero, hair, skin)
    _draw_face(hero, skin, iris=shifted(hair, float(hero.canvas.rng.uniform(0, 1)), 1.1))
    _draw_fringe(hero, hair)
    COSTUMES[genre](hero)


def _choice(hero: Hero, colours: tuple[Colour, ...]) -> Colour:
    return colours[int(hero.canvas.rng.integers(len(colours)))]


def _draw_hair_behind(hero: Hero, hair: Colour) -> None:
    rng = hero.canvas.rng
    if rng.random() < 0.5:
        length = float(rng.uniform(1.4, 3.2))
        hero.fill_mirrored([(0, -1.1), (0.6, -1.1), (1.15, -0.3), (1.3, length), (0, length * 0.8)], hair)
    else:  # spikes
        turn = np.linspace(-2.6, 2.6, 19)
        reach = np.where(np.arange(19) % 2, rng.uniform(1.3, 1.7), 1.05)
        hero.fill(np.stack([np.sin(turn) * reach, -np.cos(turn) * reach], axis=1), hair)


def _draw_body(hero: Hero, hair: Colour, skin: Colour) -> None:
    palette = hero.canvas.palette
    coat = blend(palette.near, _choice(hero, (palette.accent, palette.light, hair)), 0.35)
    hero.fill_mirrored([(0, 0.6), (0.3, 0.6), (0.4, 1.5), (0, 1.5)], shifted(skin, 0, 0.86))
    hero.fill_mirrored([(0, 1.15), (0.35, 1.15), (1.35, 1.5), (1.75, 2.4), (2.0, 6), (0, 6)], coat)
    hero.fill_mirrored([(0, 1.13), (0.4, 1.13), (0, 2.1)], palette.light)
    if hero.canvas.rng.random() < 0.5:
        hero.fill_mirrored([(0, 1.5), (0.09, 1.5), (0.17, 2.7), (0, 2.95)], palette.accent)  # a tie
    else:
        hero.fill_mirrored([(0, 2.0), (0.06, 2.0), (0.06, 6), (0, 6)], shifted(coat, 0, 0.7))  # a row of buttons


def _draw_face(hero: Hero, skin: Colour, iris: Colour) -> None:
    jaw = np.where(CIRCLE[:, 1] > 0, 0.95 - 0.28 * CIRCLE[:, 1] ** 2, 0.95)  # narrows towards the chin
    hero.fill(CIRCLE * np.stack([jaw, np.full_like(jaw, 1.05)], axis=1), skin)
    for side in (-0.42, 0.42):
        hero.oval(side, 0.22, 0.2, 0.3, INK)
        hero.oval(side, 0.27, 0.15, 0.21, iris)
        hero.oval(side - 0.06, 0.12, 0.07, 0.09, WHITE)
        hero.oval(side * 1.35, 0.55, 0.15, 0.06, blend(skin, (240, 110, 110), 0.4))
    hero.oval(0, 0.68, float(hero.canvas.rng.uniform(0.06, 0.16)), 0.04, (150, 60, 60))


def _draw_fringe(hero: Hero, hair: Colour) -> None:
    turn = np.linspace(-1.7, 1.7, 18)
    crown = np.stack([np.sin(turn), -np.cos(turn)], axis=1) * 1.12
    tips = np.where(np.arange(9) % 2, -0.5, 0.05) + hero.canvas.rng.uniform(-0.1, 0.1, 9)
    hero.fill(np.concatenate([crown, np.stack([np.linspace(1.05, -1.05, 9), tips], axis=1)]), hair)


# ---------------------------------------------------------------- costumes


def _headband_and_sword(hero: Hero) -> None:
    hero.fill_mirrored([(0, -0.55), (1.1, -0.55), (1.1, -0.25), (0, -0.25)], RED)
    hero.fill([(1.0, -0.5), (2.1, -0.9), (1.9, -0.5), (2.2, -0.2), (1.0, -0.3)], RED)
    hero.fill([(1.2, 3.5), (1.45, 3.5), (2.15, -1.5), (2.1, -2.1), (1.85, -1.6)], (205, 212, 225))
    hero.fill([(0.9, 2.6), (0.92, 2.4), (1.85, 2.55), (1.83, 2.75)], (60, 46, 40))


def _straw_hat(hero: Hero) -> None:
    hero.oval(0, -0.65, 1.9, 0.38, (214, 172, 84))
    hero.fill_mirrored([(0, -1.65), (0.8, -1.45), (0.95, -0.7), (0, -0.7)], (236, 200, 110))
    hero.fill_mirrored([(0, -0.95), (0.93, -0.95), (0.97, -0.68), (0, -0.68)], RED)


def _grin_and_sweat(hero: Hero) -> None:
    hero.fill_mirrored([(0, 0.5), (0.42, 0.5), (0.25, 0.85), (0, 0.93)], (140, 40, 50))
    hero.fill_mirrored([(0, 0.5), (0.4, 0.5), (0.36, 0.6), (0, 0.6)], WHITE)
    hero.fill(placed(DROP, 1.15, -0.5, 0.35), (120, 205, 250))
    hero.fill(placed(DROP, -1.25, -0.2, 0.25), (120, 205, 250))


def _umbrella(hero: Hero) -> None:
    turn = np.linspace(-np.pi / 2, np.pi / 2, 20)
    dome = np.stack([2.1 * np.sin(turn), -1.2 * np.cos(turn)], axis=1)
    hem = np.stack([np.linspace(2.1, -2.1, 13), np.where(np.arange(13) % 2, -0.25, 0.0)], axis=1)
    hero.fill([(1.2, -1.3), (1.28, -1.3), (1.28, 3), (1.2, 3)], INK)
    hero.fill(placed(np.concatenate([dome, hem]), 0.35, -0.75), hero.canvas.palette.accent)


def _witch_hat(hero: Hero) -> None:
    cloth = blend(hero.canvas.palette.near, (110, 60, 170), 0.6)
    hero.oval(0, -0.7, 1.85, 0.34, cloth)
    hero.fill([(-1.0, -0.7), (-0.35, -2.1), (0.55, -2.6), (0.35, -1.9), (1.0, -0.7)], cloth)
    hero.fill_mirrored([(0, -0.95), (0.9, -0.95), (1.0, -0.7), (0, -0.7)], hero.canvas.palette.accent)


def _fedora(hero: Hero) -> None:
    hero.fill_mirrored([(0, -0.3), (1.1, -0.3), (0.98, 0.35), (0, 0.35)], INK, 0.55)  # eyes in its shadow
    hero.oval(0, -0.5, 1.6, 0.28, (48, 40, 44))
    hero.fill_mirrored([(0, -1.4), (0.3, -1.55), (0.85, -1.4), (0.95, -0.5), (0, -0.5)], (62, 52, 56))
    hero.fill_mirrored([(0, -0.82), (0.94, -0.82), (0.97, -0.55), (0, -0.55)], INK)


def _ribbon(hero: Hero) -> None:
    pink = (250, 96, 140)
    hero.fill([(0.7, -0.95), (-0.1, -1.6), (-0.15, -0.6)], pink)
    hero.fill([(0.7, -0.95), (1.5, -1.6), (1.55, -0.5)], pink)
    hero.oval(0.7, -0.97, 0.2, 0.2, (220, 60, 110))
    for side in (-0.62, 0.62):
        hero.oval(side, 0.5, 0.26, 0.13, (255, 140, 150))
    hero.fill(placed(HEART, -1.4, -1.3, 0.3), pink)


def _visor(hero: Hero) -> None:
    steel = (216, 222, 232)
    hero.fill_mirrored([(0, -0.1), (1.1, -0.1), (0.98, 0.5), (0.2, 0.58), (0, 0.45)], (60, 235, 250), 0.72)
    for side in (-1.12, 1.12):
        hero.oval(side, 0.15, 0.25, 0.42, steel)
    hero.fill([(1.1, 0), (1.2, 0), (1.45, -1.5), (1.38, -1.5)], steel)
    hero.oval(1.42, -1.5, 0.1, 0.1, RED)


def _sailor_collar(hero: Hero) -> None:
    collar = [(0, 2.1), (0.5, 1.05), (1.35, 1.55), (1.15, 2.3), (0, 2.75)]
    hero.fill_mirrored(collar, (44, 60, 110))
    hero.fill_mirrored([(0, 2.55), (1.2, 2.1), (1.18, 2.18), (0, 2.65)], WHITE)
    hero.fill_mirrored([(0, 2.5), (0.6, 2.2), (0.5, 3.0), (0, 2.65)], RED)


def _fox_ears(hero: Hero) -> None:
    for side in (-1, 1):
        hero.fill([(side * 0.25, -1.0), (side * 0.85, -2.0), (side * 1.1, -0.6)], (236, 232, 226))
        hero.fill([(side * 0.45, -1.0), (side * 0.82, -1.7), (side * 0.98, -0.7)], RED)
        hero.fill([(side * 0.75, 0.42), (side * 0.95, 0.36), (side * 0.62, 0.56)], RED)
    hero.fill(placed(DROP * (0.16, 0.3), 0, -0.62), RED)


COSTUMES: dict[str, Callable[[Hero], None]] = {
    "Action": _headband_and_sword,
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
