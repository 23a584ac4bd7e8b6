"""Levels: the networks that their specs give, and what a mistaken level gets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from conftest import ROOT

from ethos.catalog import load, names
from ethos.errors import EthosError, ModelError, SpecError
from ethos.model.head import output_names, to_export_form
from ethos.model.layers import describe, layer_macs
from ethos.model.levels import (
    GRAPH_STEPS,
    MODULE_STEPS,
    PARTS,
    Architecture,
    Graph,
    Network,
    build,
    check_steps,
    resolve_level,
)

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
        ("level4", "relu", 2_442_829),
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
        assert mine["macs"] <= other["macs"] or mine["module"] == "LateralConcat"
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
    fitting = [step for step in steps if "replace_block" not in step] if base == "yolov8n" else steps
    plain = build(Architecture(base=base, steps=(), activation="relu", names=FIFTEEN))
    light = build(Architecture(base=base, steps=fitting, activation="relu", names=FIFTEEN))
    assert parameters(light) != parameters(plain)
    assert light.stride.tolist() == [8, 16, 32]


DEPTHWISE: dict[str, Any] = {"depthwise_class_branch": {}}
SPLIT: dict[str, Any] = {"split_c2f": None}


def test_a_depthwise_class_branch_saves_what_was_measured() -> None:
    _, steps = resolve_level("level3")
    plain, light = (stepped(*steps), stepped(*steps, DEPTHWISE))
    assert parameters(plain) - parameters(light) == 3_565_389 - 3_244_749
    # in the exported form, but for the 16 fixed weights of the decoding that is left out
    assert parameters(to_export_form(light)) + 16 == 3_238_045


def test_a_depthwise_class_branch_is_that_of_the_published_head() -> None:
    light, published = stepped(*resolve_level("level3")[1], DEPTHWISE).model[-1], stepped().model[-1]
    for mine, other in zip(light.cv3.modules(), published.cv3.modules(), strict=True):
        assert type(mine) is type(other)
        if isinstance(mine, torch.nn.BatchNorm2d):
            assert (mine.eps, mine.momentum) == (other.eps, other.momentum)
    shapes = [[tuple(p.shape) for p in head.cv3.parameters()] for head in (light, published)]
    assert shapes[0] == shapes[1]
    # what keeps early training from seeing objects everywhere
    assert [branch[-1].bias.mean().item() for branch in light.cv3] == pytest.approx(
        [branch[-1].bias.mean().item() for branch in published.cv3]
    )


def test_split_c2f_as_a_step_is_the_same_network_in_other_tensors() -> None:
    _, steps = resolve_level("level3")
    plain, split = stepped(*steps).eval(), stepped(*steps, SPLIT).eval()
    assert parameters(plain) == parameters(split)
    assert sum(type(module).__name__ == "SplitC2f" for module in split.modules()) == 9
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.allclose(plain(x)[0], split(x)[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("base", ["yolov8n", "yolov5nu", "yolo11s", "yolo11m"])
def test_steps_that_suit_any_family(base: str) -> None:
    plain = stepped(base=base)
    narrow = stepped({"narrow_neck": {"width": 0.5}}, {"light_head": {"convolutions": 1}}, base=base)
    assert parameters(narrow) < 0.95 * parameters(plain)
    # every layer of the neck has become narrower, whatever its class
    assert sum(p.numel() for p in narrow.model[-2].parameters()) < sum(p.numel() for p in plain.model[-2].parameters())


@pytest.mark.parametrize(
    ("base", "steps", "text"),
    [
        ("yolov8n", resolve_level("level2")[1], "level step 'replace_block': the graph holds no C3k2"),
        ("yolo11n", (DEPTHWISE,), "level step 'depthwise_class_branch': the class branches are depthwise already"),
        ("yolo11n", (SPLIT,), "level step 'split_c2f': the network holds no C2f"),
        (
            "yolo12n",
            ({"narrow_neck": {"width": 0.5}},),
            "the layer list is no network: AssertionError: Dimension of ABlock must be a multiple of 32.",
        ),
        ("yolov10n", (), "base graph 'yolov10n': its head is v10Detect, not Detect"),
        ("yolo26n", (), "base graph 'yolo26n': its head gives no box distributions"),
        ("yolo11n-seg", (), "base graph 'yolo11n-seg': its head is Segment, not Detect"),
    ],
    ids=["no-block", "depthwise-already", "no-c2f", "too-narrow", "two-heads", "no-distribution", "masks"],
)
def test_steps_and_bases_that_do_not_suit(base: str, steps: tuple[dict[str, Any], ...], text: str) -> None:
    with pytest.raises(ModelError) as caught:
        stepped(*steps, base=base)
    assert caught.value.message == text
    assert caught.value.fix


@pytest.mark.parametrize("name", ["torch_safe_load", "nn.functional", "torch.hub.load", "TorchVision", "Path"])
def test_a_level_calls_nothing_but_layers(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        stepped({"replace_block": {**REPLACE, "by": name}})
    assert caught.value.message == f"the layer list is no network: unknown layer '{name}'"


def test_a_light_head_fits_the_published_head_too() -> None:
    light = stepped({"light_head": {"convolutions": 1}})
    whole = stepped({"light_head": {"convolutions": 2}})
    assert parameters(light) < parameters(whole) == 2_592_765
    with torch.inference_mode():
        assert light.eval()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4 + 15, 84)


@pytest.mark.parametrize("level", ["baseline", "level3"])
def test_branches_of_the_head_are_narrowed_each(level: str) -> None:
    whole = network(level)
    boxes, classes = (
        build(Architecture(base="yolo11n", steps=(*resolve_level(level)[1], step), activation="relu", names=FIFTEEN))
        for step in ({"light_head": {"box_channels": 32}}, {"light_head": {"class_channels": 24}})
    )
    assert parameters(boxes.model[-1].cv2) < 0.6 * parameters(whole.model[-1].cv2)
    assert parameters(boxes.model[-1].cv3) == parameters(whole.model[-1].cv3)
    assert parameters(classes.model[-1].cv3) < 0.6 * parameters(whole.model[-1].cv3)
    assert parameters(classes.model[-1].cv2) == parameters(whole.model[-1].cv2)
    assert {branch[-1].in_channels for branch in boxes.model[-1].cv2} == {32}
    assert {branch[-1].in_channels for branch in classes.model[-1].cv3} == {24}
    for model in (boxes, classes):
        with torch.inference_mode():
            assert model.eval()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4 + 15, 84)


@pytest.mark.parametrize(("stride", "place"), [(8, 15), (16, 12)])
def test_a_lateral_narrows_one_map_of_the_backbone(stride: int, place: int) -> None:
    whole, lateral = (
        network("level3"),
        stepped(*resolve_level("level3")[1], {"narrow_lateral": {"stride": stride, "channels": 24}}),
    )
    joined = lateral.model[place].lateral
    before, after = (model.model[place + 1].cv1.conv.in_channels for model in (whole, lateral))
    assert (joined.in_channels, joined.out_channels) == (128, 24)
    assert before - after == 128 - 24
    assert [type(layer).__name__ for layer in lateral.model].count("LateralConcat") == 1
    with torch.inference_mode():
        assert lateral.eval()(torch.zeros(1, 3, 64, 64))[0].shape == (1, 4 + 15, 84)


def test_steps_on_how_blocks_are_written_change_the_export_alone() -> None:
    steps = resolve_level("level3")[1]
    plain, written = stepped(*steps), stepped(*steps, {"fold_shortcuts": None}, {"recompute_copies": {"inputs": 64}})
    before, after = plain.state_dict(), written.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        one, other = (to_export_form(model)(x) for model in (plain, written))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-4) for a, b in zip(one, other, strict=True))
    added = [sum(block.add for block in model.modules() if hasattr(block, "add")) for model in (plain, written)]
    # SPPF has a shortcut of its own, which is off
    assert added == [4, 0]
    # 32 and 64 input channels, at strides 4 and 8
    assert [block.i for block in written.modules() if getattr(block, "recompute", False)] == [2, 4]


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


def test_a_level_may_change_the_base_of_what_it_extends(project: Path) -> None:
    write_level(project, "large", "base: yolo11s\nextends: level3\n")
    write_level(project, "larger", "extends: large\nsteps:\n  - light_head: {convolutions: 1}\n")
    assert resolve_level("large") == ("yolo11s", resolve_level("level3")[1])
    assert resolve_level("larger")[0] == "yolo11s"
    assert resolve_level("level3")[0] == "yolo11n"


def test_describe_shows_what_each_step_changed() -> None:
    report = describe("level4_relu", 15, 320)
    published = describe("baseline", 15, 320)
    assert (report["base_parameters"], report["base_macs"]) == (2_592_765, published["macs"])
    assert [step["step"] for step in report["steps"]][:2] == ["replace_block", "replace_block"]
    assert [step["parameters"] for step in report["steps"]][:2] == [3_354_829, 3_565_389]
    assert report["steps"][-1]["parameters"] == report["parameters"]
    before = {"parameters": report["base_parameters"], "macs": report["base_macs"]}
    for step in report["steps"]:
        for figure in ("parameters", "macs"):
            assert step[f"{figure}_change"] == step[figure] - before[figure]
            before[figure] = step[figure]
    changed = {layer["index"]: layer["changed_by"] for layer in report["layers"]}
    # the first convolution is nobody's, the first C3k2 is step 1's, the attention block step 2's
    assert (changed[0], changed[2], changed[10]) == ([], [1], [2])
    assert all(layer["changed_by"] == [] for layer in published["layers"])


def test_a_step_of_ones_own_is_a_function_and_a_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A throw-away step that takes a layer out: what follows it has not changed."""

    def without_layer(graph: Graph, *, index: int) -> None:
        graph["backbone"].pop(index)
        for layer in (layer for part in PARTS for layer in graph[part]):
            given = layer[0] if isinstance(layer[0], list) else [layer[0]]
            moved = [each - (each >= index) for each in given]
            layer[0] = moved if isinstance(layer[0], list) else moved[0]

    monkeypatch.setitem(GRAPH_STEPS, "without_layer", without_layer)
    write_level(project, "mine", "extends: level3\nsteps:\n  - without_layer: {index: 10}\n")
    (project / "specs" / "variants" / "mine.yaml").write_text("level: mine\nactivation: relu\n")
    report, whole = describe("mine", 15, 64), describe("level3_relu", 15, 64)
    assert len(report["layers"]) == len(whole["layers"]) - 1
    removed = whole["layers"][10]
    assert report["steps"][-1]["parameters_change"] == -removed["parameters"]
    assert not any(3 in layer["changed_by"] for layer in report["layers"])


def test_the_manual_has_every_step() -> None:
    text = (ROOT / "docs" / "levels.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted([*GRAPH_STEPS, *MODULE_STEPS])


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
        "  fix: did you mean replace_block? known: depthwise_class_branch, fold_shortcuts, light_head, narrow_lateral, "
        "narrow_neck, recompute_copies, replace_block, split_c2f"
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
            {"light_head": {"box_channels": 0}},
            SpecError,
            "level step 'light_head': box_channels: Input should be greater than 0",
        ),
        (
            {"narrow_lateral": {"stride": 4, "channels": 32}},
            ModelError,
            "level step 'narrow_lateral': the neck joins no map of stride 4",
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
        "no-channels",
        "no-such-stride",
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
