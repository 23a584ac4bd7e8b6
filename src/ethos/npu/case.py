"""An operator as the rules of an Ethos-N78 see it: its operands, sizes and scales on a chip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.npu.graph import NO_TENSOR, Graph, Operator, Tensor
from ethos.npu.values import float_values, int_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.npu.n78 import Chip, Quantization

BATCH, HEIGHT, WIDTH, CHANNEL = range(4)
SCALE_TOLERANCE = 1e-4

Verdict = tuple[bool, str]


class MissingError(LookupError):
    """An operand that a rule needs is not there."""


@dataclass(frozen=True)
class Case:
    """An operator of a network on a chip."""

    graph: Graph
    operator: Operator
    chip: Chip
    consumers: Mapping[int, tuple[Operator, ...]]

    def input(self, place: int) -> Tensor:
        """Return an operand."""
        if place >= len(self.operator.inputs) or self.operator.inputs[place] == NO_TENSOR:
            raise MissingError(f"operand {place} is missing")
        return self.graph.tensors[self.operator.inputs[place]]

    @property
    def inputs(self) -> list[Tensor]:
        """All operands that are there."""
        return [self.graph.tensors[index] for index in self.operator.inputs if index != NO_TENSOR]

    @property
    def variables(self) -> list[Tensor]:
        """The operands that are computed."""
        return [tensor for tensor in self.inputs if not tensor.constant]

    @property
    def variable(self) -> Tensor:
        """The first computed operand."""
        if not self.variables:
            raise MissingError("it has no computed operand")
        return self.variables[0]

    @property
    def outputs(self) -> list[Tensor]:
        """All results."""
        return [self.graph.tensors[index] for index in self.operator.outputs]

    @property
    def output(self) -> Tensor:
        """The first result."""
        if not self.operator.outputs:
            raise MissingError("it has no result")
        return self.graph.tensors[self.operator.outputs[0]]

    def option(self, name: str) -> int:
        """Return a whole-number option, 0 if it is absent."""
        return int(self.operator.options.get(name) or 0)


def nhwc(tensor: Tensor) -> tuple[int, int, int, int]:
    """Return a shape with four dimensions: the driver fills lower ranks up with ones at the end."""
    shape = (*tensor.shape, 1, 1, 1, 1)[: max(4, len(tensor.shape))]
    return shape[0], shape[1], shape[2], shape[3]


def bytes_in_bricks(tensor: Tensor, brick: tuple[int, int, int, int]) -> int:
    """Return the bytes that a map takes where it is stored in whole bricks."""
    return math.prod(math.ceil(size / side) * side for size, side in zip(nhwc(tensor), brick, strict=True))


def kernel(case: Case) -> tuple[int, int]:
    """Return height and width of a convolution's kernel."""
    shape = nhwc(case.input(1))
    return shape[HEIGHT], shape[WIDTH]


def window(case: Case) -> tuple[int, int]:
    """Return height and width of what a pooling covers."""
    return case.option("filterHeight"), case.option("filterWidth")


def axis_of(case: Case) -> int:
    """Return the axis of a concatenation or split as a place in NHWC."""
    if case.operator.kind == "SPLIT":
        axis, dimensions = (*int_values(case.input(0)), 0)[0], len(case.input(1).shape)
    else:
        axis, dimensions = case.option("axis"), len(case.output.shape)
    return axis + dimensions if axis < 0 else axis


def both(height: int, width: int, *, odd: bool) -> bool:
    """Whether both sizes are odd, or both even."""
    return height % 2 == width % 2 == int(odd)


def same_shape(case: Case) -> Verdict:
    """Whether the two computed operands have one shape."""
    shapes = [list(tensor.shape) for tensor in case.variables]
    return shapes[0] == shapes[1], f"{shapes[0]} and {shapes[1]}"


def constant_of(case: Case) -> Tensor:
    """Return the constant operand."""
    for tensor in case.inputs:
        if tensor.constant:
            return tensor
    raise MissingError("it has one operand")


def is_a_channel(constant: Tensor, source: Tensor) -> bool:
    """Whether a constant holds one value for each channel of a map."""
    return constant.elements == nhwc(source)[CHANNEL] == (constant.shape or (0,))[-1] and len(source.shape) == 4


def scale_of(tensor: Tensor) -> float:
    """Return the scale of a computed tensor; without one no rule about scales can hold."""
    if len(tensor.scale) != 1 or not tensor.scale[0] > 0:
        raise MissingError(f"'{tensor.name}' has no scale")
    return tensor.scale[0]


def real_value(tensor: Tensor) -> float:
    """Return the value of a constant scalar."""
    values = float_values(tensor)
    if not values:
        raise MissingError(f"'{tensor.name}' has no value that can be read")
    return values[0]


def is_quantized(tensor: Tensor, wanted: Quantization) -> Verdict:
    """Whether a tensor has the one quantization that is wanted."""
    fine = math.isclose(scale_of(tensor), wanted.scale, rel_tol=SCALE_TOLERANCE)
    zero = tensor.zero_point[0] if tensor.zero_point else None
    return fine and zero == wanted.zero_point.get(tensor.dtype), f"scale {tensor.scale[0]:g}, zero point {zero}"


def shown(pair: tuple[int, ...]) -> str:
    """Return sizes as 3x3."""
    return "x".join(map(str, pair))
