"""Loss gradients and scores of a network as it is, from the engine that trains it."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.model.engine import prepare
from ethos.training.arguments import engine_arguments, engine_data, view_of
from ethos.training.epoch import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethos.model.levels import Architecture, Network
    from ethos.specs import Recipe

LOSSES = ("box_loss", "cls_loss", "dfl_loss")


def validate(network: Network, architecture: Architecture, recipe: Recipe, dataset: Path) -> dict[str, float]:
    """Return precision, recall, map50 and map50_95 on the validation side, as an epoch of a training gives them."""
    import torch

    with _engine(network, architecture, recipe, dataset) as trainer:
        # an epoch of training leaves these, and the validator looks at them
        trainer.epoch = 0
        trainer.loss_items = {name: torch.zeros((), device=trainer.device) for name in LOSSES}
        metrics = trainer.validator(trainer)
    return {ours: float(metrics[theirs]) for theirs, ours in METRICS.items()}


def accumulate_gradients(
    network: Network, architecture: Architecture, recipe: Recipe, dataset: Path, batches: int, seed: int
) -> None:
    """Leave the gradient of the training loss, summed over some batches, in the network's parameters."""
    with _engine(network, architecture, recipe, dataset, seed) as trainer:
        # only the head: it then gives what the loss takes, and no batch norm follows these batches
        network.eval()
        network.model[-1].training = True
        network.zero_grad()
        for batch in islice(trainer.train_loader, batches):
            loss, _ = network(trainer.preprocess_batch(batch))
            loss.sum().backward()


@contextmanager
def _engine(
    network: Network, architecture: Architecture, recipe: Recipe, dataset: Path, seed: int = 0
) -> Iterator[Any]:
    """Yield the engine, set up to train the network, for the block; afterwards the network is where and as it was."""
    prepare()
    from ethos.training.trainer import make_trainer

    device = next(network.parameters()).device
    training, frozen = network.training, [each for each in network.parameters() if not each.requires_grad]
    scratch = Path(tempfile.mkdtemp(prefix="ethos-measure-"))
    try:
        data = engine_data(view_of(dataset, scratch), architecture.names)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            trainer = make_trainer(network, data, engine_arguments(recipe, scratch, seed), lambda *_: None)
            trainer._setup_train()
            yield trainer
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        network.to(device).train(training)
        for parameter in frozen:
            parameter.requires_grad_(False)
