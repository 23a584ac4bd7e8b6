"""What stands behind the drawn signs: roads, streets, leaves and walls, with clutter that is no sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Colour = tuple[float, float, float]

# BGR, by time of day
SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((226, 168, 108), (240, 222, 196)),  # clear
    ((190, 182, 172), (222, 218, 212)),  # overcast
    ((168, 118, 92), (150, 190, 238)),  # evening
    ((92, 62, 40), (120, 96, 84)),  # dusk
)
WALLS: tuple[Colour, ...] = ((120, 140, 168), (96, 104, 150), (168, 176, 182), (112, 118, 122), (150, 168, 196))
CLUTTER: tuple[Colour, ...] = (
    (190, 110, 40),
    (60, 170, 210),
    (80, 130, 60),
    (200, 200, 205),
    (90, 90, 96),
    (60, 60, 150),
)


def draw_backdrop(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a backdrop [side, side, 3] in BGR."""
    names = sorted(BACKDROPS)
    image = BACKDROPS[names[int(rng.integers(len(names)))]](side, rng)
    for _ in range(int(rng.integers(0, 4))):
        _clutter(image, rng)
    return image


def _noise(side: int, cells: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return smooth noise [side, side] around 0 with a standard deviation near 1; `cells` is its detail."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    smooth: NDArray[np.float32] = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return smooth


def _textured(image: NDArray[np.uint8], strength: float, cells: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    grain = _noise(image.shape[0], cells, rng) * np.float32(strength)
    rough: NDArray[np.uint8] = np.clip(image + grain[..., None], 0, 255).astype(np.uint8)
    return rough


def _sky(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    top, bottom = SKIES[int(rng.integers(len(SKIES)))]
    ramp = np.linspace(0.0, 1.0, side, dtype=np.float32)[:, None, None]
    image = np.array(top, np.float32) * (1 - ramp) + np.array(bottom, np.float32) * ramp
    clouds = np.clip(_noise(side, int(rng.integers(3, 7)), rng), 0, 1)[..., None] * np.float32(rng.uniform(0, 30))
    sky: NDArray[np.uint8] = np.clip(image + clouds, 0, 255).astype(np.uint8)
    return sky


def _road(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A road that runs to the horizon, with verges and trees."""
    image = _sky(side, rng)
    horizon = int(rng.uniform(0.45, 0.65) * side)
    for _ in range(int(rng.integers(3, 9))):
        _tree(image, (rng.uniform(0, side), horizon), rng.uniform(0.04, 0.13) * side, rng)
    image[horizon:] = np.array((58, 112, 92)) * rng.uniform(0.55, 1.3) + rng.normal(0, 6, 3)
    away = rng.uniform(0.25, 0.75) * side
    edges = [(away - 0.02 * side, horizon), (away + 0.02 * side, horizon)]
    near = [(rng.uniform(0.75, 1.2) * side, side), (rng.uniform(-0.2, 0.25) * side, side)]
    grey = float(rng.uniform(70, 125))
    cv2.fillPoly(image, [np.array(edges + near, np.int32)], (grey, grey, grey), cv2.LINE_AA)
    middle = (near[0][0] + near[1][0]) / 2
    for start in np.linspace(0.1, 0.9, 5):
        ends = [(int(away + (middle - away) * t), int(horizon + (side - horizon) * t)) for t in (start, start + 0.09)]
        cv2.line(image, ends[0], ends[1], (215, 218, 220), max(1, round(0.025 * side * start)), cv2.LINE_AA)
    return _textured(image, 5, 90, rng)


def _tree(image: NDArray[np.uint8], foot: tuple[float, float], radius: float, rng: np.random.Generator) -> None:
    green = rng.normal((46, 92, 62), 14)
    for _ in range(6):
        place = (int(foot[0] + rng.normal(0, radius * 0.6)), int(foot[1] - radius + rng.normal(0, radius * 0.4)))
        colour = tuple(float(part) for part in np.clip(green + rng.normal(0, 10), 0, 255))
        cv2.circle(image, place, max(1, int(radius * rng.uniform(0.5, 0.9))), colour, -1, cv2.LINE_AA)


def _street(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Houses with windows above a pavement."""
    image = _sky(side, rng)
    left = 0
    while left < side:
        width = int(rng.uniform(0.2, 0.45) * side)
        _house(image, left, min(left + width, side), int(rng.uniform(0.05, 0.45) * side), rng)
        left += width
    kerb = int(rng.uniform(0.75, 0.9) * side)
    grey = rng.uniform(80, 140)
    image[kerb:] = grey
    image[kerb : kerb + max(2, side // 60)] = min(grey + 40, 255)
    return _textured(image, 6, 70, rng)


def _house(image: NDArray[np.uint8], left: int, right: int, top: int, rng: np.random.Generator) -> None:
    side = image.shape[0]
    wall = np.clip(np.array(WALLS[int(rng.integers(len(WALLS)))]) + rng.normal(0, 16), 0, 255)
    image[top:, left:right] = wall
    pane = tuple(float(part) for part in np.clip(wall * rng.choice([0.5, 0.65, 1.25]) + rng.normal(0, 8, 3), 0, 255))
    step = int(rng.uniform(0.07, 0.12) * side)
    size = int(step * rng.uniform(0.45, 0.65))
    for y in range(top + step // 2, side, step):
        for x in range(left + step // 3, right - size, step):
            cv2.rectangle(image, (x, y), (x + size, y + int(size * 1.2)), pane, -1)


def _leaves(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Foliage, close up."""
    base = np.clip(rng.normal((48, 100, 74), 14), 20, 160).astype(np.float32)
    grain = sum(_noise(side, cells, rng) * weight for cells, weight in ((6, 20), (18, 20), (60, 18)))
    tint = np.array([0.6, 1.0, 0.8], np.float32)
    leaves: NDArray[np.uint8] = np.clip(base + np.asarray(grain)[..., None] * tint, 0, 255).astype(np.uint8)
    return leaves


def _wall(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Plaster or bricks."""
    base = np.clip(np.array(WALLS[int(rng.integers(len(WALLS)))]) + rng.normal(0, 18), 0, 255)
    image = np.empty((side, side, 3), np.uint8)
    image[:] = base
    if rng.random() < 0.5:
        course = int(rng.uniform(0.05, 0.09) * side)
        joint = tuple(float(part) for part in np.clip(base * 0.78, 0, 255))
        for row, y in enumerate(range(0, side, course)):
            cv2.line(image, (0, y), (side, y), joint, 2)
            for x in range((row % 2) * course, side, 2 * course):
                cv2.line(image, (x, y), (x, y + course), joint, 2)
    return _textured(_textured(image, 8, 80, rng), 12, 5, rng)


def _clutter(image: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Add a plain board, disc or post: shapes like signs that are none."""
    side = image.shape[0]
    colour = CLUTTER[int(rng.integers(len(CLUTTER)))]
    x, y = (int(part) for part in rng.uniform(0.05, 0.95, 2) * side)
    size = int(rng.uniform(0.05, 0.16) * side)
    shape = rng.random()
    if shape < 0.35:
        cv2.circle(image, (x, y), size // 2, colour, -1, cv2.LINE_AA)
    elif shape < 0.8:
        box = cv2.boxPoints(((x, y), (size * rng.uniform(0.6, 1.8), size), rng.uniform(-8, 8)))
        cv2.fillPoly(image, [box.astype(np.int32)], colour, cv2.LINE_AA)
    else:
        cv2.line(image, (x, y), (x, side), (96, 98, 100), max(2, size // 6), cv2.LINE_AA)


BACKDROPS: dict[str, Callable[[int, np.random.Generator], NDArray[np.uint8]]] = {
    "leaves": _leaves,
    "road": _road,
    "street": _street,
    "wall": _wall,
}
