"""Run a detector over images: what it finds, beside what is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ethos.errors import DataError
from ethos_runtime.letterbox import Image, letterbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.evaluation.predictors import Predictor
    from ethos.evaluation.samples import Sample
    from ethos_runtime.decode import Floats


@dataclass(frozen=True)
class ImageResult:
    """What a detector found in an image, beside what is there; both in pixels of the letterboxed image.

    Attributes:
        detections: x1, y1, x2, y2, score, class; [n, 6], best first.
        labels: class, x1, y1, x2, y2; [m, 5].
        ratio: Pixels of the letterboxed image for each of the source.
        shape: Height and width of the source image, in pixels.
    """

    detections: Floats
    labels: NDArray[np.float32]
    ratio: float = 1.0
    shape: tuple[int, int] = (640, 640)


def predict_all(
    predictors: Sequence[Predictor],
    samples: Sequence[Sample],
    conf: float,
    iou: float,
    max_det: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[ImageResult]:
    """Return what is found in each sample, in their order.

    Args:
        predictors: Equal detectors; each works in a thread of its own (interpreter and OpenCV release Python's lock).
        samples: Images with labels.
        conf: Least score.
        iou: Overlap above which suppression removes a box.
        max_det: Detections kept for an image, at most.
        progress: Called with the number of images done and of all images.

    Raises:
        DataError: An image cannot be read.
    """
    idle: SimpleQueue[Predictor] = SimpleQueue()
    for predictor in predictors:
        idle.put(predictor)

    def work(sample: Sample) -> ImageResult:
        predictor = idle.get()
        try:
            return _find(predictor, sample, conf, iou, max_det)
        finally:
            idle.put(predictor)

    found: list[ImageResult] = []
    with ThreadPoolExecutor(len(predictors)) as pool:
        for result in pool.map(work, samples):
            found.append(result)
            if progress:
                progress(len(found), len(samples))
    return found


def _find(predictor: Predictor, sample: Sample, conf: float, iou: float, max_det: int) -> ImageResult:
    image = read_image(sample.image)
    fitted, ratio, padding = letterbox(image, predictor.imgsz)
    detections = predictor.predict(fitted, conf, iou, max_det)
    shape = (image.shape[0], image.shape[1])
    return ImageResult(detections, place_labels(sample.labels, shape, ratio, padding), ratio, shape)


def read_image(path: Path) -> Image:
    """Return an image as RGB uint8, [height, width, 3]; DataError if it cannot be read."""
    if not path.is_file():
        raise DataError(f"{path}: no such file", "check the path")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: cannot be read as an image", "replace or remove it")
    pixels: Image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return pixels


def place_labels(
    labels: NDArray[np.float64], shape: tuple[int, int], ratio: float, padding: tuple[int, int]
) -> NDArray[np.float32]:
    """Return boxes in pixels of the letterboxed image.

    Args:
        labels: class, centre x, centre y, width, height, as fractions of the source image; [n, 5].
        shape: Height and width of the source image, in pixels.
        ratio: New / old, from `letterbox`.
        padding: Left and top, in pixels, from `letterbox`.

    Returns:
        class, x1, y1, x2, y2; [n, 5].
    """
    size, offset = np.array(shape[::-1]) * ratio, np.array(padding)
    centres, sides = labels[:, 1:3] * size + offset, labels[:, 3:5] * size
    return np.concatenate((labels[:, :1], centres - sides / 2, centres + sides / 2), axis=1, dtype=np.float32)
