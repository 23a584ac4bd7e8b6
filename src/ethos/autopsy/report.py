"""The autopsy of a quantized candidate: where accuracy was lost, and what to try."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.autopsy.advice import suggestions
from ethos.autopsy.layers import compare_layers
from ethos.autopsy.losses import by_branch, by_class, by_size, detect_mixed
from ethos.compress.checks import require_integer
from ethos.compress.quantize import CONTRACT_FILE, FLOAT_FILE, INT8_FILE, ONNX_FILE
from ethos.errors import ModelError
from ethos.evaluation.bootstrap import FIGURES
from ethos.evaluation.detect import read_image
from ethos.evaluation.evaluate import protocol_of
from ethos.evaluation.metrics import score
from ethos.files import read_json, sha256_file
from ethos.npu.tflite import read_graph
from ethos_runtime.contract import Contract
from ethos_runtime.letterbox import letterbox

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.evaluation.samples import SampleSet
    from ethos.specs import ProtocolParams

SCHEMA = 1
LAYER_IMAGES = 16


def autopsy(folder: Path, data: SampleSet, params: ProtocolParams) -> dict[str, Any]:
    """Return where the INT8 file of a folder loses accuracy against the float32 file beside it.

    Args:
        folder: What the quantize stage wrote: fp32.tflite, int8.tflite, decode.json, and quantize.json if it is there.
        data: Images to score on.
        params: Post-processing.

    Raises:
        ModelError: A file is missing or broken, or the INT8 file is a float file.
        DataError: An image cannot be read.
    """
    for name in (FLOAT_FILE, INT8_FILE, CONTRACT_FILE):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: no {name}", "name a variant, or a folder that the quantize stage wrote")
    made = _made(folder)
    require_integer(read_graph(folder / INT8_FILE), made["operators"], made["kept_float"])
    found = detect_mixed(folder / FLOAT_FILE, folder / INT8_FILE, folder / CONTRACT_FILE, data, params)
    before, after = (score(found[mix], data.names) for mix in ("fp32", "int8"))
    imgsz = Contract.read(folder / CONTRACT_FILE).imgsz
    images = _images(data, imgsz)
    report = {
        "schema": SCHEMA,
        "provenance": "measured",
        "folder": str(folder),
        "sha256": {name: sha256_file(folder / name) for name in (FLOAT_FILE, INT8_FILE)},
        "protocol": protocol_of(data, params, imgsz).document(),
        "images": len(data.samples),
        "made": made,
        "fp32": {key: getattr(before, key) for key in FIGURES},
        "int8": {key: getattr(after, key) for key in FIGURES},
        "drop": {key: round(getattr(before, key) - getattr(after, key), 6) for key in FIGURES},
        "classes": by_class(found, data.names),
        "sizes": by_size(found, data.names),
        "branches": by_branch(found, data.names),
        "layer_images": len(images),
        "layers": [
            asdict(layer)
            for layer in compare_layers(folder / FLOAT_FILE, folder / INT8_FILE, images, folder / ONNX_FILE)
        ],
    }
    return {**report, "suggestions": suggestions(report)}


def _made(folder: Path) -> dict[str, Any]:
    """Return how the file was quantized, as far as that was recorded."""
    record = read_json(folder / "quantize.json", "schema") if (folder / "quantize.json").is_file() else {}
    return {
        "per_channel": record.get("per_channel", True),
        "ranges": record.get("ranges", "min_max"),
        "calibration_images": record.get("calibration", {}).get("images", 0),
        "kept_float": len(record.get("kept_float", [])),
        "operators": record.get("extra_operators", []),
    }


def _images(data: SampleSet, imgsz: tuple[int, int]) -> NDArray[np.float32]:
    """Return images, evenly over the side's names, as the network sees them."""
    step = max(1, len(data.samples) // LAYER_IMAGES)
    chosen = data.samples[::step][:LAYER_IMAGES]
    fitted = [letterbox(read_image(sample.image), imgsz)[0] for sample in chosen]
    return np.stack(fitted).astype(np.float32) / np.float32(255)
