"""Quantize a trained network: ONNX, float TFLite files, full-integer INT8 TFLite, and what decodes them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.compress import calibration
from ethos.compress.balance import balance_laterals
from ethos.compress.checks import float_operators, require_integer, require_proportion, size_table
from ethos.compress.convert import CONVERTERS, export_onnx
from ethos.compress.golden import golden_tensors
from ethos.compress.header import c_header
from ethos.compress.integer import correct_biases, to_int8
from ethos.compress.names import layer_names, select_layers
from ethos.compress.ranges import observe
from ethos.errors import ModelError
from ethos.files import read_json, sha256_file, write_json, write_text
from ethos.model.activations import activation_uses
from ethos.model.head import BRANCHES, INPUT_NAME, output_names, to_export_form
from ethos.model.weights import WEIGHTS_FILE, load_model
from ethos.npu.tflite import read_graph
from ethos_runtime.contract import Contract

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ethos.model.levels import Network
    from ethos.specs import Quantize

ONNX_FILE, FLOAT_FILE, HALF_FILE = "model.onnx", "fp32.tflite", "fp16.tflite"
DYNAMIC_FILE, INT8_FILE = "dynamic.tflite", "int8.tflite"
CONTRACT_FILE, LABELS_FILE = "decode.json", "labels.txt"
HEADER_FILE, GOLDEN_FILE = "decode.h", "golden.npz"
PRECISIONS = {"fp32": FLOAT_FILE, "fp16": HALF_FILE, "dynamic": DYNAMIC_FILE, "int8": INT8_FILE}
FILES = (*reversed(PRECISIONS.values()), ONNX_FILE, CONTRACT_FILE, HEADER_FILE, GOLDEN_FILE, LABELS_FILE)
TOOLS = {
    "onnx2tf": ("torch", "onnx", "onnx2tf", "tensorflow", "ai-edge-litert"),
    "litert_torch": ("torch", "onnx", "litert-torch", "ai-edge-quantizer", "tensorflow", "ai-edge-litert"),
}
# ONNX Runtime and TFLite add in different orders; logits are of the order of 10
AGREEMENT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Exported:
    """A trained network in the form in which it leaves.

    Attributes:
        network: Fused, with split blocks and a raw head.
        outputs: Names of its outputs, in order.
        strides: Pixels between neighbouring anchors, per scale.
        reg_max: Bins of a side's distance distribution.
        names: Class names.
        activation: As declared.
    """

    network: Network
    outputs: list[str]
    strides: list[int]
    reg_max: int
    names: tuple[str, ...]
    activation: str


def quantize(model_folder: Path, dataset: Path, imgsz: int, options: Quantize, into: Path) -> dict[str, Any]:
    """Write a candidate's files into `into`; return what is known of them (the document quantize.json).

    Args:
        model_folder: Trained network, as `ethos.model.weights.save_model` writes it.
        dataset: Materialised data set; only its training side is read.
        imgsz: Side of the square input in pixels.
        options: How to convert, calibrate and round, and what the files may hold.
        into: Folder to write into.

    Raises:
        ModelError: A converter refuses the network, or the files disagree, came out far too large, or hold operators
            that they should not; or the network is for other classes than the data set.
        DataError: There are not enough calibration images, or one is of the validation side.
        SpecError: `options` name images or layers that are not there.
    """
    exported = _exported(model_folder, dataset)
    rows = calibration.choose(dataset, options.calibration_images, options.calibration_from)
    samples = calibration.load(rows, (imgsz, imgsz))
    balanced = balance_laterals(exported.network, samples) if options.balance else 0

    export_onnx(exported.network, (imgsz, imgsz), exported.outputs, into / ONNX_FILE)
    converted = CONVERTERS[options.converter](exported.network, into / ONNX_FILE, samples, exported.outputs)
    for name, content in ((FLOAT_FILE, converted.fp32), (HALF_FILE, converted.fp16), (DYNAMIC_FILE, converted.dynamic)):
        (into / name).write_bytes(content)
    made = _make_int8(into, samples, options)
    parameters = sum(parameter.numel() for parameter in exported.network.parameters())
    _check(into, samples[0], parameters, options, len(made["kept_float"]))
    _write_contract(exported, into, samples[0])
    return {
        "schema": 1,
        "imgsz": imgsz,
        "parameters": parameters,
        "activation": {"declared": exported.activation, "uses": len(activation_uses(exported.network))},
        "per_channel": options.per_channel,
        "converter": options.converter,
        "channels_balanced": balanced,
        **made,
        "files": {
            **{name: describe(into / name) for name in FILES},
            WEIGHTS_FILE: describe(model_folder / WEIGHTS_FILE),
        },
        "sizes": size_table({precision: into / name for precision, name in PRECISIONS.items()}, parameters),
        "calibration": _calibration_record(rows, dataset, options),
        "tools": {tool: version(tool) for tool in TOOLS[options.converter]},
    }


def _exported(model_folder: Path, dataset: Path) -> Exported:
    model, architecture = load_model(model_folder)
    record = dataset / "dataset.json"
    classes = read_json(record, "classes")["classes"] if record.is_file() else None
    if classes is not None and tuple(classes) != architecture.names:
        raise ModelError(
            f"{model_folder}: detects {len(architecture.names)} classes, the data set {dataset} has {len(classes)}"
            + ("" if len(classes) != len(architecture.names) else " of other names"),
            "train on this data set first: dvc repro train",
        )
    strides = [int(stride) for stride in model.stride]
    reg_max = int(model.model[-1].reg_max)
    network, names = to_export_form(model), output_names(strides)
    return Exported(network, names, strides, reg_max, architecture.names, architecture.activation)


def _make_int8(into: Path, samples: NDArray[np.float32], options: Quantize) -> dict[str, Any]:
    """Write the INT8 file beside the float32 one; return how it came about."""
    graph = read_graph(into / FLOAT_FILE)
    kept = select_layers(layer_names(graph, into / ONNX_FILE), options.keep_float) if options.keep_float else []
    content = (into / FLOAT_FILE).read_bytes()
    activations = observe(content, graph, samples, options)
    (into / INT8_FILE).write_bytes(to_int8(content, activations, kept, options.per_channel))
    corrected = correct_biases(into / INT8_FILE, into / FLOAT_FILE, activations) if options.bias_correction else 0
    return {
        "ranges": options.ranges if options.percentile is None else f"{options.ranges} {options.percentile}",
        "biases_corrected": corrected,
        "kept_float": kept,
        "extra_operators": list(options.operators),
        "float_operators": len(float_operators(read_graph(into / INT8_FILE))),
    }


def _check(into: Path, sample: NDArray[np.float32], parameters: int, options: Quantize, kept: int) -> None:
    """Refuse files that are not what was asked for; each check says what it found."""
    require_agreement(into / ONNX_FILE, into / FLOAT_FILE, sample)
    require_integer(read_graph(into / INT8_FILE), options.operators, kept)
    precisions = {precision: into / name for precision, name in PRECISIONS.items()}
    require_proportion(precisions, parameters, options.max_kib_per_kparameter)


def _write_contract(exported: Exported, into: Path, sample: NDArray[np.float32]) -> None:
    """Write what decodes the INT8 file: contract, labels, C header, golden tensors."""
    import numpy as np

    document = decode_contract(into / INT8_FILE, exported.outputs, exported.strides, exported.reg_max, exported.names)
    write_json(into / CONTRACT_FILE, document)
    write_text(into / LABELS_FILE, "\n".join(exported.names) + "\n")
    contract = Contract.from_document(document)
    write_text(into / HEADER_FILE, c_header(contract, sha256_file(into / CONTRACT_FILE)))
    tensors: dict[str, Any] = golden_tensors(into / INT8_FILE, contract, sample)
    np.savez_compressed(into / GOLDEN_FILE, **tensors)


def _calibration_record(rows: list[Any], dataset: Path, options: Quantize) -> dict[str, Any]:
    source = Path(options.calibration_from) if options.calibration_from else dataset
    return {
        "images": len(rows),
        "requested": options.calibration_images,
        "from": options.calibration_from or "train",
        "sha256": calibration.list_hash(rows),
        "list": [
            row.path.relative_to(source).as_posix() if row.path.is_relative_to(source) else row.path.name
            for row in rows
        ],
    }


def describe(file: Path) -> dict[str, Any]:
    """Return a file's SHA-256 and size in bytes."""
    return {"sha256": sha256_file(file), "bytes": file.stat().st_size}


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
    if not scale > 0:
        raise ModelError(
            f"tensor {tensor['name']}: is {np.dtype(tensor['dtype']).name}, not quantized; an INT8 file was expected",
            "give the file that was quantized, int8.tflite",
        )
    return {"dtype": np.dtype(tensor["dtype"]).name, "scale": float(scale), "zero_point": int(zero_point)}


def open_tflite(file: Path) -> Any:
    """Return an allocated LiteRT interpreter for the file."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(file))
    interpreter.allocate_tensors()
    return interpreter
