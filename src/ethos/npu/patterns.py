"""Shapes in a network that cost an NPU dearly: decoding, attention, channel slices, SiLU, odd channel counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ethos.npu.graph import NO_TENSOR, Graph, Operator, Tensor, macs
from ethos.npu.regions import feeds
from ethos.npu.values import int_values

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})
PRODUCTS = frozenset({"FULLY_CONNECTED", "BATCH_MATMUL"})
ACTIVATIONS = frozenset({"LEAKY_RELU", "RELU", "RELU6", "RELU_N1_TO_1", "PRELU"})
SQUASHES = frozenset({"SOFTMAX", "LOGISTIC"})
ARITHMETIC = frozenset({"ADD", "SUB", "MUL", "DIV"})
# the expectation over a box side's bins is a convolution with as many constants as bins; trained ones have more
MAX_FIXED_WEIGHTS = 64
MIN_DECODED_TENSORS = 2
# how many convolutions before and behind an attention are tried as its ends
MAX_PROJECTIONS = 8
CHANNEL_MULTIPLE = 16
NHWC = 4
CHANNEL = NHWC - 1


@dataclass(frozen=True, slots=True)
class Decode:
    """A detector's decoding inside the network: its operators, and the tensors that the trained part hands to it."""

    operators: tuple[int, ...]
    raw: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attention:
    """A product of computed maps with all that belongs to it, between two tensors: `start` and `end`."""

    operators: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class SlicedConvolution:
    """A convolution of which every use takes a range of channels: `parts` are (slice's result, begin, end)."""

    convolution: int
    activation: int | None
    slices: tuple[int, ...]
    parts: tuple[tuple[int, int, int], ...]

    @property
    def operators(self) -> tuple[int, ...]:
        """The slicing operators."""
        return self.slices


@dataclass(frozen=True, slots=True)
class Silu:
    """x * sigmoid(x) as two operators."""

    operators: tuple[int, int]
    source: int
    result: int


