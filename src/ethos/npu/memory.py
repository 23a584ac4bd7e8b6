"""How much memory a network's maps take while it runs, from the network alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.npu.graph import NO_TENSOR, Graph, Operator, Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

BITS = {
    **dict.fromkeys(("INT4", "UINT4"), 4),
    **dict.fromkeys(("INT8", "UINT8", "BOOL"), 8),
    **dict.fromkeys(("INT16", "UINT16", "FLOAT16", "BFLOAT16"), 16),
    **dict.fromkeys(("INT32", "UINT32", "FLOAT32"), 32),
    **dict.fromkeys(("INT64", "UINT64", "FLOAT64", "COMPLEX64"), 64),
    "COMPLEX128": 128,
}
BYTE = 8


def tensor_bytes(tensor: Tensor) -> int:
    """Return the bytes that a tensor's values take; types of unknown width count a byte each."""
    return -(-tensor.elements * BITS.get(tensor.dtype, BYTE) // BYTE)


def operator_bytes(graph: Graph, operator: Operator) -> int:
    """Return the bytes of all that an operator takes and gives, constants included."""
    touched = {index for index in (*operator.inputs, *operator.outputs) if index != NO_TENSOR}
    return sum(tensor_bytes(graph.tensors[index]) for index in touched)


def live_bytes(graph: Graph) -> list[int]:
    """Return for each operator the bytes of the computed tensors that exist while it runs.

    A tensor lives from the operator that makes it (an input of the network from the start) to the last that takes it
    (an output of the network to the end). No schedule that keeps whole maps and this order needs less.
    """
    first = dict.fromkeys(graph.inputs, 0)
    last = dict.fromkeys(graph.outputs, len(graph.operators) - 1)
    for operator in graph.operators:
        for index in operator.outputs:
            first.setdefault(index, operator.index)
        for index in _computed(graph, operator):
            last[index] = max(last.get(index, 0), operator.index)
    changes = [0] * (len(graph.operators) + 1)
    for index, start in first.items():
        size = tensor_bytes(graph.tensors[index])
        end = max(start, last.get(index, start))
        if graph.operators:
            changes[start] += size
            changes[end + 1] -= size
    return _running(changes[:-1])


def _computed(graph: Graph, operator: Operator) -> Iterable[int]:
    both = (*operator.inputs, *operator.outputs)
    return (index for index in both if index != NO_TENSOR and not graph.tensors[index].constant)


def _running(changes: list[int]) -> list[int]:
    total, sums = 0, []
    for change in changes:
        total += change
        sums.append(total)
    return sums
