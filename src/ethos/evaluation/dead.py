"""Dead neurons: ReLU channels of a network that give zero at every place of every image looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.errors import ModelError
from ethos.evaluation.detect import read_image
from ethos.files import sha256_file, sha256_json
from ethos_runtime.letterbox import letterbox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.evaluation.samples import Sample

SCHEMA = 1
IMAGES = 32
RELU = "Relu"
PEAK = "ethos_peak_"


def dead_channels(file: Path, samples: Sequence[Sample], most: int = IMAGES) -> dict[str, Any]:
    """Return how many ReLU channels of a network never fire, as a JSON document.

    Args:
        file: An ONNX network with one input [1, 3, height, width]: RGB from 0 to 1.
        samples: Images to look at; of more than `most`, some at equal distances are taken.
        most: How many images to look at, at most.

    Returns:
        `channels` and `dead`, their share `dead_share` (None for a network without ReLU), the same for each layer in
        `layers`, and which file and images they are of.

    Raises:
        ModelError: The file is no ONNX network of that form.
        DataError: An image cannot be read.
    """
    chosen = list(samples[:: max(1, -(-len(samples) // most))])
    names, session = _with_peaks(file)
    peaks = _peaks(session, names, chosen) if names else []
    counts = [(int(peak.size), int((peak <= 0).sum())) for peak in peaks]
    channels, dead = (sum(count[place] for count in counts) for place in (0, 1))
    return {
        "schema": SCHEMA,
        "provenance": "measured",
        "file": file.name,
        "sha256": sha256_file(file),
        "images": len(chosen),
        "images_sha256": sha256_json([sha256_file(sample.image) for sample in chosen]),
        "channels": channels,
        "dead": dead,
        "dead_share": round(dead / channels, 6) if channels else None,
        "layers": [
            {"name": name, "channels": all_, "dead": none} for name, (all_, none) in zip(names, counts, strict=True)
        ],
    }


def _with_peaks(file: Path) -> tuple[list[str], Any]:
    """Return the names of all ReLU outputs, and a session that gives the greatest value of each of their channels."""
    import onnx
    import onnxruntime

    try:
        model = onnx.load(str(file))
        onnx.checker.check_model(model)
    except Exception as error:
        # protobuf's error has no types; anything else is not ours to explain
        if not isinstance(error, OSError | onnx.checker.ValidationError) and type(error).__name__ != "DecodeError":
            raise
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"{file}: is no ONNX network: {reason}", "export it again: dvc repro quantize") from None
    names = [node.output[0] for node in model.graph.node if node.op_type == RELU]
    for number, name in enumerate(names):
        peak = f"{PEAK}{number}"
        model.graph.node.append(onnx.helper.make_node("GlobalMaxPool", [name], [peak]))
        model.graph.output.append(onnx.helper.make_tensor_value_info(peak, onnx.TensorProto.FLOAT, None))
    return names, onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _peaks(session: Any, names: Sequence[str], samples: Sequence[Sample]) -> list[NDArray[np.float32]]:
    """Return the greatest value of each channel of each layer over all images."""
    tensor = session.get_inputs()[0]
    if len(tensor.shape) != 4 or tensor.shape[:2] != [1, 3]:
        raise ModelError(f"input is {tensor.shape}, expected [1, 3, height, width]", "give the exported model.onnx")
    size = (int(tensor.shape[2]), int(tensor.shape[3]))
    wanted = [f"{PEAK}{number}" for number in range(len(names))]
    peaks: list[NDArray[np.float32]] = []
    for sample in samples:
        fitted, _, _ = letterbox(read_image(sample.image), size)
        batch = np.ascontiguousarray(fitted.transpose(2, 0, 1)[None], dtype=np.float32) / 255
        found = [value.reshape(-1) for value in session.run(wanted, {tensor.name: batch})]
        peaks = [np.maximum(*pair) for pair in zip(peaks, found, strict=True)] if peaks else found
    return peaks
