"""One interface over detector files: .tflite, .onnx, .pt and weights folders, raw head or boxes from the graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ethos.errors import ModelError, SpecError
from ethos.evaluation.heads import DecodedHead, RawHead
from ethos.evaluation.networks import OnnxNetwork, Precision, TfliteNetwork, tflite_precision
from ethos_runtime.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ethos_runtime.decode import Floats
    from ethos_runtime.letterbox import Image

WEIGHTS_FILE = "weights.safetensors"
CONTRACT_FILE = "decode.json"
DEFAULT_SIDE = 640
Size = tuple[int, int]
Names = tuple[str, ...] | None


class Predictor(ABC):
    """A detector: images of size `imgsz` (height, width) in, boxes of the classes `names` out.

    Attributes:
        runtime: The package that runs it.
        precision: See `ethos.evaluation.networks.Network`.
        parallel: Whether several of them at a time are faster than one, which uses one processor.
    """

    names: tuple[str, ...]
    imgsz: Size
    runtime: str
    precision: Precision
    parallel: bool

    @abstractmethod
    def feed(self, image: Image) -> None:
        """Hand over a letterboxed RGB image, uint8, [height, width, 3]."""

    @abstractmethod
    def invoke(self) -> None:
        """Run the network alone."""

    @abstractmethod
    def decode(self, conf: float, iou: float, max_det: int) -> Floats:
        """Return detections [n, 6] as x1, y1, x2, y2, score, class in the image's pixels, after suppression."""

    def predict(self, image: Image, conf: float, iou: float, max_det: int) -> Floats:
        """Return the detections in an image, as `decode` does."""
        self.feed(image)
        self.invoke()
        return self.decode(conf, iou, max_det)


class FilePredictor(Predictor):
    """A network and what decodes its outputs."""

    def __init__(self, head: DecodedHead | RawHead, parallel: bool) -> None:
        self._network, self._head = head.network, head
        self.names, self.imgsz = head.names, head.imgsz
        self.runtime, self.precision = head.network.runtime, head.network.precision
        self.parallel = parallel

    def feed(self, image: Image) -> None:
        """Hand over an image."""
        self._network.feed(image)

    def invoke(self) -> None:
        """Run the network alone."""
        self._network.invoke()

    def decode(self, conf: float, iou: float, max_det: int) -> Floats:
        """Return the detections."""
        return self._head.decode(conf, iou, max_det)


class ContractPredictor(Predictor):
    """A TFLite file with a raw head and its decode contract, run by the code that travels with it."""

    runtime = TfliteNetwork.runtime
    parallel = True

    def __init__(self, path: Path, contract: Path, threads: int) -> None:
        self._detector = Detector(path, contract, threads)
        self.names, self.imgsz = self._detector.names, self._detector.imgsz
        self.precision = tflite_precision(self._detector.interpreter)

    def feed(self, image: Image) -> None:
        """Hand over an image."""
        self._detector.feed(image)

    def invoke(self) -> None:
        """Run the network alone."""
        self._detector.invoke()

    def decode(self, conf: float, iou: float, max_det: int) -> Floats:
        """Return the detections."""
        return self._detector.decode(self._detector.read(), conf, iou, max_det)


def open_predictor(
    file: Path,
    names: tuple[str, ...] | None = None,
    contract: Path | None = None,
    threads: int | None = None,
    imgsz: Size | None = None,
) -> Predictor:
    """Return a detector for a file.

    Args:
        file: A .tflite, .onnx or .pt file, a weights.safetensors, or the folder of one.
        names: Class names of the data, in label order; the file must detect just these. Without them the file's own
            count, and where it holds none their numbers.
        contract: The decode contract of a raw head; without one, a decode.json beside the file is taken, and where
            there is none the file must decode its boxes itself.
        threads: Threads of the interpreter; one if not given, in PyTorch as many as it likes.
        imgsz: Height and width; for PyTorch the size to run at (640 if not given), for others a size to insist on.

    Raises:
        ModelError: The file is missing or broken, fits no form, takes another size, or detects other classes.
        SpecError: The file is of no known kind.
    """
    kind = "" if file.is_dir() else file.suffix.lower()
    if kind not in OPENERS:
        raise SpecError(f"{file}: a file of no known kind", f"name a {', '.join(k for k in OPENERS if k)} or a folder")
    beside = (file if file.is_dir() else file.parent) / CONTRACT_FILE
    contract = contract or (beside if beside.is_file() else None)
    try:
        predictor = OPENERS[kind](file, names, contract, threads, imgsz)
    except ValueError as error:
        raise ModelError(
            str(error), f"give a whole detector of batch 1, with its {CONTRACT_FILE} if its head is raw"
        ) from None
    if imgsz and predictor.imgsz != imgsz:
        raise ModelError(
            f"{file}: takes images of {_pixels(predictor.imgsz)}, asked for {_pixels(imgsz)}",
            "leave the size out, or export the network at that size",
        )
    if names is not None and predictor.names != names:
        raise ModelError(
            f"{file}: detects {_listed(predictor.names)}, the data set has {_listed(names)}",
            "evaluate on a data set with the classes that the model was trained on",
        )
    return predictor


def content_of(file: Path) -> Path:
    """Return the file whose bytes a score belongs to: the weights, where a folder is named."""
    return file / WEIGHTS_FILE if file.is_dir() else file


def require_precision(predictor: Predictor, wanted: Precision, file: Path) -> None:
    """Refuse a file of another precision.

    Raises:
        ModelError: With what the file is.
    """
    if predictor.precision != wanted:
        raise ModelError(
            f"{file}: is {predictor.precision}, asked for {wanted}",
            f"name the {wanted} file; int8 takes integers in and gives integers out",
        )


def _open_tflite(file: Path, names: Names, contract: Path | None, threads: int | None, imgsz: Size | None) -> Predictor:
    del imgsz
    if contract:
        return ContractPredictor(file, contract, threads or 1)
    return FilePredictor(DecodedHead(TfliteNetwork(file, threads or 1), names, file), parallel=True)


def _open_onnx(file: Path, names: Names, contract: Path | None, threads: int | None, imgsz: Size | None) -> Predictor:
    del imgsz
    network = OnnxNetwork(file, threads or 1)
    raw = contract is not None and len(network.outputs) > 1
    head = RawHead(network, contract, file) if raw and contract else DecodedHead(network, names, file)
    return FilePredictor(head, parallel=True)


def _open_torch(file: Path, names: Names, contract: Path | None, threads: int | None, imgsz: Size | None) -> Predictor:
    del contract
    from ethos.evaluation.torch_file import TorchNetwork

    network = TorchNetwork(file, names, imgsz or (DEFAULT_SIDE, DEFAULT_SIDE), threads)
    return FilePredictor(DecodedHead(network, names, file), parallel=False)


def _listed(names: tuple[str, ...], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return f"{len(names)} classes ({shown}{', ...' if len(names) > most else ''})"


def _pixels(size: Size) -> str:
    height, width = size
    return f"{width}x{height} pixels"


# what opens a file, by its suffix; none is a folder
OPENERS: dict[str, Callable[[Path, Names, Path | None, int | None, Size | None], Predictor]] = {
    ".tflite": _open_tflite,
    ".onnx": _open_onnx,
    ".pt": _open_torch,
    ".safetensors": _open_torch,
    "": _open_torch,
}
