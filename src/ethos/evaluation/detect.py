"""One interface over detector files: raw head with a decode contract, or boxes decoded inside the network."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from ethos.errors import DataError, ModelError
from ethos_runtime.contract import SIDES
from ethos_runtime.decode import Floats, Image, letterbox, nms
from ethos_runtime.detector import Detector, apply_table, dequantize, input_table, open_interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.evaluation.samples import Sample

CONTRACT_FILE = "decode.json"


class Predictor(Protocol):
    """A detector: images of size `imgsz` (height, width) in, boxes of the classes `names` out."""

    names: tuple[str, ...]
    imgsz: tuple[int, int]

    def predict(self, image: Image, conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] in a letterboxed RGB image, as x1, y1, x2, y2, score, class in its pixels."""


class DecodedDetector:
    """A TFLite file that decodes its boxes itself, as Ultralytics exports it.

    Its one output is [1, 4 + classes, anchors]: centre x, centre y, width and height as fractions of the input, then a
    score for each class.

    Args:
        path: The TFLite file, NHWC, int8 or float32.
        names: Class names, in label order.
        threads: Threads of the interpreter.

    Raises:
        ValueError: The file is no TFLite model of that form, or has another number of classes.
    """

    def __init__(self, path: Path, names: tuple[str, ...], threads: int = 1) -> None:
        """Open the file and check its tensors."""
        self._interpreter = open_interpreter(path, threads)
        self._input, self._output = _single_tensors(self._interpreter, path)
        batch, height, width, channels = (int(size) for size in self._input["shape"])
        if (batch, channels) != (1, 3):
            raise ValueError(f"{path}: input is {list(self._input['shape'])}, expected [1, height, width, 3]")
        found = int(self._output["shape"][1]) - SIDES
        if found != len(names):
            raise ValueError(f"{path}: detects {found} classes, the data set has {len(names)}")
        self.names = names
        self.imgsz = (height, width)
        self._table = input_table(self._input)

    def predict(self, image: Image, conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] in a letterboxed RGB image, as x1, y1, x2, y2, score, class in its pixels."""
        self._interpreter.set_tensor(self._input["index"], apply_table(self._table, image)[None])
        self._interpreter.invoke()
        values = dequantize(self._interpreter.get_tensor(self._output["index"])[0], self._output)
        values = values[:, (values[SIDES:] > conf).any(axis=0)]
        height, width = self.imgsz
        centres, sizes = values[:2].T, values[2:SIDES].T
        boxes: Floats = np.concatenate((centres - sizes / 2, centres + sizes / 2), axis=1)
        boxes *= np.array([width, height, width, height], np.float32)
        return nms(boxes, values[SIDES:].T, conf, iou, max_det)


def _single_tensors(interpreter: Any, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs and no decode contract")
    for tensor, wanted in ((inputs[0], 4), (outputs[0], 3)):
        if len(tensor["shape"]) != wanted:
            raise ValueError(f"{path}: tensor {tensor['name']} is {list(tensor['shape'])}, expected {wanted} axes")
    return inputs[0], outputs[0]


def open_predictor(file: Path, names: tuple[str, ...], contract: Path | None = None, threads: int = 1) -> Predictor:
    """Return a detector for a TFLite file.

    Args:
        file: The TFLite file.
        names: Class names of the data, in label order.
        contract: Its decode contract; without one, a decode.json beside the file is taken, and where there is none the
            file must decode its boxes itself.
        threads: Threads of the interpreter.

    Raises:
        ModelError: The file is missing or broken, fits neither form, or detects other classes.
    """
    beside = file.parent / CONTRACT_FILE
    contract = contract or (beside if beside.is_file() else None)
    try:
        predictor: Predictor = Detector(file, contract, threads) if contract else DecodedDetector(file, names, threads)
    except ValueError as error:
        raise ModelError(str(error), f"give a TFLite detector, with its {CONTRACT_FILE} if its head is raw") from None
    if predictor.names != names:
        raise ModelError(
            f"{file}: detects {_listed(predictor.names)}, the data set has {_listed(names)}",
            "evaluate on a data set with the classes that the model was trained on",
        )
    return predictor


def _listed(names: tuple[str, ...], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return f"{len(names)} classes ({shown}{', ...' if len(names) > most else ''})"


@dataclass(frozen=True)
class ImageResult:
    """What a detector found in an image, beside what is there; both in pixels of the letterboxed image.

    Attributes:
        detections: x1, y1, x2, y2, score, class; [n, 6], best first.
        labels: class, x1, y1, x2, y2; [m, 5].
    """

    detections: Floats
    labels: NDArray[np.float32]


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
    return ImageResult(detections, place_labels(sample.labels, (image.shape[0], image.shape[1]), ratio, padding))


def read_image(path: Path) -> Image:
    """Return an image as RGB uint8, [height, width, 3]; DataError if it cannot be read."""
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
