"""start: make or fetch the weights from which the variants of the run begin."""

from __future__ import annotations

import sys

from ethos.files import new_folder
from ethos.plan import StartPlan, read_plan
from ethos.training.monitor import EpochLines
from ethos.training.start import make_start
from pipelines import OUTPUTS, run


def main() -> None:
    """Write outputs/start."""
    plan = read_plan(OUTPUTS / "plan" / "start" / "start.yaml", StartPlan)
    lines = EpochLines("warm start", plan.warm_up.epochs, sys.stderr) if plan.warm_up else lambda _: None
    with new_folder(OUTPUTS / "start") as folder:
        make_start(plan, OUTPUTS / "dataset", folder, lines)


if __name__ == "__main__":
    raise SystemExit(run(main))
