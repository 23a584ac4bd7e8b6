"""Which detections are right: Ultralytics' own matching of detections with labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from ethos.evaluation.detect import ImageResult

IOU_THRESHOLDS = (0.5, 0.95, 10)  # first, last, count


@dataclass(frozen=True)
class Matches:
    """All detections and labels of a set of images.

    Attributes:
        right: Whether a detection is right at each IoU threshold, [n, 10].
        score: [n].
        label: Class of each detection, [n].
        image: Place of each detection's image, [n].
        area: Each detection's area in pixels of the source image, [n].
        box_label: Class of each labelled box, [m].
        box_image: Place of its image, [m].
        box_area: Its area in pixels of the source image, [m].
        image_area: Area of each image in pixels, [images].
    """

    right: NDArray[np.bool_]
    score: NDArray[np.float32]
    label: NDArray[np.int64]
    image: NDArray[np.int64]
    area: NDArray[np.float64]
    box_label: NDArray[np.int64]
    box_image: NDArray[np.int64]
    box_area: NDArray[np.float64]
    image_area: NDArray[np.float64]

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.image_area)


def match(found: Sequence[ImageResult]) -> Matches:
    """Return what is right among the detections in images.

    As in Ultralytics' validator, boxes are compared in pixels of the letterboxed image: IoU does not change with scale.
    """
    judge = matcher()
    right = [judge(image.detections, image.labels) for image in found]
    detections = np.concatenate([np.zeros((0, 6), np.float32), *(image.detections for image in found)])
    labels = np.concatenate([np.zeros((0, 5), np.float32), *(image.labels for image in found)])
    image = np.repeat(np.arange(len(found)), [len(entry.detections) for entry in found])
    box_image = np.repeat(np.arange(len(found)), [len(entry.labels) for entry in found])
    scale = np.array([entry.ratio for entry in found], np.float64) ** 2
    count = IOU_THRESHOLDS[2]
    return Matches(
        right=np.concatenate([np.zeros((0, count), np.bool_), *right]),
        score=detections[:, 4],
        label=detections[:, 5].astype(np.int64),
        image=image,
        area=_areas(detections[:, :4]) / scale[image],
        box_label=labels[:, 0].astype(np.int64),
        box_image=box_image,
        box_area=_areas(labels[:, 1:]) / scale[box_image],
        image_area=np.array([entry.shape[0] * entry.shape[1] for entry in found], np.float64),
    )


def matcher() -> Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.bool_]]:
    """Return a function of detections [n, 6] and labels [m, 5] that tells what is right at each threshold, [n, 10]."""
    from ethos.model.engine import prepare

    prepare()
    import torch
    from ultralytics.models.yolo.detect import DetectionValidator

    # the constructor makes folders and wants a data loader; matching needs the thresholds alone
    validator: Any = DetectionValidator.__new__(DetectionValidator)
    first, last, count = IOU_THRESHOLDS
    validator.iouv = torch.linspace(first, last, count)
    validator.niou = count

    def judge(detections: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.bool_]:
        ours, theirs = torch.from_numpy(detections), torch.from_numpy(labels)
        right: NDArray[np.bool_] = validator._process_batch(
            {"bboxes": ours[:, :4], "cls": ours[:, 5]}, {"bboxes": theirs[:, 1:], "cls": theirs[:, 0]}
        )["tp"]
        return right

    return judge


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float64]:
    sides = (boxes[:, 2:4] - boxes[:, :2]).astype(np.float64).clip(0)
    areas: NDArray[np.float64] = sides[:, 0] * sides[:, 1]
    return areas
