"""train: train one variant under a run of its own, live in MLflow, and keep its best weights.

A run that was killed goes on from its checkpoint, under the same MLflow run, when the stage is started again.
"""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.files import new_folder, read_json, sha256_file, write_json
from ethos.model.weights import WEIGHTS_FILE, load_model
from ethos.plan import TrainPlan, read_plan
from ethos.registry.runs import open_tracking
from ethos.registry.training import Follower, run_of
from ethos.training.aware import train_by_recipe
from ethos.training.checkpoint import Checkpoints
from ethos.training.distill import Teacher
from ethos.training.environment import hardware, made_of, versions
from ethos.training.epoch import epoch_row
from ethos.training.monitor import monitor
from ethos.training.narrow import start_for
from ethos.training.notify import announced, hook_of
from pipelines import OUTPUTS, run

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.training.epoch import Epoch
    from ethos.training.train import TrainResult

FORM = "dense"


def main(variant: str) -> None:
    """Write outputs/models/VARIANT/dense and outputs/train/VARIANT."""
    plan = read_plan(OUTPUTS / "plan" / variant / "train.yaml", TrainPlan)
    tensors, start = None, {"source": "scratch"}
    if plan.from_start:
        tensors, start = start_for(OUTPUTS / "start", plan.architecture, OUTPUTS / "dataset", plan.recipe.imgsz)
    teacher = OUTPUTS / "teacher" / variant / "network" if plan.teacher else None
    dataset = read_json(OUTPUTS / "dataset" / "dataset.json", "sha256", "split_sha256")
    taught = sha256_file(teacher / WEIGHTS_FILE) if teacher else None
    checkpoints = Checkpoints.of(
        OUTPUTS / "checkpoints" / variant, made_of(plan, dataset, start=start.get("sha256"), teacher=taught)
    )
    tracking = open_tracking(catalog.load_params().registry.experiment)
    message: dict[str, Any] = {"stage": "train", "variant": variant}
    with (
        monitor(f"train {variant}", plan.recipe.all_epochs, sys.stderr) as shown,
        announced(hook_of(plan.recipe.name), message, shown.tell),
        run_of(checkpoints, tracking, f"train {variant}", tags_of(plan, dataset)) as tracked,
        new_folder(OUTPUTS / "models" / variant / FORM) as model_folder,
        new_folder(OUTPUTS / "train" / variant) as record_folder,
    ):
        tracked.log_params(params_of(plan, start))
        message["run_id"] = tracked.run_id
        follower = Follower(tracked, shown, OUTPUTS)
        result = train_by_recipe(
            plan.architecture,
            plan.recipe,
            OUTPUTS / "dataset",
            model_folder,
            start=tensors,
            seed=plan.seed,
            on_epoch=follower.epoch,
            tell=follower.tell,
            checkpoints=checkpoints,
            teacher=teacher_of(teacher, plan),
        )
        metrics = metrics_of(result, start)
        write_epochs(record_folder / "epochs.csv", result.epochs)
        write_json(record_folder / "metrics.json", metrics)
        write_json(record_folder / "run.json", record_of(tracked.run_id, plan, result))
        tracked.set_tags({"tensors.sha256": result.tensors_sha256, "batch": str(result.batch)})
        message |= {key: metrics[key] for key in ("epochs", "map50", "map50_95", "seconds")}
    checkpoints.remove()


def teacher_of(folder: Path | None, plan: TrainPlan) -> Teacher | None:
    """Return the network that the variant learns from, if it has one."""
    if folder is None:
        return None
    return Teacher(load_model(folder)[0], plan.recipe.teacher_cls, plan.recipe.teacher_dfl)


def tags_of(plan: TrainPlan, dataset: dict[str, Any]) -> dict[str, str]:
    """Return the run's tags."""
    return {
        "variant": plan.variant,
        "level": plan.level,
        "activation": plan.architecture.activation,
        "form": FORM,
        "dataset.sha256": dataset["sha256"],
        "split.sha256": dataset["split_sha256"],
    }


def params_of(plan: TrainPlan, start: dict[str, Any]) -> dict[str, object]:
    """Return what the run was told: recipe, network and starting weights."""
    recipe = plan.recipe.model_dump(exclude={"description", "weights", "name", "notify"})
    return {
        "recipe": plan.recipe.name,
        "seed": plan.seed,
        "base": plan.architecture.base,
        **{f"start.{key}": value for key, value in start.items() if key != "schema"},
        **recipe,
    }


def metrics_of(result: TrainResult, start: dict[str, Any]) -> dict[str, Any]:
    """Return what the training gave, as DVC metrics."""
    best = result.best
    return {
        "parameters": result.parameters,
        "epochs": len(result.epochs),
        "best_epoch": result.best_epoch,
        "map50": best.map50,
        "map50_95": best.map50_95,
        "precision": best.precision,
        "recall": best.recall,
        "seconds": round(result.seconds, 1),
        "device": result.device,
        "batch": result.batch,
        "start": start["source"],
        "tensors_matched": result.transferred.matched,
        "tensors_total": result.transferred.total,
        "tensors_sha256": result.tensors_sha256,
    }


def record_of(run_id: str, plan: TrainPlan, result: TrainResult) -> dict[str, Any]:
    """Return which run it was, and what its bits depend on beside plan and data."""
    return {
        "schema": 1,
        "run_id": run_id,
        "seed": plan.seed,
        "resumed_after": result.resumed,
        "versions": versions(),
        "hardware": hardware(),
    }


def write_epochs(path: Path, epochs: list[Epoch]) -> None:
    """Write one row an epoch."""
    rows = [epoch_row(epoch) for epoch in epochs]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    raise SystemExit(run(main))
