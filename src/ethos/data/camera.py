"""What light, lens and sensor do to a drawn picture; all mild, so that signs stay legible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def take_picture(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture [h, w, 3] in BGR under some light, through some lens."""
    light = image.astype(np.float32)
    if rng.random() < 0.3:
        light *= _shadow(image.shape[0], rng)[..., None]
    if rng.random() < 0.15:
        light += _glare(image.shape[0], rng)[..., None]
    light = _blur(_exposed(light, rng), rng)
    light += rng.standard_normal(light.shape, dtype=np.float32) * np.float32(rng.uniform(0.5, 7.0))
    picture: NDArray[np.uint8] = np.clip(light, 0, 255).astype(np.uint8)
    return picture


def _exposed(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Change brightness, contrast and colour cast."""
    cast = np.exp(rng.normal(0.0, 0.05, 3)).astype(np.float32)
    contrast = np.float32(rng.uniform(0.75, 1.15))
    brightness = np.float32(rng.uniform(-32, 26))
    return ((light - 118) * contrast + 118 + brightness) * cast


def _shadow(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return factors [side, side]: a half plane in soft shadow."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-0.5 : 0.5 : side * 1j, -0.5 : 0.5 : side * 1j]
    edge = (x * np.cos(angle) + y * np.sin(angle) + rng.uniform(-0.25, 0.25)) / rng.uniform(0.01, 0.06)
    depth = rng.uniform(0.25, 0.5)
    factors: NDArray[np.float32] = (1 - depth / (1 + np.exp(-np.clip(edge, -30, 30)))).astype(np.float32)
    return factors


def _glare(side: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return light [side, side] to add: a bright spot."""
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    centre = rng.uniform(0, 1, 2)
    distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * rng.uniform(0.08, 0.2) ** 2)
    spot: NDArray[np.float32] = (rng.uniform(40, 110) * np.exp(-distance)).astype(np.float32)
    return spot


def _blur(light: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Put the picture out of focus, or move the camera while the shutter is open."""
    kind = rng.random()
    blurred: NDArray[np.float32] = light
    if kind < 0.35:
        blurred = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.35, 0.95))
    elif kind < 0.5:
        length = rng.uniform(1.5, 3.5)
        kernel = np.zeros((5, 5), np.float32)
        angle = rng.uniform(0, np.pi)
        for step in np.linspace(-length / 2, length / 2, 9):
            kernel[2 + round(step * np.sin(angle)), 2 + round(step * np.cos(angle))] += 1 / 9
        blurred = cv2.filter2D(light, -1, kernel)
    return blurred
