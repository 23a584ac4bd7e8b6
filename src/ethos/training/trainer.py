"""The engine's trainer with our network and data set in place of its own look-ups, and epochs that can be repeated.

Each epoch is complete in itself: it begins with random states that follow from seed and epoch, and ends with an
optimiser step. So a training that goes on from a checkpoint repeats the uninterrupted one to the bit where the images
are read in the training's own process, as the engine always does on a CPU.

Imported only after `ethos.model.engine.prepare`.
"""

from __future__ import annotations

import math
import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ultralytics.engine import trainer as engine_trainer
from ultralytics.models.yolo.detect import DetectionTrainer

from ethos.training.checkpoint import restore
from ethos.training.distill import TaughtLoss
from ethos.training.faults import NotFinite
from ethos.training.precision import works_in_half

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ethos.model.levels import Network
    from ethos.training.distill import Teacher

# above this the engine takes an error that speaks of memory as final
NO_RETRIES_LEFT = 3

# its own check fetches another network
engine_trainer.check_amp = works_in_half


class Trainer(DetectionTrainer):  # type: ignore[misc]
    """DetectionTrainer on a given network and data dictionary, without checkpoints and final validation of its own.

    Args:
        network: The network that is trained, in place.
        data: The engine's data dictionary.
        arguments: The engine's train arguments.
        progress: A checkpoint to go on from.
        teacher: A network whose predictions are soft targets.
    """

    def __init__(
        self,
        network: Network,
        data: dict[str, Any],
        arguments: dict[str, Any],
        progress: Mapping[str, Any] | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """Set up the engine with its train arguments."""
        self._network, self._dataset = network, data
        self._progress, self._teacher = progress, teacher
        self._batches = self._since_step = 0
        super().__init__(overrides=arguments)
        self.add_callback("on_train_epoch_start", Trainer._begin_epoch)
        self.add_callback("on_train_batch_end", Trainer._check_loss)

    # --- in place of the engine's look-ups ---

    def get_dataset(self) -> dict[str, Any]:
        """Return the data dictionary that was given."""
        return self._dataset

    def setup_model(self) -> None:
        """Use the network that was given."""
        self.model = self._network

    def resume_training(self, _: object) -> None:
        """Go on from the checkpoint that was given, and hand the loss to the teacher, if there is one."""
        if self._progress is not None:
            restore(self, self._progress)
        if self._teacher is not None:
            self.model.criterion = TaughtLoss(self.model.init_criterion(), self._teacher, self.device)

    def save_model(self) -> bool:
        """Write nothing: checkpoints are written by the caller, as plain tensors."""
        return False

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Write nothing: epochs are recorded by the caller."""

    def final_eval(self) -> None:
        """Skip: the exported files are what is evaluated."""

    # --- epochs that are complete in themselves ---

    def _build_train_pipeline(self) -> None:
        """Take over the count of batches between optimiser steps; the engine's own runs on across epochs."""
        super()._build_train_pipeline()
        self.batches_to_a_step: int = self.accumulate
        self.accumulate: int = 1

    def optimizer_step(self) -> None:
        """Step when enough batches have been added up, as in the engine, and at the end of the epoch."""
        self._batches += 1
        self._since_step += 1
        last = self._batches == len(self.train_loader)
        if last or self._since_step >= self._wanted_apart():
            self._since_step = 0
            super().optimizer_step()

    def _wanted_apart(self) -> int:
        """Return how many batches go into a step: in warm-up it rises from one to the recipe's, as in the engine."""
        in_epoch = len(self.train_loader)
        done, warm = self._batches - 1 + in_epoch * self.epoch, self._get_warmup_iterations(in_epoch)
        if not warm or done > warm:
            return self.batches_to_a_step
        return max(1, int(np.interp(done, [0, warm], [1, self.batches_to_a_step]).round()))

    def _begin_epoch(self) -> None:
        self._batches = self._since_step = 0
        # the engine would go on with a smaller batch on half-trained weights, and say so to nobody
        self._oom_retries = NO_RETRIES_LEFT
        # worker processes read ahead into the next epoch, so their states can be set at the start alone
        if self.train_loader.num_workers == 0 or self.epoch == self.start_epoch:
            seed_epoch(self.train_loader, self.args.seed, self.epoch)

    def _check_loss(self) -> None:
        if not math.isfinite(float(self.loss.detach())):
            raise NotFinite(self.epoch + 1)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """Stop where weights have gone bad without a bad loss; the engine would train the epoch again, unasked."""
        if not math.isfinite(float(self.fitness)):
            raise NotFinite(epoch + 1)
        return False


def seed_epoch(loader: Any, seed: int, epoch: int) -> None:
    """Set all random states, and the loader's order, from the seed and the epoch."""
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)
    loader.generator.manual_seed(state)
    loader.reset()
    images = loader.dataset
    if images.cache != "ram":
        # mosaics are put together from the images read last, which belong to the epoch before
        for index in images.buffer:
            images.ims[index] = images.im_hw0[index] = images.im_hw[index] = None
        images.buffer.clear()


def make_trainer(
    network: Network,
    data: dict[str, Any],
    arguments: dict[str, Any],
    after_epoch: Callable[[Trainer, float], None],
    progress: Mapping[str, Any] | None = None,
    teacher: Teacher | None = None,
) -> Trainer:
    """Return a trainer that calls `after_epoch(trainer, training seconds)` when each epoch is trained and validated."""
    trainer = Trainer(network, data, arguments, progress, teacher)
    clock = {"began": 0.0, "trained": 0.0}

    def begin(_: Trainer) -> None:
        clock["began"] = time.perf_counter()

    def trained(_: Trainer) -> None:
        clock["trained"] = time.perf_counter() - clock["began"]

    def validated(engine: Trainer) -> None:
        after_epoch(engine, clock["trained"])

    trainer.add_callback("on_train_epoch_start", begin)
    trainer.add_callback("on_train_epoch_end", trained)
    trainer.add_callback("on_fit_epoch_end", validated)
    return trainer
