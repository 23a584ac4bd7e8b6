"""Calibration images: which ones, and as what the converter sees them.

A validation image among them would let the side that is scored choose the scales: it is refused wherever it comes
from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ethos.errors import DataError, SpecError
from ethos.files import sha256_file, sha256_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from ethos.data.manifest import ImageRow

MINIMUM = 16


def choose(folder: Path, count: int, source: str | None = None) -> list[ImageRow]:
    """Return up to `count` images, spread evenly over the classes where they are the training side's.

    Classes take turns; each takes its next image by name that no other class has taken. The choice depends on the data
    set alone.

    Args:
        folder: Materialised data set.
        count: Images wanted.
        source: A folder of images, or a text file that lists one a line, to take instead of the training side; evenly
            over their names.

    Raises:
        DataError: There are fewer than the minimum, or an image is byte for byte one of the validation or test side.
        SpecError: The source is neither folder nor list, or names a file that is not there.
    """
    from ethos.data.manifest import read_manifest

    rows = sorted(read_manifest(folder), key=lambda row: row.path)
    training = [row for row in rows if row.split == "train"]
    found = training if source is None else _listed(Path(source))
    if len(found) < MINIMUM:
        place, kind = (f"{folder}", "training") if source is None else (source, "calibration")
        raise DataError(f"{place}: {len(found)} {kind} images, calibration needs at least {MINIMUM}", TOO_FEW[kind])
    _refuse_scored(found, rows)
    if source is not None:
        places = sorted({index * len(found) // min(count, len(found)) for index in range(min(count, len(found)))})
        return [found[place] for place in places]
    return _take_turns(_by_class(found), min(count, len(found)))


TOO_FEW = {"training": "use a larger data set", "calibration": "add images, or leave out quantize.calibration_from"}


def list_hash(rows: Sequence[ImageRow]) -> str:
    """Return the SHA-256 over the chosen images' own hashes, in order."""
    return sha256_json([row.sha256 for row in rows])


def load(rows: Sequence[ImageRow], imgsz: tuple[int, int]) -> NDArray[np.float32]:
    """Return the images as the network sees them: [n, h, w, 3] float32, RGB in 0..1, letterboxed.

    Raises:
        DataError: There is none, one is not of the training side, or one cannot be read.
    """
    import cv2
    import numpy as np

    from ethos_runtime.letterbox import letterbox

    if not rows:
        raise DataError("no calibration images", f"give at least {MINIMUM} training images")
    images = []
    for row in rows:
        if row.split != "train":
            raise DataError(f"{row.path}: calibration on a {row.split} image", "calibrate on training images only")
        image = cv2.imread(str(row.path))
        if image is None:
            raise DataError(f"{row.path}: cannot be read as an image", "run: ethos data check")
        images.append(letterbox(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), imgsz)[0])
    return np.stack(images).astype(np.float32) / np.float32(255)


def _listed(source: Path) -> list[ImageRow]:
    """Return the images of a folder, or of a list whose entries are relative to its own place."""
    from ethos.data.manifest import IMAGE_SUFFIXES, ImageRow

    if source.is_dir():
        paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    elif source.is_file():
        try:
            lines = source.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise SpecError(f"{source}: not a text file", "list one image a line, or name a folder of images") from None
        paths = [source.parent / line.strip() for line in lines if line.strip()]
    else:
        raise SpecError(f"quantize.calibration_from: no folder or file {source}", "correct the path")
    if missing := [path for path in paths if not path.is_file()]:
        raise SpecError(f"{source}: {len(missing)} images are not there, the first is {missing[0]}", "correct the list")
    return [ImageRow(path, "train", sha256_file(path), 0, 0, 0, path.stem) for path in paths]


def _refuse_scored(found: Sequence[ImageRow], rows: Sequence[ImageRow]) -> None:
    scored = {row.sha256: row for row in rows if row.split != "train"}
    if same := [row for row in found if row.sha256 in scored]:
        twin = scored[same[0].sha256]
        raise DataError(
            f"{same[0].path}: calibration on a {twin.split} image, it equals {twin.path}"
            + (f"; so do {len(same) - 1} more" if len(same) > 1 else ""),
            "calibrate on training images only",
        )


def _by_class(rows: Sequence[ImageRow]) -> list[list[ImageRow]]:
    from ethos.data.labels import read_labels

    queues: dict[int, list[ImageRow]] = {}
    for row in rows:
        for number in sorted({int(label[0]) for label in read_labels(row.label)} or {-1}):
            queues.setdefault(number, []).append(row)
    return [queues[number] for number in sorted(queues)]


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
