"""A data set of squares that the networks of `tiny_network` detect: materialised, or as a YOLO folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import tiny_network as tiny

from ethos.data.manifest import ImageRow, write_manifest
from ethos.files import sha256_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# (class, row, column) of the cells in each image; boxes of one image do not touch
CELLS: dict[str, list[tuple[int, int, int]]] = {
    "a": [(0, 2, 2)],
    "b": [(1, 5, 3), (2, 2, 6)],
    "c": [(2, 4, 4)],
    "d": [],
}
CELL_LABEL = 2 * tiny.BIN * 8 / tiny.SIZE
DATA = "train: images/train\nval: images/val\nnames: [red, green, blue]\n"


def write_images(folder: Path, side: str, cells: Mapping[str, list[tuple[int, int, int]]] = CELLS) -> list[Path]:
    """Write images with their labels; the first box of each image is labelled twice."""
    (folder / "images" / side).mkdir(parents=True, exist_ok=True)
    (folder / "labels" / side).mkdir(parents=True, exist_ok=True)
    paths = []
    for name, squares in cells.items():
        path = folder / "images" / side / f"{name}.png"
        cv2.imwrite(str(path), cv2.cvtColor(tiny.picture(squares), cv2.COLOR_RGB2BGR))
        lines = [f"{c} {(8 * x + 4) / 64} {(8 * y + 4) / 64} {CELL_LABEL} {CELL_LABEL}" for c, y, x in squares]
        (folder / "labels" / side / f"{name}.txt").write_text("\n".join(lines + lines[:1]))
        paths.append(path)
    return paths


def materialise(folder: Path) -> Path:
    """Write a data set folder as the dataset stage does."""
    rows = [
        ImageRow(path, "val", sha256_file(path), tiny.SIZE, tiny.SIZE, len(CELLS[path.stem]), path.stem)
        for path in write_images(folder, "val")
    ]
    write_manifest(folder, rows)
    document = {"schema": 1, "name": "squares", "classes": list(tiny.NAMES), "split_sha256": "12ab"}
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def write_yolo(folder: Path, text: str = DATA) -> Path:
    """Write a YOLO folder whose val side holds the squares; return its data.yaml."""
    write_images(folder, "val")
    write_images(folder, "train", {"t": [(0, 3, 3)]})
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"
