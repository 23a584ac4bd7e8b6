"""Scores by size of the object: in pixels, as COCO divides them, and as a share of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.evaluation.matching import matcher
from ethos.evaluation.precision import average_precisions, means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ethos.evaluation.detect import ImageResult
    from ethos.evaluation.matching import Matches

# areas in square pixels of the source image, https://cocodataset.org/#detection-eval
PIXELS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
# the same bounds on an image of 640 x 640, as shares of the image's area
SHARES = {name: (low / 640**2, high / 640**2) for name, (low, high) in PIXELS.items()}
DIGITS = 6


def size_scores(found: Sequence[ImageResult], matches: Matches, classes: int) -> dict[str, dict[str, Any]]:
    """Return scores of small, medium and large objects, under `sizes` (pixels) and `relative_sizes` (shares).

    Objects of another size are set aside, with the detections of them; so are wrong detections of another size.
    Figures are None where there is no object of a size.
    """
    image_area = matches.image_area
    detection_share = matches.area / image_area[matches.image]
    box_share = matches.box_area / image_area[matches.box_image]
    measures = {
        "sizes": (PIXELS, matches.area, matches.box_area),
        "relative_sizes": (SHARES, detection_share, box_share),
    }
    judge = matcher()
    answer: dict[str, dict[str, Any]] = {}
    for name, (bounds, areas, box_areas) in measures.items():
        answer[name] = {
            size: _of_size(found, matches, classes, judge, _within(areas, limits), _within(box_areas, limits))
            for size, limits in bounds.items()
        }
    return answer


def _within(areas: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (areas >= limits[0]) & (areas < limits[1])
    return inside


def _of_size(
    found: Sequence[ImageResult],
    matches: Matches,
    classes: int,
    judge: Any,
    detections: NDArray[np.bool_],
    boxes: NDArray[np.bool_],
) -> dict[str, Any]:
    count = int(boxes.sum())
    if not count:
        return {"boxes": 0, "map50": None, "map50_95": None}
    ends = np.cumsum([len(image.labels) for image in found])[:-1]
    kept = np.split(boxes, ends)
    right = np.concatenate(
        [judge(image.detections, image.labels[mask]) for image, mask in zip(found, kept, strict=True)]
    )
    # right among all objects and not among these: it is of an object set aside
    counted = right | (~matches.right & detections[:, None])
    one = np.ones((1, matches.images), np.float32)
    scored = average_precisions(_with(matches, right), one, classes, counted, boxes)
    map50, map50_95 = (round(float(value[0]), DIGITS) for value in means(scored))
    return {"boxes": count, "map50": map50, "map50_95": map50_95}


def _with(matches: Matches, right: NDArray[np.bool_]) -> Matches:
    from dataclasses import replace

    return replace(matches, right=right)
