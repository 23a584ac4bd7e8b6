"""Rules of the Ethos-N78: each operator's limits, driver releases, regions, and figures of known networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_files import CHANNELS, SIDE, Network, small_network

from ethos import catalog
from ethos.errors import ModelError, SpecError
from ethos.npu import rules
from ethos.npu.history import npu_functions
from ethos.npu.n78 import chip_of, rulebook
from ethos.npu.placement import Placement, place_ruled
from ethos.npu.regions import merge
from ethos.npu.tflite import read_graph
from ethos.specs import RulesTarget, Target, VelaTarget

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"
OLD, POOLED, NEW = "22.11", "23.08", "25.03"


def _target(driver: str = NEW, variant: str = "4tops_2ple") -> RulesTarget:
    return RulesTarget(name="n78", compiler="rules", accelerator="ethos-n78", variant=variant, driver=driver)


def _one(
    kind: str,
    inputs: list[tuple[int, ...] | np.ndarray],
    outputs: list[tuple[int, ...]],
    options: str = "",
    scales: tuple[float, float] = (0.05, 0.05),
    **values: Any,
) -> Network:
    """Return a network of one operator; arrays are constants."""
    network = Network()
    operands = []
    for place, each in enumerate(inputs):
        if isinstance(each, np.ndarray):
            operands.append(network.constant(f"constant{place}", each, 0.5 if each.dtype == np.int8 else None))
        else:
            operands.append(network.tensor(f"in{place}", each, scale=scales[0]))
    results = [network.tensor(f"out{place}", shape, scale=scales[1]) for place, shape in enumerate(outputs)]
    network.operator(kind, operands, results, options, **values)
    network.graph.inputs = [index for index, each in zip(operands, inputs, strict=True) if isinstance(each, tuple)]
    network.graph.outputs = results
    return network


def _refusal(network: Network, folder: Path, driver: str = NEW, variant: str = "4tops_2ple") -> str:
    graph = read_graph(network.write(folder / "one.tflite"))
    return rules.refusals(graph, chip_of(_target(driver, variant))).get(0, "")


MAP = (1, 8, 8, 16)


def _weights(*shape: int) -> np.ndarray:
    return np.ones(shape, np.int8)


def _ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int32)


def _convolution(weights: np.ndarray, source: tuple[int, ...] = MAP, stride: int = 1, **values: Any) -> Network:
    made = (1, -(-source[1] // stride), -(-source[2] // stride), weights.shape[0])
    steps = {"strideH": stride, "strideW": stride, "dilationHFactor": 1, "dilationWFactor": 1}
    return _one("CONV_2D", [source, weights], [made], "Conv2DOptions", **{**steps, **values})


def _pool(side: int, stride: int, padding: int, source: tuple[int, ...] = MAP) -> Network:
    made = (1, -(-source[1] // stride), -(-source[2] // stride), source[3])
    sizes = {"filterHeight": side, "filterWidth": side, "strideH": stride, "strideW": stride, "padding": padding}
    return _one("MAX_POOL_2D", [source], [made], "Pool2DOptions", **sizes)


def _transposed(shape: tuple[int, ...], order: tuple[int, ...]) -> Network:
    return _one("TRANSPOSE", [shape, _ints(*order)], [tuple(shape[axis] for axis in order)], "TransposeOptions")


def _padded(rows: tuple[tuple[int, int], ...], made: tuple[int, ...]) -> Network:
    return _one("PAD", [MAP, np.array(rows, np.int32)], [made], "PadOptions")


def _scaled(network: Network, scale: float, zero_point: int) -> Network:
    quantization = network.graph.tensors[-1].quantization
    quantization.scale, quantization.zeroPoint = [scale], [zero_point]
    return network


TAKEN = {
    "convolution": _convolution(_weights(32, 3, 3, 16)),
    "convolution 1x9": _convolution(_weights(32, 1, 9, 16)),
    "depthwise as groups of one": _convolution(_weights(16, 3, 3, 1)),
    "addition": _one("ADD", [MAP, MAP], [MAP], "AddOptions"),
    "addition of a channel's constant": _one("ADD", [MAP, _weights(16)], [MAP], "AddOptions"),
    "multiplication by a scalar": _one("MUL", [MAP, _weights()], [MAP], "MulOptions", scales=(0.05, 0.025)),
    "leaky ReLU": _one("LEAKY_RELU", [MAP], [MAP], "LeakyReluOptions", alpha=0.1),
    "sigmoid": _scaled(_one("LOGISTIC", [MAP], [MAP]), 1 / 256, -128),
    "tanh": _scaled(_one("TANH", [MAP], [MAP]), 1 / 128, 0),
    "pooling 2x2": _pool(2, 2, 1),
    "pooling 3x3 on odd": _pool(3, 2, 1, (1, 9, 9, 16)),
    "pooling 5x5 stride 1": _pool(5, 1, 0),
    "resize": _one("RESIZE_NEAREST_NEIGHBOR", [MAP, _ints(16, 16)], [(1, 16, 16, 16)]),
    "resize to one less": _one("RESIZE_NEAREST_NEIGHBOR", [MAP, _ints(15, 15)], [(1, 15, 15, 16)]),
    "concatenation": _one("CONCATENATION", [MAP, (1, 8, 8, 5)], [(1, 8, 8, 21)], "ConcatenationOptions", axis=-1),
    "split": _one("SPLIT", [_ints(3), MAP], [(1, 8, 8, 8)] * 2, "SplitOptions"),
    "reshape": _one("RESHAPE", [MAP, _ints(1, 64, 16)], [(1, 64, 16)], "ReshapeOptions"),
    "transposition": _transposed(MAP, (0, 3, 1, 2)),
    "padding": _padded(((0, 0), (0, 7), (1, 0), (0, 0)), (1, 15, 9, 16)),
    "mean": _one("MEAN", [MAP, _ints(1, 2)], [(1, 1, 1, 16)], "ReducerOptions"),
    "depth to space": _one("DEPTH_TO_SPACE", [MAP], [(1, 16, 16, 4)], "DepthToSpaceOptions", blockSize=2),
    "fully connected": _one("FULLY_CONNECTED", [(1, 16), _weights(4, 16)], [(1, 4)], "FullyConnectedOptions"),
    "requantization": _one("QUANTIZE", [MAP], [MAP], scales=(0.05, 0.04)),
    "average": _one(
        *("AVERAGE_POOL_2D", [MAP], [MAP], "Pool2DOptions"),
        filterHeight=3,
        filterWidth=3,
        strideH=1,
        strideW=1,
    ),
    "depthwise": _one(
        *("DEPTHWISE_CONV_2D", [MAP, _weights(1, 3, 3, 16)], [MAP], "DepthwiseConv2DOptions"),
        strideH=1,
        strideW=1,
    ),
    "transposed convolution": _one(
        *("TRANSPOSE_CONV", [_ints(1, 16, 16, 8), _weights(8, 3, 3, 16), MAP], [(1, 16, 16, 8)]),
        *("TransposeConvOptions",),
        strideH=2,
        strideW=2,
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_taken_by_the_last_driver(name: str, tmp_path: Path) -> None:
    assert _refusal(TAKEN[name], tmp_path) == ""


REFUSED = {
    "softmax": (_one("SOFTMAX", [MAP], [MAP]), "the driver has none"),
    "slice": (
        _one("STRIDED_SLICE", [MAP, _ints(0), _ints(1), _ints(1)], [MAP]),
        "the driver only estimates it; write the slice as a split, or as two convolutions",
    ),
    "unknown kind": (_one("FLOOR", [MAP], [MAP]), "the driver has no such operator"),
    "custom kind": (_one("MyOperator", [MAP], [MAP]), "the driver has no such operator"),
    "kernel": (
        _convolution(_weights(16, 4, 4, 16)),
        "Kernel height and width are among (1, 2, 3, 5, 7, 9): 4x4",
    ),
    "stride": (
        _convolution(_weights(16, 9, 9, 16), stride=2),
        "Strides are equal and among (1, 2); stride 2 takes kernels up to 7: 2x2 with a kernel of 9x9",
    ),
    "dilation": (_convolution(_weights(16, 3, 3, 16), dilationHFactor=2), "Kernels are not dilated: 2x1"),
    "groups": (
        _convolution(_weights(16, 3, 3, 4)),
        "A convolution covers all input channels, or is depthwise; other groups are not taken: "
        "16 channels in groups of 4",
    ),
    "computed weights": (
        _one("FULLY_CONNECTED", [(1, 16), (4, 16)], [(1, 4)], "FullyConnectedOptions"),
        "Weights and bias are constants in the file: computed weights",
    ),
    "fused tanh": (
        _convolution(_weights(16, 3, 3, 16), fusedActivationFunction=4),
        "A fused activation is one of the ReLU family: TFLite's activation 4",
    ),
    "batch": (
        _one("RESHAPE", [MAP, _ints(2, 512)], [(2, 512)], "ReshapeOptions"),
        "The first dimension of computed tensors, the batch, is 1: [2, 512]",
    ),
    "rank": (
        _one("RESHAPE", [MAP, _ints(1, 2, 2, 2, 128)], [(1, 2, 2, 2, 128)], "ReshapeOptions"),
        "Tensors have at most 4 dimensions: [1, 2, 2, 2, 128]",
    ),
    "depth": (
        _one("RESHAPE", [(1, 2, 2, 20000), _ints(1, 2, 2, 20000)], [(1, 2, 2, 20000)], "ReshapeOptions"),
        "Maps wider than 1 have few enough channels for the SRAM, 64 bytes each: 20000 channels, 16384 fit",
    ),
    "broadcast": (
        _one("ADD", [MAP, (1, 1, 1, 16)], [MAP], "AddOptions"),
        "An addition takes two maps of one shape, a constant a channel, or a scalar that shifts the zero point: "
        "[1, 8, 8, 16] and [1, 1, 1, 16]",
    ),
    "multiplication that rescales": (
        _one("MUL", [MAP, _weights()], [MAP], "MulOptions"),
        "A multiplication takes a constant a channel, or a scalar that changes the scale alone: "
        "a scalar that changes the quantized values",
    ),
    "sigmoid of another scale": (
        _one("LOGISTIC", [MAP], [MAP]),
        "A sigmoid's output covers 0 to 1: scale 0.00390625 at the type's lowest value: scale 0.05, zero point 0",
    ),
    "leak of 1": (
        _one("LEAKY_RELU", [MAP], [MAP], "LeakyReluOptions", alpha=1.0),
        "A leaky ReLU's slope is between 0 and 1: 1",
    ),
    "pooling 2x2 on odd": (
        _pool(2, 2, 1, (1, 9, 9, 16)),
        "Max pooling is square, up to 3x3 at stride 2 with the padding its size needs, or at stride 1 (newer drivers): "
        "2x2 at stride 2x2 on 9x9",
    ),
    "resize by three": (
        _one("RESIZE_NEAREST_NEIGHBOR", [MAP, _ints(24, 24)], [(1, 24, 24, 16)]),
        "Resizing goes to twice the height and width, or one less in both: 8x8 to 24x24",
    ),
    "batch split": (
        _one("SPLIT", [_ints(0), (2, 8, 8, 16)], [MAP] * 2, "SplitOptions"),
        "Concatenations and splits are along height, width or channels: axis 0",
    ),
    "padding of 8": (
        _padded(((0, 0), (0, 8), (0, 0), (0, 0)), (1, 16, 8, 16)),
        "Padding is of height and width alone, at most 7 on a side, and keeps the quantization: "
        "[[0, 0], [0, 8], [0, 0], [0, 0]]",
    ),
    "batch moved": (
        _transposed(MAP, (1, 0, 2, 3)),
        "A transposition keeps the batch first, and its map fits the SRAM in one piece, in bricks of (1, 8, 8, 16): "
        "order [1, 0, 2, 3] with library 6.0.0",
    ),
    "large map": (
        _transposed((1, 2, 400, 400), (0, 1, 3, 2)),
        "A transposition keeps the batch first, and its map fits the SRAM in one piece, in bricks of (1, 8, 8, 16): "
        "1280000 bytes of 1048576",
    ),
    "requantization far down": (
        _one("QUANTIZE", [MAP], [MAP], scales=(6.5, 0.05)),
        "Input scale / output scale is below 128.0: 130",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_the_rule_and_what_was_found(name: str, tmp_path: Path) -> None:
    network, reason = REFUSED[name]
    assert _refusal(network, tmp_path) == reason


def test_a_float_operator_is_refused_by_its_type(tmp_path: Path) -> None:
    network = small_network(dtype="float32")
    reasons = rules.refusals(read_graph(network.write(tmp_path / "float.tflite")), chip_of(_target()))
    assert reasons[2] == "Computed tensors are of the types ('INT8', 'UINT8'): FLOAT32"


@pytest.mark.parametrize(
    ("network", "taken"),
    [
        pytest.param(_pool(5, 1, 0), {OLD: False, POOLED: True, NEW: True}, id="pooling of stride 1"),
        pytest.param(_transposed(MAP, (0, 3, 1, 2)), {OLD: False, POOLED: False, NEW: True}, id="transposition"),
        pytest.param(_transposed(MAP, (0, 1, 2, 3)), {OLD: False, POOLED: True, NEW: True}, id="none moved"),
        pytest.param(_padded(((0, 0), (1, 1), (1, 1), (0, 0)), (1, 10, 10, 16)), {OLD: False, POOLED: True}, id="pad"),
        pytest.param(
            _one("CONCATENATION", [MAP, (1, 8, 8, 5)], [(1, 8, 8, 21)], "ConcatenationOptions", axis=3),
            {OLD: False, "23.02": False, "23.05": True, NEW: True},
            id="concatenation of 5 channels",
        ),
        pytest.param(
            _one("SPLIT", [_ints(3), MAP], [(1, 8, 8, 8)] * 2, "SplitOptions"),
            {OLD: False, "23.05": True},
            id="split into 8 channels",
        ),
        pytest.param(
            _one("MUL", [MAP, MAP], [MAP], "MulOptions"), {OLD: False, POOLED: False, "23.11": True}, id="two maps"
        ),
    ],
)
def test_drivers_differ(network: Network, taken: dict[str, bool], tmp_path: Path) -> None:
    assert {driver: _refusal(network, tmp_path, driver) == "" for driver in taken} == taken


def test_the_sram_of_the_variant_counts(tmp_path: Path) -> None:
    network = _transposed((1, 80, 80, 79), (0, 3, 1, 2))
    assert _refusal(network, tmp_path, variant="4tops_2ple") == ""
    assert "bytes of 458752" in _refusal(network, tmp_path, variant="1tops_2ple")


def test_padding_runs_with_its_convolution_on_old_drivers(tmp_path: Path) -> None:
    network = Network()
    source = network.feature_map("input")
    sizes = network.constant("sizes", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    padded = network.tensor("padded", (1, SIDE + 2, SIDE + 2, CHANNELS))
    network.operator("PAD", [source, sizes], [padded], "PadOptions")
    result = network.conv(padded, "conv", np.random.default_rng(0))
    network.graph.operators[-1].builtinOptions.padding = 1
    network.graph.inputs, network.graph.outputs = [source], [result]
    assert _refusal(network, tmp_path, OLD) == ""
    network.graph.operators[-1].builtinOptions.padding = 0
    assert _refusal(network, tmp_path, OLD).endswith("it stands alone, which later drivers take")


@pytest.mark.parametrize("place", ["input", "output", "constant"])
def test_an_operator_that_lacks_an_operand_is_refused(place: str, tmp_path: Path) -> None:
    network = _one("ADD", [MAP, _weights()], [MAP], "AddOptions")
    operator = network.graph.operators[0]
    if place == "input":
        operator.inputs = []
    elif place == "output":
        operator.outputs = []
    else:
        operator.inputs = operator.inputs[:1]
    assert _refusal(network, tmp_path) in {"it has no computed operand", "it has no result", "it has one operand"}


def test_every_rule_has_a_sentence_that_takes_its_limits() -> None:
    chip = chip_of(_target())
    for rule in {rule for listed in rules.RULES.values() for rule in listed} | set(rules.GENERAL):
        text = rules.sentence(rule, chip)
        assert text[0].isupper()
        assert "{" not in text


def test_kinds_are_either_ruled_or_unsupported() -> None:
    assert not set(rules.RULES) & set(rulebook().unsupported)


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ethos-n78-1tops", "ethos-n78-4tops"])
def test_target_specs(name: str) -> None:
    target = catalog.read_spec(ROOT / "specs" / "targets" / f"{name}.yaml", Target, name=name)
    assert isinstance(target, RulesTarget)
    chip = chip_of(target)
    assert target.budget.sram_kib == chip.variant.sram_kib
    assert isinstance(
        catalog.read_spec(ROOT / "specs/targets/ethos-u55-64.yaml", Target, name="ethos-u55-64"), VelaTarget
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"driver": "25.30"},
            r"target n78: unknown driver release '25\.30'\n  fix: did you mean 25\.03",
            id="driver",
        ),
        pytest.param({"variant": "3tops"}, "target n78: unknown variant of the Ethos-N78 '3tops'", id="variant"),
    ],
)
def test_an_unknown_chip_names_the_known_ones(change: dict[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        chip_of(_target().model_copy(update=change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "compiler: rules\naccelerator: ethos-n78\nvariant: 4tops_2ple\ndriver: '25.03'\nclock_mhz: 500\n",
            r"mine\.yaml:5: unknown key 'clock_mhz'\n  fix: known: accelerator, budget, compiler, description, driver, "
            "variant",
            id="key of the other form",
        ),
        pytest.param(
            "compiler: tvm\naccelerator: ethos-n78\n",
            r"mine\.yaml:1: compiler: Input should be 'vela' or 'rules', got 'tvm'",
            id="compiler",
        ),
        pytest.param("compiler: vela\naccelerator: ethos-u55-64\n", "key 'system_config' is missing", id="incomplete"),
    ],
)
def test_a_malformed_target(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=message):
        catalog.read_spec(file, Target, name="mine")


# --- regions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "on_npu", "regions"),
    [
        pytest.param([set(), {0}, {1}], {0, 1, 2}, [[0, 1, 2]], id="chain"),
        pytest.param([set(), {0}, {1}], {0, 2}, [[0], [2]], id="cut"),
        pytest.param([set(), {0}, {0}, {1, 2}], {0, 1, 3}, [[0, 1], [3]], id="way round through the CPU"),
        pytest.param([set(), {0}, {0}, {1, 2}], {0, 1, 2, 3}, [[0, 1, 2, 3]], id="diamond"),
        pytest.param([set(), set(), {0, 1}], {0, 1, 2}, [[0, 1, 2]], id="two branches"),
        pytest.param([set(), {0}, set(), {2}, {0, 3}, {1, 2}], {0, 2, 4, 5}, [[0, 4], [2], [5]], id="crossed"),
        pytest.param([set(), set()], {0, 1}, [[0], [1]], id="apart"),
        pytest.param([], set(), [], id="nothing"),
    ],
)
def test_regions(before: list[set[int]], on_npu: set[int], regions: list[list[int]]) -> None:
    assert merge(before, on_npu) == regions


def test_regions_of_random_networks_can_run_one_after_the_other() -> None:
    """Contracting the regions must leave no circle, and each region holds NPU operators alone."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(2, 30))
        before = [set(map(int, rng.choice(i, min(i, int(rng.integers(0, 4)))))) if i else set() for i in range(count)]
        on_npu = {index for index in range(count) if rng.random() < 0.6}
        regions = merge(before, on_npu)
        assert sorted(index for region in regions for index in region) == sorted(on_npu)
        _run_contracted(before, regions)


