"""YOLO label files: one line `class cx cy w h` for each box, as fractions of the image's width and height."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ethos.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FIELDS = 5
POLYGON_FIELDS = 7  # class and three corners
FORM = "five numbers 'class centre-x centre-y width height'"


def read_labels(path: Path) -> NDArray[np.float64]:
    """Return a label file as an array [n, 5]: class, cx, cy, w, h, the last four as fractions of the image.

    A file that is not there means an image without boxes. Blank lines, Windows line ends and a byte order mark are
    fine.

    Raises:
        DataError: The file cannot be read, or a line, whose number is given, is not five finite numbers with a whole
            class.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", "a label file is readable text in UTF-8") from None
    rows = [_parse(line, path, number) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    return np.array(rows, dtype=np.float64).reshape(-1, FIELDS)


def format_labels(labels: NDArray[np.float64]) -> str:
    """Return boxes [n, 5] as the text of a label file; reading it gives the same numbers."""
    return "".join(f"{int(kind)} {' '.join(map(repr, box))}\n" for kind, *box in labels.tolist())


@dataclass(frozen=True)
class Read:
    """What a label file of a source holds.

    Attributes:
        boxes: Rows of class, cx, cy, w, h; a polygon becomes the box around it.
        polygons: Numbers of the lines that hold polygons.
        malformed: The lines that are neither box nor polygon, as `line NUMBER: TEXT`; they are left out of `boxes`.
    """

    boxes: list[list[float]] = field(default_factory=list)
    polygons: list[int] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)


def read_source_labels(path: Path) -> Read:
    """Return what can be read of a source's label file, and what cannot.

    Raises:
        DataError: The file cannot be opened.
    """
    found = Read()
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "correct its permissions, or remove it") from None
    except UnicodeDecodeError:
        found.malformed.append("line 1: not text in UTF-8")
        return found
    for number, line in enumerate(text.splitlines(), start=1):
        values = _numbers(line)
        if _is_box(values):
            found.boxes.append(values)
        elif _is_polygon(values):
            found.polygons.append(number)
            found.boxes.append(_around(values))
        elif line.strip():
            found.malformed.append(f"line {number}: {_short(line)}")
    return found


def _parse(line: str, path: Path, number: int) -> list[float]:
    values = _numbers(line)
    if not _is_box(values):
        raise DataError(f"{path}:{number}: expected {FORM}, got '{_short(line)}'", "correct or remove that line")
    return values


def _numbers(line: str) -> list[float]:
    """Return a line's numbers; none if one of its fields is no finite number or the class is not whole."""
    try:
        values = [float(each) for each in line.split()]
    except ValueError:
        return []
    return values if values and all(map(math.isfinite, values)) and values[0] == int(values[0]) else []


def _is_box(values: list[float]) -> bool:
    return len(values) == FIELDS


def _is_polygon(values: list[float]) -> bool:
    return len(values) >= POLYGON_FIELDS and len(values) % 2 == 1


def _around(polygon: list[float]) -> list[float]:
    """Return the box around a polygon given as class x1 y1 x2 y2 x3 y3 ..."""
    kind, xs, ys = polygon[0], polygon[1::2], polygon[2::2]
    left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    return [kind, (left + right) / 2, (top + bottom) / 2, right - left, bottom - top]


def _short(line: str, length: int = 60) -> str:
    line = line.strip()
    return line if len(line) <= length else line[:length] + "..."
