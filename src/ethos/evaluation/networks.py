"""Networks behind one interface: an image in, real values of every output tensor out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ethos.evaluation.metadata import Metadata, parse, tflite_metadata
from ethos_runtime.decode import dequantize
from ethos_runtime.detector import apply_table, input_table, open_interpreter, quantization_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos_runtime.decode import Floats
    from ethos_runtime.letterbox import Image

Precision = Literal["fp32", "fp16", "mixed", "int8"]
CHANNELS = 3
ONNX_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
UNIT = np.arange(256, dtype=np.float32) / np.float32(255)


class Network(Protocol):
    """A network of one image input.

    Attributes:
        runtime: The package that runs it.
        precision: `int8` if inputs and outputs are, `fp32` if nothing is smaller, `fp16` with weights of that type,
            `mixed` with integers inside and floats outside.
        imgsz: Height and width of the input, in pixels.
        metadata: What the file says of itself.
        outputs: Shapes of the output tensors, by name.
    """

    runtime: str
    precision: Precision
    imgsz: tuple[int, int]
    metadata: Metadata
    outputs: dict[str, tuple[int, ...]]

    def feed(self, image: Image) -> None:
        """Hand over an RGB image (uint8, [height, width, 3]) of the input's size."""

    def invoke(self) -> None:
        """Run on the image that was fed."""

    def read(self) -> dict[str, Floats]:
        """Return the outputs' real values."""


class TfliteNetwork:
    """A TFLite file run by LiteRT (XNNPACK on a CPU); int8 or float32 in and out, NHWC or NCHW.

    Raises:
        ValueError: The file is missing or broken, or has another input than one image.
    """

    runtime = "ai-edge-litert"

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Open the file."""
        self._interpreter = open_interpreter(path, threads)
        inputs, self._outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shape = [int(size) for size in inputs[0]["shape"]] if len(inputs) == 1 else []
        self.imgsz, self._nchw = _image_input(shape, len(inputs), path)
        self._input = inputs[0]
        try:
            self._table = input_table(self._input)
            self.outputs = {entry["name"]: tuple(int(size) for size in entry["shape"]) for entry in self._outputs}
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        self.precision = tflite_precision(self._interpreter)
        self.metadata = tflite_metadata(path)

    def feed(self, image: Image) -> None:
        """Hand over an image."""
        values = apply_table(self._table, image)
        self._interpreter.set_tensor(self._input["index"], (values.transpose(2, 0, 1) if self._nchw else values)[None])

    def invoke(self) -> None:
        """Run on the image that was fed."""
        self._interpreter.invoke()

    def read(self) -> dict[str, Floats]:
        """Return the outputs' real values."""
        return {
            entry["name"]: dequantize(self._interpreter.get_tensor(entry["index"]), quantization_of(entry))
            for entry in self._outputs
        }


class OnnxNetwork:
    """An ONNX file run by ONNX Runtime on the CPU; float32 or float16 in and out, NCHW or NHWC.

    Raises:
        ValueError: The file is missing or broken, or has another input than one image of a known size.
    """

    runtime = "onnxruntime"

    def __init__(self, path: Path, threads: int = 1) -> None:
        """Open the file."""
        self._session = _session(path, threads)
        inputs = self._session.get_inputs()
        self.metadata = parse(dict(self._session.get_modelmeta().custom_metadata_map))
        self._name = inputs[0].name if inputs else ""
        shape = _fixed(inputs[0].shape, self.metadata) if len(inputs) == 1 else []
        self.imgsz, self._nchw = _image_input(shape, len(inputs), path)
        if inputs[0].type not in ONNX_TYPES:
            raise ValueError(f"{path}: input {self._name} is {inputs[0].type}, expected float32 or float16")
        self._dtype = ONNX_TYPES[inputs[0].type]
        self.outputs = {entry.name: _known_shape(entry.shape) for entry in self._session.get_outputs()}
        self.precision: Precision = "fp16" if self._dtype == np.float16 else _onnx_precision(path)

    def feed(self, image: Image) -> None:
        """Hand over an image."""
        values = unit_values(image) if self._nchw else apply_table(UNIT, image)
        self._fed = {self._name: values.astype(self._dtype, copy=False)[None]}

    def invoke(self) -> None:
        """Run on the image that was fed."""
        self._found = self._session.run(list(self.outputs), self._fed)

    def read(self) -> dict[str, Floats]:
        """Return the outputs' real values."""
        pairs = zip(self.outputs, self._found, strict=True)
        return {name: value.astype(np.float32, copy=False) for name, value in pairs}


def _image_input(shape: list[int], count: int, path: Path) -> tuple[tuple[int, int], bool]:
    """Return height and width of an image input, and whether its channels come first."""
    if count != 1:
        raise ValueError(f"{path}: has {count} inputs, expected one image")
    if len(shape) == 4 and shape[0] == 1 and min(shape) > 0:
        if shape[3] == CHANNELS:
            return (shape[1], shape[2]), False
        if shape[1] == CHANNELS:
            return (shape[2], shape[3]), True
    raise ValueError(f"{path}: input is {shape}, expected [1, height, width, 3] or [1, 3, height, width]")


def tflite_precision(interpreter: Any) -> Precision:
    """Return how exact the numbers of a TFLite file are."""
    outside = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    if all(entry["dtype"] == np.int8 for entry in outside):
        return "int8"
    kinds = {np.dtype(entry["dtype"]) for entry in interpreter.get_tensor_details()}
    if np.dtype(np.int8) in kinds or np.dtype(np.uint8) in kinds:
        return "mixed"
    return "fp16" if np.dtype(np.float16) in kinds else "fp32"


def _onnx_precision(path: Path) -> Precision:
    import onnx

    kinds = {tensor.data_type for tensor in onnx.load(path, load_external_data=False).graph.initializer}
    if kinds & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}:
        return "mixed"
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def _session(path: Path, threads: int) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    if not path.is_file():
        raise ValueError(f"{path}: cannot be run as an ONNX model: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NoSuchFile,
        failures.NotImplemented,
        failures.RuntimeException,
    ) as error:
        raise ValueError(f"{path}: cannot be run as an ONNX model: {str(error).splitlines()[0]}") from None


def _fixed(shape: list[Any], metadata: Metadata) -> list[int]:
    """Return an input's shape; where it is open the batch is 1 and the size the one that the file names."""
    known = [size if isinstance(size, int) else 0 for size in shape]
    if known and known[0] == 0:
        known[0] = 1
    if metadata.imgsz and len(known) == 4:
        first = 2 if known[1] == CHANNELS else 1
        for place, side in enumerate(metadata.imgsz, start=first):
            known[place] = known[place] or side
    return known


def _known_shape(shape: list[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else 0 for size in shape)


def unit_values(image: Image) -> NDArray[np.float32]:
    """Return an image's values as 0..1, [3, height, width]."""
    # bytes are moved before they become four times as large
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    values: NDArray[np.float32] = apply_table(UNIT, planes.reshape(-1, planes.shape[2])).reshape(planes.shape)
    return values
