"""Names of layers: what a TFLite file calls by its converter's words, as the PyTorch network calls it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from ethos.errors import SpecError
from ethos.npu.graph import output_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ethos.npu.graph import Graph

WEIGHTS = ".weight"
# axes of ONNX weights [out, in, h, w] in the order of TFLite's, by kind of operator
WEIGHT_AXES = {"CONV_2D": (0, 2, 3, 1), "DEPTHWISE_CONV_2D": (1, 2, 3, 0)}


def layer_names(graph: Graph, onnx_file: Path) -> dict[str, str]:
    """Return how the PyTorch network calls each layer, such as model.9.cv1.conv, by its TFLite output's name.

    Convolutions are known by their weights, which conversion keeps to the last bit; other operators keep their TFLite
    names.

    Args:
        graph: A float32 TFLite file.
        onnx_file: The ONNX file of the same network, whose weights are named as in PyTorch.
    """
    known = {axes: _hashes(onnx_file, axes) for axes in WEIGHT_AXES.values()}
    names = {}
    for operator in graph.operators:
        name = output_name(graph, operator)
        names[name] = name
        if operator.kind in WEIGHT_AXES:
            weights = graph.tensors[operator.inputs[1]]
            found = known[WEIGHT_AXES[operator.kind]].get(_hash(weights.shape, bytes(weights.data)))
            names[name] = found.removesuffix(WEIGHTS) if found else name
    return names


def select_layers(names: Mapping[str, str], patterns: Sequence[str]) -> list[str]:
    """Return the TFLite names of the layers that match any of the patterns, in the order in which they run.

    Args:
        names: What `layer_names` gives.
        patterns: Names of layers, or shell patterns such as model.23.*; either side's names are understood.

    Raises:
        SpecError: A pattern matches none.
    """
    for pattern in patterns:
        if not any(_matches(pattern, *pair) for pair in names.items()):
            raise SpecError(
                f"quantize.keep_float: no layer is named '{pattern}'",
                "run `ethos quantize VARIANT --autopsy` for the names",
            )
    return [name for name, layer in names.items() if any(_matches(pattern, name, layer) for pattern in patterns)]


def _matches(pattern: str, *names: str) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)


def _hashes(onnx_file: Path, axes: tuple[int, ...]) -> dict[str, str]:
    import onnx
    from onnx import numpy_helper

    found = {}
    for tensor in onnx.load(onnx_file).graph.initializer:
        if len(tensor.dims) == len(axes):
            values = np.ascontiguousarray(numpy_helper.to_array(tensor).transpose(axes))
            found[_hash(values.shape, values.tobytes())] = tensor.name
    return found


def _hash(shape: tuple[int, ...], content: bytes) -> str:
    return sha256(repr(tuple(shape)).encode() + content).hexdigest()
