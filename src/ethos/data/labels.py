"""YOLO label files: one line `class cx cy w h` for each box, as fractions of the image's width and height."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ethos.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FIELDS = 5
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


def _parse(line: str, path: Path, number: int) -> list[float]:
    try:
        values = [float(field) for field in line.split()]
    except ValueError:
        values = []
    if len(values) != FIELDS or not all(map(math.isfinite, values)) or values[0] != int(values[0]):
        raise DataError(f"{path}:{number}: expected {FORM}, got '{_short(line)}'", "correct or remove that line")
    return values


def _short(line: str, length: int = 60) -> str:
    line = line.strip()
    return line if len(line) <= length else line[:length] + "..."
