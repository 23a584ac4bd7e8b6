"""Levels: the networks that their specs give, and what a mistaken level gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from ethos.catalog import load, names
from ethos.errors import EthosError, ModelError, SpecError
from ethos.model.head import output_names, to_export_form
from ethos.model.layers import describe, layer_macs
from ethos.model.levels import Architecture, Network, build, check_steps, resolve_level

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Activation

FIFTEEN = tuple(f"class{index}" for index in range(15))
REPLACE = {"block": "C3k2", "by": "C2f", "repeats": 1}


def network(level: str, activation: Activation = "relu", names: tuple[str, ...] = FIFTEEN, seed: int = 0) -> Network:
    base, steps = resolve_level(level)
    return build(Architecture(base=base, steps=steps, activation=activation, names=names), seed)


def stepped(*steps: dict[str, Any], base: str = "yolo11n") -> Network:
    return build(Architecture(base=base, steps=steps, activation="relu", names=FIFTEEN))


def parameters(model: Network) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def write_level(folder: Path, name: str, text: str) -> None:
    (folder / "specs" / "levels" / f"{name}.yaml").write_text(text)


# --- the project's levels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "activation", "count"),
    [
        ("baseline", "silu", 2_592_765),
        ("level2", "relu", 3_354_829),
        ("level2", "leaky_relu", 3_354_829),
        ("level3", "relu", 3_565_389),
        ("level3", "leaky_relu", 3_565_389),
    ],
)
def test_parameters_at_fifteen_classes(level: str, activation: Activation, count: int) -> None:
    assert parameters(network(level, activation)) == count


def test_level_four_is_lighter_than_level_three_behind_the_backbone() -> None:
    three, four = (describe(f"{level}_relu", 15, 320) for level in ("level3", "level4"))
    assert four["parameters"] < three["parameters"]
    assert four["macs"] < three["macs"]
    backbone = 11
    assert four["layers"][:backbone] == three["layers"][:backbone]
    assert four["layers"] != three["layers"]
    for mine, other in zip(four["layers"], three["layers"], strict=True):
        assert mine["macs"] <= other["macs"]
    assert four["layers"][-1]["macs"] < 0.6 * three["layers"][-1]["macs"]


@pytest.mark.parametrize(
    ("level", "blocks"), [("baseline", [8, 1, 0]), ("level2", [0, 1, 8]), ("level3", [0, 0, 9]), ("level4", [0, 0, 9])]
)
def test_blocks_of_the_levels(level: str, blocks: list[int]) -> None:
    kinds = [type(layer).__name__ for layer in network(level).model]
    assert [kinds.count(block) for block in ("C3k2", "C2PSA", "C2f")] == blocks


@pytest.mark.parametrize("variant", names("variant"))
def test_every_variant_gives_the_raw_outputs_of_its_classes(variant: str) -> None:
    spec = load("variant", variant)
    model = to_export_form(network(spec.level, spec.activation, ("a", "b")))
    with torch.inference_mode():
        outputs = model(torch.rand(1, 3, 64, 96))
    shapes = dict(zip(output_names([8, 16, 32]), (tuple(output.shape[1:]) for output in outputs), strict=True))
    assert shapes == {
        "box8": (64, 8, 12),
        "box16": (64, 4, 6),
        "box32": (64, 2, 3),
        "class8": (2, 8, 12),
        "class16": (2, 4, 6),
        "class32": (2, 2, 3),
    }


@pytest.mark.parametrize(("base", "count"), [("yolov8n", 3_157_200), ("yolo11s", 9_458_752)])
def test_other_published_networks_as_base(base: str, count: int) -> None:
    eighty = tuple(map(str, range(80)))
    assert parameters(build(Architecture(base=base, steps=(), activation="silu", names=eighty))) == count


@pytest.mark.parametrize("base", ["yolov8n", "yolo11s"])
def test_level_four_steps_that_fit_work_on_other_bases(base: str) -> None:
    _, steps = resolve_level("level4")
    fitting = steps[-1:] if base == "yolov8n" else steps
    plain = build(Architecture(base=base, steps=(), activation="relu", names=FIFTEEN))
    light = build(Architecture(base=base, steps=fitting, activation="relu", names=FIFTEEN))
    assert parameters(light) != parameters(plain)
    assert light.stride.tolist() == [8, 16, 32]


def test_a_light_head_fits_the_published_head_too() -> None:
    light = stepped({"light_head": {"convolutions": 1}})
    whole = stepped({"light_head": {"convolutions": 2}})
    assert parameters(light) < parameters(whole) == 2_592_765
    with torch.inference_mode():
        assert light.eval()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4 + 15, 84)


def test_a_narrow_neck_has_fewer_parameters() -> None:
    assert parameters(stepped({"narrow_neck": {"width": 0.5}})) < 2_592_765
    assert parameters(stepped({"narrow_neck": {"width": 1.0}})) == 2_592_765


def test_names_and_classes_are_those_given() -> None:
    model = network("level2", names=("Stop", "Yield"))
    assert model.names == {0: "Stop", 1: "Yield"}
    assert model.model[-1].nc == 2


# --- no state is shared ----------------------------------------------------------------------------------------------


def test_a_baseline_after_a_relu_network_has_silu() -> None:
    network("level2", "relu")
    baseline = network("baseline", "silu")
    kinds = {type(module.act).__name__ for module in baseline.modules() if hasattr(module, "act")}
    assert kinds == {"SiLU", "Identity"}


def test_the_same_seed_gives_the_same_bits() -> None:
    one, two, other = (network("level4", seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["model.0.conv.weight"], other["model.0.conv.weight"])


# --- levels of one's own ---------------------------------------------------------------------------------------------


def test_one_file_makes_a_level(project: Path) -> None:
    write_level(project, "mine", "extends: level3\nsteps:\n  - narrow_neck: {width: 0.5}\n")
    (project / "specs" / "variants" / "mine.yaml").write_text("level: mine\nactivation: leaky_relu\n")
    base, steps = resolve_level("mine")
    assert base == "yolo11n"
    assert [name for step in steps for name in step] == ["replace_block", "replace_block", "narrow_neck"]
    assert describe("mine", 15, 320)["parameters"] < 3_565_389


@pytest.mark.usefixtures("project")
def test_describe_adds_up() -> None:
    report = describe("level2_relu", 4, 320)
    assert report["macs"] == sum(layer["macs"] for layer in report["layers"])
    assert report["parameters"] == sum(layer["parameters"] for layer in report["layers"])
    # a first convolution of 16 channels, 3x3 on 3 channels, at half the resolution
    assert report["layers"][0]["macs"] == 16 * 160 * 160 * 9 * 3
    assert report["layers"][0]["parameters"] == 16 * 9 * 3 + 2 * 16
    (step,) = report["steps"]
    assert (step["step"], step["arguments"]) == ("replace_block", REPLACE)


def test_counting_macs_leaves_the_network_as_it_was() -> None:
    model = network("level2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    four, one = sum(layer_macs(model, 128)), sum(layer_macs(model, 64))
    # but for attention, whose grid is not 4:1 in everything, MACs go with the area
    assert four == pytest.approx(4 * one, rel=0.01)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# --- mistakes --------------------------------------------------------------------------------------------------------


def test_levels_that_extend_each_other(project: Path) -> None:
    write_level(project, "one", "extends: two\n")
    write_level(project, "two", "extends: one\n")
    with pytest.raises(SpecError) as caught:
        resolve_level("one")
    assert str(caught.value) == "specs/levels: one extends two extends one\n  fix: remove one 'extends'"


def test_a_level_that_extends_an_unknown_one(project: Path) -> None:
    write_level(project, "mine", "extends: level33\n")
    with pytest.raises(SpecError) as caught:
        resolve_level("mine")
    assert caught.value.message == "specs/levels: unknown level 'level33'"
    assert caught.value.fix.startswith("did you mean level3")


def test_unknown_step() -> None:
    with pytest.raises(SpecError) as caught:
        check_steps(({"replace_block": REPLACE}, {"replace_blok": REPLACE}))
    assert str(caught.value) == (
        "unknown level step 'replace_blok'\n"
        "  fix: did you mean replace_block? known: depthwise_class_branch, light_head, narrow_neck, replace_block, "
        "split_c2f"
    )


@pytest.mark.parametrize(
    ("step", "kind", "text"),
    [
        (
            {"replace_block": {**REPLACE, "repeats": "one"}},
            SpecError,
            "level step 'replace_block': repeats: Input should be a valid integer, unable to parse string as an "
            "integer",
        ),
        (
            {"replace_block": {**REPLACE, "repeats": 0}},
            SpecError,
            "level step 'replace_block': repeats: Input should be greater than 0",
        ),
        (
            {"replace_block": {**REPLACE, "times": 2}},
            SpecError,
            "level step 'replace_block': times: Unexpected keyword argument",
        ),
        (
            {"replace_block": None},
            SpecError,
            "level step 'replace_block': block: Missing required keyword only argument",
        ),
        (
            {"replace_block": {**REPLACE, "block": "C4"}},
            ModelError,
            "level step 'replace_block': the graph holds no C4",
        ),
        ({"replace_block": {**REPLACE, "by": "C5"}}, ModelError, "the layer list is no network: unknown layer 'C5'"),
        (
            {"light_head": {"convolutions": 0}},
            SpecError,
            "level step 'light_head': convolutions: Input should be greater than or equal to 1",
        ),
        (
            {"light_head": {"convolutions": 3}},
            SpecError,
            "level step 'light_head': convolutions: Input should be less than or equal to 2",
        ),
        (
            {"narrow_neck": {"width": 0}},
            SpecError,
            "level step 'narrow_neck': width: Input should be greater than 0",
        ),
    ],
    ids=[
        "type",
        "range",
        "unknown-argument",
        "no-arguments",
        "finds-nothing",
        "unknown-block",
        "no-convolution",
        "three-convolutions",
        "no-width",
    ],
)
def test_mistaken_steps(step: dict[str, Any], kind: type[EthosError], text: str) -> None:
    with pytest.raises(kind) as caught:
        stepped(step)
    assert caught.value.message == text
    assert caught.value.fix


@pytest.mark.parametrize(
    ("base", "text"),
    [
        ("yolo99n", "unknown base graph 'yolo99n'"),
        ("yolo11", "base graph 'yolo11' names no scale"),
        ("../../etc/passwd", "unknown base graph '../../etc/passwd'"),
    ],
    ids=["unknown", "no-scale", "path"],
)
def test_mistaken_base(base: str, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        stepped(base=base)
    assert caught.value.message == text
