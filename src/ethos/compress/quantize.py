"""Quantize a trained network: ONNX, float32 TFLite, full-integer INT8 TFLite, and the contract that decodes them."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.compress import calibration
from ethos.compress.convert import export_onnx, onnx_to_saved_model, to_tflite
from ethos.errors import ModelError
from ethos.files import sha256_file, write_json, write_text
from ethos.model.activations import activation_uses
from ethos.model.head import BRANCHES, INPUT_NAME, output_names, to_export_form
from ethos.model.weights import WEIGHTS_FILE, load_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ethos.specs import Quantize

ONNX_FILE, FLOAT_FILE, INT8_FILE = "model.onnx", "fp32.tflite", "int8.tflite"
CONTRACT_FILE, LABELS_FILE = "decode.json", "labels.txt"
TOOLS = ("torch", "onnx", "onnx2tf", "tensorflow", "ai-edge-litert")
# onnx2tf checks its own conversion on images; it wants this many
SELF_CHECK_IMAGES = 20
# ONNX Runtime and TFLite add in different orders; logits are of the order of 10
AGREEMENT_TOLERANCE = 1e-2


def quantize(model_folder: Path, dataset: Path, imgsz: int, options: Quantize, into: Path) -> dict[str, Any]:
    """Write a candidate's files into `into`; return what is known of them (the document quantize.json).

    Args:
        model_folder: Trained network, as `ethos.model.weights.save_model` writes it.
        dataset: Materialised data set; only its training side is read.
        imgsz: Side of the square input in pixels.
        options: Number of calibration images, per-channel weights, and size limit.
        into: Folder to write into.

    Raises:
        ModelError: A converter refuses the network, or the files disagree, or INT8 came out far too large.
        DataError: There are not enough calibration images.
    """
    model, architecture = load_model(model_folder)
    size = (imgsz, imgsz)
    strides = [int(stride) for stride in model.stride]
    names = output_names(strides)
    reg_max = int(model.model[-1].reg_max)
    network = to_export_form(model)
    rows = calibration.choose(dataset, options.calibration_images)
    samples = calibration.load(rows, size)

    export_onnx(network, size, names, into / ONNX_FILE)
    with tempfile.TemporaryDirectory(prefix="ethos-saved-model-") as scratch:
        saved_model = Path(scratch) / "model"
        onnx_to_saved_model((into / ONNX_FILE).resolve(), samples[:SELF_CHECK_IMAGES], names, saved_model)
        (into / FLOAT_FILE).write_bytes(to_tflite(saved_model))
        (into / INT8_FILE).write_bytes(to_tflite(saved_model, samples, options.per_channel))
    require_agreement(into / ONNX_FILE, into / FLOAT_FILE, samples[0])

    contract = decode_contract(into / INT8_FILE, names, strides, reg_max, architecture.names)
    write_json(into / CONTRACT_FILE, contract)
    write_text(into / LABELS_FILE, "\n".join(architecture.names) + "\n")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    require_proportion(into / INT8_FILE, parameters, options.max_kib_per_kparameter)
    return {
        "schema": 1,
        "imgsz": imgsz,
        "parameters": parameters,
        "activation": {"declared": architecture.activation, "uses": len(activation_uses(network))},
        "per_channel": options.per_channel,
        "files": {
            **{name: describe(into / name) for name in (INT8_FILE, FLOAT_FILE, ONNX_FILE, CONTRACT_FILE, LABELS_FILE)},
            WEIGHTS_FILE: describe(model_folder / WEIGHTS_FILE),
        },
        "calibration": {
            "images": len(rows),
            "sha256": calibration.list_hash(rows),
            "list": [row.path.relative_to(dataset).as_posix() for row in rows],
        },
        "tools": {tool: version(tool) for tool in TOOLS},
    }


def describe(file: Path) -> dict[str, Any]:
    """Return a file's SHA-256 and size in bytes."""
    return {"sha256": sha256_file(file), "bytes": file.stat().st_size}


def require_proportion(file: Path, parameters: int, max_kib_per_kparameter: float) -> None:
    """Refuse an INT8 file that is far larger than its parameters: weights were left in float, or stored twice.

    Raises:
        ModelError: The file takes more KiB for each thousand parameters than the spec allows.
    """
    kib = file.stat().st_size / 1024
    if kib > max_kib_per_kparameter * parameters / 1000:
        raise ModelError(
            f"{file.name}: {kib:.0f} KiB for {parameters} parameters, over {max_kib_per_kparameter} KiB a thousand",
            "look for float or repeated weights in the file; the limit is quantize.max_kib_per_kparameter",
        )


def require_agreement(onnx_file: Path, tflite_file: Path, image: NDArray[np.float32]) -> None:
    """Run both float files on one image and compare every output.

    Args:
        onnx_file: The exported network, NCHW.
        tflite_file: The converted network, NHWC.
        image: [h, w, 3] in 0..1.

    Raises:
        ModelError: An output differs in shape or by more than the tolerance.
    """
    import numpy as np
    import onnxruntime

    runner = open_tflite(tflite_file).get_signature_runner()
    found = runner(**{INPUT_NAME: image[None]})
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    wanted = session.run(None, {INPUT_NAME: image.transpose(2, 0, 1)[None]})
    for name, value in zip(names, wanted, strict=True):
        expected = value.transpose(0, 2, 3, 1)
        if found[name].shape != expected.shape:
            raise ModelError(
                f"output {name}: {found[name].shape} after conversion, {expected.shape} before", CHECK_CONVERTER
            )
        difference = float(np.abs(found[name] - expected).max())
        if not difference <= AGREEMENT_TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise ModelError(f"output {name}: differs by {difference:.3g} after conversion", CHECK_CONVERTER)


CHECK_CONVERTER = "report the level and activation; this converter version does not keep that network"


def decode_contract(
    file: Path, outputs: list[str], strides: list[int], reg_max: int, names: tuple[str, ...]
) -> dict[str, Any]:
    """Return how to feed the file and decode its outputs; scales and zero points are read from the file itself."""
    runner = open_tflite(file).get_signature_runner()
    ((_, fed),) = runner.get_input_details().items()
    given = runner.get_output_details()
    return {
        "schema": 1,
        "imgsz": [int(side) for side in fed["shape"][1:3]],
        "input": {
            "name": INPUT_NAME,
            **_quantization(fed),
            "layout": "NHWC",
            "preprocess": "RGB / 255, letterboxed with 114",
        },
        "outputs": [
            {
                "name": name,
                "branch": next(branch for branch in BRANCHES if name.startswith(branch)),
                "stride": strides[index % len(strides)],
                "shape": [int(side) for side in given[name]["shape"]],
                **_quantization(given[name]),
            }
            for index, name in enumerate(outputs)
        ],
        "strides": strides,
        "reg_max": reg_max,
        "names": list(names),
    }


def _quantization(tensor: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    scale, zero_point = tensor["quantization"]
    return {"dtype": np.dtype(tensor["dtype"]).name, "scale": float(scale), "zero_point": int(zero_point)}


def open_tflite(file: Path) -> Any:
    """Return an allocated LiteRT interpreter for the file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    return interpreter
