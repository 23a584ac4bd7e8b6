"""Traffic signs and lights as sprites, each a little different every time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from ethos.data.glyphs import text_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Colour = tuple[float, float, float]

SIDE = 320  # pixels of a sprite's square; signs fill it in one direction at least
SUBPIXEL_BITS = 4
SPEED_LIMITS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130)
LAMP_HEIGHTS = {"red": 0.21, "yellow": 0.5, "green": 0.79}
LAMP_LIT: dict[str, Colour] = {"red": (45, 45, 255), "green": (120, 240, 60)}
LAMP_DARK: dict[str, Colour] = {"red": (34, 30, 70), "yellow": (30, 66, 74), "green": (40, 62, 36)}


@dataclass(frozen=True)
class Sprite:
    """A sign that faces the viewer: `colour` [SIDE, SIDE, 3] in BGR and `alpha` [SIDE, SIDE], both 0..255."""

    colour: NDArray[np.uint8]
    alpha: NDArray[np.uint8]


def draw_sign(name: str, rng: np.random.Generator) -> Sprite:
    """Return one specimen of the sign `name`, which is a key of `SIGNS`."""
    return SIGNS[name](rng)


def _blank() -> Sprite:
    return Sprite(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros((SIDE, SIDE), np.uint8))


def _shade(colour: Colour, rng: np.random.Generator, spread: float = 14.0) -> Colour:
    """Return the colour as another maker would have painted it."""
    blue, green, red = np.clip(np.array(colour) + rng.normal(0.0, spread, 3), 0, 255)
    return float(blue), float(green), float(red)


def _red(rng: np.random.Generator) -> Colour:
    return _shade((36, 28, 200), rng)


def _white(rng: np.random.Generator) -> Colour:
    return _shade((238, 240, 242), rng, 7.0)


def _disc(image: NDArray[np.uint8], centre: tuple[float, float], radius: float, colour: Colour | int) -> None:
    """Fill a disc; centre and radius are shares of the sprite's side."""
    scale = SIDE * 2**SUBPIXEL_BITS
    place = (round(centre[0] * scale), round(centre[1] * scale))
    cv2.circle(image, place, round(radius * scale), colour, -1, cv2.LINE_AA, SUBPIXEL_BITS)


