"""Training with Ultralytics as engine: its data loading, augmentation, loss and schedule; our network, data and run.

The engine's own runs, downloads, plots and checkpoints with pickled code are left out. The best weights, by the mean
of the engine's fitness on the validation side, are kept as plain tensors.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.model.engine import prepare
from ethos.model.levels import Architecture, Network, build
from ethos.model.weights import Transfer, save_model, tensors_sha256, transfer
from ethos.training.arguments import engine_data, view_of
from ethos.training.checkpoint import Checkpoints
from ethos.training.recovery import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ethos.specs import Recipe
    from ethos.training.distill import Teacher
    from ethos.training.epoch import Epoch


@dataclass(frozen=True)
class Trainee:
    """What is trained.

    Args:
        names: The classes, in label order.
        make: Returns the network with the weights that training begins from, the same at each call.
        save: Writes a trained network into a folder, with all that is needed to load it again.
    """

    names: tuple[str, ...]
    make: Callable[[], Network]
    save: Callable[[Path, Network], None]


@dataclass
class TrainResult:
    """A finished training: every epoch, which one was kept, and where the weights came from.

    `batch` is the recipe's, or what memory allowed; `tensors_sha256` is of the weights that were kept; `resumed` are
    the epochs after which an earlier process had ended.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    parameters: int = 0
    transferred: Transfer = field(default_factory=lambda: Transfer(0, 0))
    seconds: float = 0.0
    device: str = ""
    batch: int = 0
    tensors_sha256: str = ""
    resumed: list[int] = field(default_factory=list)

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
    on_built: Callable[[Network], object] = lambda _: None,
    **given: Any,
) -> TrainResult:
    """Train a network that is built from its architecture, as `train_network` does.

    Args:
        architecture: The network.
        recipe: Hyperparameters; where its weights come from is the caller's business (`start`).
        dataset: Materialised data set with train and val sides.
        into: Folder for weights.safetensors and architecture.json.
        start: Named tensors to begin from; those that match by name and shape are taken.
        seed: Seed of initial weights, order and augmentation.
        on_built: Called with the network before it is trained; it may change how it computes, not its parameters.
        given: As for `train_network`.
    """
    transferred = Transfer(0, 0)

    def make() -> Network:
        nonlocal transferred
        model = build(architecture, seed)
        if start is not None:
            transferred = transfer(model, start)
        on_built(model)
        return model

    def save(folder: Path, model: Network) -> None:
        save_model(folder, model, architecture)

    trainee = Trainee(architecture.names, make, save)
    result = train_network(trainee, recipe, dataset, into, seed=seed, **given)
    result.transferred = transferred
    return result


def train_network(
    trainee: Trainee,
    recipe: Recipe,
    dataset: Path,
    into: Path,
    *,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    teacher: Teacher | None = None,
) -> TrainResult:
    """Train a network and write its best weights into `into`.

    Args:
        trainee: The network, and how it is written.
        recipe: Hyperparameters.
        dataset: Materialised data set with train and val sides.
        into: Folder for what `trainee.save` writes, and for epochs/ with the recipe's `save_period`.
        seed: Seed of order and augmentation.
        on_epoch: Called after each epoch, those of the checkpoint that the training goes on from included.
        tell: Called with what a user should know: a smaller batch, a training that goes on, a checkpoint not written.
        checkpoints: Where checkpoints are written after each epoch, and gone on from; None keeps them while training.
        teacher: A network whose predictions are soft targets beside the labels.

    Returns:
        Every epoch, and which one's weights were kept.

    Raises:
        ModelError: The engine refuses the recipe, such as its device, the loss is not finite, or memory runs out
            with a batch of 1.
    """
    prepare()
    began = time.perf_counter()
    scratch = Path(tempfile.mkdtemp(prefix="ethos-train-"))
    try:
        place = checkpoints or Checkpoints(scratch / "checkpoints")
        data = engine_data(view_of(dataset, scratch), trainee.names)
        session = Session(trainee.make, recipe, data, scratch, seed, place, teacher, on_epoch, tell)
        session.run()
        model = trainee.make()
        model.load_state_dict(session.best.state)
        trainee.save(into, model)
        place.copy_numbered(into)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return TrainResult(
        epochs=session.epochs,
        best_epoch=session.best.epoch,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=session.seconds_before + time.perf_counter() - began,
        device=session.device,
        batch=session.recipe.batch,
        tensors_sha256=tensors_sha256(model.state_dict()),
        resumed=session.resumed,
    )
