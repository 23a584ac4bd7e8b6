"""Quantization-aware training: rounding is TFLite's, parameters stay what they are, and the recipe asks for it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from conftest import CLASSES, SIDE
from quantized import OPTIONS
from torch import nn

from ethos import catalog
from ethos.compress.names import layer_names
from ethos.compress.quantize import FLOAT_FILE, INT8_FILE, ONNX_FILE, quantize
from ethos.errors import SpecError
from ethos.model.blocks import split_blocks
from ethos.model.engine import prepare
from ethos.model.levels import Architecture, build, resolve_level
from ethos.model.weights import load_model, read_tensors
from ethos.model.widths import widths_of
from ethos.npu.graph import output_name
from ethos.npu.tflite import read_graph
from ethos.plan import quantize_plan, start_plan, train_plan
from ethos.specs import Qat
from ethos.training.aware import train_by_recipe
from ethos.training.checkpoint import Checkpoints
from ethos.training.distill import Teacher

prepare()

from ethos.training.qat import Rounded, RoundedConv, round_network, round_weights  # noqa: E402 - after prepare

if TYPE_CHECKING:
    from pathlib import Path

    from quantized import Quantized

    from ethos.specs import Recipe
    from ethos.training.epoch import Epoch
    from ethos.training.train import TrainResult


def architecture(level: str = "level4", activation: Any = "relu") -> Architecture:
    base, steps = resolve_level(level)
    return Architecture(base=base, steps=steps, activation=activation, names=CLASSES)


# --- rounding --------------------------------------------------------------------------------------------------------


def test_weights_take_255_steps_of_their_channel() -> None:
    weights = (
        torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1, 10, 0.1, 5])[:, None, None, None]
    )
    rounded = round_weights(weights, per_channel=True)
    for wanted, found in zip(weights, rounded, strict=True):
        step = wanted.abs().max() / 127
        assert torch.allclose(found, (wanted / step).round() * step, atol=1e-6)
    whole = round_weights(weights, per_channel=False)
    step = weights.abs().max() / 127
    assert torch.allclose(whole, (weights / step).round() * step, atol=1e-5)
    halves = round_weights(weights, per_channel=False, parts=2)
    assert torch.equal(halves[:2], round_weights(weights[:2], per_channel=False))
    assert torch.equal(halves[2:], round_weights(weights[2:], per_channel=False))


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    weights = torch.randn(4, 3, 1, 1, requires_grad=True)
    round_weights(weights, per_channel=False).sum().backward()
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.ones_like(weights))


def test_activations_follow_a_running_range_only_in_training() -> None:
    rounded = Rounded()
    values = torch.linspace(-1, 3, 1001)
    assert torch.equal(rounded.eval()(values), values)  # nothing seen yet
    found = rounded.train()(values)
    assert (rounded.low, rounded.high) == (torch.tensor(-1.0), torch.tensor(3.0))
    assert len(found.unique()) <= 256
    assert (found - values).abs().max() <= 4 / 255 / 2 + 1e-6
    rounded.eval()(values * 10)
    assert rounded.high == 3.0
    rounded.train()(values * 2)
    assert rounded.high == pytest.approx(3.15)


def test_a_copy_shares_the_range() -> None:
    rounded = nn.Sequential(Rounded())
    twin = copy.deepcopy(rounded)
    rounded.train()(torch.tensor([0.0, 5.0]))
    assert twin[0].high == 5.0


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_steps_are_exact_in_half_precision(kind: torch.dtype) -> None:
    rounded = Rounded()
    values = torch.linspace(-0.01, 0.03, 1001).to(kind)
    for _ in range(3):
        found = rounded.train()(values)
    assert rounded.low is not None
    assert rounded.low.dtype == torch.float32
    assert found.dtype == kind
    assert (found.float() - values.float()).abs().max() <= 0.04 / 255
    assert 0.0 in found


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "activation"), [("level4", "relu"), ("level2", "leaky_relu"), ("baseline", "silu")])
def test_a_rounded_network_keeps_its_state_and_nearly_its_output(level: str, activation: str) -> None:
    plain = build(architecture(level, activation))
    model = copy.deepcopy(plain)
    count = round_network(model, per_channel=True)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in plain.modules())
    assert count == convolutions - 1  # all but the fixed one that decodes boxes
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == {
        name: tuple(value.shape) for name, value in plain.state_dict().items()
    }
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, exact = model.model[0](images), plain.eval().model[0](images)
        assert isinstance(model.model[0], RoundedConv)
        assert len(features.unique()) <= 256
        assert (features - exact).abs().max() < 0.05 * exact.abs().max()
        model.train()(images)
        decoded, wanted = model.eval()(images)[0], plain(images)[0]
    assert torch.isfinite(decoded).all()
    assert (decoded - wanted).abs().mean() < 0.1 * wanted.std()


def test_a_rounded_network_is_validated_in_half_precision() -> None:
    """As a GPU does it; a channel of zeros, whose step no half can hold, is no reason for numbers that are none."""
    model = build(architecture())
    model.model[0].conv.weight.data[0] = 0.0
    images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    round_network(model, per_channel=True)
    with torch.no_grad():
        model.train()(images)
        wanted = model.eval()(images)[0]
        found = model.half()(images.half())[0].float()
    assert torch.isfinite(found).all()
    assert (found - wanted).abs().mean() < 0.05 * wanted.std()


def test_the_weights_in_training_are_those_of_the_int8_file(quantized: Quantized, tmp_path: Path) -> None:
    """Level 4 folds additions into convolutions and computes some halves twice when it is exported."""
    options = OPTIONS.model_copy(update={"balance": False})
    assert quantize(quantized.model, quantized.dataset, SIDE, options, tmp_path)["channels_balanced"] == 0
    file = read_graph(tmp_path / INT8_FILE)
    names = layer_names(read_graph(tmp_path / FLOAT_FILE), tmp_path / ONNX_FILE)
    model, _ = load_model(quantized.model)
    round_network(model.eval(), per_channel=True)
    convolutions = [operator for operator in file.operators if operator.kind == "CONV_2D"]
    assert len(convolutions) > 60
    for operator in convolutions:
        weights, name = file.tensors[operator.inputs[1]], names[output_name(file, operator)]
        steps = np.frombuffer(weights.data, np.int8).reshape(weights.shape)
        wanted = trained_weights(model, name).permute(0, 2, 3, 1).numpy()
        wanted = wanted[: len(steps)] if ".cv0" in name else wanted[-len(steps) :]
        off = np.abs(wanted / np.array(weights.scale)[:, None, None, None] - steps)
        # a weight that lies between two steps may fall to either side
        assert off.max() < 1.001, name
        assert (off > 1e-3).mean() < 1e-3, name


def trained_weights(model: Any, name: str) -> torch.Tensor:
    """Return what a rounded network computes with for an exported layer; both halves of a C2f are one layer's."""
    for exported, own in ((".conv", ""), (".box.", ".cv2."), (".cls.", ".cv3."), (".cv0", ".cv1")):
        name = name.replace(exported, own)
    weights: torch.Tensor = model.get_submodule(name).rounded_weights().detach()
    return weights


