"""Average precision, precision and recall of detections, as Ultralytics computes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ethos.evaluation.detect import ImageResult

IOU_THRESHOLDS = (0.5, 0.95, 10)  # first, last, count
DIGITS = 6


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; None where the images hold no box of it."""

    name: str
    map50: float | None
    map50_95: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    boxes: int


@dataclass(frozen=True)
class Scores:
    """Scores of a detector, 0 to 1. Means run over the classes that the images hold.

    Attributes:
        map50: Mean average precision at an IoU of 0.5.
        map50_95: Its mean over IoU 0.5, 0.55 ... 0.95.
        precision: Mean precision at the score that gives the best mean F1, IoU 0.5.
        recall: Mean recall there.
        per_class: Every class, in label order.
        images: Number of images.
    """

    map50: float
    map50_95: float
    precision: float
    recall: float
    per_class: tuple[ClassScores, ...]
    images: int

    def document(self) -> dict[str, Any]:
        """Return the scores as part of a JSON document."""
        return {**asdict(self), "per_class": [asdict(entry) for entry in self.per_class]}


def score(found: Sequence[ImageResult], names: Sequence[str]) -> Scores:
    """Return the scores of detections against labels.

    Matching (`DetectionValidator`) and average precision (`DetMetrics`) are Ultralytics' own code. As in its validator,
    boxes are compared in pixels of the letterboxed image, not of the source: IoU does not change with scale, so only
    rounding differs.

    Args:
        found: Detections and labels of each image.
        names: Class names, in label order.
    """
    from ethos.model.engine import prepare

    prepare()
    from ultralytics.utils.metrics import DetMetrics

    match = _matcher()
    metrics = DetMetrics(dict(enumerate(names)))
    for number, image in enumerate(found):
        classes = image.labels[:, 0]
        metrics.update_stats(
            {
                "tp": match(image),
                "conf": image.detections[:, 4],
                "pred_cls": image.detections[:, 5],
                "target_cls": classes,
                "target_img": np.unique(classes),
                "im_name": str(number),
            }
        )
    metrics.process()
    return _collect(metrics, names, len(found))


def _matcher() -> Any:
    """Return a function that tells which detections of an image are right at each IoU threshold, [n, 10]."""
    import torch
    from ultralytics.models.yolo.detect import DetectionValidator

    # the constructor makes folders and wants a data loader; matching needs the thresholds alone
    validator = DetectionValidator.__new__(DetectionValidator)
    first, last, count = IOU_THRESHOLDS
    validator.iouv = torch.linspace(first, last, count)
    validator.niou = count

    def match(image: ImageResult) -> NDArray[np.bool_]:
        detections, labels = torch.from_numpy(image.detections), torch.from_numpy(image.labels)
        right: NDArray[np.bool_] = validator._process_batch(
            {"bboxes": detections[:, :4], "cls": detections[:, 5]}, {"bboxes": labels[:, 1:], "cls": labels[:, 0]}
        )["tp"]
        return right

    return match


def _collect(metrics: Any, names: Sequence[str], images: int) -> Scores:
    row_of = {int(number): row for row, number in enumerate(metrics.ap_class_index)}
    precision, recall, map50, map50_95 = (_rounded(value) for value in metrics.mean_results())
    per_class = tuple(
        _class_scores(metrics, name, int(metrics.nt_per_class[number]), row_of.get(number))
        for number, name in enumerate(names)
    )
    return Scores(map50, map50_95, precision, recall, per_class, images)


def _class_scores(metrics: Any, name: str, boxes: int, row: int | None) -> ClassScores:
    if row is None:
        return ClassScores(name, None, None, None, None, None, boxes)
    precision, recall, map50, map50_95 = (_rounded(value) for value in metrics.class_result(row))
    return ClassScores(name, map50, map50_95, precision, recall, _rounded(metrics.box.f1[row]), boxes)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)
