"""From output tensors to boxes: the reference in plain NumPy, which needs nothing else.

Box arithmetic and suppression are those of Ultralytics (Detect, non_max_suppression), so that a score taken through
this module means the same as one taken by Ultralytics' validator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ethos_runtime.contract import SIDES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos_runtime.contract import Contract, Quantization

Floats: TypeAlias = NDArray[np.float32]

MAX_CANDIDATES = 30_000  # boxes that enter suppression, the best first
CLASS_OFFSET = 7680  # pixels between the boxes of two classes during suppression
FIRST_LOOK = 2  # times as many candidates as detections wanted are looked at first
BLOCK = 128  # boxes whose overlaps are found at once
LOGIT_MARGIN = 1e-3  # wider than the rounding of a float32 sigmoid


def decode(
    outputs: Mapping[str, NDArray[Any]],
    contract: Contract,
    conf: float = 0.0,
    quantizations: Mapping[str, Quantization | None] | None = None,
) -> tuple[Floats, Floats]:
    """Return boxes and class scores of the anchors that may hold a score above `conf`.

    Anchors stand at cell centres. A side's distance is the expectation of a softmax over `reg_max` bins, in strides
    (distribution focal loss, https://arxiv.org/abs/2006.04388); a score is the sigmoid of its logit. The threshold is
    applied to the values as they are stored, and only what passes becomes real: most anchors see nothing.

    Args:
        outputs: The contract's tensors by name, [1, height, width, channels] each: real values, or integers.
        contract: What the tensors mean.
        conf: Anchors whose scores all lie below are left out; 0 keeps every anchor. Scores equal or very near to
            `conf` may stay: suppression applies the threshold itself.
        quantizations: How tensors that hold integers are quantized, by name; those not named hold real values.

    Returns:
        Boxes [n, 4] as x1, y1, x2, y2 in pixels of the letterboxed image, and scores [n, classes]; smaller strides
        first, row by row.
    """
    known = quantizations or {}
    least = least_logit(conf)
    boxes, scores = [], []
    for stride in contract.strides:
        box, label = contract.output("box", stride), contract.output("class", stride)
        logits = outputs[label.name].reshape(-1, label.shape[3])
        anchors = passing(logits, as_stored(least, known.get(label.name)))
        distributions = outputs[box.name].reshape(-1, SIDES, contract.reg_max)[anchors]
        distributions = dequantize(distributions, known.get(box.name))
        boxes.append(_boxes(distributions, anchors, label.shape[2], stride))
        scores.append(_sigmoid(dequantize(logits[anchors], known.get(label.name))))
    return np.concatenate(boxes), np.concatenate(scores)


def dequantize(values: NDArray[Any], quantization: Quantization | None) -> Floats:
    """Return a tensor's real values as float32; they are what is stored if it is not quantized."""
    if quantization is None:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(quantization.zero_point)) * np.float32(quantization.scale)


def as_stored(value: float, quantization: Quantization | None) -> float:
    """Return a real value on the scale of a tensor's stored numbers."""
    return value if quantization is None else value / quantization.scale + quantization.zero_point


def least_logit(conf: float) -> float:
    """Return a logit below which no score is above `conf`."""
    return float(np.log(conf / (1 - conf)) - LOGIT_MARGIN) if 0 < conf < 1 else -np.inf


def passing(logits: NDArray[Any], least: float) -> NDArray[np.intp]:
    """Return the anchors with a class logit above `least`, in order; logits [anchors, classes] of any number type."""
    # in order already, so that neighbours tell which anchors come twice
    anchors: NDArray[np.intp] = np.flatnonzero(logits > least) // logits.shape[1]
    return anchors[np.flatnonzero(np.diff(anchors, prepend=-1))]