@pytest.mark.parametrize(("activation", "kind"), [("relu", nn.Identity), ("leaky_relu", Rounded)])
def test_what_an_activation_reads_is_rounded_where_it_is_a_layer_of_its_own(activation: str, kind: type) -> None:
    """TFLite makes a ReLU a part of its convolution; a LeakyReLU reads int8."""
    model = build(architecture(activation=activation))
    round_network(model, per_channel=True)
    found = [module for module in model.modules() if type(module) is RoundedConv]
    assert {type(module.inner) for module in found} == {kind}
    with torch.no_grad():
        model.train()(torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    if kind is Rounded:
        assert all(module.inner.low < 0 < module.inner.high for module in found)


def test_the_recipe_adds_epochs_with_rounding(tiny_dataset: Path, smoke: Recipe, tmp_path: Path) -> None:
    recipe = smoke.model_copy(update={"qat": Qat(epochs=1, lr0=0.0005)})
    seen: list[Epoch] = []
    result = train_by_recipe(architecture(), recipe, tiny_dataset, tmp_path, on_epoch=seen.append)
    assert [epoch.epoch for epoch in result.epochs] == [epoch.epoch for epoch in seen] == [1, 2]
    assert result.best_epoch == 2
    assert result.best == result.epochs[1]
    assert result.transferred.matched == 0
    kept = read_tensors(tmp_path / "weights.safetensors")
    assert set(kept) == set(build(architecture()).state_dict())
    assert (tmp_path / "architecture.json").is_file()


def test_a_split_taught_network_killed_while_it_is_rounded_goes_on_to_the_same_bits(
    tiny_dataset: Path, smoke: Recipe, tmp_path: Path
) -> None:
    """As a pruned form is built: split blocks, widths from its record."""
    whole = build(architecture())
    split_blocks(whole)
    student = architecture().model_copy(update={"widths": widths_of(whole)})
    recipe = smoke.model_copy(update={"qat": Qat(epochs=2, lr0=0.0005)})
    told: list[str] = []

    def run(name: str, checkpoints: Checkpoints | None = None, stop: int = 0) -> tuple[TrainResult, list[int]]:
        seen: list[int] = []

        def on_epoch(epoch: Epoch) -> None:
            seen.append(epoch.epoch)
            if epoch.epoch == stop:
                raise KeyboardInterrupt

        (tmp_path / name).mkdir()
        teacher = Teacher(build(architecture(activation="leaky_relu"), seed=9))
        trained = train_by_recipe(
            *(student, recipe, tiny_dataset, tmp_path / name),
            on_epoch=on_epoch,
            tell=told.append,
            checkpoints=checkpoints,
            teacher=teacher,
        )
        return trained, seen

    wanted, _ = run("whole")
    place = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(KeyboardInterrupt):
        run("killed", place, stop=2)
    found, seen = run("resumed", place)
    assert seen == [1, 2, 3]
    assert found.resumed == [2]
    assert told == [
        f"goes on after epoch 1 from {place.last}",
        f"with rounding: goes on after epoch 1 from {place.part('rounded').last}",
    ]
    assert found.tensors_sha256 == wanted.tensors_sha256
    assert all(epoch.train_distill_loss for epoch in found.epochs)
    assert widths_of(load_model(tmp_path / "resumed")[0]) == student.widths


# --- specs -----------------------------------------------------------------------------------------------------------


def with_qat(project: Path, qat: str, quantize: str = "") -> None:
    recipe = project / "specs" / "recipes" / "smoke.yaml"
    recipe.write_text(recipe.read_text() + f"qat: {qat}\n")
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("recipe: demo", "recipe: smoke"))
    variant = project / "specs" / "variants" / "level4_relu.yaml"
    variant.write_text(variant.read_text() + quantize)


