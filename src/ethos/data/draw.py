"""The drawn data set: street scenes with signs and their boxes, the same for the same seed.

Every picture has random numbers of its own, so picture i does not depend on how many are drawn. Of each three pictures
the third is a second view of the second one's scene, as in a video; the file names tell (`scene_00003_f1.jpg`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ethos.data.backdrops import draw_backdrop
from ethos.data.camera import take_picture
from ethos.data.signs import SIDE, SIGNS, Sprite, draw_sign
from ethos.errors import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SUPERSAMPLING = 2
LABEL_DECIMALS = 6
MARGIN = 0.06  # scene drawn around the first view, as a share of the view
BACKGROUND_SHARE = 0.025
SIGN_COUNT_SHARES = (0.62, 0.32, 0.06)  # one, two and three signs
SIZES = {1: (0.32, 0.70), 2: (0.27, 0.46), 3: (0.25, 0.34)}  # of a sign's longer side, by number of signs
MAX_TURN_DEGREES = 12.0
OCCLUDED_SHARE = 0.15
MAX_OCCLUSION = 0.15
POLE_SHARE = 0.6
SOLID = 127  # a sign's box goes round what is more opaque than this


@dataclass(frozen=True)
class Picture:
    """A drawn picture: its file name, JPEG bytes, and boxes [n, 5] as class, cx, cy, w, h in shares of the picture."""

    name: str
    jpeg: bytes
    labels: NDArray[np.float64]


@dataclass(frozen=True)
class _Hung:
    """A sign as it hangs in a scene.

    Attributes:
        sign: Its class.
        corner: Where the left top of `colour` [h, w, 3] and `alpha` [h, w] is on the canvas, in pixels.
        colour: The sign in BGR.
        alpha: 0 where the sign is not, 255 where it is.
        box: Left, top, right and bottom of the sign on the canvas, in pixels.
    """

    sign: int
    corner: tuple[int, int]
    colour: NDArray[np.uint8]
    alpha: NDArray[np.uint8]
    box: NDArray[np.float64]


def draw_picture(index: int, size: int, seed: int, classes: Sequence[str]) -> Picture:
    """Return picture number `index` of the drawn data set, `size` pixels square.

    Raises:
        SpecError: A class is no sign that can be drawn.
    """
    for name in classes:
        if name not in SIGNS:
            raise unknown("drawn sign", name, SIGNS)
    block, place = divmod(index, 3)
    scene, view = 2 * block + min(place, 1), max(place - 1, 0)
    canvas, boxes = _draw_scene(scene, round(size * (1 + 2 * MARGIN)) * SUPERSAMPLING, seed, classes)
    rng = np.random.default_rng((seed, 1, index))
    window = _window(view, rng)
    image = take_picture(_look(canvas, window, size), rng)
    quality = int(rng.integers(70, 96))
    jpeg: NDArray[np.uint8] = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    name = f"scene_{scene:05d}{f'_f{view}' if view else ''}.jpg"
    return Picture(name, jpeg.tobytes(), _seen(boxes, window))


def _window(view: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the part of the canvas in view: left, top and side, as shares of the canvas."""
    whole = 1 + 2 * MARGIN
    if view == 0:
        return MARGIN / whole, MARGIN / whole, 1 / whole
    side = rng.uniform(0.92, 1.06)
    left, top = np.clip(MARGIN + (1 - side) / 2 + rng.uniform(-0.04, 0.04, 2), 0, whole - side)
    return float(left) / whole, float(top) / whole, side / whole


def _look(canvas: NDArray[np.uint8], window: tuple[float, float, float], size: int) -> NDArray[np.uint8]:
    left, top, side = (round(part * canvas.shape[0]) for part in window)
    part = canvas[top : top + side, left : left + side]
    image: NDArray[np.uint8] = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)
    return image


def _seen(boxes: NDArray[np.float64], window: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return boxes [n, 5] (class, left, top, right, bottom in shares of the canvas) as labels of the view."""
    left, top, side = window
    corners = np.clip((boxes[:, 1:] - (left, top, left, top)) / side, 0.0, 1.0)
    middle, extent = (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]
    return np.hstack([boxes[:, :1], middle, extent]).round(LABEL_DECIMALS)


def _draw_scene(
    scene: int, side: int, seed: int, classes: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return a scene's canvas [side, side, 3] and its boxes [n, 5]: class, left, top, right, bottom in shares."""
    rng = np.random.default_rng((seed, 0, scene))
    canvas = draw_backdrop(side, rng)
    signs = _choose_signs(scene, seed, len(classes), rng)
    hung: list[_Hung] = []
    for sign in signs:
        sprite = draw_sign(classes[sign], rng)
        quad = _place(sprite, [other.box / side for other in hung], SIZES[len(signs)], rng)
        if quad is not None:
            hung.append(_warped(sign, sprite, quad * side, side))
    for each in hung:
        if rng.random() < POLE_SHARE:
            _pole(canvas, each.box, rng)
    for each in hung:
        _paste(canvas, each, rng)
    boxes = [(each.sign, *(each.box / side)) for each in hung]
    return canvas, np.array(boxes, dtype=np.float64).reshape(-1, 5)


def _choose_signs(scene: int, seed: int, classes: int, rng: np.random.Generator) -> list[int]:
    """Return the classes in a scene; first signs go through all classes in turn, so that none is rare."""
    turn, place = divmod(scene, classes)
    order = np.random.default_rng((seed, 2, turn)).permutation(classes)
    if rng.random() < BACKGROUND_SHARE:
        return []
    count = 1 + int(rng.choice(len(SIGN_COUNT_SHARES), p=SIGN_COUNT_SHARES))
    return [int(order[place]), *(int(other) for other in rng.integers(classes, size=count - 1))]


def _place(
    sprite: Sprite, boxes: list[NDArray[np.float64]], sizes: tuple[float, float], rng: np.random.Generator
) -> NDArray[np.float64] | None:
    """Return where the sprite's corners go, [4, 2] in shares of the canvas, away from the boxes; None if none fits."""
    whole = 1 + 2 * MARGIN
    for attempt in range(40):
        side = rng.uniform(*sizes) * (0.98**attempt) / whole
        shape = np.array([-1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0]).reshape(4, 2) * side / 2
        shape = shape * (rng.uniform(0.86, 1.0), 1.0) + rng.normal(0, 0.02 * side, (4, 2))
        turn = np.radians(rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES))
        shear = rng.uniform(-0.08, 0.08)
        matrix = np.array([[np.cos(turn), -np.sin(turn) + shear], [np.sin(turn), np.cos(turn)]])
        free = MARGIN / whole + 0.5 * side
        quad: NDArray[np.float64] = shape @ matrix.T + rng.uniform(free, 1 - free, 2)
        hull = cv2.perspectiveTransform(_outline(sprite)[None], _warp(quad))[0]
        edges = (*hull.min(axis=0), *hull.max(axis=0))
        if not any(_touch(edges, box) for box in boxes):
            return quad
    return None