def _polygon(image: NDArray[np.uint8], corners: NDArray[np.float64], colour: Colour | int, rounding: float) -> None:
    """Fill a polygon with round corners; corners [n, 2] and rounding are shares of the sprite's side."""
    points = np.round(corners * SIDE * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(image, [points], colour, cv2.LINE_AA, SUBPIXEL_BITS)
    if thickness := round(2 * rounding * SIDE):
        cv2.polylines(image, [points], True, colour, thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def _write(sprite: Sprite, text: str, width: float, height: float, colour: Colour, weight: float) -> None:
    """Write text in the middle of a sprite; width and height are shares of its side."""
    across, down = round(width * SIDE), round(height * SIDE)
    top, left = (SIDE - down) // 2, (SIDE - across) // 2
    mask = text_mask(text, across, down, weight)[..., None] / 255.0
    place = sprite.colour[top : top + down, left : left + across]
    place[:] = (place * (1 - mask) + np.array(colour) * mask).astype(np.uint8)


def _speed_limit(text: str, rng: np.random.Generator) -> Sprite:
    sprite = _blank()
    middle = (0.5, 0.5)
    _disc(sprite.alpha, middle, 0.495, 255)
    _disc(sprite.colour, middle, 0.5, _white(rng))
    _disc(sprite.colour, middle, rng.uniform(0.475, 0.49), _red(rng))
    _disc(sprite.colour, middle, rng.uniform(0.385, 0.405), _white(rng))
    width = rng.uniform(0.55, 0.60) if len(text) == 2 else rng.uniform(0.65, 0.68)
    height = rng.uniform(0.44, 0.49) if len(text) == 2 else rng.uniform(0.37, 0.41)
    _write(sprite, text, width, height, _shade((26, 24, 24), rng, 8.0), rng.uniform(0.19, 0.24))
    return sprite


def _stop(rng: np.random.Generator) -> Sprite:
    sprite = _blank()
    angles = np.radians(22.5 + 45.0 * np.arange(8))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    _polygon(sprite.alpha, 0.5 + 0.525 * directions, 255, 0.005)
    _polygon(sprite.colour, 0.5 + 0.53 * directions, _white(rng), 0.005)
    _polygon(sprite.colour, 0.5 + rng.uniform(0.475, 0.495) * directions, _red(rng), 0.0)
    _write(sprite, "STOP", rng.uniform(0.70, 0.76), rng.uniform(0.27, 0.32), _white(rng), rng.uniform(0.15, 0.19))
    return sprite


def _yield(rng: np.random.Generator) -> Sprite:
    sprite = _blank()
    triangle = np.array([(0.06, 0.12), (0.94, 0.12), (0.5, 0.88)])
    middle = triangle.mean(axis=0)
    _polygon(sprite.alpha, triangle, 255, 0.045)
    _polygon(sprite.colour, triangle, _red(rng), 0.05)
    _polygon(sprite.colour, middle + (triangle - middle) * rng.uniform(0.52, 0.62), _white(rng), 0.02)
    return sprite


def _light(lit: Literal["red", "green"], rng: np.random.Generator) -> Sprite:
    sprite = _blank()
    half = rng.uniform(0.17, 0.2)
    housing = np.array([(0.5 - half, 0.06), (0.5 + half, 0.06), (0.5 + half, 0.94), (0.5 - half, 0.94)])
    _polygon(sprite.alpha, housing, 255, 0.05)
    _polygon(sprite.colour, housing, _shade((64, 66, 62), rng, 10.0), 0.055)
    _polygon(sprite.colour, 0.5 + (housing - 0.5) * 0.97, _shade((32, 32, 30), rng, 7.0), 0.03)
    radius = rng.uniform(0.115, 0.13)
    for lamp, height in LAMP_HEIGHTS.items():
        _disc(sprite.colour, (0.5, height), radius * 1.08, (16, 16, 16))
        _disc(sprite.colour, (0.5, height), radius, _shade(LAMP_DARK[lamp], rng, 5.0))
    _shine(sprite, LAMP_HEIGHTS[lit], radius, _shade(LAMP_LIT[lit], rng, 18.0))
    return sprite


def _shine(sprite: Sprite, height: float, radius: float, colour: Colour) -> None:
    """Light a lamp: a bright disc with a pale core, and its glow on the housing."""
    light = np.zeros_like(sprite.colour)
    _disc(light, (0.5, height), radius, colour)
    pale = np.minimum(np.array(colour) * 0.6 + 120, 255)
    _disc(light, (0.49, height - 0.01), radius * 0.45, (float(pale[0]), float(pale[1]), float(pale[2])))
    glow = _blurred(light, 0.02)
    halo = _blurred(light, 0.06)
    _disc(sprite.colour, (0.5, height), radius, 0)
    cv2.add(sprite.colour, glow, sprite.colour)
    cv2.addWeighted(sprite.colour, 1.0, halo, 0.35, 0.0, sprite.colour)


def _blurred(image: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """Blur at a quarter of the size, which costs a tenth of the time; `reach` is a share of the side."""
    small = cv2.resize(image, (SIDE // 4, SIDE // 4), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), reach * SIDE / 4)
    blurred: NDArray[np.uint8] = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return blurred


SIGNS: dict[str, Callable[[np.random.Generator], Sprite]] = {
    "Green Light": partial(_light, "green"),
    "Red Light": partial(_light, "red"),
    "Stop": _stop,
    "Yield": _yield,
    **{f"Speed Limit {limit}": partial(_speed_limit, str(limit)) for limit in SPEED_LIMITS},
}
