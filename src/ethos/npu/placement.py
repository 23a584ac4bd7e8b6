"""Where the operators of a network run: NPU regions, what crosses between them and the CPU, what stays behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.npu.graph import NPU_OPERATOR, Graph, Operator, macs, output_name, total_macs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

UNKNOWN_REASON = "the compiler gave no reason"


@dataclass(frozen=True, slots=True)
class Fallback:
    """An operator that runs on the CPU; `name` is that of its output."""

    operator: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Placement:
    """How a network is divided.

    A region is a part that runs on the NPU in one go. Crossings count the tensors handed over, each once a direction.
    Coverage is a share of 0 to 1.
    """

    operators_npu: int
    operators_cpu: int
    operator_coverage: float
    mac_coverage: float
    macs: int
    macs_npu: int
    regions: int
    regions_with_macs: int
    crossings_npu_cpu: int
    crossings_cpu_npu: int
    fallbacks: tuple[Fallback, ...]


def place_compiled(graph: Graph, compiled: Graph, reasons: Mapping[str, str]) -> Placement:
    """Compare a network with what the Ethos-U compiler made of it.

    Each region has become one custom operator; every other operator of the compiled file runs on the CPU.

    Args:
        graph: The network as given.
        compiled: The compiled file's graph.
        reasons: Why the compiler refused an operator, by its output's name.
    """
    regions = [operator for operator in compiled.operators if is_region(operator)]
    on_cpu = [operator for operator in compiled.operators if not is_region(operator)]
    fallbacks = tuple(_fallback(compiled, operator, reasons) for operator in on_cpu)
    everything = total_macs(graph)
    macs_npu = everything - sum(macs(compiled, operator) for operator in on_cpu)
    left_behind = {each.name for each in fallbacks}
    operators_npu = sum(output_name(graph, operator) not in left_behind for operator in graph.operators)
    npu_cpu, cpu_npu = crossings(compiled, is_region)
    return Placement(
        operators_npu=operators_npu,
        operators_cpu=len(on_cpu),
        operator_coverage=_share(operators_npu, operators_npu + len(on_cpu)),
        mac_coverage=_share(macs_npu, everything),
        macs=everything,
        macs_npu=macs_npu,
        regions=len(regions),
        regions_with_macs=sum(_has_macs(graph, compiled, region, left_behind) for region in regions),
        crossings_npu_cpu=npu_cpu,
        crossings_cpu_npu=cpu_npu,
        fallbacks=fallbacks,
    )


def is_region(operator: Operator) -> bool:
    """Whether an operator of a compiled file stands for a part that runs on the NPU."""
    return operator.custom and operator.kind == NPU_OPERATOR


def crossings(graph: Graph, on_npu: Callable[[Operator], bool]) -> tuple[int, int]:
    """Return how many computed tensors go from NPU to CPU operators, and how many from CPU to NPU operators."""
    made_on_npu = {index: on_npu(operator) for operator in graph.operators for index in operator.outputs}
    crossing = {
        (index, made_on_npu[index])
        for operator in graph.operators
        for index in operator.inputs
        if index in made_on_npu and made_on_npu[index] != on_npu(operator)
    }
    from_npu = sum(on_npu_side for _, on_npu_side in crossing)
    return from_npu, len(crossing) - from_npu


def _fallback(compiled: Graph, operator: Operator, reasons: Mapping[str, str]) -> Fallback:
    name = output_name(compiled, operator)
    return Fallback(operator=operator.kind, name=name, reason=reasons.get(name, UNKNOWN_REASON))


def _has_macs(graph: Graph, compiled: Graph, region: Operator, left_behind: Collection[str]) -> bool:
    """Whether a region multiplies: walk the given network back from the region's results, up to its inputs.

    The compiler keeps the names of tensors that enter and leave a region.
    """
    producers = {graph.tensors[i].name: operator for operator in graph.operators for i in operator.outputs}
    seen = {compiled.tensors[index].name for index in region.inputs if index >= 0} | set(left_behind)
    waiting = [compiled.tensors[index].name for index in region.outputs]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in producers:
            continue
        seen.add(name)
        operator = producers[name]
        if macs(graph, operator):
            return True
        waiting += [graph.tensors[index].name for index in operator.inputs if index >= 0]
    return False


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0