def _boxes(distributions: Floats, anchors: NDArray[np.intp], width: int, stride: int) -> Floats:
    """Return the boxes [n, 4] of some anchors of one scale.

    Args:
        distributions: Box logits, [n, 4, reg_max].
        anchors: Their places in the scale's grid, row by row.
        width: Columns of the grid.
        stride: Pixels between neighbouring anchors.
    """
    distances = _expectation(distributions)
    centres = np.stack((anchors % width, anchors // width), axis=1).astype(np.float32) + np.float32(0.5)
    return np.concatenate((centres - distances[:, :2], centres + distances[:, 2:]), axis=1) * np.float32(stride)


def _expectation(logits: Floats) -> Floats:
    """Return the mean bin number under the softmax of the last axis."""
    count = logits.shape[-1]
    # in double precision and rounded once, so that any decoder that does the same comes to the same bits; bins lead,
    # since NumPy is slow along a short last axis
    weights = np.ascontiguousarray(logits.reshape(-1, count).T, np.float64)
    weights -= weights.max(axis=0)
    np.exp(weights, out=weights)
    total, moment = np.stack((np.ones(count), np.arange(float(count)))) @ weights
    mean: Floats = (moment / total).astype(np.float32).reshape(logits.shape[:-1])
    return mean


def _sigmoid(logits: Floats) -> Floats:
    # exp of a negative number alone: large logits of either sign must not overflow
    tail = np.exp(-np.abs(logits.astype(np.float64)))
    scores: Floats = (np.where(logits >= 0, 1.0, tail) / (1 + tail)).astype(np.float32)
    return scores


def nms(boxes: Floats, scores: Floats, conf: float, iou: float, max_det: int = 300, multi_label: bool = True) -> Floats:
    """Return the detections left by greedy suppression within each class, best first.

    Args:
        boxes: x1, y1, x2, y2 in pixels, [n, 4].
        scores: [n, classes], 0 to 1.
        conf: Only scores above are looked at.
        iou: A box goes if its intersection over union with a better one of its class is above.
        max_det: Detections to keep at most.
        multi_label: Every class above `conf` of an anchor is a candidate, not its best alone.

    Returns:
        x1, y1, x2, y2, score, class; [m, 6]. Equal scores keep the order of anchors, then of classes.
    """
    anchors, classes = _candidates(scores, conf, multi_label)
    values = scores[anchors, classes]
    order = _descending(values)[:MAX_CANDIDATES]
    anchors, classes, values = anchors[order], classes[order], values[order]
    kept = _suppress(
        boxes[anchors] + np.float32(CLASS_OFFSET) * classes[:, None].astype(np.float32), classes, iou, max_det
    )
    return np.concatenate(
        (boxes[anchors[kept]], values[kept, None], classes[kept, None].astype(np.float32)), axis=1, dtype=np.float32
    )


def _candidates(scores: Floats, conf: float, multi_label: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    if multi_label:
        anchors, classes = np.nonzero(scores > conf)
        return anchors, classes
    best = scores.argmax(axis=1)
    anchors = np.flatnonzero(scores[np.arange(len(scores)), best] > conf)
    return anchors, best[anchors]


def _descending(values: Floats) -> NDArray[np.intp]:
    """Return the order of non-negative values from large to small, equal ones in place."""
    # Non-negative floats sort like their bits. Bits and position in one integer make any sort a stable one, and
    # NumPy's sort of integers is several times faster than its stable argsort of floats.
    bits = np.uint64(0xFFFFFFFF) - values.astype(np.float32).view(np.uint32)
    keys = (bits << np.uint64(32)) | np.arange(len(values), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.intp)


def _suppress(boxes: Floats, classes: NDArray[np.intp], iou: float, max_det: int) -> list[int]:
    """Return positions of the boxes to keep. Boxes are in descending order of score and moved apart by class."""
    known = _with_areas(boxes)
    kept: list[int] = []
    left = np.arange(len(boxes))
    while len(left) and len(kept) < max_det:
        # What is kept of the best alone is what is kept first of all: often that is enough.
        wanted = max_det - len(kept)
        look, left = np.split(left, [FIRST_LOOK * wanted])
        found = np.sort(np.concatenate([_greedy(known, same, iou) for same in _by_class(look, classes)]))[:wanted]
        kept += found.tolist()
        if len(left) and len(kept) < max_det:
            for same in _by_class(found, classes):
                of_class = classes[left] == classes[same[0]]
                of_class[of_class] = _covered(known, same, left[of_class], iou)
                left = left[~of_class]
    return kept


def _by_class(positions: NDArray[np.intp], classes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Return positions of boxes in groups of one class each, in order."""
    found = classes[positions]
    return [positions[found == label] for label in np.unique(found)]


def _with_areas(boxes: Floats) -> Floats:
    """Return the corners x1, y1, x2, y2 and the area of boxes [n, 4], as [5, n]."""
    # one corner of all boxes lies together, and so does what is computed from them: several times as fast
    corners = np.ascontiguousarray(boxes.T)
    sides = corners[2:] - corners[:2]
    return np.concatenate((corners, sides[:1] * sides[1:]))


def _greedy(boxes: Floats, positions: NDArray[np.intp], iou: float) -> NDArray[np.intp]:
    """Return which of some boxes to keep: the best, then the best of those that it does not cover, and so on.

    Args:
        boxes: Corners and areas, [5, n].
        positions: Those of one class, best first.
        iou: See `nms`.
    """
    kept = positions[:0]
    for start in range(0, len(positions), BLOCK):
        block = positions[start : start + BLOCK]
        if start:
            block = block[~_covered(boxes, kept, block, iou)]
        corners = np.take(boxes, block, axis=1)
        covers = np.packbits(_covers(corners[:, :, None], corners[:, None], iou), axis=1, bitorder="little")
        # a row as one integer, a bit for each box: quicker than NumPy where the rows are short
        gone, found = 0, []
        for place, row in enumerate(covers):
            if not gone >> place & 1:
                found.append(place)
                gone |= int.from_bytes(row.tobytes(), "little")
        kept = np.concatenate((kept, block[found]))
    return kept


def _covered(boxes: Floats, better: NDArray[np.intp], worse: NDArray[np.intp], iou: float) -> NDArray[np.bool_]:
    """Return for each of the worse boxes whether a better one covers it; both are given by their positions."""
    found = np.zeros(len(worse), np.bool_)
    columns = np.take(boxes, worse, axis=1)[:, None]
    for start in range(0, len(better), BLOCK):
        rows = np.take(boxes, better[start : start + BLOCK], axis=1)[:, :, None]
        found |= _covers(rows, columns, iou).any(axis=0)
    return found


def _covers(better: Floats, worse: Floats, iou: float) -> NDArray[np.bool_]:
    """Return whether boxes overlap by more than `iou`; corners and areas [5, ...] in shapes that go together."""
    sides = np.minimum(better[2:4], worse[2:4])
    sides -= np.maximum(better[:2], worse[:2])
    np.maximum(sides, 0, out=sides)
    inner = sides[0] * sides[1]
    union = better[4] + worse[4]
    union -= inner
    with np.errstate(invalid="ignore"):  # two boxes without area give 0 / 0, which removes neither
        found: NDArray[np.bool_] = inner / union > iou
    return found
