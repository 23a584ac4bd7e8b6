"""Calibration images: which ones, and as what the converter sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.errors import DataError
from ethos.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from ethos.data.manifest import ImageRow

MINIMUM = 16


def choose(folder: Path, count: int) -> list[ImageRow]:
    """Return up to `count` images of the training side, spread evenly over the classes.

    Classes take turns; each takes its next image by name that no other class has taken. The choice depends on the data
    set alone.

    Raises:
        DataError: The training side holds fewer than the minimum.
    """
    from ethos.data.labels import read_labels
    from ethos.data.manifest import read_manifest

    rows = sorted((row for row in read_manifest(folder) if row.split == "train"), key=lambda row: row.path)
    if len(rows) < MINIMUM:
        raise DataError(
            f"{folder}: {len(rows)} training images, calibration needs at least {MINIMUM}", "use a larger data set"
        )
    queues: dict[int, list[ImageRow]] = {}
    for row in rows:
        for number in sorted({int(label[0]) for label in read_labels(row.label)} or {-1}):
            queues.setdefault(number, []).append(row)
    return _take_turns([queues[number] for number in sorted(queues)], min(count, len(rows)))


def list_hash(rows: Sequence[ImageRow]) -> str:
    """Return the SHA-256 over the chosen images' own hashes, in order."""
    return sha256_json([row.sha256 for row in rows])


def load(rows: Sequence[ImageRow], imgsz: tuple[int, int]) -> NDArray[np.float32]:
    """Return the images as the network sees them: [n, h, w, 3] float32, RGB in 0..1, letterboxed.

    Raises:
        DataError: An image is not of the training side, or cannot be read.
    """
    import cv2
    import numpy as np

    from ethos_runtime.decode import letterbox

    images = []
    for row in rows:
        if row.split != "train":
            raise DataError(f"{row.path}: calibration on a {row.split} image", "calibrate on training images only")
        image = cv2.imread(str(row.path))
        if image is None:
            raise DataError(f"{row.path}: cannot be read as an image", "run: ethos data check")
        images.append(letterbox(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), imgsz)[0])
    return np.stack(images).astype(np.float32) / np.float32(255)


def _take_turns(queues: list[list[ImageRow]], count: int) -> list[ImageRow]:
    taken: dict[Path, ImageRow] = {}
    positions = [0] * len(queues)
    while len(taken) < count:
        for index, queue in enumerate(queues):
            while positions[index] < len(queue) and queue[positions[index]].path in taken:
                positions[index] += 1
            if positions[index] < len(queue) and len(taken) < count:
                row = queue[positions[index]]
                taken[row.path] = row
    return list(taken.values())
