"""prune: take channels out of a trained network and train it again, under a run of its own.

A run that was killed goes on from its checkpoint, under the same MLflow run, when the stage is started again.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from ethos import catalog
from ethos.files import new_folder, read_json, sha256_file, write_json
from ethos.model.weights import WEIGHTS_FILE
from ethos.plan import PrunePlan, read_plan
from ethos.pruning.report import channel_rows, figures, step_metrics, write_channels
from ethos.pruning.schedule import run_schedule
from ethos.registry.runs import open_tracking
from ethos.registry.training import environment_tags, run_of
from ethos.training.checkpoint import Checkpoints
from ethos.training.environment import made_of
from ethos.training.monitor import monitor
from pipelines import OUTPUTS, run

FORM = "pruned"


def main(variant: str) -> None:
    """Write outputs/models/VARIANT/pruned and outputs/prune/VARIANT."""
    plan = read_plan(OUTPUTS / "plan" / variant / "prune.yaml", PrunePlan)
    parent = read_json(OUTPUTS / "train" / variant / "run.json", "run_id")["run_id"]
    tracking = open_tracking(catalog.load_params().registry.experiment)
    tags = {"variant": variant, "form": FORM}
    dense = OUTPUTS / "models" / variant / "dense"
    dataset = read_json(OUTPUTS / "dataset" / "dataset.json", "sha256", "split_sha256")
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
        tracked.log_params(plan.run_params())
        tracked.set_tags(environment_tags())
        outcome = run_schedule(
            dense,
            plan,
            OUTPUTS / "dataset",
            model_folder,
            on_iteration=lambda each: tracked.log_metrics(step_metrics(asdict(each)), step=each.step),
            show=lambda training: monitor(f"prune {variant}, {training}", plan.recovery.all_epochs, sys.stderr),
            checkpoints=checkpoints,
        )
        write_json(record_folder / "prune.json", {"variant": variant, **outcome.document()})
        write_json(record_folder / "metrics.json", figures(outcome))
        write_channels(record_folder / "channels.csv", channel_rows(outcome))
        for name in ("prune.json", "channels.csv"):
            tracked.log_artifact(record_folder / name)
        write_json(record_folder / "run.json", {"schema": 1, "run_id": tracked.run_id})
    checkpoints.remove()


if __name__ == "__main__":
    raise SystemExit(run(main))
