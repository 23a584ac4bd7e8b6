"""train: train one variant under a run of its own, live in MLflow, and keep its best weights."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.files import new_folder, read_json, write_json
from ethos.plan import TrainPlan, read_plan
from ethos.registry.runs import open_tracking
from ethos.training.epoch import Epoch, epoch_row
from ethos.training.monitor import EpochLines
from ethos.training.start import load_start
from ethos.training.train import TrainResult, train
from pipelines import OUTPUTS, run

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.registry.runs import Run

FORM = "dense"


def main(variant: str) -> None:
    """Write outputs/models/VARIANT/dense and outputs/train/VARIANT."""
    plan = read_plan(OUTPUTS / "plan" / variant / "train.yaml", TrainPlan)
    tracking = open_tracking(catalog.load_params().registry.experiment)
    tensors, start = load_start(OUTPUTS / "start") if plan.from_start else (None, {"source": "scratch"})
    with (
        tracking.run(f"train {variant}", tags_of(plan)) as tracked,
        new_folder(OUTPUTS / "models" / variant / FORM) as model_folder,
        new_folder(OUTPUTS / "train" / variant) as record_folder,
    ):
        tracked.log_params(params_of(plan, start))
        lines = EpochLines(f"train {variant}", plan.recipe.epochs, sys.stderr)
        result = train(
            plan.architecture,
            plan.recipe,
            OUTPUTS / "dataset",
            model_folder,
            start=tensors,
            seed=plan.seed,
            on_epoch=lambda epoch: follow(epoch, lines, tracked),
        )
        write_epochs(record_folder / "epochs.csv", result.epochs)
        write_json(record_folder / "metrics.json", metrics_of(result, start))
        write_json(record_folder / "run.json", {"schema": 1, "run_id": tracked.run_id})


def follow(epoch: Epoch, lines: EpochLines, tracked: Run) -> None:
    """Show an epoch and log it."""
    lines(epoch)
    row = epoch_row(epoch)
    tracked.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=epoch.epoch)


def tags_of(plan: TrainPlan) -> dict[str, str]:
    """Return the run's tags."""
    dataset = read_json(OUTPUTS / "dataset" / "dataset.json")
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
    recipe = plan.recipe.model_dump(exclude={"description", "weights", "name"})
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
        "start": start["source"],
        "tensors_matched": result.transferred.matched,
        "tensors_total": result.transferred.total,
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
