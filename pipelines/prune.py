"""prune: take channels out of a trained network and train it again, under a run of its own.

A run that was killed goes on from its checkpoint, under the same MLflow run, when the stage is started again.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.files import new_folder, read_json, sha256_file, write_json
from ethos.model.weights import WEIGHTS_FILE
from ethos.plan import PrunePlan, read_plan
from ethos.pruning.report import channel_rows, figures, write_channels
from ethos.pruning.schedule import Iteration, run_schedule
from ethos.registry.runs import open_tracking
from ethos.registry.training import run_of
from ethos.training.checkpoint import Checkpoints
from ethos.training.environment import made_of
from ethos.training.monitor import EpochLines
from pipelines import OUTPUTS, run

if TYPE_CHECKING:
    from ethos.registry.runs import Run

FORM = "pruned"


def main(variant: str) -> None:
    """Write outputs/models/VARIANT/pruned and outputs/prune/VARIANT."""
    plan = read_plan(OUTPUTS / "plan" / variant / "prune.yaml", PrunePlan)
    parent = read_json(OUTPUTS / "train" / variant / "run.json")["run_id"]
    tracking = open_tracking(catalog.load_params().registry.experiment)
    tags = {"variant": variant, "form": FORM}
    dense = OUTPUTS / "models" / variant / "dense"
    dataset = read_json(OUTPUTS / "dataset" / "dataset.json")
    checkpoints = Checkpoints.of(
        OUTPUTS / "checkpoints" / f"{variant}-{FORM}",
        made_of(plan, dataset, code=("npu", "pruning"), start=sha256_file(dense / WEIGHTS_FILE)),
    )
    with (
        run_of(
            checkpoints, tracking, f"prune {variant}", tags, parent if tracking.run_known(parent) else None
        ) as tracked,
        new_folder(OUTPUTS / "models" / variant / FORM) as model_folder,
        new_folder(OUTPUTS / "prune" / variant) as record_folder,
    ):
        tracked.log_params(params_of(plan))
        lines = [
            EpochLines(f"prune {variant}: step {step + 1}", plan.recovery.all_epochs, sys.stderr)
            for step in range(plan.options.steps)
        ]
        outcome = run_schedule(
            dense,
            plan,
            OUTPUTS / "dataset",
            model_folder,
            on_iteration=lambda iteration: follow(iteration, tracked),
            on_epoch=lambda step, epoch: lines[step - 1](epoch),
            tell=lambda step, text: lines[step - 1].tell(text),
            checkpoints=checkpoints,
        )
        write_json(record_folder / "prune.json", {"variant": variant, **outcome.document()})
        write_json(record_folder / "metrics.json", figures(outcome))
        write_channels(record_folder / "channels.csv", channel_rows(outcome))
        write_json(record_folder / "run.json", {"schema": 1, "run_id": tracked.run_id})
    checkpoints.remove()


def follow(iteration: Iteration, tracked: Run) -> None:
    """Log what an iteration gave."""
    measured = iteration.measured
    tracked.log_metrics(
        {
            "pruned_map50": iteration.pruned_map50,
            "map50": measured.map50,
            "map50_95": measured.map50_95,
            "map50_drop": iteration.map50_drop,
            "parameters": measured.parameters,
            "macs": measured.macs,
            "mb": measured.mb,
            "fps.cpu": measured.cpu["fps"],
            **{f"cycles.{name}": each["cycles"] for name, each in measured.npu.items()},
            **{f"efficiency.{name}": value for name, value in measured.efficiency.items()},
        },
        step=iteration.step,
    )


def params_of(plan: PrunePlan) -> dict[str, Any]:
    """Return what the run was told."""
    options = plan.options.model_dump(mode="json", exclude_none=True)
    return {"recipe": plan.recovery.name, "epochs": plan.recovery.epochs, "seed": plan.seed, **options}


if __name__ == "__main__":
    raise SystemExit(run(main))
