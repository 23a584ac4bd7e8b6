"""How much each channel of a group matters, as Torch-Pruning scores it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch_pruning

from ethos.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from ethos.pruning.groups import Tracer
    from ethos.specs import Importance


def score_channels(tracer: Tracer, kind: Importance) -> dict[str, NDArray[np.float64]]:
    """Return a score for each channel of each group; only their order and shares within a group are used.

    Args:
        tracer: The network's groups; for `taylor` its parameters hold gradients of the loss.
        kind: `magnitude` is the norm of all weights that belong to a channel, `bn_scale` the size of its batch norm
            factor, `taylor` the first-order change of the loss without it.

    Raises:
        ModelError: The network has no such scores: it lacks batch norms or gradients, or weights are not finite.
    """
    if kind == "taylor" and all(each.grad is None for each in tracer.network.parameters()):
        raise ModelError(
            "importance 'taylor' needs gradients of the loss", "accumulate them, or use another importance"
        )
    score = SCORES[kind]()
    found = {}
    for name, group in tracer.groups.items():
        values = score(tracer.group(name, range(group.width)))
        if values is None:
            raise ModelError(f"group {name}: no importance '{kind}' can be told", "use importance: magnitude")
        scores = values.detach().double().abs().numpy()
        if not (scores >= 0).all() or not scores.sum() > 0 or scores.sum() == float("inf"):
            raise ModelError(f"group {name}: importance '{kind}' is zero or not finite", "train the network first")
        found[name] = scores
    return found


SCORES: dict[Importance, Callable[[], torch_pruning.importance.Importance]] = {
    "magnitude": torch_pruning.importance.GroupMagnitudeImportance,
    "bn_scale": torch_pruning.importance.BNScaleImportance,
    "taylor": torch_pruning.importance.GroupTaylorImportance,
}
