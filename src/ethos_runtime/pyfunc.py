"""The detector as an MLflow pyfunc model, loaded by MLflow from a registered version (models from code)."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from ethos_runtime.letterbox import Image

FILES = "candidate"  # name of the version's files in MLflow's context
LEAST_FILE = 32  # bytes; no image file is smaller
SHOWN = 200  # characters of a text that is no image
COLUMNS = ("image", "x1", "y1", "x2", "y2", "score", "class_id", "class")


class DetectorModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow ships no types
    """Detections as a table, a row each."""

    def load_context(self, context: Any) -> None:
        """Open the INT8 file of the version."""
        from ethos_runtime.detector import Detector

        folder = Path(context.artifacts[FILES])
        self._detector = Detector(folder / "int8.tflite", folder / "decode.json")

    # MLflow reads these hints at run time. An input hinted as an array it hands over as it is, whatever it is; from any
    # other hint it derives a schema that could not take both an array and a path.
    def predict(
        self,
        context: Any,  # noqa: ARG002 - MLflow's own signature
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Return the detections in one or several images.

        Args:
            context: MLflow's context, not used here.
            model_input: An RGB image (uint8, [height, width, 3]), the path of an image file, the bytes of one, these as
                base64 text, a list of any of them, an array of images of one size ([n, height, width, 3]), or a pandas
                table with them in its first column. Nested lists of numbers count as arrays.
            params: `conf` (least score, 0.25), `iou` (0.7) and `max_det` (300).

        Returns:
            A table with the columns image (the path, else the image's number from 0), x1, y1, x2, y2 (pixels of the
            source image), score, class_id and class; best detections first.

        Raises:
            ValueError: An image cannot be read, or is no uint8 array of three channels.
        """
        options = {key: value for key, value in (params or {}).items() if key in ("conf", "iou", "max_det")}
        rows: list[tuple[Any, ...]] = []
        for number, item in enumerate(_items(model_input)):
            shown, image = _load(item, number)
            for x1, y1, x2, y2, score, label in self._detector.detect(image, **options).tolist():
                rows.append((shown, x1, y1, x2, y2, score, int(label), self._detector.names[int(label)]))
        return _table(rows)


def _items(value: Any) -> list[Any]:
    """Return single images of whatever form from the input."""
    if hasattr(value, "iloc"):  # a table or a column of pandas
        value = (value.iloc[:, 0] if value.ndim == 2 else value).tolist()
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "OUS":  # paths or files, as a server or a table hands them over
            return list(value.ravel().tolist())
        return list(value) if value.ndim == 4 else [value]
    if isinstance(value, list | tuple):
        return _items(np.asarray(value)) if _depth(value) in (3, 4) else list(value)
    return [value]


def _depth(value: Any) -> int:
    """Return how deep lists of numbers are nested, 0 where anything else is inside."""
    depth = 0
    while isinstance(value, list | tuple) and value:
        value, depth = value[0], depth + 1
    return depth if isinstance(value, int | float) else 0


def _load(item: Any, number: int) -> tuple[str, Image]:
    """Return an image with what it is called in the table."""
    if isinstance(item, bytes | bytearray | memoryview):
        return str(number), _decode(bytes(item), f"image {number}")
    if isinstance(item, Path) or (isinstance(item, str) and _is_file(item)):
        return str(item), _decode(_read(Path(item)), str(item))
    if isinstance(item, str):
        return _from_text(item, number)
    image = np.asarray(item)
    # JSON knows no uint8: a list of numbers arrives as wider integers
    if image.dtype.kind in "iu" and image.size and image.min() >= 0 and image.max() <= 255:
        image = image.astype(np.uint8)
    return str(number), image


def _from_text(text: str, number: int) -> tuple[str, Image]:
    """Return the image in base64 text, with or without `data:...;base64,` before it."""
    head, comma, rest = text.partition(",")
    try:
        content = base64.b64decode(rest if comma and head.startswith("data:") else text, validate=True)
    except ValueError:
        content = b""
    # a short word may happen to be base64; what it stands for is then no image
    if len(content) < LEAST_FILE:
        raise ValueError(f"{text[:SHOWN]}: no such file, and no image in base64")
    return str(number), _decode(content, f"image {number}")


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # base64 text is longer than a path may be
        return False


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {'no such file' if not path.exists() else error.strerror}") from None


def _decode(content: bytes, name: str) -> Image:
    import cv2

    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if pixels is None:
        raise ValueError(f"{name}: is no image that can be read")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    kinds = {**dict.fromkeys(COLUMNS, "float64"), "image": "str", "class_id": "int64", "class": "str"}
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(kinds)


mlflow.models.set_model(DetectorModel())
