"""start: make or fetch the weights from which the variants of the run begin; a warm start goes on after a kill."""

from __future__ import annotations

import sys
from typing import Any

from ethos.files import new_folder, read_json
from ethos.plan import StartPlan, read_plan
from ethos.training.checkpoint import Checkpoints
from ethos.training.environment import made_of
from ethos.training.monitor import monitor
from ethos.training.notify import announced, hook_of
from ethos.training.start import make_start
from pipelines import OUTPUTS, run


def main() -> None:
    """Write outputs/start."""
    plan = read_plan(OUTPUTS / "plan" / "start" / "start.yaml", StartPlan)
    dataset = read_json(OUTPUTS / "dataset" / "dataset.json", "sha256", "split_sha256")
    if plan.warm_up is None:
        with new_folder(OUTPUTS / "start") as folder:
            make_start(plan, OUTPUTS / "dataset", folder)
        return
    message: dict[str, Any] = {"stage": "start"}
    checkpoints = Checkpoints.of(OUTPUTS / "checkpoints" / "start", made_of(plan, dataset))
    with (
        monitor("warm start", plan.warm_up.epochs, sys.stderr) as shown,
        announced(hook_of(plan.warm_up.name), message, shown.tell),
        new_folder(OUTPUTS / "start") as folder,
    ):
        make_start(plan, OUTPUTS / "dataset", folder, shown, shown.tell, checkpoints)
    checkpoints.remove()


if __name__ == "__main__":
    raise SystemExit(run(main))
