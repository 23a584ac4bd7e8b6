"""Training: what is recorded and kept, that it repeats to the bit, and that it leaves the data set alone."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import CLASSES

from ethos.errors import ModelError
from ethos.model.levels import Architecture, build, resolve_level
from ethos.model.weights import WEIGHTS_FILE, load_model, read_tensors
from ethos.plan import StartPlan
from ethos.specs import Recipe, Weights
from ethos.training.epoch import Epoch, epoch_row
from ethos.training.start import load_start, make_start
from ethos.training.train import TrainResult, train

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor


def architecture(level: str = "level3") -> Architecture:
    base, steps = resolve_level(level)
    return Architecture(base=base, steps=steps, activation="relu", names=CLASSES)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


class Finished:
    """A training of two epochs, with the state of the data set before and after."""

    def __init__(self, folder: Path, dataset: Path, recipe: Recipe) -> None:
        self.folder, self.seen = folder, []
        self.before = snapshot(dataset)
        self.result: TrainResult = train(architecture(), recipe, dataset, folder, seed=1, on_epoch=self.seen.append)
        self.after = snapshot(dataset)


@pytest.fixture(scope="module")
def two_epochs(smoke: Recipe) -> Recipe:
    return smoke.model_copy(update={"epochs": 2})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path, two_epochs: Recipe) -> Finished:
    return Finished(tmp_path_factory.mktemp("train"), tiny_dataset, two_epochs)


# --- what comes out --------------------------------------------------------------------------------------------------


def test_every_epoch_is_recorded(finished: Finished) -> None:
    result = finished.result
    assert [epoch.epoch for epoch in result.epochs] == [1, 2]
    assert result.epochs == finished.seen
    assert result.best_epoch in (1, 2)
    assert result.best is result.epochs[result.best_epoch - 1]
    assert result.parameters == sum(parameter.numel() for parameter in build(architecture()).parameters())
    assert result.device == "cpu"
    assert (result.transferred.matched, result.transferred.total) == (0, 0)
    assert result.seconds >= sum(epoch.seconds for epoch in result.epochs)


def test_figures_of_an_epoch_are_plausible(finished: Finished) -> None:
    for epoch in finished.result.epochs:
        row = epoch_row(epoch)
        assert all(math.isfinite(value) for value in row.values())
        assert min(row[f"{side}_{part}_loss"] for side in ("train", "val") for part in ("box", "cls", "dfl")) > 0
        assert all(0 <= row[score] <= 1 for score in ("precision", "recall", "map50", "map50_95"))
        assert row["lr"] > 0
        assert row["seconds"] > 0
        assert row["images_per_second"] == pytest.approx(32 / row["seconds"], rel=0.01)
        assert row["memory_mib"] > 50


def test_the_learning_rate_falls_to_its_end(finished: Finished, two_epochs: Recipe) -> None:
    first, second = (epoch.lr for epoch in finished.result.epochs)
    assert first > second >= two_epochs.lr0 * two_epochs.lrf


def test_weights_that_are_kept_can_be_loaded(finished: Finished) -> None:
    assert sorted(path.name for path in finished.folder.iterdir()) == ["architecture.json", "weights.safetensors"]
    model, found = load_model(finished.folder)
    assert found == architecture()
    initial = build(architecture(), seed=1).state_dict()
    trained = model.state_dict()
    assert not torch.equal(trained["model.0.conv.weight"], initial["model.0.conv.weight"])
    assert all(value.isfinite().all() for value in trained.values())


def test_the_data_set_is_untouched(finished: Finished) -> None:
    assert finished.before == finished.after
    assert len(finished.before) > 80


def test_the_same_seed_gives_the_same_bits(
    finished: Finished, tmp_path: Path, tiny_dataset: Path, two_epochs: Recipe
) -> None:
    again = train(architecture(), two_epochs, tiny_dataset, tmp_path, seed=1)
    assert fingerprint(read_tensors(tmp_path / WEIGHTS_FILE)) == fingerprint(
        read_tensors(finished.folder / WEIGHTS_FILE)
    )
    timeless = {"seconds": 0.0, "images_per_second": 0.0, "memory_mib": 0.0}
    assert [replace(epoch, **timeless) for epoch in again.epochs] == [
        replace(epoch, **timeless) for epoch in finished.result.epochs
    ]


def test_another_seed_and_given_weights_give_others(
    finished: Finished, tmp_path: Path, tiny_dataset: Path, smoke: Recipe
) -> None:
    start = read_tensors(finished.folder / WEIGHTS_FILE)
    result = train(architecture("level4"), smoke, tiny_dataset, tmp_path, start=start, seed=2)
    own = build(architecture("level4")).state_dict()
    fitting = [name for name in own if name in start and start[name].shape == own[name].shape]
    # what does not fit as it is, is a part of a wider layer
    assert 100 < len(fitting) < len(own)
    assert (result.transferred.matched, result.transferred.total) == (len(own), len(own))
    found = read_tensors(tmp_path / WEIGHTS_FILE)["model.0.conv.weight"]
    # one short epoch stays near its start, and far from other random weights
    near = (found - start["model.0.conv.weight"]).abs().mean()
    far = (found - build(architecture("level4"), seed=2).state_dict()["model.0.conv.weight"]).abs().mean()
    assert near < 0.2 * far


def test_nothing_is_printed_or_left_behind(
    tmp_path: Path,
    tiny_dataset: Path,
    smoke: Recipe,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "into").mkdir()
    network = architecture()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path / "scratch")
    train(network, smoke, tiny_dataset, tmp_path / "into")
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_loss_that_is_not_finite(tmp_path: Path, tiny_dataset: Path, smoke: Recipe) -> None:
    wild = smoke.model_copy(update={"box": 1e38})
    seen: list[Epoch] = []
    with pytest.raises(ModelError) as caught:
        train(architecture(), wild, tiny_dataset, tmp_path, on_epoch=seen.append)
    assert str(caught.value) == "epoch 1: the loss is not finite\n  fix: lower lr0 in the recipe"
    assert seen == []
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_is_not_there(tmp_path: Path, tiny_dataset: Path, smoke: Recipe) -> None:
    elsewhere = smoke.model_copy(update={"device": "77"})
    with pytest.raises(ModelError) as caught:
        train(architecture(), elsewhere, tiny_dataset, tmp_path)
    assert caught.value.message.startswith("recipe 'smoke': Invalid CUDA 'device=77' requested.")
    assert "\n" not in caught.value.message


# --- starting weights ------------------------------------------------------------------------------------------------


def ignore(_: Epoch) -> None:
    """Take no notice of an epoch."""


def test_a_start_from_scratch_has_no_weights(tmp_path: Path, tiny_dataset: Path) -> None:
    make_start(StartPlan(weights=Weights(source="scratch"), seed=0), tiny_dataset, tmp_path, ignore)
    assert load_start(tmp_path) == (None, {"schema": 1, "source": "scratch"})
    assert [path.name for path in tmp_path.iterdir()] == ["start.json"]


def test_a_start_from_a_file_keeps_its_tensors_and_hash(
    tmp_path: Path, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.pt"
    torch.save({"model.0.conv.weight": torch.full((2, 2), 0.5)}, file)
    monkeypatch.setenv("MINE", str(file))
    (tmp_path / "start").mkdir()
    plan = StartPlan(weights=Weights(source="path", path_env="MINE"), seed=0)
    make_start(plan, tiny_dataset, tmp_path / "start", ignore)
    tensors, record = load_start(tmp_path / "start")
    assert tensors is not None
    assert {name: value.tolist() for name, value in tensors.items()} == {"model.0.conv.weight": [[0.5, 0.5]] * 2}
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record == {"schema": 1, "source": "path", "file": "mine.pt", "sha256": sha256}


def test_a_warm_start_is_trained(tmp_path: Path, tiny_dataset: Path, smoke: Recipe) -> None:
    weights = Weights(source="warm_start", level="level3", activation="relu", recipe="smoke")
    plan = StartPlan(weights=weights, seed=0, architecture=architecture(), warm_up=smoke)
    seen: list[Epoch] = []
    make_start(plan, tiny_dataset, tmp_path, seen.append)
    tensors, record = load_start(tmp_path)
    assert tensors is not None
    assert set(tensors) == set(build(architecture()).state_dict())
    assert {key: record[key] for key in ("source", "recipe", "epochs", "map50")} == {
        "source": "warm_start",
        "recipe": "smoke",
        "epochs": 1,
        "map50": seen[0].map50,
    }
    assert record["sha256"] == hashlib.sha256((tmp_path / "start.safetensors").read_bytes()).hexdigest()
