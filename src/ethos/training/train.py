"""Training with Ultralytics as engine: its data loading, augmentation, loss and schedule; our network, data and run.

The engine's own runs, downloads, plots and checkpoints with pickled code are left out. The best weights, by the mean
of the engine's fitness on the validation side, are kept as plain tensors.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.model.engine import prepare
from ethos.model.levels import Architecture, Network, build
from ethos.model.weights import Transfer, require_shapes, save_model, shapes_of, transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ethos.specs import Recipe

NOT_ENGINE_ARGUMENTS = {"name", "description", "weights", "recovery"}
METRICS = {
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "metrics/mAP50(B)": "map50",
    "metrics/mAP50-95(B)": "map50_95",
}


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave; losses are means over the epoch, scores are of the validation side."""

    epoch: int
    train_box_loss: float
    train_cls_loss: float
    train_dfl_loss: float
    val_box_loss: float
    val_cls_loss: float
    val_dfl_loss: float
    precision: float
    recall: float
    map50: float
    map50_95: float
    lr: float
    images_per_second: float
    seconds: float
    memory_mib: float


@dataclass
class TrainResult:
    """A finished training: every epoch, which one was kept, and where the weights came from."""

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    parameters: int = 0
    transferred: Transfer = field(default_factory=lambda: Transfer(0, 0))
    seconds: float = 0.0
    device: str = ""

    @property
    def best(self) -> Epoch:
        """The epoch whose weights were kept."""
        return next(epoch for epoch in self.epochs if epoch.epoch == self.best_epoch)


def train(
    architecture: Architecture,
    recipe: Recipe,
    dataset: Path,
    into: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> TrainResult:
    """Train a network and write its best weights with their architecture into `into`.

    Args:
        architecture: The network.
        recipe: Hyperparameters; where its weights come from is the caller's business (`start`).
        dataset: Materialised data set with train and val sides.
        into: Folder for weights.safetensors and architecture.json.
        start: Named tensors to begin from; those that match by name and shape are taken.
        seed: Seed of initial weights, order and augmentation.
        on_epoch: Called after each epoch.

    Returns:
        Every epoch, and which one's weights were kept.

    Raises:
        ModelError: The engine refuses the recipe, such as its device, the loss is not finite, or memory runs out.
    """
    prepare()
    from ethos.training.trainer import make_trainer

    began = time.perf_counter()
    model = build(architecture, seed)
    result = TrainResult(parameters=sum(parameter.numel() for parameter in model.parameters()))
    if start is not None:
        result.transferred = transfer(model, start)
    best: dict[str, Any] = {"fitness": -math.inf}
    shapes = shapes_of(model)

    def after_epoch(trainer: Any, seconds: float) -> None:
        require_shapes(trainer.model, shapes)
        epoch = _epoch_of(trainer, seconds)
        if not math.isfinite(epoch.train_box_loss + epoch.train_cls_loss + epoch.train_dfl_loss):
            raise ModelError(f"epoch {epoch.epoch}: the loss is not finite", "lower lr0 in the recipe")
        if trainer.fitness > best["fitness"]:
            best.update(fitness=trainer.fitness, state=_copy_of(trainer.ema.ema))
            result.best_epoch = epoch.epoch
        result.epochs.append(epoch)
        on_epoch(epoch)

    scratch = Path(tempfile.mkdtemp(prefix="ethos-train-"))
    try:
        data = _data_of(_view_of(dataset, scratch), architecture)
        try:
            trainer = make_trainer(model, data, _arguments(recipe, scratch, seed), after_epoch)
        except ValueError as error:
            reason, _, _ = str(error).strip().partition("\n")
            raise ModelError(f"recipe '{recipe.name}': {reason}", "correct the recipe") from None
        result.device = str(trainer.device)
        _run(trainer)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    model.load_state_dict(best["state"])
    save_model(into, model, architecture)
    result.seconds = time.perf_counter() - began
    return result


def _run(trainer: Any) -> None:
    try:
        # some of the engine's progress bars cannot be switched off
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            trainer.train()
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate" in str(error):
            raise ModelError("training ran out of memory", "lower batch or imgsz in the recipe") from None
        raise


def _arguments(recipe: Recipe, scratch: Path, seed: int) -> dict[str, Any]:
    """Return the recipe as Ultralytics' train arguments, with all that reaches outside the run switched off."""
    return {
        **recipe.model_dump(exclude=NOT_ENGINE_ARGUMENTS),
        "device": recipe.device or None,
        "seed": seed,
        "task": "detect",
        "mode": "train",
        "model": "network.yaml",
        "pretrained": False,
        "save_dir": str(scratch),
        "exist_ok": True,
        "plots": False,
        "save": False,
        "verbose": False,
        "erasing": 0.0,
        "auto_augment": None,
    }


def _view_of(dataset: Path, scratch: Path) -> Path:
    """Return a folder that shows the data set through links; the engine writes its label cache beside the labels."""
    view = scratch / "dataset"
    for kind in ("images", "labels"):
        (view / kind).mkdir(parents=True)
        for side in ("train", "val"):
            (view / kind / side).symlink_to((dataset / kind / side).resolve(), target_is_directory=True)
    return view


def _data_of(root: Path, architecture: Architecture) -> dict[str, Any]:
    """Return the data set as the engine's data dictionary; its own reader would fetch a font."""
    return {
        "path": root,
        "train": str(root / "images" / "train"),
        "val": str(root / "images" / "val"),
        "names": dict(enumerate(architecture.names)),
        "nc": len(architecture.names),
        "channels": 3,
    }


def _epoch_of(trainer: Any, seconds: float) -> Epoch:
    import psutil

    losses = {name: float(value) for name, value in trainer.tloss.items()}
    metrics = {key: float(value) for key, value in trainer.metrics.items()}
    return Epoch(
        epoch=trainer.epoch + 1,
        train_box_loss=losses["box_loss"],
        train_cls_loss=losses["cls_loss"],
        train_dfl_loss=losses["dfl_loss"],
        val_box_loss=metrics["val/box_loss"],
        val_cls_loss=metrics["val/cls_loss"],
        val_dfl_loss=metrics["val/dfl_loss"],
        **{ours: metrics[theirs] for theirs, ours in METRICS.items()},
        lr=float(trainer.optimizer.param_groups[0]["lr"]),
        images_per_second=len(trainer.train_loader.dataset) / seconds,
        seconds=seconds,
        memory_mib=psutil.Process().memory_info().rss / 2**20,
    )


def _copy_of(model: Network) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def epoch_row(epoch: Epoch) -> dict[str, float]:
    """Return an epoch as a flat row, as it stands in epochs.csv."""
    return {key: value if key == "epoch" else float(f"{value:.6g}") for key, value in asdict(epoch).items()}
