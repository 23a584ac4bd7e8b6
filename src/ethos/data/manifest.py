"""The manifest of a materialised data set: one row for each image."""

from __future__ import annotations

import csv
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ethos.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val")  # of the split; a test side that the source has stays apart
ALL_SIDES: tuple[Side, ...] = get_args(Side)
MANIFEST_FILE, DATASET_FILE = "manifest.csv", "dataset.json"
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
COLUMNS = ("image", "split", "sha256", "width", "height", "boxes", "group", "look")


@dataclass(frozen=True)
class ImageRow:
    """One image of a materialised data set.

    Attributes:
        path: The image file.
        split: The side it is on.
        sha256: Hash of the image file.
        width: Pixels, as shown; 0 for a file that is not an image.
        height: Pixels, as shown.
        boxes: Number of labelled boxes.
        group: Images of one group are related and stay on one side.
        look: Difference hash of the picture in hex; empty where there is none.
    """

    path: Path
    split: Side
    sha256: str
    width: int
    height: int
    boxes: int
    group: str
    look: str = ""

    @property
    def label(self) -> Path:
        """The label file of this image; it is absent when the source had none."""
        return self.path.parents[2] / "labels" / self.split / f"{self.path.stem}.txt"


def write_manifest(folder: Path, rows: list[ImageRow]) -> None:
    """Write the manifest of a data set folder; images are named relative to it."""
    with (folder / MANIFEST_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            fields = dataclasses.astuple(row)
            writer.writerow((row.path.relative_to(folder).as_posix(), *fields[1:]))


def read_manifest(folder: Path, name: str = MANIFEST_FILE) -> list[ImageRow]:
    """Return the images of a materialised data set, in the order of their names.

    Raises:
        DataError: The manifest is missing or malformed.
    """
    path = folder / name
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [_row(folder, fields) for fields in csv.DictReader(stream)]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "run `dvc repro dataset` first") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a manifest: {error}", "run `dvc repro --force dataset`") from None


def _row(folder: Path, fields: dict[str, str]) -> ImageRow:
    side = next((side for side in ALL_SIDES if side == fields["split"]), None)
    if side is None:
        raise ValueError(f"split '{fields['split']}'")
    return ImageRow(
        path=folder / fields["image"],
        split=side,
        sha256=fields["sha256"],
        width=int(fields["width"]),
        height=int(fields["height"]),
        boxes=int(fields["boxes"]),
        group=fields["group"],
        look=fields["look"],
    )