class Wiring:
    """Who makes and who takes each tensor of a network."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.before = feeds(graph)
        self.after: list[set[int]] = [set() for _ in graph.operators]
        for index, feeders in enumerate(self.before):
            for feeder in feeders:
                self.after[feeder].add(index)
        self.outputs = frozenset(graph.outputs)
        self.maker = {tensor: operator.index for operator in graph.operators for tensor in operator.outputs}
        self.takers: dict[int, list[Operator]] = {}
        for operator in graph.operators:
            for tensor in dict.fromkeys(operator.inputs):
                self.takers.setdefault(tensor, []).append(operator)

    def tensor(self, index: int) -> Tensor:
        """Return a tensor."""
        return self.graph.tensors[index]

    def taken_by(self, tensor: int) -> list[Operator]:
        """Return the operators that take a tensor; none for an output of the network, which others need too."""
        return [] if tensor in self.outputs else self.takers.get(tensor, [])

    @cached_property
    def dominators(self) -> list[int]:
        """For each operator, as bits, the operators that every way from the inputs to it passes, itself included."""
        return _dominators(self.before, range(len(self.before)))

    @cached_property
    def followers(self) -> list[int]:
        """For each operator, as bits, the operators that every way from it to the outputs passes, itself included."""
        ends = [
            after if not self.outputs.intersection(operator.outputs) else set()
            for after, operator in zip(self.after, self.graph.operators, strict=True)
        ]
        return _dominators(ends, range(len(self.before) - 1, -1, -1))


def find_decode(wiring: Wiring) -> Decode | None:
    """Return the decoding at the end of a detector, if there is one.

    It is what no trained convolution follows, where it squashes and calculates with constants on what several
    convolutions give.
    """
    graph = wiring.graph
    tail: set[int] = set()
    for operator in reversed(graph.operators):
        if not _trained(graph, operator) and wiring.after[operator.index] <= tail:
            tail.add(operator.index)
    squashes = any(graph.operators[index].kind in SQUASHES for index in tail)
    # anchors, strides and box arithmetic are constants; a residual addition has none
    calculates = any(_with_constant(graph, graph.operators[index]) for index in tail)
    raw = {tensor for index in tail for tensor in graph.operators[index].inputs if wiring.maker.get(tensor, -1) >= 0}
    handed = sorted(tensor for tensor in raw if wiring.maker[tensor] not in tail)
    if not squashes or not calculates or len(handed) < MIN_DECODED_TENSORS:
        return None
    return Decode(tuple(sorted(tail)), tuple(handed))


def find_attention(wiring: Wiring) -> list[Attention]:
    """Return the attention blocks: a softmax between products of computed maps, with its projections."""
    found: list[Attention] = []
    for operator in wiring.graph.operators:
        if operator.kind != "SOFTMAX" or any(operator.index in block.operators for block in found):
            continue
        before = _nearest_products(wiring, operator.index, wiring.before)
        after = _nearest_products(wiring, operator.index, wiring.after)
        if before and after and (block := _enclosing(wiring, {operator.index, *before, *after})):
            found.append(block)
    return found


def find_slices(wiring: Wiring) -> list[SlicedConvolution]:
    """Return the convolutions whose result is only ever taken in ranges of channels."""
    found = []
    for operator in wiring.graph.operators:
        if operator.kind != "CONV_2D" or not _trained(wiring.graph, operator):
            continue
        activation, tensor = None, operator.outputs[0]
        takers = wiring.taken_by(tensor)
        if len(takers) == 1 and takers[0].kind in ACTIVATIONS and takers[0].outputs:
            activation, tensor = takers[0].index, takers[0].outputs[0]
            takers = wiring.taken_by(tensor)
        ranges = [_ranges(wiring, taker, tensor) for taker in takers]
        if ranges and all(ranges):
            slices = tuple(taker.index for taker in takers)
            parts = tuple(part for taken in ranges for part in taken)
            found.append(SlicedConvolution(operator.index, activation, slices, parts))
    return found


def find_silu(wiring: Wiring) -> list[Silu]:
    """Return each x * sigmoid(x)."""
    found = []
    for operator in wiring.graph.operators:
        if operator.kind != "LOGISTIC" or not operator.inputs or len(operator.outputs) != 1:
            continue
        takers = wiring.taken_by(operator.outputs[0])
        if len(takers) != 1 or takers[0].kind != "MUL" or not takers[0].outputs:
            continue
        if operator.inputs[0] in takers[0].inputs:
            found.append(Silu((operator.index, takers[0].index), operator.inputs[0], takers[0].outputs[0]))
    return found


def find_odd_channels(wiring: Wiring) -> list[int]:
    """Return the trained convolutions inside the network that give a number of channels which fills no block of 16.

    What the network hands out, or hands to its decoding, has as many channels as the task needs.
    """
    decode = find_decode(wiring)
    handed = {*wiring.graph.outputs, *(decode.raw if decode else ())}
    return [
        operator.index
        for operator in wiring.graph.operators
        if _trained(wiring.graph, operator)
        and operator.kind in CONVOLUTIONS
        and operator.outputs[0] not in handed
        and _channels(wiring.tensor(operator.outputs[0])) % CHANNEL_MULTIPLE
    ]


def find_per_tensor_weights(wiring: Wiring) -> list[int]:
    """Return the convolutions whose weights share one scale over several output channels."""
    return [
        operator.index
        for operator in wiring.graph.operators
        if operator.kind == "CONV_2D"
        and _trained(wiring.graph, operator)
        and len(wiring.tensor(operator.inputs[1]).scale) == 1
        and wiring.tensor(operator.inputs[1]).shape[0] > 1
    ]


# --- parts -----------------------------------------------------------------------------------------------------------


def _trained(graph: Graph, operator: Operator) -> bool:
    """Whether an operator multiplies with weights that were trained, or with another computed map."""
    if not macs(graph, operator) or len(operator.inputs) < 2 or operator.inputs[1] == NO_TENSOR:
        return False
    weights = graph.tensors[operator.inputs[1]]
    return not weights.constant or weights.elements > MAX_FIXED_WEIGHTS


def _with_constant(graph: Graph, operator: Operator) -> bool:
    taken = (graph.tensors[index] for index in operator.inputs if index != NO_TENSOR)
    return operator.kind in ARITHMETIC and any(tensor.constant for tensor in taken)


def _computed_product(graph: Graph, operator: Operator) -> bool:
    taken = [graph.tensors[index] for index in operator.inputs[:2] if index != NO_TENSOR]
    return operator.kind in PRODUCTS and len(taken) == 2 and not any(tensor.constant for tensor in taken)


def _nearest_products(wiring: Wiring, start: int, ways: list[set[int]]) -> set[int]:
    """Return the products of computed maps that are reached from an operator with no other product between."""
    found: set[int] = set()
    seen, waiting = {start}, [start]
    while waiting:
        for index in ways[waiting.pop()] - seen:
            seen.add(index)
            operator = wiring.graph.operators[index]
            if _computed_product(wiring.graph, operator):
                found.add(index)
            elif not macs(wiring.graph, operator):
                waiting.append(index)
    return found


def _enclosing(wiring: Wiring, core: set[int]) -> Attention | None:
    """Return the smallest part around `core` that one map enters, by a convolution, and that a convolution ends."""
    graph = wiring.graph
    starts = _bits(_all(wiring.dominators, core), below=min(core))
    ends = _bits(_all(wiring.followers, core), above=max(core))
    firsts = [index for index in sorted(starts, reverse=True) if _projection(graph, index)][:MAX_PROJECTIONS]
    for last in [index for index in sorted(ends) if _projection(graph, index)][:MAX_PROJECTIONS]:
        for first in firsts:
            inside = _between(wiring, first, last)
            leaks = any(wiring.after[i] - inside for i in inside - {last})
            enters = any(wiring.before[i] - inside for i in inside - {first})
            if not leaks and not enters:
                one, other = graph.operators[first], graph.operators[last]
                return Attention(tuple(sorted(inside)), one.inputs[0], other.outputs[0])
    return None


def _projection(graph: Graph, index: int) -> bool:
    operator = graph.operators[index]
    return _trained(graph, operator) and operator.kind == "CONV_2D" and _is_map(graph, operator.outputs[0])


def _is_map(graph: Graph, tensor: int) -> bool:
    return len(graph.tensors[tensor].shape) == NHWC


def _channels(tensor: Tensor) -> int:
    return tensor.shape[-1] if tensor.shape else 0


def _between(wiring: Wiring, first: int, last: int) -> set[int]:
    """Return the operators on the ways from one operator to another, both included."""
    return _reached(wiring.after, first) & _reached(wiring.before, last)


def _reached(ways: list[set[int]], start: int) -> set[int]:
    seen, waiting = {start}, [start]
    while waiting:
        new = ways[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def _dominators(before: list[set[int]], order: Iterable[int]) -> list[int]:
    found = [0] * len(before)
    for index in order:
        shared = _all(found, before[index]) if before[index] else 0
        found[index] = shared | 1 << index
    return found


def _all(sets: list[int], members: Iterable[int]) -> int:
    shared = -1
    for member in members:
        shared &= sets[member]
    return shared


def _bits(bits: int, *, above: int = -1, below: int | None = None) -> Iterator[int]:
    end = bits.bit_length() if below is None else below
    return (index for index in range(above + 1, end) if bits >> index & 1)


def _ranges(wiring: Wiring, taker: Operator, tensor: int) -> list[tuple[int, int, int]]:
    """Return the ranges of channels that an operator takes from a map and nothing else: (result, begin, end)."""
    if not _is_map(wiring.graph, tensor) or not _channels(wiring.tensor(tensor)) or not taker.outputs:
        return []
    if taker.kind == "STRIDED_SLICE":
        return _strided(wiring, taker, tensor)
    if taker.kind != "SPLIT" or len(taker.inputs) != 2 or taker.inputs[1] != tensor or taker.inputs[0] == NO_TENSOR:
        return []
    axis = (*int_values(wiring.tensor(taker.inputs[0])), -NHWC)[0] % NHWC
    width = _channels(wiring.tensor(tensor)) // len(taker.outputs)
    if axis != CHANNEL or not width:
        return []
    return [(result, place * width, (place + 1) * width) for place, result in enumerate(taker.outputs)]


def _strided(wiring: Wiring, taker: Operator, tensor: int) -> list[tuple[int, int, int]]:
    if len(taker.inputs) != NHWC or taker.inputs[0] != tensor or NO_TENSOR in taker.inputs:
        return []
    source, result = wiring.tensor(tensor), wiring.tensor(taker.outputs[0])
    starts, _, steps = (int_values(wiring.tensor(index)) for index in taker.inputs[1:])
    if source.shape[:CHANNEL] != result.shape[:CHANNEL] or len(starts) != NHWC or set(steps) != {1}:
        return []
    open_start = int(taker.options.get("beginMask") or 0) >> CHANNEL & 1
    begin = 0 if open_start else starts[CHANNEL] % source.shape[CHANNEL]
    end = begin + result.shape[CHANNEL]
    return [(result.index, begin, end)] if end <= source.shape[CHANNEL] else []
