"""How near each layer of an INT8 file comes to the same layer of the float file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.compress.names import layer_names
from ethos.compress.ranges import Observer
from ethos.npu.graph import output_name
from ethos.npu.tflite import read_graph

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.npu.graph import Graph, Tensor

MOST_DB = 100.0  # where nothing differs
EIGHT_BITS_DB = 50.0  # what 8 bits hold of a full-scale signal: 6.02 x 8 + 1.76


@dataclass(frozen=True)
class Layer:
    """A layer's output in the INT8 file against the float file.

    Attributes:
        name: As the PyTorch network calls it, or as TFLite does.
        operator: Kind of operator.
        snr_db: Signal to noise: 10 log10 of the float values' power over that of the difference.
        lost_db: How much of it this layer itself lost, against the worst of its inputs or, where these are
            better, against what 8 bits can hold.
    """

    name: str
    operator: str
    snr_db: float
    lost_db: float


def compare_layers(float_file: Path, int8_file: Path, images: NDArray[np.float32], onnx_file: Path) -> list[Layer]:
    """Return the layers that both files hold, in the order in which they run.

    Args:
        float_file: The float32 TFLite file.
        int8_file: The INT8 file made from it.
        images: [n, h, w, 3] in 0..1.
        onnx_file: ONNX file of the same network, for the layers' names; without one they keep TFLite's.
    """
    exact, rounded = read_graph(float_file), read_graph(int8_file)
    pairs = _twins(exact, rounded)
    powers = _powers(float_file, exact, int8_file, rounded, images, pairs)
    snr = {index: _decibel(signal, noise) for index, (signal, noise) in powers.items()}
    names = layer_names(exact, onnx_file) if onnx_file.is_file() else {}
    layers = []
    for operator in rounded.operators:
        index = operator.outputs[0]
        before = min([EIGHT_BITS_DB, *(snr[place] for place in operator.inputs if place in snr)])
        if index not in snr:
            # a change of scale, which the float file has not: what it loses counts for the layer that reads it
            snr[index] = before
            continue
        name = output_name(rounded, operator)
        lost = round(max(before - snr[index], 0.0), 2)
        layers.append(Layer(names.get(name, name), operator.kind, round(snr[index], 2), lost))
    return layers


def _twins(exact: Graph, rounded: Graph) -> dict[int, int]:
    """Return the float tensor of each computed tensor of the INT8 file: they share a name."""
    known = {exact.tensors[index].name: index for operator in exact.operators for index in operator.outputs}
    computed = (rounded.tensors[index] for operator in rounded.operators for index in operator.outputs)
    pairs = {tensor.index: known[tensor.name] for tensor in computed if tensor.name in known}
    return pairs | dict(zip(rounded.inputs, exact.inputs, strict=True))


def _powers(
    float_file: Path,
    exact: Graph,
    int8_file: Path,
    rounded: Graph,
    images: NDArray[np.float32],
    pairs: dict[int, int],
) -> dict[int, NDArray[np.float64]]:
    """Return the power of the float values and of the difference, for each tensor of the INT8 file."""
    given = rounded.tensors[rounded.inputs[0]]
    integers = (np.round(images / np.float32(given.scale[0])) + given.zero_point[0]).clip(-128, 127).astype(np.int8)
    powers: dict[int, NDArray[np.float64]] = {index: np.zeros(2) for index in pairs}
    runs = zip(
        Observer(float_file.read_bytes(), exact).run(images),
        Observer(int8_file.read_bytes(), rounded).run(integers),
        strict=True,
    )
    for wanted, found in runs:
        for index, twin in pairs.items():
            if index in found and found[index].shape == wanted[twin].shape:
                difference = _real(found[index], rounded.tensors[index]) - wanted[twin]
                powers[index] += [np.square(wanted[twin], dtype=np.float64).sum(), np.square(difference).sum()]
    return {index: power for index, power in powers.items() if power[0] > 0}


def _real(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float64]:
    if not tensor.scale:
        return values.astype(np.float64)
    return (values.astype(np.float64) - tensor.zero_point[0]) * tensor.scale[0]


def _decibel(signal: float, noise: float) -> float:
    return min(10 * math.log10(signal / noise), MOST_DB) if noise > 0 else MOST_DB
