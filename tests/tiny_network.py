"""Detectors of known behaviour, small enough to convert in a test.

A cell whose pixels are pure red, green or blue is a detection of that class with a score of sigmoid(6); its box reaches
two strides from the cell's centre to every side. The rest, grey padding included, stays below a score of 0.01.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("red", "green", "blue")
SIZE = 64
STRIDES = (8, 16, 32)
REG_MAX = 16
BIN = 2  # of the box distribution, so the distance in strides
GAIN, THRESHOLD = 20.0, 0.7
SCORE = 1 / (1 + np.exp(-GAIN * (1 - THRESHOLD)))


def build(folder: Path) -> None:
    """Write int8.tflite, fp32.tflite and decode.json (raw head), and decoded_int8.tflite, decoded_fp32.tflite."""
    import tensorflow as tf

    folder.mkdir(parents=True, exist_ok=True)
    for prefix, network in (("", _raw_head(tf)), ("decoded_", _decoded(tf))):
        module = tf.Module()
        module.call = tf.function(network, input_signature=[tf.TensorSpec([1, SIZE, SIZE, 3], tf.float32, "images")])
        saved = str(folder / f"{prefix}saved")
        tf.saved_model.save(module, saved, signatures=module.call.get_concrete_function())
        (folder / f"{prefix}fp32.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
        (folder / f"{prefix}int8.tflite").write_bytes(_int8(tf, saved))
    write_contract(folder / "decode.json", folder / "int8.tflite")


def picture(cells: list[tuple[int, int, int]], size: int = SIZE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a black image with cells of 8 x 8 network pixels in pure colour; cells are (class, row, column)."""
    image = np.zeros((size, size, 3), np.uint8)
    cell = 8 * size // SIZE
    for colour, row, column in cells:
        image[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell, colour] = 255
    return image


def box(row: int, column: int) -> list[float]:
    """Return the box (x1, y1, x2, y2) that a cell of stride 8 stands for, in network pixels."""
    x, y, reach = 8 * column + 4, 8 * row + 4, 8 * BIN
    return [x - reach, y - reach, x + reach, y + reach]


def write_contract(path: Path, model: Path) -> None:
    """Write the decode contract of an int8 raw-head file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    runner = interpreter.get_signature_runner()
    tensors = {**runner.get_input_details(), **runner.get_output_details()}

    def entry(name: str) -> dict[str, Any]:
        scale, zero_point = tensors[name]["quantization"]
        return {"name": name, "dtype": "int8", "scale": float(scale), "zero_point": int(zero_point)}

    outputs = [
        {
            **entry(f"{branch}{stride}"),
            "branch": branch,
            "stride": stride,
            "shape": tensors[f"{branch}{stride}"]["shape"].tolist(),
        }
        for branch in ("box", "class")
        for stride in STRIDES
    ]
    document = {
        "schema": 1,
        "imgsz": [SIZE, SIZE],
        "input": {**entry("images"), "layout": "NHWC", "preprocess": "RGB / 255, letterboxed with 114"},
        "outputs": outputs,
        "strides": list(STRIDES),
        "reg_max": REG_MAX,
        "names": list(NAMES),
    }
    path.write_text(json.dumps(document))


def _raw_head(tf: Any) -> Any:
    side = np.zeros(REG_MAX, np.float32)
    side[BIN] = 20.0
    bias = np.tile(side, 4)

    def network(images: Any) -> dict[str, Any]:
        outputs = {}
        for stride in STRIDES:
            pooled = tf.nn.avg_pool2d(images, stride, stride, "VALID")
            # a kernel of zeros would be folded away with the input
            kernel = np.full((1, 1, 3, 4 * REG_MAX), 1e-3, np.float32)
            outputs[f"box{stride}"] = tf.nn.bias_add(tf.nn.conv2d(pooled, kernel, 1, "VALID"), bias)
            outputs[f"class{stride}"] = _logits(tf, pooled)
        return outputs

    return network


def _decoded(tf: Any) -> Any:
    cells = np.arange(SIZE // 8)
    rows, columns = np.meshgrid(cells, cells, indexing="ij")
    centres = np.stack(((columns + 0.5) * 8 / SIZE, (rows + 0.5) * 8 / SIZE)).reshape(2, -1)
    sizes = np.full_like(centres, 2 * BIN * 8 / SIZE)
    boxes = np.concatenate((centres, sizes))[None].astype(np.float32)

    def network(images: Any) -> Any:
        logits = tf.reshape(_logits(tf, tf.nn.avg_pool2d(images, 8, 8, "VALID")), [1, -1, len(NAMES)])
        return tf.concat([tf.constant(boxes), tf.sigmoid(tf.transpose(logits, [0, 2, 1]))], axis=1)

    return network


def _logits(tf: Any, pooled: Any) -> Any:
    kernel = GAIN * np.eye(3, dtype=np.float32)[None, None]
    return tf.nn.bias_add(tf.nn.conv2d(pooled, kernel, 1, "VALID"), np.full(3, -GAIN * THRESHOLD, np.float32))


def _int8(tf: Any, saved: str) -> bytes:
    rng = np.random.default_rng(0)

    def images() -> Any:
        for value in (0.0, 1.0):
            yield [np.full((1, SIZE, SIZE, 3), value, np.float32)]
        for _ in range(8):
            yield [rng.uniform(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)]

    converter = tf.lite.TFLiteConverter.from_saved_model(saved)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = images
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    result: bytes = converter.convert()
    return result
