"""Average precision of many resamples of the images at a time.

The formula is that of Ultralytics (`compute_ap`): the envelope of precision over recall, sampled at 101 recalls. An
image that a resample draws twice has each of its detections and boxes twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ethos.evaluation.matching import Matches

RECALLS = np.linspace(0, 1, 101)


def average_precisions(
    matches: Matches,
    weights: NDArray[np.float32],
    classes: int,
    counted: NDArray[np.bool_] | None = None,
    boxes: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Return the average precision of each class at each IoU threshold in each resample.

    Args:
        matches: Detections and labels.
        weights: How often each image is drawn, [resamples, images].
        classes: Number of classes.
        counted: Whether a detection counts at each threshold, [n, 10]; all do if not given.
        boxes: Whether a labelled box counts, [m]; all do if not given.

    Returns:
        [resamples, classes, 10]; NaN where the resample holds no box of the class.
    """
    result = np.full((len(weights), classes, matches.right.shape[1]), np.nan)
    order = np.argsort(-matches.score)
    for number in range(classes):
        wanted = matches.box_label == number if boxes is None else (matches.box_label == number) & boxes
        if not wanted.any():
            continue
        per_image = np.bincount(matches.box_image[wanted], minlength=matches.images)
        total = weights @ per_image.astype(np.float32)
        mine = order[matches.label[order] == number]
        for threshold, values in _of_class(matches, mine, weights, total, counted):
            result[:, number, threshold] = np.where(total > 0, values, np.nan)
    return result


def means(precisions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mAP50 and mAP50-95 of each resample, over the classes that it holds; 0 where it holds none."""
    present = ~np.isnan(precisions[:, :, 0])
    count = np.maximum(present.sum(axis=1), 1)
    filled = np.where(present[:, :, None], precisions, 0.0)
    return filled[:, :, 0].sum(axis=1) / count, filled.mean(axis=2).sum(axis=1) / count


def _of_class(
    matches: Matches,
    mine: NDArray[np.int64],
    weights: NDArray[np.float32],
    total: NDArray[np.float32],
    counted: NDArray[np.bool_] | None,
) -> list[tuple[int, NDArray[np.float64]]]:
    """Return for each threshold the average precision [resamples] of one class, its detections best first."""
    right = matches.right[mine]
    if counted is None:
        seen = _running(weights, matches.image[mine[: _last(np.asarray(right.any(axis=1)))]])
        return [
            (place, _average(right[:, place], seen, weights, matches.image[mine], total))
            for place in range(right.shape[1])
        ]
    found = []
    for place in range(right.shape[1]):
        kept = mine[counted[mine, place]]
        hits = matches.right[kept, place]
        seen = _running(weights, matches.image[kept[: _last(hits)]])
        found.append((place, _average(hits, seen, weights, matches.image[kept], total)))
    return found


def _last(hits: NDArray[np.bool_]) -> int:
    """Return how many detections there are up to the last right one; what follows changes no precision that counts."""
    places = np.flatnonzero(hits)
    return int(places[-1]) + 1 if len(places) else 0


def _running(weights: NDArray[np.float32], images: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return how many detections each resample has seen after each one, [resamples, n]."""
    return np.cumsum(weights[:, images], axis=1, dtype=np.float32)


def _average(
    hits: NDArray[np.bool_],
    seen: NDArray[np.float32],
    weights: NDArray[np.float32],
    images: NDArray[np.int64],
    total: NDArray[np.float32],
) -> NDArray[np.float64]:
    """Return the average precision of each resample.

    Recall grows at right detections alone, so the curve is kept there: just before each (which the wrong ones between
    have pulled down) and after it.
    """
    places = np.flatnonzero(hits)
    if not len(places):
        return np.zeros(len(weights))
    own = weights[:, images[places]].astype(np.float64)
    right = np.cumsum(own, axis=1)
    after = seen[:, places].astype(np.float64)
    before = after - own
    count = np.maximum(total, 1).astype(np.float64)[:, None]
    curve = np.empty((len(weights), 2 * len(places) + 3))
    recall = np.empty_like(curve)
    # before the first detection precision is 1, after the last one 0
    curve[:, 0], curve[:, -2:] = 1, 0
    curve[:, 1:-2:2] = _share(right - own, before)
    curve[:, 2:-2:2] = _share(right, after)
    recall[:, 0], recall[:, -1] = 0, 1
    recall[:, 1:-2:2], recall[:, 2:-2:2] = (right - own) / count, right / count
    recall[:, -2] = recall[:, -3]
    envelope = np.maximum.accumulate(curve[:, ::-1], axis=1)[:, ::-1]
    sampled = np.stack([np.interp(RECALLS, x, y) for x, y in zip(recall, envelope, strict=True)])
    averages: NDArray[np.float64] = np.trapezoid(sampled, RECALLS, axis=1)
    return averages


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole, 1 where nothing was seen yet."""
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)
