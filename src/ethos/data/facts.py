"""What the checks judge: a materialised data set's images, labels and split, read once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethos.data.findings import Finding, Kind, read_findings
from ethos.data.image import Seen, see
from ethos.data.labels import read_labels
from ethos.data.manifest import SIDES, ImageRow, Side, read_manifest
from ethos.data.split import Item

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.specs import Dataset


SIDE_NUMBERS: dict[Side, int] = {side: number for number, side in enumerate(SIDES)}


@dataclass(frozen=True)
class Facts:
    """A materialised data set.

    Attributes:
        dataset: Its spec.
        folder: Where it is.
        rows: Its images, as in the manifest.
        seen: For each image, what decoding it shows.
        items: For each image, what the split knows of it.
        boxes: All boxes [n, 5] as class, cx, cy, w, h in shares of the image.
        owners: For each box, the place of its image in `rows`.
        labels: All label files, sorted.
        findings: What was odd about the source.
    """

    dataset: Dataset
    folder: Path
    rows: list[ImageRow]
    seen: list[Seen]
    items: list[Item]
    boxes: NDArray[np.float64]
    owners: NDArray[np.int64]
    labels: list[Path]
    findings: list[Finding]

    def name(self, path: Path) -> str:
        """Return a file's name as the reports show it, relative to the data set's folder."""
        return path.relative_to(self.folder).as_posix()

    def class_counts(self) -> NDArray[np.int64]:
        """Return boxes [sides, classes] in the order of `SIDES`; classes out of range are left out."""
        count = len(self.dataset.classes)
        kinds = self.boxes[:, 0].astype(np.int64)
        sides = np.array([SIDE_NUMBERS.get(row.split, -1) for row in self.rows], dtype=np.int64)[self.owners]
        known = (kinds >= 0) & (kinds < count) & (sides >= 0)
        table = np.bincount(sides[known] * count + kinds[known], minlength=len(SIDES) * count)
        return table.reshape(len(SIDES), count)

    def sides(self) -> list[Side]:
        """Return each image's side."""
        return [row.split for row in self.rows]

    def found(self, kind: Kind) -> dict[str, list[str]]:
        """Return the details of the findings of one kind by image name."""
        details: dict[str, list[str]] = {}
        for each in self.findings:
            if each.kind == kind:
                details.setdefault(each.image, []).append(each.detail)
        return details


def gather(folder: Path, dataset: Dataset) -> Facts:
    """Read a materialised data set.

    Raises:
        DataError: The manifest is missing, or a label file is malformed.
    """
    rows = read_manifest(folder)
    labels = [read_labels(row.label) for row in rows]
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(lambda row: see(row.path, look=False), rows))
    return Facts(
        dataset=dataset,
        folder=folder,
        rows=rows,
        seen=seen,
        items=[
            Item(row.path.name, row.sha256, tuple(int(kind) for kind in each[:, 0]), row.look)
            for row, each in zip(rows, labels, strict=True)
        ],
        boxes=np.concatenate([*labels, np.empty((0, 5))]),
        owners=np.repeat(np.arange(len(rows)), [len(each) for each in labels]),
        labels=sorted((folder / "labels").glob("*/*.txt")),
        findings=read_findings(folder),
    )
