"""Pictures made of photographs: what both precisions detect, and related images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.reporting.drawings.style import INK, new, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Boxes = NDArray[np.float32]

# what a box is: colour, dash, and the letter written at it
RIGHT, WRONG, MISSED = ("#009E73", "-", "T"), ("#D55E00", "--", "F"), ("#E69F00", ":", "M")
LEGEND = "T right (solid)    F false positive (dashed)    M missed (dotted)"


def detections(data: Mapping[str, Any]) -> Any:
    """Draw what the FP32 and the INT8 file find on the same images, with false positives and misses marked."""
    from ethos.data.labels import read_labels
    from ethos.evaluation.detect import place_labels, read_image
    from ethos.evaluation.predictors import open_predictor
    from ethos_runtime.contract import Contract
    from ethos_runtime.letterbox import letterbox

    contract = Path(data["contract"]["path"])
    names = Contract.read(contract).names
    samples = data["samples"]
    figure, axes = new(2.6 * len(samples), 2 * 2.75 + 0.5, len(data["files"]), len(samples))
    for row, (precision, file) in enumerate(data["files"].items()):
        predictor = open_predictor(Path(file["path"]), names, contract)
        for column, sample in enumerate(samples):
            image = read_image(Path(sample["image"]))
            fitted, ratio, padding = letterbox(image, predictor.imgsz)
            found = predictor.predict(fitted, data["conf"], data["iou"], data["max_det"])
            truth = place_labels(read_labels(Path(sample["label"])), image.shape[:2], ratio, padding)
            panel = axes[row * len(samples) + column]
            panel.imshow(fitted)
            _draw_boxes(panel, judge(found, truth, data["match"]), names)
            _bare(panel, precision.upper() if column == 0 else "")
    figure.suptitle(plain(f"{data['title']}: {LEGEND}"), fontsize=9, color=INK)
    return figure


def judge(found: Boxes, truth: Boxes, overlap: float) -> list[tuple[tuple[str, str, str], Boxes, int, float | None]]:
    """Return what each box is: right, wrong or missed, with its corners, class and score (None for a miss).

    A detection is right if it is the best one, in the order of scores, of a label of its class that it overlaps enough.

    Args:
        found: x1, y1, x2, y2, score, class; [n, 6].
        truth: class, x1, y1, x2, y2; [m, 5].
        overlap: Least intersection over union.
    """
    free = list(range(len(truth)))
    judged: list[tuple[tuple[str, str, str], Boxes, int, float | None]] = []
    for box in found[np.argsort(-found[:, 4], kind="stable")]:
        fitting = [place for place in free if truth[place, 0] == box[5]]
        best = max(fitting, key=lambda place: iou(box[:4], truth[place, 1:]), default=None)
        right = best is not None and iou(box[:4], truth[best, 1:]) >= overlap
        if right and best is not None:
            free.remove(best)
        judged.append((RIGHT if right else WRONG, box[:4], int(box[5]), float(box[4])))
    return [*judged, *((MISSED, truth[place, 1:], int(truth[place, 0]), None) for place in free)]


def iou(one: Boxes, other: Boxes) -> float:
    """Return the intersection over union of two boxes, each x1, y1, x2, y2."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod((high - low).clip(0)))
    areas = [float(np.prod((box[2:] - box[:2]).clip(0))) for box in (one, other)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


def thumbnails(data: Mapping[str, Any]) -> Any:
    """Draw rows of related images, each with its side and name."""
    from ethos.evaluation.detect import read_image

    rows = data["rows"]
    columns = max(len(row["images"]) for row in rows)
    figure, axes = new(1.7 * columns + 0.6, 1.95 * len(rows), len(rows), columns)
    for down, row in enumerate(rows):
        for across in range(columns):
            panel = axes[down * columns + across]
            _bare(panel, row["title"] if across == 0 else "")
            if across < len(row["images"]):
                shown = row["images"][across]
                panel.imshow(read_image(Path(shown["path"])))
                panel.set_title(plain(f"{shown['side']}: {shown['name'][:22]}"), fontsize=6)
            else:
                panel.set_visible(False)
    return figure


def _draw_boxes(
    panel: Any, judged: list[tuple[tuple[str, str, str], Boxes, int, float | None]], names: tuple[str, ...]
) -> None:
    from matplotlib.patches import Rectangle

    across, down = (abs(float(end - start)) for start, end in (panel.get_xlim(), panel.get_ylim()))
    for (colour, dash, letter), (left, top, right, bottom), kind, score in judged:
        corner, size = (float(left), float(top)), (float(right - left), float(bottom - top))
        panel.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linestyle=dash, linewidth=1.6))
        text = f"{letter} {names[kind]}" + ("" if score is None else f" {score:.2f}")
        # a miss is named below its box, where it does not cover a wrong detection of the same object
        below = score is None or top < 0.08 * down
        # near the right edge a name would run out of the picture
        end = left > 0.6 * across
        label = {"facecolor": colour, "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
        panel.text(
            min(float(right), across) if end else max(float(left), 0.0),
            min(float(bottom if score is None else top), down) if below else float(top),
            plain(text),
            fontsize=5,
            color="black",
            ha="right" if end else "left",
            va="top" if below else "bottom",
            bbox=label,
            clip_on=True,
        )


def _bare(panel: Any, name: str) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_ylabel(plain(name), fontsize=9)
