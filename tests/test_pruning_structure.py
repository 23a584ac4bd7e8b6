"""What can be pruned of every level, that costs and widths agree with the network, and who gives."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ethos import catalog
from ethos.errors import EthosError, ModelError, SpecError
from ethos.model.levels import Architecture, build, resolve_level
from ethos.model.weights import load_model, save_model
from ethos.model.widths import require_widths, widths_of
from ethos.npu import vela
from ethos.npu.graph import macs, total_macs
from ethos.npu.tflite import read_graph
from ethos.pruning.allocate import Goal, Kept, Limits, by_worth, check_goals, uniform
from ethos.pruning.costs import Channels, Macs, Parameters
from ethos.pruning.cycles import measure_curves
from ethos.pruning.groups import Tracer
from ethos.pruning.importance import score_channels
from ethos.pruning.shrink import Aim, export_network, look, shrink
from ethos.pruning.sketch import write_sketch
from ethos.pruning.speed import measure_speed
from ethos.specs import Prune, PruneGoal

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import VelaTarget

SIDE = 64
LEVELS = [("baseline", "silu"), ("level2", "relu"), ("level3", "leaky_relu"), ("level4", "relu")]


def architecture(level: str, activation: Any) -> Architecture:
    base, steps = resolve_level(level)
    return Architecture(base=base, steps=steps, activation=activation, names=("Stop", "Yield"))


@cache
def dense(level: str, activation: Any) -> Any:
    return build(architecture(level, activation))


def network(level: str, activation: Any) -> Any:
    return copy.deepcopy(dense(level, activation))


def parameters(model: Any) -> int:
    return sum(each.numel() for each in model.parameters())


def target(name: str = "ethos-u65-512") -> VelaTarget:
    found: Any = catalog.load("target", name)
    return found


def aim(**options: Any) -> Aim:
    return Aim(Prune(**options), SIDE, {name: target(name) for name in ("ethos-u55-256", "ethos-u65-512")})


# --- structure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "activation"), LEVELS, ids=[level for level, _ in LEVELS])
def test_every_level_is_pruned_and_built_again(level: str, activation: Any, tmp_path: Path) -> None:
    model, image = network(level, activation).eval(), torch.rand(1, 3, SIDE, SIDE)
    before = model(image)[0]
    tracer = Tracer(model)
    torch.testing.assert_close(model(image)[0], before, rtol=1e-4, atol=1e-4)  # the split form computes the same
    structure, whole = tracer.structure(SIDE), parameters(model)
    chosen = {name: max(8, width // 2) for name, width in structure.full.items()}
    tracer.prune({name: range(structure.full[name] - width) for name, width in chosen.items()})
    widths = widths_of(model)
    assert structure.widths(chosen) == widths
    assert Parameters(structure, whole).total(chosen) == parameters(model)
    pruned = architecture(level, activation).model_copy(update={"widths": widths})
    save_model(tmp_path, model, pruned)
    again, described = load_model(tmp_path)
    assert described == pruned
    assert torch.equal(again.eval()(image)[0], model.eval()(image)[0])


def test_attention_is_pruned_around() -> None:
    model = network("level2", "relu")
    structure = Tracer(model).structure(SIDE)
    assert "model.10.m.0.ffn.0.conv" in structure.groups  # its own hidden channels may go
    touched = {layer for group in structure.groups.values() for layer in (*group.gives, *group.takes)}
    assert not any(".attn." in layer for layer in touched)
    assert "model.10.cv0.conv" in structure.groups
    assert "model.10.cv1.conv" not in structure.groups  # gives what attention takes


def test_depthwise_convolutions_go_with_what_they_take() -> None:
    structure = Tracer(network("baseline", "silu")).structure(SIDE)
    group = structure.groups["model.16.cv2.conv"]
    assert "model.23.cv3.0.0.0.conv" in group.gives
    assert structure.layers["model.23.cv3.0.0.0.conv"].depthwise


def test_outputs_of_the_head_stay() -> None:
    structure = Tracer(network("level3", "relu")).structure(SIDE)
    outputs = {name for name, layer in structure.layers.items() if layer.output is None}
    assert outputs == {f"model.23.{branch}.{scale}.2" for branch in ("cv2", "cv3") for scale in range(3)}


def test_kept_layers_keep_their_channels() -> None:
    groups = Tracer(network("level3", "relu"), ["model.0", "model.23"]).groups
    assert not any(name.startswith(("model.0.", "model.23.")) for name in groups)
    assert "model.1.conv" in groups


def test_unknown_layer_to_keep() -> None:
    with pytest.raises(SpecError, match=r"unknown layer 'model\.99'.*\n.*did you mean"):
        Tracer(network("level3", "relu"), ["model.99"])


def test_nothing_left_to_prune() -> None:
    with pytest.raises(ModelError, match="nothing of the network can be pruned"):
        Tracer(network("level3", "relu"), ["model"])


def test_a_changed_width_is_told() -> None:
    model = network("level3", "relu")
    wrong = widths_of(model) | {"model.0.conv": (3, 8)}
    with pytest.raises(ModelError, match=r"'model\.0\.conv' has \(3, 16\) .* instead of \(3, 8\)"):
        require_widths(model, wrong)


@pytest.mark.parametrize(
    ("widths", "message"),
    [({"model.0.conv": (3, 16)}, "is not a layer of both"), ({"model.0.conv": (3, 999)}, "its level has 3 to 16")],
    ids=["missing", "wider"],
)
def test_widths_that_do_not_belong_to_the_level(widths: Any, message: str) -> None:
    model = network("level3", "relu")
    if len(widths["model.0.conv"]) and widths["model.0.conv"][1] == 999:
        Tracer(model)
        widths = widths_of(model) | widths
    with pytest.raises(ModelError, match=message):
        build(architecture("level3", "relu").model_copy(update={"widths": widths}))


@pytest.mark.parametrize("kind", ["magnitude", "bn_scale"])
def test_importance_gives_a_score_for_each_channel(kind: Any) -> None:
    tracer = Tracer(network("level3", "relu"))
    scores = score_channels(tracer, kind)
    assert {name: len(values) for name, values in scores.items()} == tracer.structure(SIDE).full


def test_importance_by_gradients_needs_gradients() -> None:
    with pytest.raises(ModelError, match="importance 'taylor'"):
        score_channels(Tracer(network("level3", "relu")), "taylor")


def test_importance_of_a_network_that_diverged() -> None:
    model = network("level3", "relu")
    with torch.no_grad():
        model.model[0].conv.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not finite"):
        score_channels(Tracer(model), "magnitude")


# --- the sketch and the compiler's cycles ----------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "activation"), LEVELS, ids=[level for level, _ in LEVELS])
def test_sketch_runs_and_has_the_macs_of_the_network(level: str, activation: Any, tmp_path: Path) -> None:
    model = network(level, activation)
    file = write_sketch(export_network(model, SIDE, tmp_path / "net.onnx"), tmp_path / "net.tflite")
    graph = read_graph(file)
    assert measure_speed(file).fps > 0
    structure = Tracer(model).structure(SIDE)
    products = [operator for operator in graph.operators if operator.kind == "BATCH_MATMUL"]
    assert len(products) == (2 if level in {"baseline", "level2"} else 0)
    multiplied = sum(macs(graph, operator) for operator in products)
    assert total_macs(graph) - multiplied == Macs(structure).total(structure.full)


def test_sketch_of_an_unknown_operator(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"], name="strange")], "g", [given], [made])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"operator Erf \(strange\)"):
        write_sketch(tmp_path / "net.onnx", tmp_path / "net.tflite")
    assert not (tmp_path / "net.tflite").exists()


def test_compiler_counts_input_channels_in_steps() -> None:
    """The reason why cycles are not MACs: 48 input channels take as long as 64 on Ethos-U55."""
    structure = Tracer(network("level3", "relu")).structure(SIDE)
    curves = measure_curves(structure, target("ethos-u55-256"))
    kind = (3, False)
    assert curves.at(kind, "in", 48) == pytest.approx(curves.at(kind, "in", 64), rel=0.05)
    assert curves.at(kind, "in", 64) > 1.8 * curves.at(kind, "in", 32)
    assert curves.at(kind, "in", 512) == pytest.approx(4 * curves.at(kind, "in", 128), rel=0.1)


def test_pruning_by_cycles_reaches_its_goal_in_a_real_compile(tmp_path: Path) -> None:
    goals = (PruneGoal(quantity="cycles", target="ethos-u55-256", share=0.7),)
    options = aim(goals=goals)
    model = network("level3", "relu")
    pruned = shrink(model, architecture("level3", "relu"), options, 1, tmp_path)
    file = write_sketch(export_network(model, SIDE, tmp_path / "net.onnx"), tmp_path / "net.tflite")
    compiled = vela.compile_network(file, target("ethos-u55-256"), tmp_path / "vela")
    assert compiled.cycles["total"] <= 0.71 * options.totals["ethos-u55-256"]
    assert pruned
    assert all(given % 16 == 0 for name, (_, given) in (pruned.widths or {}).items() if not name.endswith(".2"))
    assert parameters(model) < parameters(dense("level3", "relu"))


# --- allocation ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> Any:
    return Tracer(network("level3", "relu")).structure(SIDE)


@pytest.mark.parametrize("multiple", [8, 16])
def test_uniform_meets_the_goal_with_multiples(small: Any, multiple: int) -> None:
    cost = Macs(small)
    goal = Goal(cost, 0.6 * cost.total(small.full))
    chosen = uniform([goal], small.full, Limits(multiple, 0.75, small.full))
    assert goal.met(chosen)
    assert all(width % multiple == 0 for width in chosen.values())


def test_worth_spends_on_what_saves_most(small: Any) -> None:
    """With equal importance everywhere, fewer channels go for the same MACs than if each were worth the same."""
    cost, channels = Macs(small), Channels(small)
    goal = Goal(cost, 0.7 * cost.total(small.full))
    equal = Kept({name: np.ones(width) for name, width in small.full.items()})
    limits = Limits(16, 0.75, small.full)
    costly = by_worth([goal], small.full, equal, limits)
    blind = by_worth([goal], small.full, equal, limits, blind=True)
    assert goal.met(costly)
    assert goal.met(blind)
    assert channels.total(costly) > channels.total(blind)


def test_no_group_is_narrowed_beyond_the_limit(small: Any) -> None:
    parameters_of = Parameters(small, 3_500_000)
    goal = Goal(parameters_of, 0.4 * parameters_of.total(small.full))
    equal = Kept({name: np.ones(width) for name, width in small.full.items()})
    chosen = by_worth([goal], small.full, equal, Limits(16, 0.6, small.full))
    assert all(chosen[name] >= 0.4 * width for name, width in small.full.items())


def test_a_goal_out_of_reach(small: Any) -> None:
    cost = Macs(small)
    goals, limits = [Goal(cost, 0.01 * cost.total(small.full))], Limits(16, 0.5, small.full)
    equal = Kept({name: np.ones(width) for name, width in small.full.items()})
    for method in (lambda: uniform(goals, small.full, limits), lambda: by_worth(goals, small.full, equal, limits)):
        with pytest.raises(ModelError, match=r"macs <= .* cannot be reached, .* is left"):
            method()


def test_the_largest_ratio_is_tried_before_uniform_pruning_gives_up(small: Any) -> None:
    """A correction may show at last that only the largest ratio will do."""
    cost, limits, calls = Macs(small), Limits(1, 0.75, small.full), []
    most = {name: limits.nearest(name, width, 0.25 * width) for name, width in small.full.items()}
    goal = Goal(cost, 1.3001 * cost.total(most))
    plain = cost.of

    def correct(_: dict[str, int]) -> None:
        calls.append(1)
        if len(calls) == 3:
            cost.of = lambda *given: 1.3 * plain(*given)  # type: ignore[method-assign]
            cost.forget()

    assert uniform([goal], small.full, limits, correct) == most


def test_a_goal_that_was_met_from_the_start_does_not_hinder_the_others(small: Any) -> None:
    cost, channels, seen = Macs(small), Channels(small), []
    goals = [Goal(cost, 0.7 * cost.total(small.full)), Goal(channels, channels.total(small.full))]
    equal = Kept({name: np.ones(width) for name, width in small.full.items()})
    chosen = by_worth(goals, small.full, equal, Limits(16, 0.75, small.full), correct=seen.append)
    assert all(goal.met(chosen) for goal in goals)
    assert len(seen) > 1


def test_the_largest_ratio_leaves_whole_blocks() -> None:
    # (1 - 0.7) * 160 is 48.000000000000007 in floating point
    assert min(Limits(16, 0.7, {"a": 160}).choices("a", 160)) == 48


def test_a_goal_that_is_met_already(small: Any) -> None:
    cost = Macs(small)
    with pytest.raises(SpecError, match="already met"):
        check_goals([Goal(cost, 2 * cost.total(small.full))], small.full)


def test_about_no_reduction_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EthosError, match=r"about none|cannot be reached"):
        shrink(
            network("level3", "relu"),
            architecture("level3", "relu"),
            aim(ratio=0.001, channel_multiple=1),
            1,
            tmp_path,
        )


@pytest.mark.parametrize(("share", "left"), [(0.9, False), (0.5, True)], ids=["nothing-left", "next-goals"])
def test_a_step_that_an_earlier_one_reached_is_passed_over(share: float, left: bool, tmp_path: Path) -> None:
    model, made = network("level3", "relu"), architecture("level3", "relu")
    first = aim(goals=(PruneGoal(quantity="macs", share=0.68),), method="importance")
    shrink(model, made, first, 1, tmp_path)
    before = parameters(model)
    # 0.5 ** (2 / 4) is 0.707
    options = Prune(goals=(PruneGoal(quantity="macs", share=share),), method="importance", steps=4)
    found = shrink(model, made, replace(first, options=options), 2, tmp_path)
    assert (found is not None) == left
    assert (parameters(model) < before) == left


def test_absolute_goals(tmp_path: Path) -> None:
    model = network("level3", "relu")
    whole = look(copy.deepcopy(model), aim(ratio=0.5), tmp_path).costs["parameters"]
    limit = int(0.8 * whole.total(whole.structure.full))
    options = aim(goals=(PruneGoal(quantity="parameters", at_most=limit),), method="importance")
    shrink(model, architecture("level3", "relu"), options, 1, tmp_path)
    found = look(model, aim(ratio=0.5), tmp_path).costs["parameters"]
    assert found.total(found.structure.full) <= limit
