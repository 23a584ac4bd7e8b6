"""One training with what it survives: memory that runs out, a kill, a disk that fills up.

After each epoch the whole state is written as a checkpoint. Where memory runs out, the training goes on from it with
half the batch and twice the accumulation; a training that was killed goes on from it when it is started again.
"""

from __future__ import annotations

import gc
import os
import time
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import ModelError
from ethos.model.weights import require_shapes, shapes_of
from ethos.training.arguments import engine_arguments, with_batch
from ethos.training.checkpoint import Best, best_of, snapshot
from ethos.training.epoch import Epoch, epoch_of
from ethos.training.faults import NotFinite, is_out_of_memory
from ethos.training.system import kills_for_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ethos.model.levels import Network
    from ethos.specs import Recipe
    from ethos.training.checkpoint import Checkpoints
    from ethos.training.distill import Teacher


class Session:
    """A training from its last checkpoint, or its beginning, to its end; for the arguments see `train_network`."""

    def __init__(
        self,
        make: Callable[[], Network],
        recipe: Recipe,
        data: dict[str, Any],
        scratch: Path,
        seed: int,
        checkpoints: Checkpoints,
        teacher: Teacher | None,
        on_epoch: Callable[[Epoch], None],
        tell: Callable[[str], None],
    ) -> None:
        self.recipe, self.epochs, self.best = recipe, list[Epoch](), Best()
        self.device, self.seconds_before, self.resumed = "", 0.0, list[int]()
        self._planned, self._make, self._data, self._scratch, self._seed = recipe, make, data, scratch, seed
        self._checkpoints, self._teacher, self._on_epoch, self._tell = checkpoints, teacher, on_epoch, tell
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._began = time.perf_counter()

    def run(self) -> None:
        """Train until it is done.

        Raises:
            ModelError: The engine refuses the recipe, the loss is not finite, or memory runs out with a batch of 1.
        """
        progress = self._checkpoints.read()
        if progress is not None:
            self._take_up(progress)
            for epoch in self.epochs:
                self._on_epoch(epoch)
        if progress is not None and progress["finished"]:
            return
        self._learn_from_a_kill()
        try:
            while not self._attempt(progress):
                self._halve(self.recipe.batch)
                self._checkpoints.begin_attempt(kills_for_memory(), self.recipe.batch)
                progress = self._checkpoints.read()
                if progress is not None:
                    self._return_to(progress)
        finally:
            self._checkpoints.end_attempt()

    # --- going on ---

    def _take_up(self, progress: dict[str, Any]) -> None:
        """Go on with what an earlier process left."""
        if progress["batch"] != self.recipe.batch:
            self.recipe = with_batch(self._planned, progress["batch"])
        self._return_to(progress)
        self.device = progress["device"]
        self.seconds_before = progress["seconds"]
        self.resumed = [*progress["resumed"], progress["epoch"]]
        self._tell(f"goes on after epoch {progress['epoch']} from {self._checkpoints.last}")

    def _return_to(self, progress: dict[str, Any]) -> None:
        self.epochs = [Epoch(**row) for row in progress["epochs"]]
        self.best = best_of(progress)

    def _learn_from_a_kill(self) -> None:
        """Halve the batch if the kernel ended the attempt before for want of memory: it would only do so again."""
        kills = kills_for_memory()
        before = self._checkpoints.begin_attempt(kills, self.recipe.batch)
        if before is not None and kills > before["kills"] and before["batch"] <= self.recipe.batch:
            self._halve(before["batch"])
            self._checkpoints.begin_attempt(kills, self.recipe.batch)

    def _halve(self, before: int) -> None:
        """Halve a batch that was too much; as many images as before go into a step."""
        if before == 1:
            raise ModelError("training ran out of memory with a batch of 1", "lower imgsz in the recipe")
        self.recipe = with_batch(self._planned, before // 2)
        steps = round(self.recipe.nbs / self.recipe.batch)
        self._tell(f"out of memory with batch {before}: goes on with {self.recipe.batch}, {steps} batches to a step")

    # --- one attempt ---

    def _attempt(self, progress: dict[str, Any] | None) -> bool:
        """Train on from a checkpoint; return whether it came to its end, False when memory ran out."""
        trainer = None
        try:
            trainer = self._trainer(progress)
            self.device = str(trainer.device)
            # some of the engine's progress bars cannot be switched off
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                trainer.train()
        except NotFinite as error:
            raise self._not_finite(error) from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return True
        del trainer
        self._free_memory()
        return False

    def _trainer(self, progress: dict[str, Any] | None) -> Any:
        from ethos.training.trainer import make_trainer

        arguments = engine_arguments(self.recipe, self._scratch, self._seed)
        network = self._make()
        self._shapes = shapes_of(network)
        try:
            return make_trainer(network, self._data, arguments, self._after_epoch, progress, self._teacher)
        except ValueError as error:
            reason, _, _ = str(error).strip().partition("\n")
            raise ModelError(f"recipe '{self.recipe.name}': {reason}", "correct the recipe") from None

    def _after_epoch(self, trainer: Any, seconds: float) -> None:
        require_shapes(trainer.model, self._shapes)
        epoch = epoch_of(trainer, seconds)
        self.epochs.append(epoch)
        if trainer.fitness > self.best.fitness:
            self.best = Best(epoch.epoch, float(trainer.fitness), _copy_of(trainer.ema.ema))
        self._write(trainer, epoch)
        self._on_epoch(epoch)

    def _write(self, trainer: Any, epoch: Epoch) -> None:
        """Write the checkpoint; training is worth more than it, so a full disk is told and not the end."""
        try:
            if self.recipe.save_period > 0 and epoch.epoch % self.recipe.save_period == 0:
                self._checkpoints.write_numbered(epoch.epoch, trainer.ema.ema.state_dict())
            self._checkpoints.write(
                {
                    **snapshot(trainer, self.best),
                    "batch": self.recipe.batch,
                    "device": self.device,
                    "epochs": [asdict(each) for each in self.epochs],
                    "resumed": self.resumed,
                    "seconds": self.seconds_before + time.perf_counter() - self._began,
                }
            )
        except ModelError as error:
            self._tell(f"epoch {epoch.epoch}: {error.message}; the last checkpoint stays")

    def _not_finite(self, error: NotFinite) -> ModelError:
        fix = "lower lr0 in the recipe"
        if not self._checkpoints.last.is_file():
            return ModelError(str(error), fix)
        return ModelError(
            f"{error}; the checkpoint of epoch {len(self.epochs)} is kept: {self._checkpoints.last}",
            f"{fix}; weights: {{source: path, file: {self._checkpoints.last}}} begins from that checkpoint",
        )

    def _free_memory(self) -> None:
        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _copy_of(model: Network) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
