"""Average precision, precision and recall of detections, as Ultralytics computes them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.evaluation.matching import match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.evaluation.detect import ImageResult
    from ethos.evaluation.matching import Matches

DIGITS = 6
# the least score, and the least overlap, at which Ultralytics counts confusions
CONFUSION_CONF, CONFUSION_IOU = 0.25, 0.45
BACKGROUND = "background"


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


def score(found: Sequence[ImageResult], names: Sequence[str], matches: Matches | None = None) -> Scores:
    """Return the scores of detections against labels.

    Matching and average precision (`DetMetrics`) are Ultralytics' own code.

    Args:
        found: Detections and labels of each image.
        names: Class names, in label order.
        matches: What `ethos.evaluation.matching.match` gives for them, if it is at hand.
    """
    from ethos.model.engine import prepare

    prepare()
    from ultralytics.utils.metrics import DetMetrics

    matches = matches or match(found)
    ends = np.cumsum([len(image.detections) for image in found])[:-1]
    metrics = DetMetrics(dict(enumerate(names)))
    for number, (image, right) in enumerate(zip(found, np.split(matches.right, ends), strict=True)):
        classes = image.labels[:, 0]
        metrics.update_stats(
            {
                "tp": right,
                "conf": image.detections[:, 4],
                "pred_cls": image.detections[:, 5],
                "target_cls": classes,
                "target_img": np.unique(classes),
                "im_name": str(number),
            }
        )
    metrics.process()
    return _collect(metrics, names, len(found))


def confusion(found: Sequence[ImageResult], names: Sequence[str]) -> dict[str, Any]:
    """Return the confusion matrix, by Ultralytics' own code at its own thresholds.

    Returns:
        `conf` and `iou` (the thresholds), `labels` (the classes, then the background), and `matrix`: a row for each
        predicted class, a column for each true one. Row `background` counts what was missed, column `background` what
        was found where nothing is.
    """
    from ethos.model.engine import prepare

    prepare()
    import torch
    from ultralytics.utils.metrics import ConfusionMatrix

    counter = ConfusionMatrix(dict(enumerate(names)))
    for image in found:
        detections, labels = torch.from_numpy(image.detections), torch.from_numpy(image.labels)
        counter.process_batch(
            {"bboxes": detections[:, :4], "conf": detections[:, 4], "cls": detections[:, 5]},
            {"bboxes": labels[:, 1:], "cls": labels[:, 0]},
            conf=CONFUSION_CONF,
            iou_thres=CONFUSION_IOU,
        )
    return {
        "conf": CONFUSION_CONF,
        "iou": CONFUSION_IOU,
        "labels": [*names, BACKGROUND],
        "matrix": counter.matrix.astype(int).tolist(),
    }


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
