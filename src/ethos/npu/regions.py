"""Regions of a network that run on an NPU in one go, formed from operators that each can run there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Collection

    from ethos.npu.graph import Graph


def merge_regions(graph: Graph, on_npu: Collection[int]) -> list[list[int]]:
    """Return the regions, each as operator indices in running order.

    Greedy, in running order: an operator joins the region of each operator that feeds it, unless the joined region
    would have to run both before and after something outside (a region must be convex, or parts wait for each other).

    Args:
        graph: The network.
        on_npu: Indices of the operators that can run on the NPU.

    Raises:
        ModelError: The operators do not stand in running order.
    """
    return merge(feeds(graph), on_npu)


def merge(before: list[set[int]], on_npu: Collection[int]) -> list[list[int]]:
    """Return the regions as `merge_regions` does, from what feeds each operator."""
    merging = _Merging(before)
    inside = [index for index in range(len(before)) if index in on_npu]
    for index in inside:
        for feeder in sorted(before[index]):
            if feeder in on_npu:
                merging.join(feeder, index)
    regions: dict[int, list[int]] = {}
    for index in inside:
        regions.setdefault(merging.region[index], []).append(index)
    return list(regions.values())


def feeds(graph: Graph) -> list[set[int]]:
    """Return for each operator the operators whose results it takes.

    Raises:
        ModelError: An operator takes what is computed later, or two operators compute one tensor.
    """
    maker: dict[int, int] = {}
    made_at_all = {index for operator in graph.operators for index in operator.outputs}
    before: list[set[int]] = []
    for operator in graph.operators:
        taken = [index for index in operator.inputs if index in made_at_all]
        if any(index not in maker for index in taken) or any(index in maker for index in operator.outputs):
            raise ModelError(
                f"{graph.file}: operator {operator.index} ({operator.kind}) does not stand in running order",
                "export the network again",
            )
        before.append({maker[index] for index in taken})
        maker |= dict.fromkeys(operator.outputs, operator.index)
    return before


class _Merging:
    """Operators grouped into regions, of which the graph stays free of circles."""

    def __init__(self, before: list[set[int]]) -> None:
        count = len(before)
        self.region = list(range(count))
        self.members = {index: [index] for index in range(count)}
        self.after: list[set[int]] = [set() for _ in before]
        for index, feeders in enumerate(before):
            for feeder in feeders:
                self.after[feeder].add(index)
        self.earliest = list(range(count))
        self.latest = list(range(count))

    def join(self, one: int, other: int) -> None:
        """Put two operators into one region, unless a way leads from one's region to the other's through a third."""
        first, second = self.region[one], self.region[other]
        if first == second or self._way_round(first, second) or self._way_round(second, first):
            return
        if len(self.members[first]) < len(self.members[second]):
            first, second = second, first
        for index in self.members[second]:
            self.region[index] = first
        self.members[first] += self.members.pop(second)
        self.after[first] |= self.after[second]
        self.earliest[first] = min(self.earliest[first], self.earliest[second])
        self.latest[first] = max(self.latest[first], self.latest[second])

    def _way_round(self, start: int, end: int) -> bool:
        """Whether a way leads from a region to another through a third."""
        seen = {start, end}
        waiting = [region for region in self._next(start) if region != end]
        while waiting:
            region = waiting.pop()
            # operators stand in running order: what begins behind the end does not lead to it
            if region in seen or self.earliest[region] > self.latest[end]:
                continue
            seen.add(region)
            following = self._next(region)
            if end in following:
                return True
            waiting += following
        return False

    def _next(self, region: int) -> set[int]:
        """Return the regions that a region leads to, and forget the operators that have become its own."""
        self.after[region] = {index for index in self.after[region] if self.region[index] != region}
        return {self.region[index] for index in self.after[region]}
