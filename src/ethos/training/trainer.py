"""The engine's trainer with our network and data set in place of its own look-ups.

Imported only after `ethos.model.engine.prepare`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ultralytics.models.yolo.detect import DetectionTrainer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.model.levels import Network


class Trainer(DetectionTrainer):  # type: ignore[misc]
    """DetectionTrainer on a given network and data dictionary, without checkpoints and final validation of its own."""

    def __init__(self, network: Network, data: dict[str, Any], arguments: dict[str, Any]) -> None:
        """Set up the engine with its train arguments."""
        self._network, self._dataset = network, data
        super().__init__(overrides=arguments)

    def get_dataset(self) -> dict[str, Any]:
        """Return the data dictionary that was given."""
        return self._dataset

    def setup_model(self) -> None:
        """Use the network that was given."""
        self.model = self._network

    def save_model(self) -> bool:
        """Write nothing: the best weights are kept in memory and saved as plain tensors at the end."""
        return False

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Write nothing: epochs are recorded by the caller."""

    def final_eval(self) -> None:
        """Skip: the exported files are what is evaluated."""


def make_trainer(
    network: Network,
    data: dict[str, Any],
    arguments: dict[str, Any],
    after_epoch: Callable[[Trainer, float], None],
) -> Trainer:
    """Return a trainer that calls `after_epoch(trainer, training seconds)` when each epoch is trained and validated."""
    trainer = Trainer(network, data, arguments)
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
