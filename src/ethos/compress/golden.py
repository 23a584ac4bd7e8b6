"""Golden tensors: one picture, what an INT8 file answers to it, and the boxes that this answer means.

With them a decoder on another machine, or a file on another runtime, can be checked without a data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ethos_runtime.decode import decode, nms

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos_runtime.contract import Contract

ANCHORS = 64  # kept, those of the best scores
IOU, MAX_DET = 0.7, 300
STORED_SIDE = 128  # pixels of the stored picture; a larger input shows it in blocks, which a zip file stores well


def golden_tensors(file: Path, contract: Contract, sample: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return a picture, the six integer tensors, and the expected detections with their thresholds.

    Only the anchors of the best scores keep their class logits: the others get the least integer, which keeps the file
    small and changes no detection above `conf`.

    Args:
        file: The INT8 file.
        contract: Its decode contract.
        sample: [h, w, 3] a calibration image in 0..1.

    Returns:
        `image` [h, w, 3] uint8 RGB, the outputs by name as int8, `conf`, `iou`, `max_det`, and `expected` [n, 6]:
        x1, y1, x2, y2, score, class.
    """
    image = in_blocks((sample * 255).round().astype(np.uint8))
    outputs = _answer(file, contract, image)
    conf = _sparse(outputs, contract)
    boxes, scores = decode(real_values(outputs, contract), contract, conf)
    expected = nms(boxes, scores, conf, IOU, MAX_DET)
    thresholds = {"conf": np.array(conf, np.float32), "iou": np.array(IOU, np.float32), "max_det": np.array(MAX_DET)}
    return {"image": image, **outputs, **thresholds, "expected": expected}


def real_values(outputs: dict[str, NDArray[np.int8]], contract: Contract) -> dict[str, NDArray[np.float32]]:
    """Return int8 tensors as the float32 numbers that they stand for."""
    return {
        output.name: (outputs[output.name].astype(np.float32) - np.float32(output.quantization.zero_point))
        * np.float32(output.quantization.scale)
        for output in contract.outputs
    }


def _answer(file: Path, contract: Contract, image: NDArray[np.uint8]) -> dict[str, NDArray[np.int8]]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    given = contract.input_quantization
    integers = np.round(image.astype(np.float32) / np.float32(255) / np.float32(given.scale)) + given.zero_point
    run = interpreter.get_signature_runner()
    found: dict[str, NDArray[np.int8]] = run(**{contract.input_name: integers.clip(-128, 127).astype(np.int8)[None]})
    return found


def _sparse(outputs: dict[str, NDArray[np.int8]], contract: Contract) -> float:
    """Silence all anchors but the best, in place; return the score that the best of the others has."""
    _, scores = decode(real_values(outputs, contract), contract)
    best = scores.max(axis=1)
    order = np.argsort(-best, kind="stable")
    conf = float(best[order[ANCHORS]]) if len(order) > ANCHORS else 0.0
    first = 0
    for stride in contract.strides:
        values = outputs[contract.output("class", stride).name]
        count = values.shape[1] * values.shape[2]
        silent = best[first : first + count] <= conf
        values.reshape(count, -1)[silent] = np.iinfo(np.int8).min
        outputs[contract.output("box", stride).name].reshape(count, -1)[silent] = 0
        first += count
    return conf


def in_blocks(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture of the same size in blocks of one colour, at most STORED_SIDE of them along a side."""
    step = max(1, -(-max(image.shape[:2]) // STORED_SIDE))
    height, width = image.shape[:2]
    return image[::step, ::step].repeat(step, 0).repeat(step, 1)[:height, :width]
