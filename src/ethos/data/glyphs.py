"""Digits and letters as strokes, so that drawn signs need no font and look the same with every OpenCV."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Stroke = list[tuple[float, float]]
GLYPH_HEIGHT = 180  # pixels of a glyph's middle line before it is fitted
GLYPH_WIDTH = 104
GLYPH_GAP = 66
SUBPIXEL_BITS = 4


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, end: float) -> Stroke:
    """Return an arc's points; degrees run clockwise from the right, as y points down."""
    angles = np.radians(np.linspace(start, end, 24))
    return [(cx + rx * float(np.cos(angle)), cy + ry * float(np.sin(angle))) for angle in angles]


def _turned(strokes: list[Stroke]) -> list[Stroke]:
    return [[(1 - x, 1 - y) for x, y in stroke] for stroke in strokes]


_SIX = [_arc(0.5, 0.67, 0.48, 0.33, 0, 360), _arc(0.86, 0.67, 0.84, 0.67, 180, 262)]

GLYPHS: dict[str, list[Stroke]] = {
    "0": [_arc(0.5, 0.5, 0.48, 0.5, 0, 360)],
    "1": [[(0.15, 0.24), (0.58, 0.0), (0.58, 1.0)]],
    "2": [[*_arc(0.5, 0.28, 0.47, 0.28, 195, 395), (0.02, 1.0), (1.0, 1.0)]],
    "3": [_arc(0.46, 0.25, 0.46, 0.25, 205, 450), _arc(0.46, 0.75, 0.53, 0.25, 270, 515)],
    "4": [[(0.72, 1.0), (0.72, 0.0), (0.0, 0.7), (1.0, 0.7)]],
    "5": [[(0.92, 0.0), (0.14, 0.0), (0.08, 0.48), *_arc(0.47, 0.67, 0.51, 0.33, 222, 510)]],
    "6": _SIX,
    "7": [[(0.0, 0.0), (1.0, 0.0), (0.35, 1.0)]],
    "8": [_arc(0.5, 0.24, 0.42, 0.24, 0, 360), _arc(0.5, 0.74, 0.5, 0.26, 0, 360)],
    "9": _turned(_SIX),
    "O": [_arc(0.5, 0.5, 0.5, 0.5, 0, 360)],
    "P": [[(0.0, 1.0), (0.0, 0.0), *_arc(0.5, 0.27, 0.5, 0.27, 270, 450), (0.0, 0.54)]],
    "S": [[*_arc(0.5, 0.25, 0.48, 0.25, 328, 90), *_arc(0.5, 0.75, 0.48, 0.25, 270, 508)]],
    "T": [[(0.0, 0.0), (1.0, 0.0)], [(0.5, 0.0), (0.5, 1.0)]],
}


def text_mask(text: str, width: int, height: int, weight: float) -> NDArray[np.uint8]:
    """Return `text` in white on black, filling [height, width] pixels.

    Args:
        text: Characters of `GLYPHS`.
        width: Pixels across the whole text.
        height: Pixels from top to bottom.
        weight: Thickness of a stroke as a share of a glyph's height; 0.2 is bold.
    """
    thickness = max(1, round(weight * GLYPH_HEIGHT))
    margin = thickness // 2 + 1
    span = len(text) * GLYPH_WIDTH + (len(text) - 1) * GLYPH_GAP
    mask = np.zeros((GLYPH_HEIGHT + 2 * margin, span + 2 * margin), np.uint8)
    for place, character in enumerate(text):
        corner = np.array([margin + place * (GLYPH_WIDTH + GLYPH_GAP), margin])
        for stroke in GLYPHS[character]:
            points = (np.array(stroke) * (GLYPH_WIDTH, GLYPH_HEIGHT) + corner) * 2**SUBPIXEL_BITS
            points = np.round(points).astype(np.int32)
            cv2.polylines(mask, [points], False, 255, thickness, cv2.LINE_AA, SUBPIXEL_BITS)
    fitted: NDArray[np.uint8] = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    return fitted
