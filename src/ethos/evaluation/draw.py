"""Boxes with class names and scores, drawn on a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos_runtime.decode import Floats
    from ethos_runtime.letterbox import Image

    Area = tuple[float, float, float, float]
    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# told apart by people of every kind of colour vision: Okabe and Ito, https://jfly.uni-koeln.de/color/
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
LEAST_SIDE = 640  # a smaller picture is enlarged, for a label to be read
FONT_SHARE = 1 / 40  # of the picture's longer side
LEAST_FONT = 14
BRIGHT = 140  # luminance above which text is black


def draw(image: Image, detections: Floats, names: Sequence[str]) -> Image:
    """Return a picture with a labelled box for each detection, enlarged by a whole number if it is small.

    Args:
        image: RGB, uint8, [height, width, 3].
        detections: x1, y1, x2, y2, score, class in pixels of the image; [n, 6].
        names: Class names, in label order.
    """
    height, width = image.shape[:2]
    times = max(1, -(-LEAST_SIDE // max(height, width)))
    picture = Pictures.fromarray(image).resize((width * times, height * times), Pictures.Resampling.BICUBIC)
    brush = ImageDraw.Draw(picture)
    size = max(LEAST_FONT, round(max(picture.size) * FONT_SHARE))
    font = ImageFont.load_default(size)
    line = max(3, size // 6)
    taken: list[Area] = []
    # the best detection is drawn last, over the others, and its label is placed first
    boxes = [tuple(float(side) * times for side in row[:4]) for row in detections]
    for box, row in list(zip(boxes, detections, strict=True))[::-1]:
        _box(brush, box, _colour(row), line)
    for box, row in zip(boxes, detections, strict=True):
        text = f"{names[int(row[5])]} ({row[4]:.2f})"
        area = _place(box, _text_size(brush, text, font, line), picture.size, taken)
        taken.append(area)
        _label(brush, area, text, font, _colour(row), line)
    return np.asarray(picture)


def _colour(row: Floats) -> tuple[int, int, int]:
    return COLOURS[int(row[5]) % len(COLOURS)]


def _box(brush: ImageDraw.ImageDraw, box: tuple[float, ...], colour: tuple[int, int, int], line: int) -> None:
    """Draw a box with a dark rim, which shows on any ground."""
    x1, y1, x2, y2 = box
    if x2 - x1 < 1 or y2 - y1 < 1:
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    brush.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0), width=line + 2)
    brush.rectangle((x1, y1, x2, y2), outline=colour, width=line)


def _text_size(brush: ImageDraw.ImageDraw, text: str, font: Font, line: int) -> tuple[float, float]:
    left, top, right, bottom = brush.textbbox((0, 0), text, font=font)
    return right - left + 4 * line, bottom - top + 3 * line


def _place(box: tuple[float, ...], size: tuple[float, float], picture: tuple[int, int], taken: list[Area]) -> Area:
    """Return where a label goes: above its box, below, or inside; where none is free, as the first."""
    x1, y1, x2, y2 = box
    wide, high = size
    corners = [(x1, y1 - high), (x1, y2), (x1, y1), (x2 - wide, y1 - high), (x2 - wide, y2), (x1, y2 - high)]
    inside = [
        (min(max(x, 0.0), max(picture[0] - wide, 0.0)), y) for x, y in corners if y >= 0 and y + high <= picture[1]
    ]
    areas = [(x, y, x + wide, y + high) for x, y in inside] or [(0.0, 0.0, wide, high)]
    return next((area for area in areas if not any(_touch(area, other) for other in taken)), areas[0])


def _touch(one: Area, other: Area) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _label(
    brush: ImageDraw.ImageDraw,
    area: Area,
    text: str,
    font: Font,
    colour: tuple[int, int, int],
    line: int,
) -> None:
    brush.rectangle(area, fill=colour, outline=(0, 0, 0))
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    left, top, _, _ = brush.textbbox((0, 0), text, font=font)
    place = (area[0] + 2 * line - left, area[1] + 1.5 * line - top)
    brush.text(place, text, font=font, fill=(0, 0, 0) if luminance > BRIGHT else (255, 255, 255))
