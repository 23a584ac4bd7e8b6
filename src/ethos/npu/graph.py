"""A network as a graph of operators over tensors: its MACs, its operator census and its fingerprint."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

NO_TENSOR = -1
INTEGER_TYPES = frozenset({"INT8", "UINT8", "INT16"})
NPU_OPERATOR = "ethos-u"


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor: `dtype` is TFLite's name (INT8), `data` a view of its constant bytes (empty if it is computed).

    `scale` and `zero_point` hold one value, one a channel, or none if the tensor is not quantized. `dynamic` says that
    the file leaves a dimension open.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    dynamic: bool
    data: memoryview = field(repr=False, compare=False)

    @property
    def constant(self) -> bool:
        """Whether the file holds the tensor's values."""
        return len(self.data) > 0

    @property
    def elements(self) -> int:
        """Number of values (1 for a scalar)."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Operator:
    """A step of the network: `kind` is TFLite's name (CONV_2D), or the custom code if `custom`.

    `inputs` and `outputs` are tensor indices, `NO_TENSOR` for an input left out.
    """

    index: int
    kind: str
    custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signature:
    """A named way to call the network: argument and result names to tensor indices."""

    key: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """One network, its operators in the order in which they run."""

    file: Path
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[Signature, ...]


def census(graph: Graph) -> dict[str, int]:
    """Return how often each kind of operator occurs, the most frequent first."""
    counts = Counter(operator.kind for operator in graph.operators)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def output_name(graph: Graph, operator: Operator) -> str:
    """Return the name of an operator's first output: TFLite operators have no name of their own."""
    return graph.tensors[operator.outputs[0]].name if operator.outputs else f"#{operator.index}"


# --- multiply-accumulates --------------------------------------------------------------------------------------------


def total_macs(graph: Graph) -> int:
    """Return the multiply-accumulates of one inference."""
    return sum(macs(graph, operator) for operator in graph.operators)


def macs(graph: Graph, operator: Operator) -> int:
    """Return the multiply-accumulates of one operator; 0 for kinds that have none.

    Every output value of a convolution or matrix product is a sum of products; MACs are their number, whatever the
    hardware skips. Layouts are TFLite's:

    - CONV_2D: output elements x kernel height x kernel width x input channels of the weights (a group's)
    - DEPTHWISE_CONV_2D: output elements x kernel height x kernel width
    - TRANSPOSE_CONV: input elements x kernel height x kernel width x output channels
    - FULLY_CONNECTED: output elements x columns of the weights
    - BATCH_MATMUL: output elements x length of the summed axis

    Raises:
        ModelError: The operator lacks an operand or one has the wrong rank.
    """
    formula = MAC_FORMULAS.get(operator.kind)
    return formula(graph, operator) if formula and not operator.custom else 0


def _conv(graph: Graph, operator: Operator) -> int:
    _, height, width, channels = _input(graph, operator, 1, rank=4).shape
    return _output(graph, operator).elements * height * width * channels


def _depthwise(graph: Graph, operator: Operator) -> int:
    _, height, width, _ = _input(graph, operator, 1, rank=4).shape
    return _output(graph, operator).elements * height * width


def _transpose_conv(graph: Graph, operator: Operator) -> int:
    channels, height, width, _ = _input(graph, operator, 1, rank=4).shape
    return _input(graph, operator, 2, rank=4).elements * height * width * channels


def _fully_connected(graph: Graph, operator: Operator) -> int:
    return _output(graph, operator).elements * _input(graph, operator, 1, rank=2).shape[1]


def _batch_matmul(graph: Graph, operator: Operator) -> int:
    summed_axis = -2 if operator.options.get("adjX") else -1
    return _output(graph, operator).elements * _input(graph, operator, 0, at_least=2).shape[summed_axis]


def _output(graph: Graph, operator: Operator) -> Tensor:
    if not operator.outputs:
        raise ModelError(f"{graph.file}: operator {operator.index} ({operator.kind}) has no output", "export it again")
    return graph.tensors[operator.outputs[0]]


def _input(graph: Graph, operator: Operator, place: int, *, rank: int = 0, at_least: int = 0) -> Tensor:
    """Return an operator's input, which must have the given rank."""
    label = f"{graph.file}: operator {operator.index} ({operator.kind})"
    if place >= len(operator.inputs) or operator.inputs[place] == NO_TENSOR:
        raise ModelError(f"{label} lacks input {place}", "export it again")
    tensor = graph.tensors[operator.inputs[place]]
    if (rank and len(tensor.shape) != rank) or len(tensor.shape) < at_least:
        raise ModelError(
            f"{label}: input {place} has shape {list(tensor.shape)}, not {rank or at_least} dimensions",
            "export it again",
        )
    return tensor


# --- identity --------------------------------------------------------------------------------------------------------


def fingerprint(graph: Graph) -> str:
    """Return the SHA-256 of the graph's structure: two networks that differ only in weights and names share it.

    It covers operator kinds and options, connectivity, shapes and types, and the integer constants that steer an
    operator (axes, paddings, permutations); not weights, scales or names.
    """
    identity = {index: place for place, index in enumerate(graph.inputs)}
    steps = []
    for operator in graph.operators:
        operands = [_operand(graph, index, identity) for index in operator.inputs]
        for index in operator.outputs:
            identity.setdefault(index, len(identity))
        results = [[identity[index], *_form(graph.tensors[index])] for index in operator.outputs]
        steps.append([operator.kind, operator.custom, dict(operator.options), operands, results])
    ends = [[_operand(graph, index, identity) for index in side] for side in (graph.inputs, graph.outputs)]
    return sha256_json([ends, steps])


def _operand(graph: Graph, index: int, identity: dict[int, int]) -> Any:
    """Return what an input is: a computed tensor's place in the graph, or a constant's form.

    Constants have no place: a converter stores equal ones once, and which are equal depends on the weights.
    """
    if index == NO_TENSOR:
        return None
    tensor = graph.tensors[index]
    if not tensor.constant:
        return [identity.setdefault(index, len(identity)), *_form(tensor)]
    steers = tensor.dtype in STEERING_TYPES and not tensor.scale
    return ["constant", *_form(tensor), tensor.data.hex() if steers else None]


def _form(tensor: Tensor) -> tuple[tuple[int, ...], str]:
    return tensor.shape, tensor.dtype


# biases are INT32 as well, but quantized; what has no scale is an axis, a size, a padding
STEERING_TYPES = frozenset({"INT32", "INT64", "BOOL"})
MAC_FORMULAS: dict[str, Callable[[Graph, Operator], int]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
}
