"""What quantization costs by class, by the size of objects, and by branch of the head, on one protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ethos.errors import ModelError
from ethos.evaluation.bootstrap import FIGURES
from ethos.evaluation.detect import ImageResult, place_labels, read_image
from ethos.evaluation.metrics import score
from ethos_runtime.decode import decode, nms
from ethos_runtime.detector import Detector
from ethos_runtime.letterbox import letterbox

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.evaluation.samples import SampleSet
    from ethos.specs import ProtocolParams

Mix = Literal["fp32", "int8", "box", "class"]
# which branch of the head comes from the INT8 file
QUANTIZED: dict[Mix, tuple[str, ...]] = {"fp32": (), "int8": ("box", "class"), "box": ("box",), "class": ("class",)}
SIZES = ("small", "medium", "large")
SAME_OBJECT_IOU = 0.5


def detect_mixed(
    float_file: Path, int8_file: Path, contract: Path, data: SampleSet, params: ProtocolParams
) -> dict[Mix, list[ImageResult]]:
    """Return what is found in each image by the float file, the INT8 file, and by heads mixed of both.

    Raises:
        ModelError: A file cannot be run or does not fit the contract or the data set.
        DataError: An image cannot be read.
    """
    try:
        exact, rounded = Detector(float_file, contract), Detector(int8_file, contract)
    except ValueError as error:
        raise ModelError(str(error), "run: dvc repro quantize") from None
    if exact.names != data.names:
        raise ModelError(
            f"{int8_file}: detects {len(exact.names)} classes, the data set has {len(data.names)}",
            "use a data set with the classes that the model was trained on",
        )
    found: dict[Mix, list[ImageResult]] = {mix: [] for mix in QUANTIZED}
    for sample in data.samples:
        image = read_image(sample.image)
        fitted, ratio, padding = letterbox(image, exact.imgsz)
        labels = place_labels(sample.labels, (image.shape[0], image.shape[1]), ratio, padding)
        answers = {"fp32": exact.raw(fitted), "int8": rounded.raw(fitted)}
        for mix, branches in QUANTIZED.items():
            outputs = {
                output.name: answers["int8" if output.branch in branches else "fp32"][output.name]
                for output in exact.contract.outputs
            }
            boxes, scores = decode(outputs, exact.contract, params.conf)
            found[mix].append(ImageResult(nms(boxes, scores, params.conf, params.iou, params.max_det), labels))
    return found


def by_class(found: Mapping[Mix, Sequence[ImageResult]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return each class with its mAP50-95 before and after, the largest loss first."""
    before, after = (score(found[mix], names).per_class for mix in ("fp32", "int8"))
    rows = [
        {"name": one.name, "boxes": one.boxes, **_loss("map50_95", one.map50_95, other.map50_95)}
        for one, other in zip(before, after, strict=True)
        if one.map50_95 is not None and other.map50_95 is not None
    ]
    return sorted(rows, key=lambda row: -float(row["drop"]))


def by_branch(found: Mapping[Mix, Sequence[ImageResult]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is lost when one branch of the head alone comes from the INT8 file, and with both."""
    whole = score(found["fp32"], names)
    mixes: dict[str, Mix] = {"box": "box", "class": "class", "both": "int8"}
    return [
        {"quantized": label, **{key: _drop(whole, score(found[mix], names), key) for key in FIGURES}}
        for label, mix in mixes.items()
    ]


def by_size(found: Mapping[Mix, Sequence[ImageResult]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what is lost on the smallest, the middle and the largest third of the objects.

    Size is the square root of a box's area, in pixels of the network's input.
    """
    sizes = np.concatenate([_sizes(image.labels[:, 1:]) for image in found["fp32"]])
    edges = [0.0, *np.quantile(sizes, (1 / 3, 2 / 3)).tolist(), np.inf]
    rows = []
    for label, low, high in zip(SIZES, edges[:-1], edges[1:], strict=True):
        before, after = (
            score([_of_size(image, low, high) for image in found[mix]], names).map50_95 for mix in ("fp32", "int8")
        )
        limits = {"from_px": round(low, 1), "to_px": round(high, 1) if np.isfinite(high) else None}
        boxes = int(((sizes >= low) & (sizes < high)).sum())
        rows.append({"size": label, **limits, "boxes": boxes, **_loss("map50_95", before, after)})
    return rows


def _of_size(image: ImageResult, low: float, high: float) -> ImageResult:
    """Return the part of an image's result that is about objects of a size.

    A detection counts if it lies on such an object; on an object of another size it does not; on none, its own size
    decides.
    """
    inside = _within(image.labels[:, 1:], low, high)
    wanted = _within(image.detections[:, :4], low, high)
    if len(image.labels):
        overlap = _overlaps(image.detections[:, :4], image.labels[:, 1:])
        nearest = overlap.argmax(axis=1)
        wanted = np.where(overlap.max(axis=1) >= SAME_OBJECT_IOU, inside[nearest], wanted)
    return ImageResult(image.detections[wanted], image.labels[inside])


def _sizes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    sides = (boxes[:, 2:4] - boxes[:, :2]).clip(0)
    return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]), np.float32)


def _within(boxes: NDArray[np.float32], low: float, high: float) -> NDArray[np.bool_]:
    sizes = _sizes(boxes)
    return (sizes >= low) & (sizes < high)


def _overlaps(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return intersection over union of each of n boxes with each of m, [n, m]."""
    corners = np.minimum(one[:, None, 2:], other[None, :, 2:]) - np.maximum(one[:, None, :2], other[None, :, :2])
    inner = corners.clip(0).prod(axis=2)
    whole = np.square(_sizes(one))[:, None] + np.square(_sizes(other))[None] - inner
    return np.asarray(inner / np.maximum(whole, np.finfo(np.float32).tiny), np.float32)


def _loss(figure: str, before: float, after: float) -> dict[str, float]:
    return {f"fp32_{figure}": before, f"int8_{figure}": after, "drop": round(before - after, 6)}


def _drop(before: Any, after: Any, key: str) -> float:
    return round(float(getattr(before, key)) - float(getattr(after, key)), 6)
