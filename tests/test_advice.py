"""Advice: the shapes found in a network, the changes made on files, and the figures before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tflite_files import CHANNELS, SIDE, Network, small_network

from ethos import catalog
from ethos.npu import edit, patterns
from ethos.npu.advice import ADVICE, advise
from ethos.npu.analyze import analyze
from ethos.npu.graph import Graph, census, total_macs
from ethos.npu.patterns import Wiring
from ethos.npu.resize import resize_input
from ethos.npu.tflite import read_graph
from ethos.specs import Target

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"
HALF = CHANNELS // 2


def _target(name: str) -> Target:
    return catalog.read_spec(ROOT / "specs" / "targets" / f"{name}.yaml", Target, name=name)


def _model(name: str) -> Path:
    file = MODELS / f"{name}_full_integer_quant.tflite"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    return file


def _slice(network: Network, source: int, begin: int, end: int, name: str) -> int:
    result = network.tensor(name, (1, SIDE, SIDE, end - begin))
    ranges = [[0, 0, 0, begin], [0, 0, 0, end], [1, 1, 1, 1]]
    operands = [network.constant(f"{name}{place}", np.array(r, np.int32)) for place, r in enumerate(ranges)]
    network.operator("STRIDED_SLICE", [source, *operands], [result], "StridedSliceOptions", beginMask=7, endMask=7)
    return result


def _leaky(network: Network, source: int) -> int:
    result = network.feature_map("leaky")
    network.operator("LEAKY_RELU", [source], [result], "LeakyReluOptions", alpha=0.1)
    return result


def _joined(network: Network, parts: list[int]) -> int:
    channels = sum(network.graph.tensors[part].shape[-1] for part in parts)
    result = network.tensor("joined", (1, SIDE, SIDE, channels))
    network.operator("CONCATENATION", parts, [result], "ConcatenationOptions", axis=3)
    return result


def _sliced(activation: bool = False, by: str = "STRIDED_SLICE") -> Network:
    """Return conv0, cut in two by channels, the halves joined the other way round."""
    network = Network()
    source = network.feature_map("input")
    whole = network.conv(source, "conv0", np.random.default_rng(0), activation=0 if activation else 1)
    if activation:
        whole = _leaky(network, whole)
    if by == "SPLIT":
        halves = [network.tensor(name, (1, SIDE, SIDE, HALF)) for name in ("low", "high")]
        network.operator("SPLIT", [network.constant("axis", np.array(3, np.int32)), whole], halves, "SplitOptions")
        network.graph.operators[-1].builtinOptions.numSplits = 2
    else:
        halves = [_slice(network, whole, 0, HALF, "low"), _slice(network, whole, HALF, CHANNELS, "high")]
    network.graph.inputs, network.graph.outputs = [source], [_joined(network, halves[::-1])]
    return network


def _silu(fused: bool = True) -> Network:
    """Return conv0, a SiLU as two operators, conv1; conv0 has a further use unless `fused`."""
    network = Network()
    rng = np.random.default_rng(0)
    source = network.feature_map("input")
    first = network.conv(source, "conv0", rng, activation=0)
    gate, product = network.tensor("gate", (1, SIDE, SIDE, CHANNELS), scale=1 / 256), network.feature_map("product")
    network.graph.tensors[gate].quantization.zeroPoint = [-128]
    network.operator("LOGISTIC", [first], [gate])
    network.operator("MUL", [first, gate], [product], "MulOptions")
    last = network.conv(product, "conv1", rng)
    network.graph.inputs, network.graph.outputs = [source], [last] if fused else [last, first]
    return network


def _graph(network: Network, folder: Path, name: str = "network") -> Graph:
    return read_graph(network.write(folder / f"{name}.tflite"))


def _run(file: Path) -> list[np.ndarray]:
    interpreter = Interpreter(str(file))
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    values = np.random.default_rng(1).integers(-128, 128, entry["shape"]).astype(np.int8)
    interpreter.set_tensor(entry["index"], values)
    interpreter.invoke()
    return [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]


# --- changes on files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(_sliced(), id="slices"),
        pytest.param(_sliced(activation=True), id="slices behind an activation"),
        pytest.param(_sliced(by="SPLIT"), id="split"),
    ],
)
def test_two_convolutions_give_the_same_values(network: Network, tmp_path: Path) -> None:
    graph = _graph(network, tmp_path)
    sites = patterns.find_slices(Wiring(graph))
    assert [site.parts for site in sites] != []
    edited = edit.Edited(graph)
    edit.split_convolutions(edited, graph, sites)
    file = edited.keep(tmp_path / "changed.tflite")
    changed = read_graph(file)
    assert census(changed)["CONV_2D"] == 2
    assert not {"STRIDED_SLICE", "SPLIT"} & set(census(changed))
    assert total_macs(changed) == total_macs(graph)
    for mine, given in zip(_run(file), _run(graph.file), strict=True):
        assert np.array_equal(mine, given)
        assert given.std() > 0


def test_a_convolution_with_another_use_is_not_split(tmp_path: Path) -> None:
    network = _sliced()
    network.graph.outputs.append(network.graph.operators[0].outputs[0])
    assert patterns.find_slices(Wiring(_graph(network, tmp_path))) == []


@pytest.mark.parametrize("fused", [True, False], ids=["fused into the convolution", "of its own"])
def test_relu_in_place_of_silu(fused: bool, tmp_path: Path) -> None:
    graph = _graph(_silu(fused), tmp_path)
    sites = patterns.find_silu(Wiring(graph))
    assert [site.operators for site in sites] == [(1, 2)]
    edited = edit.Edited(graph)
    edit.replace_silu(edited, graph, sites)
    changed = read_graph(edited.keep(tmp_path / "changed.tflite"))
    assert census(changed) == ({"CONV_2D": 2} if fused else {"CONV_2D": 2, "RELU": 1})
    assert _run(changed.file)[0].shape == (1, SIDE, SIDE, CHANNELS)


def test_a_smaller_picture_has_the_shapes_that_the_interpreter_finds(tmp_path: Path) -> None:
    graph = _graph(_sliced(activation=True), tmp_path)
    edited = edit.Edited(graph)
    edit.split_convolutions(edited, graph, patterns.find_slices(Wiring(graph)))
    changed = read_graph(edited.keep(tmp_path / "split.tflite"))
    edited = edit.Edited(changed)
    assert resize_input(edited, changed, 0.5)
    small = read_graph(edited.keep(tmp_path / "small.tflite"))
    assert small.tensors[small.outputs[0]].shape == (1, SIDE // 2, SIDE // 2, CHANNELS)
    assert _run(small.file)[0].shape == (1, SIDE // 2, SIDE // 2, CHANNELS)
    assert total_macs(small) * 4 == total_macs(graph)


def test_a_picture_is_not_resized_through_unknown_operators(tmp_path: Path) -> None:
    graph = _graph(small_network(between=("FLOOR",)), tmp_path)
    assert not resize_input(edit.Edited(graph), graph, 0.5)


def test_weights_per_channel(tmp_path: Path) -> None:
    graph = _graph(small_network(), tmp_path)
    convolutions = patterns.find_per_tensor_weights(Wiring(graph))
    assert convolutions == [0, 1]
    edited = edit.Edited(graph)
    edit.quantize_per_channel(edited, graph, convolutions)
    changed = read_graph(edited.keep(tmp_path / "changed.tflite"))
    assert len(changed.tensors[changed.operators[0].inputs[1]].scale) == CHANNELS
    assert patterns.find_per_tensor_weights(Wiring(changed)) == []
    assert len(_run(changed.file)) == 1


# --- what is found ---------------------------------------------------------------------------------------------------


def test_nothing_to_find_in_a_plain_network(tmp_path: Path) -> None:
    wiring = Wiring(_graph(small_network(), tmp_path))
    assert patterns.find_decode(wiring) is None
    assert patterns.find_attention(wiring) == patterns.find_slices(wiring) == patterns.find_silu(wiring) == []


def test_a_classifier_has_no_decoding(tmp_path: Path) -> None:
    network = small_network()
    result = network.feature_map("softmax")
    network.operator("SOFTMAX", [network.graph.outputs[0]], [result])
    network.graph.outputs = [result]
    assert patterns.find_decode(Wiring(_graph(network, tmp_path))) is None


def test_channels_that_fill_no_block(tmp_path: Path) -> None:
    network = Network()
    source = network.feature_map("input")
    operands = [
        source,
        network.constant("weights", np.ones((17, 3, 3, CHANNELS), np.int8), 0.1),
        network.constant("bias", np.zeros(17, np.int32), 0.1),
    ]
    odd = network.tensor("odd", (1, SIDE, SIDE, 17))
    steps = {"strideH": 1, "strideW": 1}
    network.operator("CONV_2D", operands, [odd], "Conv2DOptions", **steps)
    weights = network.constant("weights1", np.ones((5, 3, 3, 17), np.int8), 0.1)
    bias = network.constant("bias1", np.zeros(5, np.int32), 0.1)
    result = network.tensor("result", (1, SIDE, SIDE, 5))
    network.operator("CONV_2D", [odd, weights, bias], [result], "Conv2DOptions", **steps)
    network.graph.inputs, network.graph.outputs = [source], [result]
    wiring = Wiring(_graph(network, tmp_path))
    assert patterns.find_odd_channels(wiring) == [0]
    finding = ADVICE["full_channel_blocks"](wiring)
    assert finding is not None
    assert finding.expected == "up to 47% of such a layer's work is on empty channels (rule)"


def test_what_is_found_in_a_detector_with_attention() -> None:
    wiring = Wiring(read_graph(_model("v3_level2_relu")))
    decode = patterns.find_decode(wiring)
    assert decode is not None
    assert [wiring.tensor(index).shape[1:] for index in decode.raw] == [
        *((20, 20, 64), (20, 20, 15), (40, 40, 64), (40, 40, 15), (80, 80, 64), (80, 80, 15))
    ]
    (attention,) = patterns.find_attention(wiring)
    assert wiring.tensor(attention.start).shape == wiring.tensor(attention.end).shape == (1, 20, 20, 128)
    assert len(attention.operators) == 40
    assert len(patterns.find_slices(wiring)) == 9
    assert patterns.find_odd_channels(wiring) == []


# --- advice ----------------------------------------------------------------------------------------------------------


def test_unverified_advice_says_expected_and_compiles_nothing_more(tmp_path: Path) -> None:
    file = _sliced().write(tmp_path / "sliced.tflite")
    advice = analyze(file, [_target("ethos-u55-256"), _target("ethos-n78-4tops")])["advice"]
    assert advice["together"] is None
    (item, weights) = advice["items"]
    assert item["name"] == "two_convolutions"
    assert item["operators"] == 2
    assert item["first"] == "low"
    assert item["targets"]["ethos-n78-4tops"] == {
        "share": None,
        "on_cpu": 2,
        "provenance": "expected",
        "before": None,
        "after": None,
        "gain": None,
    }
    assert weights["name"] == "per_channel_weights"


def test_verified_advice_has_figures_before_and_after(tmp_path: Path) -> None:
    file = _sliced().write(tmp_path / "sliced.tflite")
    report = analyze(file, [_target("ethos-u55-256"), _target("ethos-n78-4tops")], verify=True)
    item = report["advice"]["items"][0]
    vela, rule = item["targets"]["ethos-u55-256"], item["targets"]["ethos-n78-4tops"]
    assert vela["provenance"] == "estimate"
    assert vela["before"]["cycles_total"] == report["targets"]["ethos-u55-256"]["cycles_total"]
    assert vela["after"]["cycles_total"] > 0
    assert vela["gain"] == pytest.approx(1 - vela["after"]["cycles_total"] / vela["before"]["cycles_total"], abs=1e-4)
    assert (rule["before"]["operators_cpu"], rule["after"]["operators_cpu"], rule["gain"]) == (2, 0, 1.0)
    assert report["advice"]["together"]["ethos-n78-4tops"]["after"]["operators_cpu"] == 0


def test_over_budget_brings_advice_on_the_input_size(tmp_path: Path) -> None:
    file = small_network().write(tmp_path / "small.tflite")
    target = _target("ethos-u55-256")
    target = target.model_copy(update={"budget": target.budget.model_copy(update={"sram_kib": 8.0})})
    report = analyze(file, [target], verify=True)
    item = next(each for each in report["advice"]["items"] if each["name"] == "smaller_input")
    figures = item["targets"]["ethos-u55-256"]
    assert item["first"] == "over budget on ethos-u55-256"
    assert figures["after"]["over_budget_kib"] < figures["before"]["over_budget_kib"] == 4.0


# milliseconds before, and after each change, of Vela 5.2.0 on edited graphs of this file
STEPS = {
    "ethos-u55-256": {"no_attention": 78.6, "together": 53.1, "smaller_input": 33.7},
    "ethos-u65-512": {"no_attention": 22.7, "together": 14.7, "smaller_input": 9.3},
    "ethos-u85-1024": {"no_attention": 67.1, "together": 11.6, "smaller_input": 7.2},
}


def test_advice_on_a_detector_with_attention_names_the_decode_head_and_the_attention_first() -> None:
    targets = [_target(name) for name in (*STEPS, "ethos-n78-4tops")]
    report = analyze(_model("v3_level2_relu"), targets, verify=True)
    items = {item["name"]: item["targets"] for item in report["advice"]["items"]}
    assert set(list(items)[:2]) == {"raw_head", "no_attention"}
    for target, wanted in STEPS.items():
        found = {name: items[name][target]["after"]["latency_ms"] for name in wanted if name != "together"}
        found["together"] = report["advice"]["together"][target]["after"]["latency_ms"]
        assert found == pytest.approx(wanted, rel=0.01)
        assert items["per_channel_weights"][target]["gain"] == 0
    assert report["advice"]["together"]["ethos-n78-4tops"]["after"] == {
        **dict.fromkeys(("cycles_total", "latency_ms", "sram_kib", "dram_kib", "over_budget_kib")),
        "operators_cpu": 0,
        "regions": 1,
    }


@pytest.mark.parametrize("name", ["ethos-u55-256", "ethos-u85-1024", "ethos-n78-4tops"])
def test_the_order_holds_on_a_single_target_without_verification(name: str) -> None:
    items = analyze(_model("v3_level2_relu"), [_target(name)])["advice"]["items"]
    assert {item["name"] for item in items[:2]} == {"raw_head", "no_attention"}


def test_every_piece_of_advice_has_a_sentence(tmp_path: Path) -> None:
    for rule in ADVICE.values():
        assert rule.__doc__ is not None
        assert rule.__doc__.strip().endswith(".")
    reports: dict[str, dict[str, Any]] = {}
    assert advise(_graph(small_network(), tmp_path), reports, None, tmp_path)["together"] is None
