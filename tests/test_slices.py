"""Narrower networks begin from wider ones: the same channels everywhere, and what was lost made up for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from ethos.errors import DataError
from ethos.model.levels import Architecture, Network, build, resolve_level
from ethos.model.slices import liveliest, take_slices
from ethos.model.weights import save_model, transfer
from ethos.training.narrow import fit_convolution, refit, start_for, training_images
from ethos.training.start import RECORD_FILE, TENSORS_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

NAMES = ("a", "b", "c")
CLOSE = 1e-4


def architecture(level: str) -> Architecture:
    base, steps = resolve_level(level)
    return Architecture(base=base, steps=steps, activation="relu", names=NAMES)


def lively(model: Network, seed: int = 1) -> Network:
    """Return the network with batch norms that differ from channel to channel."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.uniform_(-0.2, 0.4, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model


def raw(model: Network, images: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        found = model.eval()(images)[1]
    return [found["boxes"], found["scores"]]


def silence(source: Network, narrowed: dict[str, Tensor]) -> None:
    """Make the source's channels that were not taken give nothing, and read nothing."""
    for name, kept in narrowed.items():
        conv = source.get_submodule(name)
        lost = [index for index in range(conv.out_channels) if index not in set(kept.tolist())]
        if conv.bias is None:
            conv.weight.data[lost] = 0
            norm = source.get_submodule(name.removesuffix("conv") + "bn")
            for tensor in (norm.weight, norm.bias, norm.running_mean):
                tensor.data[lost] = 0


@pytest.fixture(scope="module")
def source() -> Network:
    return lively(build(architecture("level3"), seed=2))


def test_all_tensors_of_level_four_come_from_level_three(source: Network) -> None:
    model = build(architecture("level4"))
    found = take_slices(model, source.state_dict())
    own = model.state_dict()
    assert {name: value.shape for name, value in found.tensors.items()} == {k: v.shape for k, v in own.items()}
    assert not any(name.startswith(f"model.{index}.") for name in found.narrowed for index in range(10))


@pytest.mark.parametrize("level", ["level4", "half_neck"])
def test_a_network_whose_other_channels_are_silent_is_taken_over_exactly(source: Network, level: str) -> None:
    wanted = architecture("level4")
    if level == "half_neck":
        wanted = wanted.model_copy(update={"steps": (*architecture("level3").steps, {"narrow_neck": {"width": 0.5}})})
    wide = lively(build(architecture("level3"), seed=2))
    model = build(wanted, seed=9)
    silence(wide, take_slices(model, wide.state_dict()).narrowed)
    transferred = transfer(model, wide.state_dict())
    assert transferred.matched == transferred.total
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    for mine, other, before in zip(raw(model, images), raw(wide, images), raw(source, images), strict=True):
        assert torch.allclose(mine, other, rtol=0, atol=CLOSE * float(other.abs().max()))
        assert not torch.allclose(mine, before, rtol=0, atol=CLOSE * float(other.abs().max()))


@pytest.mark.parametrize("level", ["level2", "level3"])
def test_networks_of_the_same_width_take_what_matches_and_nothing_else(source: Network, level: str) -> None:
    model = build(architecture(level))
    own, tensors = model.state_dict(), source.state_dict()
    found = take_slices(model, tensors)
    assert found.tensors.keys() == {k for k, v in tensors.items() if k in own and own[k].shape == v.shape}
    assert found.narrowed == {}


def test_other_classes_keep_their_own_outputs(source: Network) -> None:
    model = build(architecture("level4").model_copy(update={"names": ("x", "y")}))
    found = take_slices(model, source.state_dict())
    missing = set(model.state_dict()) - set(found.tensors)
    assert missing == {f"model.23.cv3.{scale}.2.{kind}" for scale in range(3) for kind in ("weight", "bias")}


def test_a_wider_network_takes_no_part_of_a_narrower_one() -> None:
    wide, narrow = build(architecture("level3")), build(architecture("level4"))
    found = take_slices(wide, narrow.state_dict())
    assert found.narrowed == {}
    assert all(value.shape == wide.state_dict()[name].shape for name, value in found.tensors.items())


def test_channels_that_vary_are_kept_of_each_part() -> None:
    norm = {
        "weight": torch.tensor([0.1, 2.0, 1.0, 0.5, 0.0, -3.0]),
        # the second varies a lot before ReLU and not behind it; the fifth is a large constant
        "bias": torch.tensor([0.0, -20.0, 0.0, 0.0, 9.0, 0.0]),
    }
    assert liveliest(norm, 2).tolist() == [2, 5]
    assert liveliest(norm, 2, parts=2).tolist() == [2, 5]
    assert liveliest(norm, 4, parts=2).tolist() == [0, 2, 3, 5]


# --- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2)])
def test_a_fit_finds_the_convolution_that_made_the_outputs(kernel: int, stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    made, fitted = (nn.Conv2d(4, 3, kernel, stride, kernel // 2, bias=bias) for _ in range(2))
    inputs = torch.rand(8, 4, 12, 12)
    with torch.no_grad():
        before = (fitted(inputs) - made(inputs)).abs().max()
        fit_convolution(fitted, inputs, made(inputs))
        assert (fitted(inputs) - made(inputs)).abs().max() < 0.02 * before


def test_refitting_brings_the_outputs_nearer(source: Network, tiny_dataset: Path) -> None:
    images = training_images(tiny_dataset, 64)
    wanted = raw(source, images)
    model = build(architecture("level4"))
    slices = take_slices(model, source.state_dict())
    model.load_state_dict(slices.tensors)
    before = raw(model, images)
    refit(model, source, slices.narrowed, images)
    assert model.training
    after = raw(model, images)
    for one, two, goal in zip(before, after, wanted, strict=True):
        assert (two - goal).square().mean() < 0.3 * (one - goal).square().mean()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in [*model.modules()])


def start_folder(folder: Path, source: Network) -> Path:
    save_model(folder, source, architecture("level3"))
    (folder / "weights.safetensors").rename(folder / TENSORS_FILE)
    (folder / RECORD_FILE).write_text('{"schema": 1, "source": "warm_start"}')
    return folder


def test_starting_weights_of_a_narrow_network_are_refit(source: Network, tiny_dataset: Path, tmp_path: Path) -> None:
    folder = start_folder(tmp_path, source)
    narrow, record = start_for(folder, architecture("level4"), tiny_dataset, 64)
    slices = take_slices(build(architecture("level4")), source.state_dict())
    assert narrow is not None
    assert record == {"schema": 1, "source": "warm_start", "refit": len(slices.narrowed)}
    changed = {name for name, value in narrow.items() if not torch.equal(value, slices.tensors[name])}
    assert changed == {
        f"{name}.{kind}"
        for name in slices.narrowed
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in slices.tensors
    }
    again, _ = start_for(folder, architecture("level4"), tiny_dataset, 64)
    assert again is not None
    assert all(torch.equal(again[name], value) for name, value in narrow.items())


def test_starting_weights_without_their_network_are_sliced_alone(
    source: Network, tiny_dataset: Path, tmp_path: Path
) -> None:
    folder = start_folder(tmp_path, source)
    (folder / "architecture.json").unlink()
    narrow, record = start_for(folder, architecture("level4"), tiny_dataset, 64)
    assert narrow is not None
    assert "refit" not in record
    slices = take_slices(build(architecture("level4")), source.state_dict())
    assert all(torch.equal(narrow[name], value) for name, value in slices.tensors.items())


def test_starting_weights_of_the_same_width_are_left_alone(source: Network, tiny_dataset: Path, tmp_path: Path) -> None:
    same, record = start_for(start_folder(tmp_path, source), architecture("level3"), tiny_dataset, 64)
    assert same is not None
    assert "refit" not in record
    assert all(torch.equal(same[name], value) for name, value in source.state_dict().items())


def test_an_unreadable_image(tmp_path: Path) -> None:
    (tmp_path / "images" / "train").mkdir(parents=True)
    (tmp_path / "images" / "train" / "a.jpg").write_bytes(b"none")
    with pytest.raises(DataError) as caught:
        training_images(tmp_path, 64)
    assert caught.value.message.endswith("a.jpg: cannot be read as an image")
