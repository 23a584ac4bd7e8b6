"""The export form computes what the trained network computes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from ethos.model.blocks import SplitC2f, split_c2f
from ethos.model.engine import prepare
from ethos.model.head import RawHead, output_names, to_export_form
from ethos.model.levels import Architecture, Network, build, resolve_level

if TYPE_CHECKING:
    from ethos.specs import Activation

CLOSE = 1e-5


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module with random weights and batch norm statistics, so that no part is neutral."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 1.5),
            ):
                tensor.uniform_(low, high, generator=generator)
    return model


def network(level: str, activation: Activation = "relu") -> Network:
    base, steps = resolve_level(level)
    return randomised(build(Architecture(base=base, steps=steps, activation=activation, names=("a", "b", "c"))))


def picture() -> Tensor:
    return torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.ReLU(), nn.LeakyReLU(0.1)], ids=lambda act: type(act).__name__)
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("shortcut", [True, False], ids=["residual", "plain"])
def test_split_block_equals_the_block(activation: nn.Module, repeats: int, shortcut: bool) -> None:
    prepare()
    from ultralytics.nn.modules.block import C2f
    from ultralytics.nn.modules.conv import Conv

    torch.manual_seed(repeats)
    block = randomised(C2f(12, 20, repeats, shortcut))
    for module in block.modules():
        if isinstance(module, Conv):
            module.act = activation
    block.eval()
    x = torch.rand(2, 12, 9, 7)
    with torch.inference_mode():
        expected = block(x)
        found = SplitC2f(copy.deepcopy(block)).eval()(x)
    assert torch.allclose(found, expected, rtol=0, atol=CLOSE)
    assert expected.abs().max() > 0.1


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.1)], ids=lambda act: type(act).__name__)
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize(("fold", "recompute"), [(True, False), (False, True), (True, True)])
def test_rewritten_block_equals_the_block(activation: nn.Module, repeats: int, fold: bool, recompute: bool) -> None:
    prepare()
    from ultralytics.nn.modules.block import C2f
    from ultralytics.nn.modules.conv import Conv

    torch.manual_seed(repeats)
    block = randomised(C2f(12, 20, repeats, shortcut=True)).eval()
    for module in block.modules():
        if isinstance(module, Conv):
            module.act = activation
    x = torch.rand(2, 12, 9, 7)
    with torch.inference_mode():
        expected = block(x)
    block.fold_shortcut, block.recompute = fold, recompute
    split = SplitC2f(copy.deepcopy(block)).eval()
    with torch.inference_mode():
        assert torch.allclose(split(x), expected, rtol=0, atol=CLOSE)
    assert sum(inner.add for inner in split.m) == repeats - fold
    assert (count(split) > count(block)) == recompute


@pytest.mark.parametrize("fused", [False, True], ids=["with-batch-norm", "fused"])
@pytest.mark.parametrize(("level", "blocks"), [("baseline", 0), ("level2", 8), ("level3", 9), ("level4", 9)])
def test_split_network_equals_the_network(level: str, blocks: int, fused: bool) -> None:
    model = network(level).eval()
    if fused:
        model.fuse(verbose=False)
    x = picture()
    before = count(model)
    with torch.inference_mode():
        expected = model(x)[0]
        assert split_c2f(model) == blocks
        found = model(x)[0]
    assert torch.allclose(found, expected, rtol=0, atol=CLOSE * expected.abs().max())
    recomputed = sum(count(module.cv1) for module in model.modules() if getattr(module, "recompute", False))
    assert count(model) == before + recomputed
    assert (recomputed > 0) == (level == "level4")
    assert sum(isinstance(module, SplitC2f) for module in model.modules()) == blocks
    assert split_c2f(model) == 0


def test_a_split_block_that_still_trains_equals_the_block() -> None:
    prepare()
    from ultralytics.nn.modules.block import C2f

    block = randomised(C2f(8, 16, 1)).train()
    split = SplitC2f(copy.deepcopy(block)).train()
    x = torch.rand(4, 8, 6, 6)
    assert torch.allclose(split(x), block(x), rtol=0, atol=CLOSE)
    split(x).sum().backward()
    assert all(parameter.grad is not None for parameter in split.parameters())


@pytest.mark.parametrize("level", ["level2", "level3", "level4"])
def test_fusing_leaves_as_many_parameters_however_split(level: str) -> None:
    plain, split = network(level), network(level)
    plain.fuse(verbose=False)
    split_c2f(plain)
    split_c2f(split)
    split.fuse(verbose=False)
    assert count(plain) == count(split)


@pytest.mark.parametrize("level", ["baseline", "level2", "level3", "level4"])
def test_raw_outputs_are_those_of_the_head_before_decoding(level: str) -> None:
    model = network(level)
    x = picture()
    with torch.inference_mode():
        raw = model.eval()(x)[1]
        boxes, scores = raw["boxes"].clone(), raw["scores"].clone()
        outputs = dict(zip(output_names([8, 16, 32]), to_export_form(model)(x), strict=True))
    assert isinstance(model.model[-1], RawHead)
    for branch, expected in (("box", boxes), ("class", scores)):
        joined = torch.cat([outputs[f"{branch}{stride}"].flatten(2) for stride in (8, 16, 32)], 2)
        assert joined.shape == expected.shape
        assert torch.allclose(joined, expected, rtol=0, atol=CLOSE * expected.abs().max())


def test_export_form_holds_no_batch_norm_and_no_c2f() -> None:
    model = to_export_form(network("level3"))
    kinds = {type(module).__name__ for module in model.modules()}
    assert kinds.isdisjoint({"BatchNorm2d", "C2f", "DFL", "Detect"})
    assert not model.training