def _outline(sprite: Sprite) -> NDArray[np.float64]:
    """Return the corners [4, 2] of the part of a sprite that is not clear, in sprite pixels."""
    x, y, width, height = cv2.boundingRect(sprite.alpha)
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], dtype=np.float64)


def _warp(quad: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = np.array([(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)], np.float32)
    matrix: NDArray[np.float64] = cv2.getPerspectiveTransform(corners, quad.astype(np.float32))
    return matrix


def _touch(first: Sequence[float], second: NDArray[np.float64], gap: float = 0.01) -> bool:
    return all(bool(first[axis] < second[axis + 2] + gap and second[axis] < first[axis + 2] + gap) for axis in (0, 1))


def _warped(sign: int, sprite: Sprite, quad: NDArray[np.float64], side: int) -> _Hung:
    """Return the sprite as it hangs with its corners at `quad` [4, 2] pixels of a canvas."""
    low = np.clip(np.floor(quad.min(axis=0)).astype(int) - 1, 0, side)
    high = np.clip(np.ceil(quad.max(axis=0)).astype(int) + 1, 0, side)
    extent = (int(high[0] - low[0]), int(high[1] - low[1]))
    matrix = _warp(quad - low)
    alpha = cv2.warpPerspective(sprite.alpha, matrix, extent)
    x, y, width, height = cv2.boundingRect((alpha > SOLID).astype(np.uint8))
    box = np.array([x, y, x + width, y + height], dtype=np.float64) + np.tile(low, 2)
    return _Hung(sign, (int(low[0]), int(low[1])), cv2.warpPerspective(sprite.colour, matrix, extent), alpha, box)


def _paste(canvas: NDArray[np.uint8], hung: _Hung, rng: np.random.Generator) -> None:
    """Draw a sign in its own light, now and then with something before it."""
    left, top = hung.corner
    place = canvas[top : top + hung.alpha.shape[0], left : left + hung.alpha.shape[1]]
    mask = hung.alpha[..., None].astype(np.float32) / 255
    place[:] = (place * (1 - mask) + hung.colour * (mask * np.float32(rng.uniform(0.72, 1.0)))).astype(np.uint8)
    if rng.random() < OCCLUDED_SHARE:
        _occlude(canvas, hung.box, rng)


def _pole(canvas: NDArray[np.uint8], box: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw the pole that a sign hangs on, from its middle to the ground."""
    grey = float(rng.uniform(90, 180))
    x, y = round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2)
    width = max(3, round((box[2] - box[0]) * 0.07))
    foot = (x + round(rng.normal(0, 0.02) * canvas.shape[0]), canvas.shape[0])
    cv2.line(canvas, (x, y), foot, (grey,) * 3, width, cv2.LINE_AA)
    cv2.line(canvas, (x, y), foot, (grey * 0.7,) * 3, max(1, width // 4), cv2.LINE_AA)


def _occlude(canvas: NDArray[np.uint8], box: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Cover up to `MAX_OCCLUSION` of a sign's box with a bar or a tuft of leaves at its edge."""
    corner, extent = box[:2], box[2:] - box[:2]
    share = rng.uniform(0.04, MAX_OCCLUSION)
    if rng.random() < 0.4:
        x = round(corner[0] + rng.uniform(0, 1) * extent[0])
        grey = float(rng.uniform(40, 120))
        ends = (x, round(box[1]) - 5), (x, round(box[3]) + 5)
        cv2.line(canvas, *ends, (grey,) * 3, max(1, round(extent[0] * share * 0.5)))
        return
    angle = rng.uniform(0, 2 * np.pi)
    tuft = corner + extent * (0.5 + 0.45 * np.array([np.cos(angle), np.sin(angle)]))
    reach = np.sqrt(share * extent.prod() / np.pi)
    axes = (max(1, round(reach * 0.45)), max(1, round(reach * 0.2)))
    for _ in range(14):
        x, y = np.round(tuft + rng.normal(0, reach * 0.45, 2)).astype(int).tolist()
        green = np.clip(rng.normal((44, 96, 66), 16), 0, 255).tolist()
        cv2.ellipse(canvas, (x, y), axes, rng.uniform(0, 180), 0, 360, green, -1, cv2.LINE_AA)