def _run_contracted(before: list[set[int]], regions: list[list[int]]) -> None:
    part = {index: ("region", place) for place, region in enumerate(regions) for index in region}
    part |= {index: ("operator", index) for index in range(len(before)) if index not in part}
    needs = {each: set() for each in part.values()}
    for index, feeders in enumerate(before):
        needs[part[index]] |= {part[feeder] for feeder in feeders} - {part[index]}
    done: set[tuple[str, int]] = set()
    while len(done) < len(needs):
        ready = {each for each, wanted in needs.items() if each not in done and wanted <= done}
        assert ready, "the regions wait for each other"
        done |= ready


def test_operators_out_of_order_are_an_error(tmp_path: Path) -> None:
    network = small_network()
    network.graph.operators.reverse()
    graph = read_graph(network.write(tmp_path / "odd.tflite"))
    with pytest.raises(ModelError, match=r"operator 0 \(ADD\) does not stand in running order"):
        place_ruled(graph, {})


# --- known networks --------------------------------------------------------------------------------------------------


def _placed(file: Path, driver: str = NEW) -> Placement:
    graph = read_graph(file)
    return place_ruled(graph, rules.refusals(graph, chip_of(_target(driver))))


# operators, MACs and regions on the NPU; crossings to the CPU and back, as counted by hand for driver 25.03
KNOWN = {"v3_level2_relu": (0.683, 0.994, 16, 12, 15, 28), "v3_level4_leaky": (0.859, 1.0, 14, 11, 13, 25)}


