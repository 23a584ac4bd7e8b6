"""Weights on disk: bit for bit there and back, and nothing in a file is ever run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT

from ethos.errors import EthosError, ModelError
from ethos.model.engine import prepare
from ethos.model.levels import Architecture, Network, build, resolve_level
from ethos.model.weights import (
    ARCHITECTURE_FILE,
    WEIGHTS_FILE,
    load_model,
    read_tensors,
    save_model,
    save_tensors,
    transfer,
)
from ethos.specs import Weights
from ethos.training.start import cached, locate

RECONSTRUCTED = ROOT.parent / "shared" / "weights" / "yolo11n_coco_reconstructed.pt"
NAMES = ("a", "b")


def architecture(level: str = "level3") -> Architecture:
    base, steps = resolve_level(level)
    return Architecture(base=base, steps=steps, activation="relu", names=NAMES)


@pytest.fixture(scope="module")
def network() -> Network:
    """Return a network whose every tensor, batch norm statistics included, is no default."""
    model = build(architecture(), seed=5)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand_like(value) if value.is_floating_point() else torch.full_like(value, 7))
    return model


@pytest.fixture
def folder(tmp_path: Path, network: Network) -> Path:
    save_model(tmp_path, network, architecture())
    return tmp_path


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_tensors(path)
    assert caught.value.fix
    return caught.value.message


# --- there and back --------------------------------------------------------------------------------------------------


def test_saved_and_loaded_networks_are_equal_to_the_bit(folder: Path, network: Network) -> None:
    loaded, found = load_model(folder)
    assert found == architecture()
    own, other = network.state_dict(), loaded.state_dict()
    assert list(own) == list(other)
    assert all(torch.equal(own[name], other[name]) and own[name].dtype == other[name].dtype for name in own)
    assert loaded.names == {0: "a", 1: "b"}


def test_saving_again_gives_the_same_bytes(folder: Path, tmp_path: Path, network: Network) -> None:
    (tmp_path / "again").mkdir()
    save_model(tmp_path / "again", network, architecture())
    for name in (WEIGHTS_FILE, ARCHITECTURE_FILE):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_half_precision_is_kept_as_float32(tmp_path: Path) -> None:
    values = {"half": torch.rand(3).half(), "whole": torch.tensor(4), "view": torch.rand(4, 4).t()}
    save_tensors(tmp_path / "a.safetensors", values)
    found = read_tensors(tmp_path / "a.safetensors")
    assert found["half"].dtype == torch.float32
    assert found["whole"].dtype == torch.int64
    assert all(torch.equal(found[name], value.to(found[name].dtype)) for name, value in values.items())


def test_a_plain_state_dict_is_read(tmp_path: Path, network: Network) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pt")
    found = read_tensors(tmp_path / "a.pt")
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


def test_a_checkpoint_is_read_by_its_moving_average(tmp_path: Path, network: Network) -> None:
    checkpoint = {"epoch": 3, "model": build(architecture("level2")).half(), "ema": network, "optimizer": None}
    torch.save(checkpoint, tmp_path / "a.pt")
    found = read_tensors(tmp_path / "a.pt")
    assert list(found) == list(network.state_dict())
    assert all(torch.equal(found[name], value) for name, value in network.state_dict().items())


def test_transfer_takes_what_fits_by_name_and_shape(network: Network) -> None:
    other = build(architecture("level2"))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    given = network.state_dict()
    result = transfer(other, given)
    fitting = {name for name in before if name in given and given[name].shape == before[name].shape}
    assert (result.matched, result.total) == (len(fitting), len(before))
    assert 0 < result.matched < result.total
    for name, value in other.state_dict().items():
        assert torch.equal(value, given[name] if name in fitting else before[name])


@pytest.mark.skipif(not RECONSTRUCTED.is_file(), reason="no reconstructed COCO weights beside the project")
def test_coco_weights_fill_most_of_a_level() -> None:
    tensors = read_tensors(RECONSTRUCTED)
    model = build(architecture())
    result = transfer(model, tensors)
    assert result.matched >= 200
    name = next(name for name, value in model.state_dict().items() if name in tensors and value.ndim == 4)
    assert torch.equal(model.state_dict()[name], tensors[name])


# --- files that are not to be trusted --------------------------------------------------------------------------------


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


class Evaluation:
    """Evaluates an expression when it is unpickled."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (self.expression,)


