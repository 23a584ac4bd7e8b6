"""Checkpoints: all that a training needs to go on as if it had not stopped, as plain tensors and numbers.

One file, written under a temporary name and renamed, so that the last good one survives a kill and a full disk; read
weights-only, so that no code in it is run. Its random states are not in it: they follow from seed and epoch.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.files import new_file, read_json, sha256_json, write_json
from ethos.model.weights import UNREADABLE, save_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

LAST_FILE, MADE_OF_FILE, RUN_FILE, ATTEMPT_FILE = "last.pt", "made_of.json", "run.json", "attempt.json"
NUMBERED = "epochs"
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoints:
    """The place of one training's checkpoints.

    Args:
        folder: Holds last.pt, and with `save_period` the weights of single epochs in epochs/.
    """

    folder: Path

    @classmethod
    def of(cls, parent: Path, made_of: Mapping[str, Any]) -> Checkpoints:
        """Return the place, below `parent`, of the training that all of `made_of` determines; others are not touched.

        A checkpoint of other settings, data or code lies in another folder and so is never gone on from.
        """
        place = cls(parent / sha256_json(made_of)[:16])
        if not (place.folder / MADE_OF_FILE).is_file():
            write_json(place.folder / MADE_OF_FILE, made_of)
        return place

    def part(self, name: str) -> Checkpoints:
        """Return the place of a training that is one of several."""
        return Checkpoints(self.folder / name)

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.folder / LAST_FILE

    @property
    def run_id(self) -> str | None:
        """The tracking run that the training is logged to, if it has one."""
        file = self.folder / RUN_FILE
        return str(read_json(file, "run_id")["run_id"]) if file.is_file() else None

    def keep_run_id(self, run_id: str) -> None:
        """Note the tracking run."""
        write_json(self.folder / RUN_FILE, {"run_id": run_id})

    def begin_attempt(self, kills: int, batch: int) -> dict[str, int] | None:
        """Note that training begins; return the note of an attempt before that came to no end, not even to an error.

        Args:
            kills: How many processes the kernel has killed for memory so far.
            batch: The batch of this attempt.
        """
        file = self.folder / ATTEMPT_FILE
        before: dict[str, int] | None = read_json(file) if file.is_file() else None
        write_json(file, {"kills": kills, "batch": batch})
        return before

    def end_attempt(self) -> None:
        """Note that training came to an end, be it an error."""
        (self.folder / ATTEMPT_FILE).unlink(missing_ok=True)

    def write(self, progress: Mapping[str, Any]) -> None:
        """Write a checkpoint in the place of the last one.

        Raises:
            ModelError: It cannot be written; the last one is still there.
        """
        import torch

        try:
            with new_file(self.last) as temporary:
                torch.save({"schema": SCHEMA, **progress}, temporary)
        except (OSError, RuntimeError) as error:
            # PyTorch's writer turns a full disk into a RuntimeError
            reason = str(error).partition("\n")[0]
            raise ModelError(f"{self.last}: cannot be written: {reason}", "free disk space") from None

    def read(self) -> dict[str, Any] | None:
        """Return the last checkpoint, None when there is none.

        Raises:
            ModelError: It is damaged.
        """
        import torch

        if not self.last.is_file():
            return None
        try:
            progress: dict[str, Any] = torch.load(self.last, map_location="cpu", weights_only=True)
            readable = progress["schema"] == SCHEMA
        except UNREADABLE:
            readable = False
        if not readable:
            raise ModelError(f"{self.last}: not a readable checkpoint", f"begin anew: rm -r {self.folder}")
        return progress

    def write_numbered(self, epoch: int, state: Mapping[str, Tensor]) -> None:
        """Keep the weights of one epoch beside the checkpoint."""
        with new_file(self.folder / NUMBERED / f"epoch{epoch}.safetensors") as temporary:
            save_tensors(temporary, state)

    def copy_numbered(self, into: Path) -> None:
        """Copy the weights of single epochs, if any were kept, to `into`/epochs."""
        if (self.folder / NUMBERED).is_dir():
            shutil.copytree(self.folder / NUMBERED, into / NUMBERED)

    def remove(self) -> None:
        """Remove this training's checkpoints, and those of other settings beside it: the training is done."""
        parent = self.folder.parent
        for folder in (self.folder, *(file.parent for file in parent.glob(f"*/{MADE_OF_FILE}"))):
            shutil.rmtree(folder, ignore_errors=True)
        if not any(parent.iterdir()):
            parent.rmdir()


@dataclass
class Best:
    """The best epoch so far and its weights."""

    epoch: int = 0
    fitness: float = float("-inf")
    state: dict[str, Tensor] = field(default_factory=dict)


def snapshot(trainer: Any, best: Best) -> dict[str, Any]:
    """Return the state of the engine's trainer after a finished epoch, and the best weights."""
    from ethos.training.qat import ranges_of

    ema, stopper = trainer.ema, trainer.stopper
    return {
        "epoch": trainer.epoch + 1,
        "finished": bool(trainer.stop),
        "model": trainer.model.state_dict(),
        "ema": ema.ema.state_dict(),
        "ema_updates": ema.updates,
        "ranges": ranges_of(trainer.model),
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        "best_fitness": float(trainer.best_fitness),
        "stopper": {"best_fitness": float(stopper.best_fitness), "best_epoch": stopper.best_epoch},
        # while the newest epoch is the best, its weights are there already
        "best": {
            "epoch": best.epoch,
            "fitness": best.fitness,
            "state": None if best.epoch == trainer.epoch + 1 else best.state,
        },
    }


def best_of(progress: Mapping[str, Any]) -> Best:
    """Return the best epoch so far of a checkpoint."""
    best = progress["best"]
    return Best(best["epoch"], best["fitness"], progress["ema"] if best["state"] is None else best["state"])


def restore(trainer: Any, progress: Mapping[str, Any]) -> None:
    """Put a trainer that is set up, and has not trained yet, where the checkpoint was taken."""
    from ethos.training.qat import set_ranges

    trainer.model.load_state_dict(progress["model"])
    trainer.ema.ema.load_state_dict(progress["ema"])
    trainer.ema.updates = progress["ema_updates"]
    # the averaged network shares them
    set_ranges(trainer.model, progress["ranges"])
    optimizer = progress["optimizer"]
    for saved, group in zip(optimizer["param_groups"], trainer.optimizer.param_groups, strict=True):
        # which kernel steps is the device's business; a smaller batch has the same decay, but for its last digit
        saved["fused"] = group.get("fused")
    trainer.optimizer.load_state_dict(optimizer)
    trainer.scaler.load_state_dict(progress["scaler"])
    trainer.best_fitness = progress["best_fitness"]
    trainer.stopper.__dict__.update(progress["stopper"])
    trainer.start_epoch = progress["epoch"]
