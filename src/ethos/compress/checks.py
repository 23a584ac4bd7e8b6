"""What the files of a candidate must hold: sizes in proportion to their parameters, and known integer operators."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError, some_of
from ethos.npu.graph import output_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ethos.npu.graph import Graph

BYTES_PER_WEIGHT = {"fp32": 4, "fp16": 2, "dynamic": 1, "int8": 1}
# what YOLO graphs become, with or without attention and SiLU; QUANTIZE changes from one int8 scale to another
KNOWN_OPERATORS = frozenset(
    {
        "ADD",
        "BATCH_MATMUL",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "LEAKY_RELU",
        "LOGISTIC",
        "MAX_POOL_2D",
        "MUL",
        "PAD",
        "QUANTIZE",
        "RELU",
        "RESHAPE",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "SOFTMAX",
        "SPLIT",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
)
INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "BOOL"})
# sizes of the first, hand-made versions of these networks in MB (15 classes), as reported
V3_MB = {"fp32": (13.0, 14.0), "fp16": (6.5, 6.9), "dynamic": (3.5, 3.8), "int8": (3.3, 3.5)}


def size_table(files: Mapping[str, Path], parameters: int) -> list[dict[str, Any]]:
    """Return each precision's size in bytes and for each parameter, beside V3's range in MB."""
    return [
        {
            "precision": precision,
            "bytes": size,
            "mb": round(size / 1e6, 2),
            "bytes_per_parameter": round(size / parameters, 3),
            "v3_mb": list(V3_MB[precision]),
        }
        for precision, size in ((name, path.stat().st_size) for name, path in files.items())
    ]


def require_proportion(files: Mapping[str, Path], parameters: int, max_kib_per_kparameter: float) -> None:
    """Refuse files that are far larger than their parameters: weights were left in float, or stored twice.

    The limit is given for one byte a weight; wider weights add their further bytes.

    Raises:
        ModelError: Files take more KiB for each thousand parameters than that; all of them are listed.
    """
    wrong = []
    for precision, path in files.items():
        limit = max_kib_per_kparameter + (BYTES_PER_WEIGHT[precision] - 1) * 1000 / 1024
        kib = path.stat().st_size / 1024
        if kib > limit * parameters / 1000:
            wrong.append(f"{path.name}: {kib:.0f} KiB for {parameters} parameters, over {limit:.3g} KiB a thousand")
    if wrong:
        raise ModelError(
            "; ".join(wrong),
            "look for float or repeated weights in the file; the limit is quantize.max_kib_per_kparameter",
        )


def float_operators(graph: Graph) -> list[str]:
    """Return the operators that read or write anything but integers, as KIND NAME."""
    return [
        f"{operator.kind} {output_name(graph, operator)}"
        for operator in graph.operators
        if any(
            graph.tensors[index].dtype not in INTEGERS for index in (*operator.inputs, *operator.outputs) if index >= 0
        )
    ]


def require_integer(graph: Graph, allowed: Collection[str] = (), kept: int = 0) -> None:
    """Refuse an INT8 file that computes in float, or holds operators that nobody expects.

    Args:
        graph: The INT8 file.
        allowed: Kinds of operators that may stand in it beside the known ones.
        kept: Layers that were left in float on purpose; with any, float operators are expected.

    Raises:
        ModelError: With the operators.
    """
    if graph.inputs and all(graph.tensors[index].dtype == "FLOAT32" for index in graph.inputs) and not kept:
        raise ModelError(
            f"{graph.file}: is a float32 file, its input is float32; an INT8 file was expected",
            "give the file that was quantized, int8.tflite",
        )
    found = float_operators(graph)
    if found and not kept:
        raise ModelError(
            f"{graph.file.name}: {len(found)} float operators: {some_of(found)}",
            "a full-integer file has none; look for an operator without an int8 kernel",
        )
    extra = {"DEQUANTIZE"} if kept else set()
    kinds = Counter(operator.kind for operator in graph.operators if operator.kind not in KNOWN_OPERATORS | extra)
    if surprising := [f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in allowed]:
        raise ModelError(
            f"{graph.file.name}: unexpected operators: {some_of(surprising)}",
            "if they are meant to be there, name them in quantize.operators of the variant's spec",
        )
