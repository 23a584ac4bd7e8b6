"""Trainings that are interrupted: what goes on, from where, and that it ends as if nothing had happened."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import CLASSES

from ethos.errors import ModelError
from ethos.files import write_json
from ethos.model.engine import prepare
from ethos.model.levels import Architecture, resolve_level
from ethos.model.weights import load_model, read_tensors
from ethos.training.arguments import with_batch
from ethos.training.checkpoint import Checkpoints
from ethos.training.faults import is_out_of_memory
from ethos.training.train import TrainResult, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ethos.specs import Recipe
    from ethos.training.epoch import Epoch

TIMELESS = {"seconds": 0.0, "images_per_second": 0.0, "memory_mib": 0.0}


class Killed(BaseException):
    """What stops a training here, where a kill would."""


class Trained:
    """Trains the same small network again and again, and keeps what was told."""

    def __init__(self, dataset: Path, folder: Path) -> None:
        base, steps = resolve_level("level4")
        self.architecture = Architecture(base=base, steps=steps, activation="relu", names=CLASSES)
        self.dataset, self.folder, self.told = dataset, folder, list[str]()
        self.checkpoints = Checkpoints(folder / "checkpoints")

    def run(self, recipe: Recipe, into: str, on_epoch: Callable[[Epoch], None] = lambda _: None) -> TrainResult:
        (self.folder / into).mkdir()
        return train(
            self.architecture,
            recipe,
            self.dataset,
            self.folder / into,
            seed=3,
            on_epoch=on_epoch,
            tell=self.told.append,
            checkpoints=self.checkpoints,
        )

    @property
    def epochs_kept(self) -> int:
        progress = self.checkpoints.read()
        return progress["epoch"] if progress else 0


@pytest.fixture
def trained(tiny_dataset: Path, tmp_path: Path) -> Trained:
    return Trained(tiny_dataset, tmp_path)


@pytest.fixture(scope="module")
def three_epochs(smoke: Recipe) -> Recipe:
    """Return a recipe in which everything that could carry over from one epoch to the next is on."""
    changes = {"epochs": 3, "nbs": 24, "warmup_epochs": 1.5, "mosaic": 0.5, "close_mosaic": 1, "dropout": 0.1}
    return smoke.model_copy(update=changes)


@pytest.fixture(scope="module")
def uninterrupted(
    tiny_dataset: Path, three_epochs: Recipe, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trained, TrainResult]:
    made = Trained(tiny_dataset, tmp_path_factory.mktemp("uninterrupted"))
    return made, made.run(three_epochs, "whole")


def stop_after(epoch: int) -> Callable[[Epoch], None]:
    def stop(done: Epoch) -> None:
        if done.epoch == epoch:
            raise Killed

    return stop


def patch_batches(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, dict[str, Any]], None]) -> None:
    """Call `change(trainer, batch)` before each training step."""
    prepare()
    from ethos.training.trainer import Trainer

    original = Trainer.preprocess_batch

    def preprocess(trainer: Any, batch: dict[str, Any]) -> dict[str, Any]:
        batch = original(trainer, batch)
        change(trainer, batch)
        return batch

    monkeypatch.setattr(Trainer, "preprocess_batch", preprocess)


def timeless(result: TrainResult) -> list[Epoch]:
    return [replace(epoch, **TIMELESS) for epoch in result.epochs]


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_training_in_pieces_equals_a_whole_one_to_the_bit(
    trained: Trained, three_epochs: Recipe, uninterrupted: tuple[Trained, TrainResult]
) -> None:
    for epoch in (1, 2):
        with pytest.raises(Killed):
            trained.run(three_epochs, f"until {epoch}", stop_after(epoch))
    seen: list[Epoch] = []
    result = trained.run(three_epochs, "done", seen.append)
    _, whole = uninterrupted
    assert result.tensors_sha256 == whole.tensors_sha256
    assert timeless(result) == timeless(whole)
    assert (result.best_epoch, result.resumed, whole.resumed) == (whole.best_epoch, [1, 2], [])
    assert seen == result.epochs
    assert trained.told == [f"goes on after epoch {epoch} from {trained.checkpoints.last}" for epoch in (1, 2)]


def test_a_training_that_was_done_is_not_done_again(
    three_epochs: Recipe, uninterrupted: tuple[Trained, TrainResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, whole = uninterrupted
    patch_batches(monkeypatch, lambda *_: pytest.fail("a batch was trained"))
    again = trained.run(three_epochs, "again")
    assert again.epochs == whole.epochs
    assert again.tensors_sha256 == whole.tensors_sha256


def test_checkpoints_hold_tensors_and_numbers_alone(uninterrupted: tuple[Trained, TrainResult]) -> None:
    trained, whole = uninterrupted
    assert torch.serialization.get_unsafe_globals_in_checkpoint(str(trained.checkpoints.last)) == []
    progress = trained.checkpoints.read()
    assert progress is not None
    assert (progress["epoch"], progress["finished"]) == (3, True)
    assert set(progress) >= {"model", "ema", "optimizer", "scaler", "stopper", "best", "batch"}
    # it can be begun from as any weights file
    assert set(read_tensors(trained.checkpoints.last)) == set(progress["model"])
    assert whole.best_epoch in (1, 2, 3)


def test_a_damaged_checkpoint(trained: Trained, smoke: Recipe) -> None:
    trained.checkpoints.folder.mkdir()
    trained.checkpoints.last.write_bytes(b"PK\x03\x04 no more than this")
    with pytest.raises(ModelError) as caught:
        trained.run(smoke, "into")
    assert caught.value.message == f"{trained.checkpoints.last}: not a readable checkpoint"
    assert caught.value.fix == f"begin anew: rm -r {trained.checkpoints.folder}"


def test_other_settings_have_another_place(tmp_path: Path) -> None:
    mine = Checkpoints.of(tmp_path, {"plan": {"lr0": 0.1}, "code": "a"})
    assert Checkpoints.of(tmp_path, {"code": "a", "plan": {"lr0": 0.1}}) == mine
    assert Checkpoints.of(tmp_path, {"plan": {"lr0": 0.2}, "code": "a"}) != mine
    assert Checkpoints.of(tmp_path, {"plan": {"lr0": 0.1}, "code": "b"}) != mine
    mine.keep_run_id("abc")
    assert Checkpoints.of(tmp_path, {"plan": {"lr0": 0.1}, "code": "a"}).run_id == "abc"
    mine.remove()
    assert not tmp_path.exists()


def test_checkpoints_of_ones_own_place_are_removed_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "something else").mkdir()
    Checkpoints(tmp_path / "mine").remove()
    assert [path.name for path in tmp_path.iterdir()] == ["something else"]


def test_weights_of_single_epochs(trained: Trained, three_epochs: Recipe) -> None:
    result = trained.run(three_epochs.model_copy(update={"save_period": 2}), "into")
    folder = trained.folder / "into" / "epochs"
    assert [path.name for path in folder.iterdir()] == ["epoch2.safetensors"]
    kept, (best, _) = read_tensors(folder / "epoch2.safetensors"), load_model(trained.folder / "into")
    same = all(torch.equal(value, best.state_dict()[name]) for name, value in kept.items())
    assert same == (result.best_epoch == 2)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_that_runs_out_halves_the_batch(
    trained: Trained, three_epochs: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, float]] = []

    def allocate(trainer: Any, batch: dict[str, Any]) -> None:
        decay = trainer.optimizer.param_groups[0]["weight_decay"]
        seen.append((trainer.epoch + 1, trainer.batch_size * trainer.batches_to_a_step, decay))
        if trainer.epoch == 1 and len(batch["img"]) > 4:
            torch.empty(1 << 50, dtype=torch.uint8)

    patch_batches(monkeypatch, allocate)
    result = trained.run(three_epochs, "into")
    assert trained.told == ["out of memory with batch 8: goes on with 4, 6 batches to a step"]
    assert (result.batch, [epoch.epoch for epoch in result.epochs]) == (4, [1, 2, 3])
    # four batches of eight, one that was too much, then twice eight of four: epoch 1 was not trained again
    assert [epoch for epoch, _, _ in seen] == [1] * 4 + [2] * 9 + [3] * 8
    assert {effective for _, effective, _ in seen} == {24}
    assert max(decay for *_, decay in seen) == pytest.approx(min(decay for *_, decay in seen))


def test_memory_that_is_never_enough(trained: Trained, smoke: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def allocate(*_: object) -> None:
        raise MemoryError

    patch_batches(monkeypatch, allocate)
    with pytest.raises(ModelError) as caught:
        trained.run(smoke.model_copy(update={"batch": 2}), "into")
    assert str(caught.value) == "training ran out of memory with a batch of 1\n  fix: lower imgsz in the recipe"
    assert list((trained.folder / "into").iterdir()) == []


@pytest.mark.parametrize(("kills_before", "batch"), [(-1, 4), (0, 8)], ids=["for-memory", "otherwise"])
def test_a_kill_for_memory_halves_the_batch(
    trained: Trained, smoke: Recipe, kills_before: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ethos.training.recovery.kills_for_memory", lambda: 0)
    attempt = trained.checkpoints.folder / "attempt.json"
    write_json(attempt, {"kills": kills_before, "batch": 8})
    assert trained.run(smoke, "into").batch == batch
    assert not attempt.exists()


@pytest.mark.parametrize(("batch", "nbs"), [(8, 8), (16, 64), (16, 8), (6, 64)])
def test_another_batch_keeps_step_and_decay(smoke: Recipe, batch: int, nbs: int) -> None:
    recipe = smoke.model_copy(update={"batch": batch, "nbs": nbs})

    def engine(recipe: Recipe) -> tuple[int, float]:
        steps = max(round(recipe.nbs / recipe.batch), 1)
        return recipe.batch * steps, recipe.weight_decay * recipe.batch * steps / recipe.nbs

    assert engine(with_batch(recipe, batch // 2)) == pytest.approx(engine(recipe))


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("The size of tensor a (3) must match"), False),
        (KeyError("memory"), False),
    ],
    ids=["python", "cuda", "cpu", "shape", "key"],
)
def test_what_says_that_memory_ran_out(error: Exception, answer: bool) -> None:
    assert is_out_of_memory(error) is answer


# --- losses and disks ------------------------------------------------------------------------------------------------


def test_a_loss_that_turns_infinite_keeps_the_last_good_checkpoint(
    trained: Trained, three_epochs: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(trainer: Any, batch: dict[str, Any]) -> None:
        if trainer.epoch == 1:
            batch["img"][0] = torch.nan

    patch_batches(monkeypatch, spoil)
    with pytest.raises(ModelError) as caught:
        trained.run(three_epochs, "into")
    last = trained.checkpoints.last
    assert caught.value.message == f"epoch 2: the loss is not finite; the checkpoint of epoch 1 is kept: {last}"
    assert caught.value.fix == (
        f"lower lr0 in the recipe; weights: {{source: path, file: {last}}} begins from that checkpoint"
    )
    assert trained.epochs_kept == 1
    assert all(value.isfinite().all() for value in read_tensors(last).values())


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """Let no file grow beyond `limit` bytes: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_good_checkpoint(
    trained: Trained, three_epochs: Recipe, uninterrupted: tuple[Trained, TrainResult]
) -> None:
    with pytest.raises(Killed):
        trained.run(three_epochs, "until 1", stop_after(1))
    trained.told.clear()
    with small_disk(1 << 20), pytest.raises(ModelError) as caught:
        trained.run(three_epochs, "full")
    assert "weights.safetensors: cannot be written" in caught.value.message
    assert [note.partition(":")[0] for note in trained.told[1:]] == ["epoch 2", "epoch 3"]
    assert trained.told[1].endswith("the last checkpoint stays")
    assert trained.epochs_kept == 1
    # what could not be written was one file each time, and nothing of it is left
    assert sorted(path.name for path in trained.checkpoints.folder.iterdir()) == ["last.pt"]
    assert trained.run(three_epochs, "done").tensors_sha256 == uninterrupted[1].tensors_sha256
