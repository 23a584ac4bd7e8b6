"""Another input size for a network of convolutions, to see what a smaller picture would cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ethos.npu.edit import SAME_PADDING, Edited
from ethos.npu.patterns import CHANNEL, NHWC
from ethos.npu.values import int_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.npu.graph import Graph, Operator

Shape = tuple[int, ...]


class _UnknownShapeError(ValueError):
    """An operator's result does not follow from its input's height and width alone."""


def resize_input(edited: Edited, graph: Graph, factor: float) -> bool:
    """Scale the height and width of the network's one picture; return whether every operator's shape follows.

    Operators that reshape, transpose or hold constants of a map's size stop it: cut the decoding first.
    """
    if len(graph.inputs) != 1 or len(graph.tensors[graph.inputs[0]].shape) != NHWC:
        return False
    batch, height, width, channels = graph.tensors[graph.inputs[0]].shape
    shapes: dict[int, Shape] = {graph.inputs[0]: (batch, round(height * factor), round(width * factor), channels)}
    try:
        for operator in graph.operators:
            _infer(edited, graph, operator, shapes)
    except _UnknownShapeError:
        return False
    for index, shape in shapes.items():
        edited.subgraph.tensors[index].shape = np.array(shape, np.int32)
        edited.subgraph.tensors[index].shapeSignature = None
    return True


def _infer(edited: Edited, graph: Graph, operator: Operator, shapes: dict[int, Shape]) -> None:
    if operator.kind not in SHAPES or any(len(graph.tensors[index].shape) != NHWC for index in operator.outputs):
        raise _UnknownShapeError(operator.kind)
    found = SHAPES[operator.kind](graph, operator, shapes)
    shapes |= dict.fromkeys(operator.outputs, found)
    if operator.kind == "RESIZE_NEAREST_NEIGHBOR":
        size = edited.add_constant(f"size_{operator.index}", np.array(found[1:CHANNEL], np.int32), None)
        edited.subgraph.operators[operator.index].inputs = [operator.inputs[0], size]


def _source(operator: Operator, shapes: dict[int, Shape]) -> Shape:
    for index in operator.inputs:
        if index in shapes:
            return shapes[index]
    raise _UnknownShapeError(operator.kind)


def _same(graph: Graph, operator: Operator, shapes: dict[int, Shape]) -> Shape:
    """Every computed operand has one shape, and constants spread over it."""
    taken = {shapes[index] for index in operator.inputs if index in shapes}
    wide = [graph.tensors[i] for i in operator.inputs if i >= 0 and graph.tensors[i].constant]
    if len(taken) != 1 or any(tensor.elements > graph.tensors[operator.outputs[0]].shape[CHANNEL] for tensor in wide):
        raise _UnknownShapeError(operator.kind)
    return taken.pop()


def _windowed(graph: Graph, operator: Operator, shapes: dict[int, Shape]) -> Shape:
    batch, height, width, _ = _source(operator, shapes)
    options = operator.options
    window: Shape = (options.get("filterHeight") or 1, options.get("filterWidth") or 1)
    if operator.kind in WEIGHTED:
        window = graph.tensors[operator.inputs[1]].shape[1:CHANNEL]
    same = options.get("padding") == SAME_PADDING
    sizes = [
        -(-size // step) if same else (size - side) // step + 1
        for size, side, step in zip(
            (height, width), window, (options.get("strideH") or 1, options.get("strideW") or 1), strict=True
        )
    ]
    if min(sizes) < 1:
        raise _UnknownShapeError(operator.kind)
    return batch, sizes[0], sizes[1], graph.tensors[operator.outputs[0]].shape[CHANNEL]


def _padded(graph: Graph, operator: Operator, shapes: dict[int, Shape]) -> Shape:
    amounts = int_values(graph.tensors[operator.inputs[1]])
    source = _source(operator, shapes)
    if len(amounts) != 2 * NHWC:
        raise _UnknownShapeError(operator.kind)
    return tuple(size + sum(amounts[2 * place : 2 * place + 2]) for place, size in enumerate(source))


def _joined(_graph: Graph, operator: Operator, shapes: dict[int, Shape]) -> Shape:
    axis = int(operator.options.get("axis") or 0) % NHWC
    if any(index not in shapes for index in operator.inputs):
        raise _UnknownShapeError(operator.kind)
    parts = [shapes[index] for index in operator.inputs]
    rest = {(*part[:axis], *part[axis + 1 :]) for part in parts}
    if len(rest) != 1:
        raise _UnknownShapeError(operator.kind)
    return (*parts[0][:axis], sum(part[axis] for part in parts), *parts[0][axis + 1 :])


def _enlarged(graph: Graph, operator: Operator, shapes: dict[int, Shape]) -> Shape:
    old, new = graph.tensors[operator.inputs[0]].shape, graph.tensors[operator.outputs[0]].shape
    batch, height, width, channels = _source(operator, shapes)
    return batch, height * new[1] // old[1], width * new[2] // old[2], channels


WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
SHAPES: dict[str, Callable[[Graph, Operator, dict[int, Shape]], Shape]] = {
    **dict.fromkeys(("ADD", "MUL", "SUB", "LEAKY_RELU", "RELU", "RELU6", "LOGISTIC", "QUANTIZE", "HARD_SWISH"), _same),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D"), _windowed),
    "CONCATENATION": _joined,
    "PAD": _padded,
    "RESIZE_NEAREST_NEIGHBOR": _enlarged,
}
