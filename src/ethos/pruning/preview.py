"""What one step of a variant's pruning would give, without training and without writing anything."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.model.blocks import split_blocks
from ethos.model.weights import load_model
from ethos.model.widths import widths_of
from ethos.pruning.schedule import GRADIENT_BATCHES
from ethos.pruning.shrink import Aim, look, shrink
from ethos.training.measure import accumulate_gradients

if TYPE_CHECKING:
    from ethos.plan import PrunePlan


def preview(dense: Path, plan: PrunePlan, dataset: Path) -> dict[str, Any]:
    """Return each quantity and the channels of each layer, before and after the first step.

    Raises:
        SpecError: A goal is met already, or a layer to keep is not there.
        ModelError: Nothing can be pruned, or the goals cannot be reached.
    """
    network, architecture = load_model(dense)
    aim = Aim(plan.options, plan.imgsz, {target.name: target for target in plan.targets})
    split_blocks(network)
    before = widths_of(network)
    if plan.options.importance == "taylor":
        accumulate_gradients(network, architecture, plan.recovery, dataset, GRADIENT_BATCHES, plan.seed)
    with tempfile.TemporaryDirectory(prefix="ethos-prune-") as name:
        scratch = Path(name)
        shrink(network, architecture, aim, 1, scratch)
        costs = look(copy.deepcopy(network), aim, scratch).costs
    after = widths_of(network)
    found = {name: cost.total(cost.structure.full) for name, cost in costs.items()}
    return {
        "schema": 1,
        "variant": plan.variant,
        "imgsz": plan.imgsz,
        "quantities": {
            name: {
                "dense": aim.totals[name],
                "pruned": value,
                "share": value / aim.totals[name],
                "provenance": costs[name].provenance,
            }
            for name, value in found.items()
        },
        "layers": [{"name": name, "dense": list(each), "pruned": list(after[name])} for name, each in before.items()],
    }
