"""What only a GPU can show: mixed precision, a training that goes on, memory that runs out, and pruning there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import CLASSES, SIDE

from ethos import catalog
from ethos.model.engine import prepare
from ethos.model.levels import Architecture, build, resolve_level
from ethos.model.weights import load_model
from ethos.plan import PrunePlan
from ethos.pruning.schedule import run_schedule
from ethos.specs import Prune, PruneGoal, Qat
from ethos.training.aware import train_by_recipe
from ethos.training.checkpoint import Checkpoints
from ethos.training.distill import Teacher
from ethos.training.measure import accumulate_gradients, validate
from ethos.training.train import train

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ethos.specs import Recipe
    from ethos.training.epoch import Epoch
    from ethos.training.train import TrainResult

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

prepare()


def architecture(level: str = "level4", activation: Any = "leaky_relu") -> Architecture:
    base, steps = resolve_level(level)
    return Architecture(base=base, steps=steps, activation=activation, names=CLASSES)


@pytest.fixture(scope="module")
def half(smoke: Recipe) -> Recipe:
    """Return a recipe with mixed precision on the GPU, the last epochs with rounding."""
    changes = {"device": "", "amp": True, "epochs": 2, "qat": Qat(epochs=2, lr0=0.0005)}
    return smoke.model_copy(update=changes)


@pytest.fixture
def small_memory() -> Iterator[None]:
    """Leave this process 1.5 GB of the GPU's memory."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_killed_training_goes_on_in_mixed_precision_and_with_rounding(
    tiny_dataset: Path, half: Recipe, tmp_path: Path
) -> None:
    def run(name: str, checkpoints: Checkpoints | None = None, stop: int = 0) -> TrainResult:
        def on_epoch(epoch: Epoch) -> None:
            if epoch.epoch == stop:
                raise KeyboardInterrupt

        (tmp_path / name).mkdir()
        given: dict[str, Any] = {"on_epoch": on_epoch, "checkpoints": checkpoints}
        given["teacher"] = Teacher(build(architecture(activation="relu"), seed=9))
        return train_by_recipe(architecture(), half, tiny_dataset, tmp_path / name, **given)

    whole = run("whole")
    assert whole.device == "cuda:0"
    place = Checkpoints(tmp_path / "checkpoints")
    for stop in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(f"killed after {stop}", place, stop)
    found = run("done", place)
    assert found.resumed == [1, 3]
    for one, two in zip(whole.epochs, found.epochs, strict=True):
        assert two.train_box_loss == pytest.approx(one.train_box_loss, rel=0.05)
        assert two.train_cls_loss == pytest.approx(one.train_cls_loss, rel=0.05)


@pytest.mark.usefixtures("small_memory")
def test_a_batch_that_does_not_fit_is_halved(tiny_dataset: Path, smoke: Recipe, tmp_path: Path) -> None:
    told: list[str] = []
    recipe = smoke.model_copy(update={"device": "", "imgsz": 320, "batch": 32, "nbs": 32})
    result = train(architecture("level3"), recipe, tiny_dataset, tmp_path, tell=told.append)
    assert result.batch in {1, 2, 4, 8, 16}
    assert told[0] == "out of memory with batch 32: goes on with 16, 2 batches to a step"


def test_measuring_leaves_a_network_where_it_was(tiny_dataset: Path, half: Recipe) -> None:
    network = build(architecture())
    scores = validate(network, architecture(), half, tiny_dataset)
    assert set(scores) == {"precision", "recall", "map50", "map50_95"}
    accumulate_gradients(network, architecture(), half, tiny_dataset, batches=1, seed=0)
    assert {each.device.type for each in network.parameters()} == {"cpu"}
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    assert gradients
    assert {each.device.type for each in gradients} == {"cpu"}


def test_pruning(tiny_dataset: Path, half: Recipe, tmp_path: Path) -> None:
    for name in ("dense", "pruned"):
        (tmp_path / name).mkdir()
    train(architecture("level2", "relu"), half, tiny_dataset, tmp_path / "dense")
    options = Prune(goals=(PruneGoal(quantity="macs", share=0.8),), importance="taylor", max_map50_drop=1.0)
    target: Any = catalog.load("target", "ethos-u65-512")
    plan = PrunePlan(variant="level2_relu", imgsz=SIDE, options=options, recovery=half, targets=(target,), seed=0)
    outcome = run_schedule(tmp_path / "dense", plan, tiny_dataset, tmp_path / "pruned")
    assert outcome.best.measured.macs < 0.82 * outcome.dense.macs
    assert load_model(tmp_path / "pruned")[1].widths
