"""Where the operators of a network run: NPU regions, what crosses between them and the CPU, what stays behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.npu.graph import NPU_OPERATOR, Graph, Operator, macs, output_name, total_macs
from ethos.npu.memory import operator_bytes, tensor_bytes
from ethos.npu.regions import merge_regions

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

    A region is a part that runs on the NPU in one go. Crossings count the tensors handed over, each once a direction,
    and their bytes. Coverage is a share of 0 to 1: of the operators, of their MACs, and of the bytes that they take and
    give. `region_of` holds the region of each operator of the given network that runs on the NPU, where it is known.
    """

    operators_npu: int
    operators_cpu: int
    operator_coverage: float
    mac_coverage: float
    byte_coverage: float
    macs: int
    macs_npu: int
    regions: int
    regions_with_macs: int
    crossings_npu_cpu: int
    crossings_cpu_npu: int
    bytes_npu_cpu: int
    bytes_cpu_npu: int
    fallbacks: tuple[Fallback, ...]
    on_npu: frozenset[int]
    region_of: Mapping[int, int]


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
    left_behind = {each.name for each in fallbacks}
    # an operator that the compiler writes anew on the CPU, under a new name, counts as one more
    on_npu = frozenset(o.index for o in graph.operators if output_name(graph, o) not in left_behind)
    macs_npu = total_macs(graph) - sum(macs(compiled, operator) for operator in on_cpu)
    return _placement(
        graph,
        on_npu=on_npu,
        operators_cpu=len(on_cpu),
        macs_npu=macs_npu,
        regions=len(regions),
        regions_with_macs=sum(_has_macs(graph, compiled, region, left_behind) for region in regions),
        crossing=crossings(compiled, is_region),
        fallbacks=fallbacks,
        region_of={},
    )


def place_ruled(graph: Graph, refusals: Mapping[int, str]) -> Placement:
    """Divide a network by what an NPU refuses.

    Args:
        graph: The network.
        refusals: Why an operator is refused, by its index; all others run on the NPU.

    Raises:
        ModelError: The operators do not stand in running order.
    """
    on_npu = frozenset(operator.index for operator in graph.operators if operator.index not in refusals)
    regions = merge_regions(graph, on_npu)
    multiplying = {operator.index for operator in graph.operators if macs(graph, operator)}
    return _placement(
        graph,
        on_npu=on_npu,
        operators_cpu=len(refusals),
        macs_npu=sum(macs(graph, graph.operators[index]) for index in on_npu),
        regions=len(regions),
        regions_with_macs=sum(not multiplying.isdisjoint(region) for region in regions),
        crossing=crossings(graph, lambda operator: operator.index in on_npu),
        fallbacks=tuple(
            Fallback(operator.kind, output_name(graph, operator), refusals[operator.index])
            for operator in graph.operators
            if operator.index in refusals
        ),
        region_of={index: place for place, region in enumerate(regions) for index in region},
    )


def _placement(
    graph: Graph,
    *,
    on_npu: frozenset[int],
    operators_cpu: int,
    macs_npu: int,
    regions: int,
    regions_with_macs: int,
    crossing: Crossings,
    fallbacks: tuple[Fallback, ...],
    region_of: Mapping[int, int],
) -> Placement:
    everything = total_macs(graph)
    sizes = {operator.index: operator_bytes(graph, operator) for operator in graph.operators}
    return Placement(
        operators_npu=len(on_npu),
        operators_cpu=operators_cpu,
        operator_coverage=_share(len(on_npu), len(on_npu) + operators_cpu),
        mac_coverage=_share(macs_npu, everything),
        byte_coverage=_share(sum(sizes[index] for index in on_npu), sum(sizes.values())),
        macs=everything,
        macs_npu=macs_npu,
        regions=regions,
        regions_with_macs=regions_with_macs,
        crossings_npu_cpu=crossing.npu_cpu,
        crossings_cpu_npu=crossing.cpu_npu,
        bytes_npu_cpu=crossing.bytes_npu_cpu,
        bytes_cpu_npu=crossing.bytes_cpu_npu,
        fallbacks=fallbacks,
        on_npu=on_npu,
        region_of=region_of,
    )


def is_region(operator: Operator) -> bool:
    """Whether an operator of a compiled file stands for a part that runs on the NPU."""
    return operator.custom and operator.kind == NPU_OPERATOR


@dataclass(frozen=True, slots=True)
class Crossings:
    """Computed tensors that pass between NPU and CPU operators, in each direction, and their bytes."""

    npu_cpu: int
    cpu_npu: int
    bytes_npu_cpu: int
    bytes_cpu_npu: int


def crossings(graph: Graph, on_npu: Callable[[Operator], bool]) -> Crossings:
    """Return what passes between NPU and CPU operators; inputs and outputs of the network do not count."""
    made_on_npu = {index: on_npu(operator) for operator in graph.operators for index in operator.outputs}
    crossing = {
        (index, made_on_npu[index])
        for operator in graph.operators
        for index in operator.inputs
        if index in made_on_npu and made_on_npu[index] != on_npu(operator)
    }
    sizes: dict[bool, list[int]] = {True: [], False: []}
    for index, from_npu in crossing:
        sizes[from_npu].append(tensor_bytes(graph.tensors[index]))
    return Crossings(len(sizes[True]), len(sizes[False]), sum(sizes[True]), sum(sizes[False]))


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
