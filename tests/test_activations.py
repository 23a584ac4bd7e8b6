"""The declared activation is in the built network, everywhere; anything else is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from torch import nn

from ethos.errors import ModelError
from ethos.model.activations import ACTIVATIONS, activation_uses, verify_activations
from ethos.model.engine import prepare
from ethos.model.levels import Architecture, Network, base_graph, build, construct, resolve_level
from ethos.specs import Activation
from ethos.training.train import train

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Recipe

FIX = "\n  fix: declare it with 'activation:' in the variant's spec; other keys, such as 'act:', have no effect"


def network(level: str, activation: Activation) -> Network:
    base, steps = resolve_level(level)
    return build(Architecture(base=base, steps=steps, activation=activation, names=("a", "b")))


@pytest.fixture
def level3() -> Network:
    return network("level3", "relu")


def test_every_activation_of_the_specs_is_known() -> None:
    assert set(ACTIVATIONS) == set(get_args(Activation))


@pytest.mark.parametrize("level", ["baseline", "level2", "level3", "level4"])
@pytest.mark.parametrize("activation", get_args(Activation))
def test_declared_everywhere(level: str, activation: Activation) -> None:
    model = network(level, activation)
    written = ACTIVATIONS[activation].expression.removeprefix("torch.nn.")
    uses = activation_uses(model)
    assert {found for _, found in uses} == {written}
    assert verify_activations(model, activation) == len(uses) > 40


def test_an_activation_outside_of_convolutions_is_verified_too(level3: Network) -> None:
    level3.model[6].extra = nn.SiLU()
    with pytest.raises(ModelError) as caught:
        verify_activations(level3, "relu")
    assert caught.value.message == "activation 'relu' is declared, but model.6.extra has SiLU()"


def test_building_leaves_the_engine_as_it_was() -> None:
    from ultralytics.nn.modules.conv import Conv

    before = Conv.default_act
    assert type(before).__name__ == "SiLU"
    network("level3", "leaky_relu")
    assert Conv.default_act is before


def test_a_graph_with_another_key_is_caught() -> None:
    from ultralytics.nn.tasks import DetectionModel

    graph = base_graph("yolo11n")
    graph["act"] = "torch.nn.ReLU()"
    model = DetectionModel(graph, ch=3, nc=2, verbose=False)
    count = len(activation_uses(model))
    with pytest.raises(ModelError) as caught:
        verify_activations(model, "relu")
    assert str(caught.value) == (
        "activation 'relu' is declared, but model.0 has SiLU(), model.1 has SiLU(), model.2.cv1 has SiLU(), "
        f"model.2.cv2 has SiLU(), model.2.m.0.cv1 has SiLU() and {count - 5} more{FIX}"
    )


@pytest.mark.parametrize(
    ("place", "module", "written"),
    [
        ("model.2.cv1", nn.SiLU(), "SiLU()"),
        ("model.22.m.0.cv2", nn.LeakyReLU(0.1), "LeakyReLU(0.1)"),
        ("model.23.cv2.0.1", nn.Identity(), "Identity()"),
        ("model.23.cv3.2.0", nn.Hardswish(), "Hardswish()"),
        ("model.9.cv1", nn.SiLU(), "SiLU()"),
    ],
    ids=["backbone", "neck", "linear-in-the-head", "head", "linear-by-design"],
)
def test_one_swapped_layer_is_named(level3: Network, place: str, module: nn.Module, written: str) -> None:
    level3.get_submodule(place).act = module
    with pytest.raises(ModelError) as caught:
        verify_activations(level3, "relu")
    assert str(caught.value) == f"activation 'relu' is declared, but {place} has {written}{FIX}"


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.1000001])
def test_another_slope_is_another_activation(slope: float) -> None:
    model = network("level3", "leaky_relu")
    model.model[0].act = nn.LeakyReLU(slope)
    with pytest.raises(ModelError) as caught:
        verify_activations(model, "leaky_relu")
    expected = f"activation 'leaky_relu' is declared, but model.0 has LeakyReLU({slope})"
    assert caught.value.message == expected


def test_training_does_not_start(
    tmp_path: Path, tiny_dataset: Path, smoke: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(*arguments: Any) -> Network:
        model = construct(*arguments)
        model.model[4].cv1.act = nn.SiLU()
        return model

    def refuse(*_: object) -> None:
        raise AssertionError("training was set up")

    prepare()
    monkeypatch.setattr("ethos.model.levels.construct", swapped)
    monkeypatch.setattr("ethos.training.trainer.make_trainer", refuse)
    base, steps = resolve_level("level3")
    architecture = Architecture(base=base, steps=steps, activation="relu", names=("a", "b", "c"))
    with pytest.raises(ModelError) as caught:
        train(architecture, smoke, tiny_dataset, tmp_path)
    assert caught.value.message == "activation 'relu' is declared, but model.4.cv1 has SiLU()"
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_activations_is_caught() -> None:
    with pytest.raises(ModelError) as caught:
        verify_activations(nn.Sequential(nn.Conv2d(3, 4, 1)), "relu")
    assert caught.value.message == "activation 'relu' is declared, but no layer has an activation"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("silu", [-0.26894143, 0.0, 0.7310586]),
        ("relu", [0.0, 0.0, 1.0]),
        ("leaky_relu", [-0.1, 0.0, 1.0]),
    ],
)
def test_activations_compute_what_they_are_called(kind: Any, values: list[float]) -> None:
    act = network("level3", kind).model[0].act
    assert act(torch.tensor([-1.0, 0.0, 1.0])).tolist() == pytest.approx(values)