class Call:
    """Calls a function of PyTorch or Ultralytics when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("key", ["ema", "model", "extra"])
@pytest.mark.parametrize(
    ("kind", "name"), [(Command, "posix.system"), (Evaluation, "builtins.eval")], ids=["system", "eval"]
)
def test_a_file_with_code_is_refused_and_not_run(tmp_path: Path, key: str, kind: Any, name: str) -> None:
    marker = tmp_path / "marker"
    text = f"touch {marker}" if kind is Command else f"open({str(marker)!r}, 'w')"
    torch.save({"model": {"a": torch.zeros(1)}, key: kind(text)}, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt") == f"{tmp_path}/a.pt: refused, since opening it would use {name}"
    assert not marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_bare_pickle_with_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Command(f"touch {marker}"), protocol=protocol))
    assert "a.pt: " in refusal(tmp_path / "a.pt")
    assert not marker.exists()


def test_no_constructor_is_called(tmp_path: Path) -> None:
    """A DetectionModel evaluates the text under `activation` when it is built; a pickle may ask for that."""
    prepare()
    from ultralytics.nn.tasks import DetectionModel

    marker = tmp_path / "marker"
    graph = {
        "nc": 1,
        "activation": f"open({str(marker)!r}, 'w')",
        "backbone": [[-1, 1, "Conv", [16, 3, 2]]],
        "head": [[[0], 1, "Detect", ["nc"]]],
    }
    torch.save({"model": Call(DetectionModel, graph)}, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt").startswith(f"{tmp_path}/a.pt: not a readable PyTorch file: ")
    assert not marker.exists()


def test_no_function_is_called(tmp_path: Path) -> None:
    prepare()
    from ultralytics.utils.files import increment_path

    torch.save({"model": Call(increment_path, str(tmp_path / "made"), False, "", True)}, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt").startswith(f"{tmp_path}/a.pt: not a readable PyTorch file: ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a readable PyTorch file"),
        (b"PK\x03\x04", "not a readable PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a readable PyTorch file"),
    ],
    ids=["empty", "zip-head", "pointer"],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    message = refusal(tmp_path / "a.pt")
    assert message.startswith(f"{tmp_path}/a.pt: {text}")
    assert "\n" not in message


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_file(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"a{suffix}"
    values = {"a": torch.rand(100, 100), "b": torch.rand(50)}
    if suffix == ".pt":
        torch.save(values, path)
    else:
        save_tensors(path, values)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert refusal(path).startswith(f"{path}: not a readable ")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], 5], ids=["empty", "no-tensor", "list", "number"])
def test_a_file_without_weights(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt") == f"{tmp_path}/a.pt: holds no weights"


def test_no_such_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.pt") == f"{tmp_path}/a.pt: no such weights file"


# --- folders that do not fit -----------------------------------------------------------------------------------------


def drop(tensors: dict[str, Any]) -> None:
    del tensors["model.0.conv.weight"]


def add(tensors: dict[str, Any]) -> None:
    tensors["model.99.weight"] = torch.zeros(1)


def reshape(tensors: dict[str, Any]) -> None:
    tensors["model.0.conv.weight"] = tensors["model.0.conv.weight"][:8]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (drop, 'Missing key(s) in state_dict: "model.0.conv.weight".'),
        (add, 'Unexpected key(s) in state_dict: "model.99.weight".'),
        (
            reshape,
            "size mismatch for model.0.conv.weight: copying a param with shape torch.Size([8, 3, 3, 3]) from "
            "checkpoint, the shape in current model is torch.Size([16, 3, 3, 3]).",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_weights_that_do_not_fit_to_the_last_tensor(folder: Path, change: Any, text: str) -> None:
    tensors = dict(read_tensors(folder / WEIGHTS_FILE))
    change(tensors)
    save_tensors(folder / WEIGHTS_FILE, tensors)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert str(caught.value) == (
        f"{folder}: weights do not fit the architecture: {text}\n  fix: run the stage that makes it again: dvc repro"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "{folder}: no architecture.json"),
        (
            "{",
            "{folder}/architecture.json: not a readable JSON document: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        ("{}", "{folder}/architecture.json: 4 validation errors for Architecture"),
    ],
    ids=["missing", "damaged", "other"],
)
def test_a_folder_without_its_architecture(folder: Path, content: str | None, text: str) -> None:
    (folder / ARCHITECTURE_FILE).unlink()
    if content is not None:
        (folder / ARCHITECTURE_FILE).write_text(content)
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert caught.value.message == text.format(folder=folder)


def test_a_folder_of_an_unknown_step(folder: Path) -> None:
    document = json.loads((folder / ARCHITECTURE_FILE).read_text())
    document["steps"].append({"fly": {}})
    (folder / ARCHITECTURE_FILE).write_text(json.dumps(document))
    with pytest.raises(EthosError, match="unknown level step 'fly'"):
        load_model(folder)


# --- where a recipe's weights are ------------------------------------------------------------------------------------


def test_weights_by_path_and_by_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.pt"
    file.touch()
    monkeypatch.setenv("MY_WEIGHTS", str(file))
    assert locate(Weights(source="path", file=str(file))) == file
    assert locate(Weights(source="path", path_env="MY_WEIGHTS")) == file


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_weights_by_an_environment_that_is_not_set(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_WEIGHTS", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_WEIGHTS", value)
    with pytest.raises(ModelError) as caught:
        locate(Weights(source="path", path_env="MY_WEIGHTS"))
    assert str(caught.value) == (
        "weights: environment variable MY_WEIGHTS is not set\n"
        "  fix: set it to a .pt file, or use weights from path, warm_start or scratch in the recipe"
    )


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        locate(Weights(source="path", file=str(tmp_path / "a.pt")))
    assert caught.value.message == f"weights: no file {tmp_path}/a.pt"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which fetched weights are kept; the working directory is empty."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prepare()
    return tmp_path / "cache" / "ethos-vision-optimizer"


def test_official_weights_that_cannot_be_fetched(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path) -> str:
        raise ConnectionError(f"no way to {file.name}\nand more")

    monkeypatch.setattr("ultralytics.utils.downloads.attempt_download_asset", fail)
    with pytest.raises(ModelError) as caught:
        locate(Weights(source="official", file="yolo11n.pt"))
    assert str(caught.value) == (
        "weights: yolo11n.pt cannot be fetched: no way to yolo11n.pt\n"
        "  fix: connect to the network, or use weights from path, warm_start or scratch in the recipe"
    )
    assert list(cache.iterdir()) == []


def test_official_weights_are_kept_outside_the_project(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(file: Path) -> str:
        file.write_bytes(b"weights")
        return str(file)

    monkeypatch.setattr("ultralytics.utils.downloads.attempt_download_asset", give)
    assert locate(Weights(source="official", file="yolo11n.pt")) == cache / "yolo11n.pt" == cached(Path("yolo11n.pt"))
    assert list(Path.cwd().iterdir()) == []
