"""From a network's outputs to detections: boxes decoded in the graph, or a raw head with its contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ethos_runtime.contract import SIDES, Contract
from ethos_runtime.decode import decode, nms

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.evaluation.networks import Network
    from ethos_runtime.decode import Floats

FINAL_COLUMNS = 6  # x1, y1, x2, y2, score, class
GREY = 114
STRIDES = (8, 16, 32)
# the centres of a grid of anchors in pixels reach far beyond it, as shares of the input they end at 1
LARGEST_SHARE = 2.0


class DecodedHead:
    """A network that gives boxes: before suppression, or after it.

    Before it, its one output is [1, 4 + classes, anchors] or [1, anchors, 4 + classes]: centre x, centre y, width and
    height, then a score for each class. After it, [1, boxes, 6]: x1, y1, x2, y2, score, class. Boxes may be in pixels
    or in shares of the input; a run on a grey image tells which, or the first image in which something is found.

    Args:
        network: The network.
        names: Class names, in label order, taken where the file holds none.
        path: The file, for messages.

    Raises:
        ValueError: The outputs are of neither form, or the file names another number of classes than it detects.
    """

    def __init__(self, network: Network, names: tuple[str, ...] | None, path: Path) -> None:
        """Check the outputs and find the unit of the boxes."""
        self.network, self.imgsz = network, network.imgsz
        if len(network.outputs) != 1:
            raise ValueError(f"{path}: has 1 inputs and {len(network.outputs)} outputs and no decode contract")
        ((self._output, declared),) = network.outputs.items()
        network.feed(np.full((*self.imgsz, 3), GREY, np.uint8))
        network.invoke()
        values = network.read()[self._output]
        if values.ndim != 3 or values.shape[0] != 1:
            raise ValueError(f"{path}: tensor {self._output} is {list(declared)}, expected 3 axes")
        known = network.metadata.names or names
        # with two classes a row of a box before suppression has as many columns; there is one for each anchor then
        self._final = values.shape[2] == FINAL_COLUMNS and values.shape[1] not in {FINAL_COLUMNS, self._anchors()}
        self._rows_first = not self._final and values.shape[2] < values.shape[1]
        self.names = known if self._final and known else self._check_classes(values, known, path)
        self._scale = self._scale_of(self._rows(values[0])[:, :SIDES])

    def _anchors(self) -> int:
        """Return the number of anchors at the usual strides."""
        height, width = self.imgsz
        return sum((height // stride) * (width // stride) for stride in STRIDES)

    def _scale_of(self, boxes: Floats) -> Floats | None:
        """Return what makes pixels of boxes; None if there are none to tell by."""
        most = float(np.abs(boxes).max(initial=0.0))
        height, width = self.imgsz
        sides = [width, height, width, height] if most <= LARGEST_SHARE else [1] * SIDES
        return np.array(sides, np.float32) if most else None

    def _check_classes(self, values: Floats, known: tuple[str, ...] | None, path: Path) -> tuple[str, ...]:
        """Return the names of the classes, numbers where nobody names them."""
        found = min(values.shape[1:]) - SIDES
        if self._final or found < 1:
            what = "no class names" if self._final else f"{list(values.shape)}, which leaves no class scores"
            raise ValueError(f"{path}: tensor {self._output} has {what}")
        numbers = tuple(str(number) for number in range(found))
        stated = self.network.metadata.names
        if stated and len(stated) != found:
            raise ValueError(f"{path}: detects {found} classes, names {len(stated)}")
        # names of another number of classes are not this network's; its caller says so
        return known if known and len(known) == found else numbers

    def decode(self, conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] as x1, y1, x2, y2, score, class in the input's pixels, from what was run."""
        rows = self._rows(self.network.read()[self._output][0])
        scores = rows[:, 4:5] if self._final else rows[:, SIDES:]
        rows = rows[(scores > conf).any(axis=1)]
        if self._scale is None:
            self._scale = self._scale_of(rows[:, :SIDES])
        boxes: Floats = rows[:, :SIDES] * (1 if self._scale is None else self._scale)
        if self._final:
            order = np.argsort(-rows[:, 4], kind="stable")[:max_det]
            return np.concatenate((boxes[order], rows[order, 4:]), axis=1, dtype=np.float32)
        halves = boxes[:, 2:] / 2
        corners: Floats = np.concatenate((boxes[:, :2] - halves, boxes[:, :2] + halves), axis=1)
        return nms(corners, rows[:, SIDES:], conf, iou, max_det)

    def _rows(self, values: Floats) -> Floats:
        """Return an output with one box a row."""
        return values if self._final or self._rows_first else values.T


class RawHead:
    """A network with a raw head, NCHW outputs, and the decode contract of its TFLite twin.

    Raises:
        ValueError: The contract is malformed, or the outputs are not those that it names.
    """

    def __init__(self, network: Network, contract: Path, path: Path) -> None:
        """Check the outputs against the contract."""
        self.network, self.imgsz = network, network.imgsz
        self._contract = Contract.read(contract)
        self.names = self._contract.names
        if self.imgsz != self._contract.imgsz:
            raise ValueError(f"{path}: input is {list(self.imgsz)}, its contract is for {list(self._contract.imgsz)}")
        wanted = {output.name: output.shape for output in self._contract.outputs}
        found = {name: (shape[0], *shape[2:], shape[1]) for name, shape in network.outputs.items() if len(shape) == 4}
        if found != wanted:
            raise ValueError(f"{path}: tensors are {sorted(network.outputs)}, the contract has {sorted(wanted)}")

    def decode(self, conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] as x1, y1, x2, y2, score, class in the input's pixels, from what was run."""
        last = {name: value.transpose(0, 2, 3, 1) for name, value in self.network.read().items()}
        boxes, scores = decode(last, self._contract, conf)
        return nms(boxes, scores, conf, iou, max_det)