@pytest.mark.parametrize("model", KNOWN)
def test_large_networks(model: str) -> None:
    file = MODELS / f"{model}_full_integer_quant.tflite"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    placement = _placed(file)
    operators, macs, regions, multiplying, to_cpu, to_npu = KNOWN[model]
    assert placement.operator_coverage == pytest.approx(operators, abs=0.0005)
    assert placement.mac_coverage == pytest.approx(macs, abs=0.0005)
    assert (placement.regions, placement.regions_with_macs) == (regions, multiplying)
    assert (placement.crossings_npu_cpu, placement.crossings_cpu_npu) == (to_cpu, to_npu)
    older = [_placed(file, driver).operators_npu for driver in (OLD, POOLED, NEW)]
    assert older == sorted(older)
    assert older[0] < older[1] < older[2]


def test_the_historical_figure_of_a_large_network() -> None:
    """V3's report gave 104 of 105 functions, 99.0 %."""
    file = MODELS / "v3_level2_relu_full_integer_quant.tflite"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    figure = npu_functions(read_graph(file))
    assert (figure["offloaded"], figure["functions"]) == (104, 105)
    assert round(figure["share"], 3) == 0.990


def test_the_historical_figure_ranks_a_fully_offloaded_network_below_a_fragmented_one(tmp_path: Path) -> None:
    whole = small_network(activation=0).write(tmp_path / "whole.tflite")
    pieces = small_network(activation=0, between=("SOFTMAX", "RESHAPE", "SOFTMAX", "RESHAPE", "SOFTMAX"))
    fragmented = pieces.write(tmp_path / "fragmented.tflite")
    offloaded, broken = _placed(whole), _placed(fragmented)
    assert (offloaded.operator_coverage, offloaded.regions) == (1.0, 1)
    assert broken.operator_coverage < 0.7
    assert broken.regions == 4
    assert npu_functions(read_graph(whole))["share"] < npu_functions(read_graph(fragmented))["share"]
