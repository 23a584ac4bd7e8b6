"""Train a network, and then, if the recipe says so, train it on with int8 rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ethos.model.weights import WEIGHTS_FILE, read_tensors
from ethos.training.train import TrainResult, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from ethos.model.levels import Architecture, Network
    from ethos.specs import Qat, Recipe
    from ethos.training.checkpoint import Checkpoints
    from ethos.training.epoch import Epoch

# where the epochs with rounding keep their checkpoints, below the others'
ROUNDED = "rounded"


def train_by_recipe(
    architecture: Architecture,
    recipe: Recipe,
    dataset: Path,
    into: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
    **given: Any,
) -> TrainResult:
    """Train as `ethos.training.train.train` does, then as the recipe's `qat` says; epochs are counted on.

    Scores of the later epochs are those of the rounded network, and the weights kept are the best of them. They have
    checkpoints of their own.
    """
    common = {"seed": seed, **given}
    result = train(
        architecture,
        recipe,
        dataset,
        into,
        start=start,
        on_epoch=on_epoch,
        tell=tell,
        checkpoints=checkpoints,
        **common,
    )
    if recipe.qat is None:
        return result
    before = len(result.epochs)
    tuned = fine_tune(
        architecture,
        recipe,
        recipe.qat,
        dataset,
        into,
        start=read_tensors(into / WEIGHTS_FILE),
        tell=lambda text: tell(f"with rounding: {text}"),
        checkpoints=checkpoints.part(ROUNDED) if checkpoints else None,
        on_epoch=lambda epoch: on_epoch(replace(epoch, epoch=epoch.epoch + before)),
        **common,
    )
    return replace(
        tuned,
        epochs=result.epochs + [replace(epoch, epoch=epoch.epoch + before) for epoch in tuned.epochs],
        best_epoch=tuned.best_epoch + before,
        seconds=result.seconds + tuned.seconds,
        transferred=result.transferred,
        # a first part that was done is not where the process before had ended
        resumed=[epoch for epoch in result.resumed if epoch < before or not tuned.resumed]
        + [epoch + before for epoch in tuned.resumed],
    )


def fine_tune(
    architecture: Architecture,
    recipe: Recipe,
    qat: Qat,
    dataset: Path,
    into: Path,
    *,
    start: Mapping[str, Tensor],
    **given: Any,
) -> TrainResult:
    """Train on from `start` with int8 rounding, under the recipe but for what `qat` sets; arguments as in `train`."""

    def rounded(model: Network) -> None:
        from ethos.training.qat import round_network

        round_network(model, qat.per_channel)

    changed = {"epochs": qat.epochs, "lr0": qat.lr0, "warmup_epochs": 0.0, "qat": None, "save_period": -1}
    short = recipe.model_copy(update=changed)
    return train(architecture, short, dataset, into, start=start, on_built=rounded, **given)
