"""A detector on a TFLite file with a raw head and its decode contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter

from ethos_runtime.contract import Contract, Quantization
from ethos_runtime.decode import Floats, decode, dequantize, nms
from ethos_runtime.letterbox import Image, letterbox, to_source

if TYPE_CHECKING:
    from pathlib import Path

SCALE_TOLERANCE = 1e-5  # relative; a scale written as text differs from the file's float32 by less
SHIFTED = np.arange(-128, 128, dtype=np.int8)  # what pixels are at a scale of 1/255


class Detector:
    """Runs a network and decodes what it says.

    Takes the int8 and the float32 file of a network with the same contract.

    Args:
        model_path: The TFLite file.
        contract_path: Its decode contract (decode.json).
        threads: Threads of the interpreter.

    Attributes:
        contract: The decode contract.
        interpreter: What runs the network.
        names: Class names, in label order.
        imgsz: Height and width of the network's input, in pixels.

    Raises:
        ValueError: The contract is malformed, the model is no TFLite file, or the two do not fit; the text names the
            file and the tensor.
    """

    def __init__(self, model_path: Path, contract_path: Path, threads: int = 1) -> None:
        """Open the file and check it against the contract."""
        self.contract = Contract.read(contract_path)
        self.names = self.contract.names
        self.imgsz = self.contract.imgsz
        self.interpreter = open_interpreter(model_path, threads)
        runner = _signature(self.interpreter, model_path)
        details, outputs = runner.get_input_details(), runner.get_output_details()
        _check_fit(self.contract, details, outputs, model_path)
        self._input = details[self.contract.input_name]
        self._table = input_table(self._input)
        self._outputs = {output.name: outputs[output.name] for output in self.contract.outputs}
        self._quantizations = {name: quantization_of(detail) for name, detail in self._outputs.items()}

    def feed(self, image: Image) -> None:
        """Hand an image to the network.

        Args:
            image: RGB of the size `imgsz`, [height, width, 3], with or without a leading axis of one.

        Raises:
            ValueError: The image has another size or type.
        """
        if image.dtype != np.uint8 or image.shape[-3:] != (*self.imgsz, 3) or image.size != np.prod((*self.imgsz, 3)):
            wanted = [*self.imgsz, 3]
            raise ValueError(f"expected one uint8 image {wanted}, got {image.dtype} {list(image.shape)}")
        values = apply_table(self._table, image.reshape(*self.imgsz, 3))
        self.interpreter.set_tensor(self._input["index"], values[None])

    def invoke(self) -> None:
        """Run the network on the image that was fed."""
        self.interpreter.invoke()

    def read(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the output tensors as the network left them, int8 or float32, by name."""
        return {name: self.interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}

    def raw(self, image: Image) -> dict[str, Floats]:
        """Return the real values of the output tensors for an image, by name; ValueError as `feed`."""
        self.feed(image)
        self.invoke()
        return {name: dequantize(values, self._quantizations[name]) for name, values in self.read().items()}

    def decode(self, outputs: dict[str, np.ndarray[Any, Any]], conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] from what `read` gives, as x1, y1, x2, y2, score, class in the network's pixels."""
        boxes, scores = decode(outputs, self.contract, conf, self._quantizations)
        return nms(boxes, scores, conf, iou, max_det)

    def predict(self, image: Image, conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] in a letterboxed RGB image, as x1, y1, x2, y2, score, class in its pixels."""
        self.feed(image)
        self.invoke()
        return self.decode(self.read(), conf, iou, max_det)

    def detect(self, image: Image, conf: float = 0.25, iou: float = 0.7, max_det: int = 300) -> Floats:
        """Return detections in an RGB image of any size.

        Args:
            image: uint8, [height, width, 3].
            conf: Least score.
            iou: A box goes if its overlap with a better one of its class is above.
            max_det: Detections to keep at most.

        Returns:
            x1, y1, x2, y2, score, class in pixels of the image and clipped to it, best first; [n, 6].

        Raises:
            ValueError: The image is no uint8 array of three channels.
        """
        fitted, ratio, padding = letterbox(image, self.imgsz)
        detections = self.predict(fitted, conf, iou, max_det)
        return to_source(detections, ratio, padding, (image.shape[0], image.shape[1]))


def open_interpreter(path: Path, threads: int) -> Interpreter:
    """Return an interpreter with its tensors allocated; ValueError if the file is missing or no TFLite model."""
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        reason = (str(error).strip() or "unknown reason").splitlines()[0] if path.is_file() else "no such file"
        raise ValueError(f"{path}: cannot be run as a TFLite model: {reason}") from None
    return interpreter


def quantization_of(detail: dict[str, Any]) -> Quantization | None:
    """Return how an interpreter's tensor is quantized; None for a float32 tensor.

    Raises:
        ValueError: The tensor is neither float32 nor int8 with one scale.
    """
    if detail["dtype"] == np.float32:
        return None
    scale, zero_point = detail["quantization"]
    if detail["dtype"] != np.int8 or not scale > 0:
        kind = np.dtype(detail["dtype"]).name
        raise ValueError(f"tensor {detail['name']}: is {kind}, expected float32 or int8 with one scale")
    return Quantization(float(scale), int(zero_point))


def input_table(detail: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Return the input tensor's value for each of the 256 pixel values: RGB / 255, quantized if the tensor is int8."""
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    quantization = quantization_of(detail)
    if quantization is None:
        return values
    integers: np.ndarray[Any, Any] = np.round(values / quantization.scale) + quantization.zero_point
    return integers.clip(-128, 127).astype(np.int8)


def apply_table(table: np.ndarray[Any, Any], image: Image) -> np.ndarray[Any, Any]:
    """Return the table's entry for each pixel value, in the image's shape."""
    # at the usual scale of 1/255, one bit turned gives the same five times as fast
    shifted = np.array_equal(table, SHIFTED)
    values: np.ndarray[Any, Any] = (image ^ np.uint8(128)).view(np.int8) if shifted else cv2.LUT(image, table)
    return values


def _signature(interpreter: Interpreter, path: Path) -> Any:
    names = list(interpreter.get_signature_list())
    if len(names) != 1:
        raise ValueError(f"{path}: holds {len(names)} signatures, expected one")
    return interpreter.get_signature_runner(names[0])


def _check_fit(contract: Contract, inputs: dict[str, Any], outputs: dict[str, Any], path: Path) -> None:
    """Raise ValueError unless the file's tensors are those of the contract, by name, shape and quantization."""
    wanted: dict[str, tuple[tuple[int, ...], Quantization]] = {
        contract.input_name: ((1, *contract.imgsz, 3), contract.input_quantization),
        **{output.name: (output.shape, output.quantization) for output in contract.outputs},
    }
    found = {**inputs, **outputs}
    if set(found) != set(wanted):
        raise ValueError(f"{path}: tensors are {sorted(found)}, the contract has {sorted(wanted)}")
    for name, (shape, quantization) in wanted.items():
        got = tuple(int(size) for size in found[name]["shape"])
        if got != shape:
            raise ValueError(f"{path}: tensor {name} has shape {list(got)}, the contract has {list(shape)}")
        own = _quantization_in(found[name], path)
        if own is not None and not _same(own, quantization):
            raise ValueError(f"{path}: tensor {name} has {own}, the contract has {quantization}: not its contract")


def _quantization_in(detail: dict[str, Any], path: Path) -> Quantization | None:
    try:
        return quantization_of(detail)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _same(one: Quantization, other: Quantization) -> bool:
    return one.zero_point == other.zero_point and abs(one.scale - other.scale) <= SCALE_TOLERANCE * other.scale
