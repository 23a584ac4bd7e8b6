"""Train a network, and then, if the recipe says so, train it on with int8 rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ethos.model.weights import WEIGHTS_FILE, read_tensors
from ethos.training.train import Epoch, TrainResult, train

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from ethos.model.levels import Architecture, Network
    from ethos.specs import Qat, Recipe


def train_by_recipe(
    architecture: Architecture,
    recipe: Recipe,
    dataset: Path,
    into: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> TrainResult:
    """Train as `ethos.training.train.train` does, then as the recipe's `qat` says; epochs are counted on.

    Scores of the later epochs are those of the rounded network, and the weights kept are the best of them.
    """
    result = train(architecture, recipe, dataset, into, start=start, seed=seed, on_epoch=on_epoch)
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
        seed=seed,
        on_epoch=lambda epoch: on_epoch(replace(epoch, epoch=epoch.epoch + before)),
    )
    result.epochs += [replace(epoch, epoch=epoch.epoch + before) for epoch in tuned.epochs]
    result.best_epoch = tuned.best_epoch + before
    result.seconds += tuned.seconds
    return result


def fine_tune(
    architecture: Architecture,
    recipe: Recipe,
    qat: Qat,
    dataset: Path,
    into: Path,
    *,
    start: Mapping[str, Tensor],
    seed: int = 0,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> TrainResult:
    """Train on from `start` with int8 rounding, under the recipe but for what `qat` sets; arguments as in `train`."""

    def rounded(model: Network) -> None:
        from ethos.training.qat import round_network

        round_network(model, qat.per_channel)

    short = recipe.model_copy(update={"epochs": qat.epochs, "lr0": qat.lr0, "warmup_epochs": 0.0, "qat": None})
    return train(architecture, short, dataset, into, start=start, seed=seed, on_epoch=on_epoch, on_built=rounded)