def test_the_plan_carries_it(project: Path) -> None:
    with_qat(project, "{epochs: 2, lr0: 0.0005, per_channel: false}", "quantize: {per_channel: false}\n")
    params = catalog.load_params()
    assert quantize_plan(params.model_copy(update={"recipe": "demo"}), "level4_relu").options.balance
    assert train_plan(params, "level4_relu").recipe.qat == Qat(epochs=2, lr0=0.0005, per_channel=False)
    assert not quantize_plan(params, "level4_relu").options.balance


def test_a_pruned_form_that_is_rounded_alone_keeps_its_scales_too(project: Path) -> None:
    params = catalog.load_params()
    assert "level4_relu" in params.pruned
    recovery = project / "specs" / "recipes" / "demo_recovery.yaml"
    recovery.write_text(recovery.read_text() + "qat: {epochs: 2, lr0: 0.0005}\n")
    assert not quantize_plan(params, "level4_relu").options.balance
    assert quantize_plan(params, "level4_leaky").options.balance


def test_weights_are_trained_as_they_are_exported(project: Path) -> None:
    with_qat(project, "{epochs: 2, lr0: 0.0005, per_channel: false}")
    with pytest.raises(SpecError) as caught:
        train_plan(catalog.load_params(), "level4_relu")
    assert str(caught.value) == (
        "specs/recipes/smoke.yaml: qat.per_channel is False, quantize.per_channel of variant 'level4_relu' is True\n"
        "  fix: train for the weights that are exported: make them the same"
    )


def test_a_warm_start_is_not_rounded(project: Path) -> None:
    """Its weights are where trainings begin, so epochs of rounding there are refused, not left out."""
    recipe = project / "specs" / "recipes" / "demo_warm_start.yaml"
    recipe.write_text(recipe.read_text() + "qat: {epochs: 2, lr0: 0.0005}\n")
    with pytest.raises(SpecError) as caught:
        start_plan(catalog.load_params())
    assert str(caught.value) == (
        "specs/recipes/demo_warm_start.yaml: a warm start cannot have 'qat'\n  fix: remove 'qat' from it"
    )
