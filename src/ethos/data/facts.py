"""What the checks judge: a materialised data set's images, labels and split, read once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from ethos.data.labels import read_labels
from ethos.data.manifest import SIDES, ImageRow, read_manifest
from ethos.data.split import Item

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.specs import Dataset


@dataclass(frozen=True)
class Facts:
    """A materialised data set.

    Attributes:
        dataset: Its spec.
        folder: Where it is.
        rows: Its images, as in the manifest.
        readable: For each image, whether all of it decodes.
        items: For each image, what the split knows of it.
        boxes: All boxes [n, 5] as class, cx, cy, w, h in shares of the image.
        owners: For each box, the place of its image in `rows`.
        labels: All label files, sorted.
    """

    dataset: Dataset
    folder: Path
    rows: list[ImageRow]
    readable: list[bool]
    items: list[Item]
    boxes: NDArray[np.float64]
    owners: NDArray[np.int64]
    labels: list[Path]

    def name(self, path: Path) -> str:
        """Return a file's name as the reports show it, relative to the data set's folder."""
        return path.relative_to(self.folder).as_posix()

    def class_counts(self) -> NDArray[np.int64]:
        """Return boxes [sides, classes] in the order of `SIDES`; classes out of range are left out."""
        count = len(self.dataset.classes)
        kinds = self.boxes[:, 0].astype(np.int64)
        known = (kinds >= 0) & (kinds < count)
        sides = np.array([SIDES.index(row.split) for row in self.rows], dtype=np.int64)[self.owners]
        table = np.bincount(sides[known] * count + kinds[known], minlength=len(SIDES) * count)
        return table.reshape(len(SIDES), count)


def gather(folder: Path, dataset: Dataset) -> Facts:
    """Read a materialised data set.

    Raises:
        DataError: The manifest is missing, or a label file is malformed.
    """
    rows = read_manifest(folder)
    labels = [read_labels(row.label) for row in rows]
    with ThreadPoolExecutor() as pool:
        readable = list(pool.map(decodes, [row.path for row in rows]))
    return Facts(
        dataset=dataset,
        folder=folder,
        rows=rows,
        readable=readable,
        items=[
            Item(row.path.name, row.sha256, tuple(int(kind) for kind in each[:, 0]))
            for row, each in zip(rows, labels, strict=True)
        ],
        boxes=np.concatenate([*labels, np.empty((0, 5))]),
        owners=np.repeat(np.arange(len(rows)), [len(each) for each in labels]),
        labels=sorted(path for side in SIDES for path in (folder / "labels" / side).glob("*.txt")),
    )


def decodes(path: Path) -> bool:
    """Return whether the whole image can be decoded; OpenCV would fill what a truncated file lacks with grey."""
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError):
        return False
    return True
