"""A figure of the past, kept so that old reports can be read: how many "NPU functions" a network has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.npu.n78 import rulebook

if TYPE_CHECKING:
    from ethos.npu.graph import Graph

NOTE = (
    "Historical: counts reshapes, concatenations, splits, poolings and clips, never a convolution, so it rises as a "
    "network breaks into more pieces and says nothing about what the NPU computes."
)
# a product of matrices brings a reshape of its own in TVM, and a fused ReLU a clip
RESHAPED = "FULLY_CONNECTED"
CLIP = "CLIP"
RELUS = frozenset({1, 2, 3})


def npu_functions(graph: Graph) -> dict[str, Any]:
    """Return the figure as the project's first reports had it: offloaded functions of all functions.

    Each operator of a listed kind became a function of its own, and all that was left the one function beside them.
    """
    kinds = rulebook().historical_functions
    listed = sum(operator.kind in kinds or operator.kind == RESHAPED for operator in graph.operators)
    clipped = sum(operator.options.get("fusedActivationFunction") in RELUS for operator in graph.operators)
    offloaded = listed + (clipped if CLIP in kinds else 0)
    return {"offloaded": offloaded, "functions": offloaded + 1, "share": offloaded / (offloaded + 1), "note": NOTE}
