"""What a detector is scored on: the images of one side of a data set, with their labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ethos.data.data_file import class_names, read_data_file
from ethos.data.labels import read_labels
from ethos.data.manifest import DATASET_FILE, IMAGE_SUFFIXES, MANIFEST_FILE, read_manifest
from ethos.errors import DataError, unknown
from ethos.evaluation.protocol import NOTHING
from ethos.files import read_json, sha256_file, sha256_json

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """An image and its boxes [n, 5]: class, centre x, centre y, width, height, as fractions of the image."""

    image: Path
    labels: NDArray[np.float64]


@dataclass(frozen=True)
class SampleSet:
    """One side of a data set.

    Attributes:
        dataset: The data set's name.
        split: The side's name.
        names: Class names, in label order.
        samples: Images with their labels, in the order of their names.
        split_sha256: Hash of which images are on which side.
        excluded: Which images of the side are left out, in words; the labels' hash tells exactly.
        root: Folder of a materialised set, or the data.yaml of another.
    """

    dataset: str
    split: str
    names: tuple[str, ...]
    samples: tuple[Sample, ...]
    split_sha256: str
    excluded: str = NOTHING
    root: Path = Path()

    @property
    def labels_sha256(self) -> str:
        """Hash of all boxes, image by image."""
        return sha256_json([[sample.image.name, sample.labels.tolist()] for sample in self.samples])

    def without(self, images: Collection[Path], why: str) -> SampleSet:
        """Return the set without some images.

        Raises:
            DataError: Nothing is left.
        """
        kept = tuple(sample for sample in self.samples if sample.image not in images)
        gone = len(self.samples) - len(kept)
        if not kept:
            raise DataError(f"{self.root}: {why} leaves no image of '{self.split}'", "leave fewer images out")
        return replace(self, samples=kept, excluded=f"{gone} images: {why}" if gone else self.excluded)


def load_samples(data: Path, split: str) -> SampleSet:
    """Return one side of a data set.

    Args:
        data: A materialised data set's folder, or the data.yaml of any YOLO-format folder.
        split: `train`, `val`, or `test` where the data set has one.

    Raises:
        SpecError: The data set has no such side.
        DataError: The data set is missing or malformed, the side holds no image, or a label is of no known class.
    """
    folder = data if data.is_dir() else data.parent
    found = _materialised(folder, split) if (folder / MANIFEST_FILE).is_file() else _yolo_folder(data, split)
    if not found.samples:
        raise DataError(f"{data}: split '{split}' holds no image", "choose another split, or add images to it")
    for sample in found.samples:
        _check_classes(sample, found.names)
    return found


def without_listed(data: SampleSet, path: Path) -> SampleSet:
    """Return the set without the images whose file names stand in a text file, one a line.

    Raises:
        DataError: The file cannot be read, names an image that the set does not hold, or leaves none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of images: {error}", "write one file name a line") from None
    wanted = {Path(line.strip()).name for line in lines if line.strip()}
    listed = {sample.image for sample in data.samples if sample.image.name in wanted}
    missing = sorted(wanted - {image.name for image in listed})
    if missing:
        raise DataError(
            f"{path}: {len(missing)} images are not in '{data.split}', such as {missing[0]}",
            "list file names of that side, one a line",
        )
    return data.without(listed, f"listed in {path.name}")


def _materialised(folder: Path, split: str) -> SampleSet:
    rows = read_manifest(folder)
    sides = sorted({row.split for row in rows})
    if split not in sides:
        raise unknown("split", split, sides, where=str(folder))
    path = folder / DATASET_FILE
    try:
        document = read_json(path)
        name, names, digest = document["name"], document["classes"], document["split_sha256"]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "run `dvc repro dataset` first") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a data set's record: {error!r}", "run `dvc repro --force dataset`") from None
    samples = tuple(Sample(row.path, _read_labels(row.label)) for row in rows if row.split == split)
    return SampleSet(name, split, tuple(names), samples, digest, root=folder)


def _yolo_folder(path: Path, split: str) -> SampleSet:
    document = read_data_file(path)
    entry = document.get(split)
    if entry is None:
        sides = [side for side in ("train", "val", "test") if document.get(side)]
        raise unknown("split", split, sides, where=str(path))
    root = path.parent / str(document.get("path") or "")
    folders = [root / str(folder) for folder in (entry if isinstance(entry, list) else [entry])]
    images = sorted(image for folder in folders for image in _images(folder, path))
    samples = tuple(Sample(image, _read_labels(_label_path(image))) for image in images)
    digest = sha256_json(sorted([sha256_file(image), split] for image in images))
    return SampleSet(path.resolve().parent.name, split, class_names(document, path), samples, digest, root=path)


def _images(folder: Path, path: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{path}: {folder} is no folder of images", "correct the folder in data.yaml")
    return [image for image in folder.rglob("*") if image.suffix.lower() in IMAGE_SUFFIXES]


def _label_path(image: Path) -> Path:
    """Return the label file: the last folder named `images` becomes `labels`."""
    parts = list(image.parts)
    for position in reversed(range(len(parts) - 1)):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _read_labels(path: Path) -> NDArray[np.float64]:
    """Return the boxes of a label file, each once: the second of two equal boxes could never be found."""
    return np.unique(read_labels(path), axis=0)


def _check_classes(sample: Sample, names: tuple[str, ...]) -> None:
    for number in sample.labels[:, 0]:
        if not 0 <= number < len(names):
            raise DataError(
                f"{sample.image}: a box is of class {int(number)}, known are 0 to {len(names) - 1}",
                "correct its label file, or the class names",
            )
