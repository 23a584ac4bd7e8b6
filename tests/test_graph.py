"""The TFLite reader, MACs, census and fingerprint."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tflite_files import Network, small_network

from ethos.errors import ModelError
from ethos.npu.graph import census, fingerprint, macs, total_macs
from ethos.npu.tflite import read_graph

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return small_network().write(tmp_path / "small.tflite")


def test_reads_what_the_interpreter_reads(small: Path) -> None:
    graph = read_graph(small)
    interpreter = Interpreter(str(small))
    for detail in interpreter.get_tensor_details():
        tensor = graph.tensors[detail["index"]]
        assert tensor.name == detail["name"]
        assert tensor.shape == tuple(detail["shape"])
        assert tensor.dtype.lower() == np.dtype(detail["dtype"]).name
        assert tensor.scale == pytest.approx(detail["quantization_parameters"]["scales"])
        assert tensor.zero_point == tuple(detail["quantization_parameters"]["zero_points"])
    assert graph.inputs == tuple(each["index"] for each in interpreter.get_input_details())
    assert graph.outputs == tuple(each["index"] for each in interpreter.get_output_details())
    assert list(graph.signatures[0].inputs) == interpreter.get_signature_list()["serving_default"]["inputs"]
    assert graph.signatures[0].outputs == {"result": graph.outputs[0]}


def test_reads_operators_with_their_options_and_constants(small: Path) -> None:
    graph = read_graph(small)
    assert [operator.kind for operator in graph.operators] == ["CONV_2D", "CONV_2D", "ADD"]
    conv = graph.operators[0]
    assert conv.options["strideH"] == 1
    assert conv.options["fusedActivationFunction"] == 1
    weights = graph.tensors[conv.inputs[1]]
    expected = np.random.default_rng(0).integers(-127, 127, weights.shape).astype(np.int8)
    assert np.array_equal(np.frombuffer(weights.data, np.int8).reshape(weights.shape), expected)
    assert not graph.tensors[conv.inputs[0]].constant


def test_census_is_sorted_by_frequency(tmp_path: Path) -> None:
    graph = read_graph(small_network(between=("FLOOR",)).write(tmp_path / "a.tflite"))
    assert list(census(graph).items()) == [("CONV_2D", 2), ("ADD", 1), ("FLOOR", 1)]


# --- MACs ------------------------------------------------------------------------------------------------------------


def _one_operator(kind: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], options: str, **values: object):
    network = Network()
    operands = [network.tensor(f"in{place}", shape) for place, shape in enumerate(inputs)]
    network.operator(kind, operands, [network.tensor("out", output)], options, **values)
    return network


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param(
            _one_operator("CONV_2D", [(1, 8, 8, 6), (5, 3, 3, 6)], (1, 4, 4, 5), "Conv2DOptions"),
            4 * 4 * 5 * 3 * 3 * 6,
            id="convolution",
        ),
        pytest.param(
            _one_operator("CONV_2D", [(1, 8, 8, 6), (4, 3, 3, 3)], (1, 8, 8, 4), "Conv2DOptions"),
            8 * 8 * 4 * 3 * 3 * 3,
            id="grouped convolution",
        ),
        pytest.param(
            _one_operator("DEPTHWISE_CONV_2D", [(1, 8, 8, 6), (1, 3, 5, 6)], (1, 8, 8, 6), "DepthwiseConv2DOptions"),
            8 * 8 * 6 * 3 * 5,
            id="depthwise convolution",
        ),
        pytest.param(
            _one_operator("TRANSPOSE_CONV", [(4,), (5, 2, 2, 6), (1, 8, 8, 6)], (1, 16, 16, 5), "TransposeConvOptions"),
            8 * 8 * 6 * 2 * 2 * 5,
            id="transposed convolution",
        ),
        pytest.param(
            _one_operator("FULLY_CONNECTED", [(3, 20), (7, 20)], (3, 7), "FullyConnectedOptions"),
            3 * 7 * 20,
            id="fully connected",
        ),
        pytest.param(
            _one_operator("BATCH_MATMUL", [(2, 3, 20), (2, 20, 7)], (2, 3, 7), "BatchMatMulOptions"),
            2 * 3 * 7 * 20,
            id="matrix product",
        ),
        pytest.param(
            _one_operator("BATCH_MATMUL", [(2, 20, 3), (2, 20, 7)], (2, 3, 7), "BatchMatMulOptions", adjX=True),
            2 * 3 * 7 * 20,
            id="transposed matrix product",
        ),
        pytest.param(_one_operator("FLOOR", [(1, 8, 8, 6)], (1, 8, 8, 6), ""), 0, id="none"),
    ],
)
def test_macs(network: Network, expected: int, tmp_path: Path) -> None:
    graph = read_graph(network.write(tmp_path / "one.tflite"))
    assert macs(graph, graph.operators[0]) == expected


def test_macs_of_a_convolution_without_four_dimensions_is_an_error(tmp_path: Path) -> None:
    file = _one_operator("CONV_2D", [(1, 8, 8, 6), (5, 6)], (1, 4, 4, 5), "Conv2DOptions").write(tmp_path / "a.tflite")
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\): input 1 has shape \[5, 6\], not 4 dimensions"):
        total_macs(read_graph(file))


# --- fingerprint -----------------------------------------------------------------------------------------------------


def _padded(rows: tuple[int, int], bias: int = 0, shared: bool = False) -> Network:
    """Return a padding and two additions of a constant, stored once if `shared`."""
    network = Network()
    source = network.tensor("input", (1, 8, 8, 4))
    sizes = network.constant("sizes", np.array([[0, 0], rows, [0, 0], [0, 0]], np.int32))
    padded = network.tensor("padded", (1, 9, 8, 4))
    network.operator("PAD", [source, sizes], [padded], "PadOptions")
    here = padded
    added = network.constant("bias0", np.full((4,), bias, np.int8), 0.1)
    for place in range(2):
        if place and not shared:
            added = network.constant("bias1", np.full((4,), bias, np.int8), 0.1)
        result = network.tensor(f"sum{place}", (1, 9, 8, 4))
        network.operator("ADD", [here, added], [result], "AddOptions")
        here = result
    network.graph.inputs, network.graph.outputs = [source], [here]
    return network


def _reconnected() -> Network:
    """Return the small network with its addition taking one operand twice."""
    network = small_network()
    addition = network.graph.operators[-1]
    addition.inputs = [addition.inputs[0], addition.inputs[0]]
    return network


def _fingerprint(network: Network, folder: Path) -> str:
    return fingerprint(read_graph(network.write(folder / "network.tflite")))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(small_network(seed=0), small_network(seed=1), True, id="weights"),
        pytest.param(small_network(), small_network(prefix="other_"), True, id="names"),
        pytest.param(_padded((0, 1), bias=1), _padded((0, 1), bias=2), True, id="constant operand"),
        pytest.param(_padded((0, 1)), _padded((0, 1), shared=True), True, id="constant stored once"),
        pytest.param(small_network(), small_network(activation=0), False, id="option"),
        pytest.param(small_network(), small_network(between=("FLOOR",)), False, id="further operator"),
        pytest.param(small_network(between=("FLOOR",)), small_network(between=("CEIL",)), False, id="other operator"),
        pytest.param(small_network(), small_network(dtype="float32"), False, id="type"),
        pytest.param(small_network(), _reconnected(), False, id="connection"),
        pytest.param(_padded((0, 1)), _padded((1, 0)), False, id="padding of the same shape"),
    ],
)
def test_fingerprint(one: Network, other: Network, same: bool, tmp_path: Path) -> None:
    assert (_fingerprint(one, tmp_path) == _fingerprint(other, tmp_path)) is same


# --- bad files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"TFL3", "not a TFLite file", id="mark at the wrong place"),
        pytest.param(b"a picture, or so it seems", "not a TFLite file", id="something else"),
        pytest.param(b"\x10\x00\x00\x00TFL3", "an offset or a length is out of range", id="header alone"),
        pytest.param(b"\xff\xff\xff\xffTFL3" + bytes(64), "an offset or a length is out of range", id="root far away"),
        pytest.param(small_network().pack()[:5000], "an offset or a length is out of range", id="first half"),
    ],
)
def test_refuses_a_bad_file_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.tflite"
    file.write_bytes(content)
    with pytest.raises(ModelError) as raised:
        read_graph(file)
    assert raised.value.message.startswith(f"{file}: ")
    assert message in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.fix


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("nothing.tflite", "no such file", id="missing"),
        pytest.param(".", "not a regular file", id="folder"),
        pytest.param("/dev/null", "not a regular file", id="device"),
        pytest.param("/dev/zero", "not a regular file", id="endless device"),
    ],
)
def test_refuses_what_is_no_file(path: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_graph(tmp_path / path)


def _subgraphs(count: int) -> Network:
    network = small_network()
    network.model.subgraphs = [network.graph] * count
    return network


def _pointing_outside(place: str) -> Network:
    network = small_network()
    if place == "operand":
        network.graph.operators[0].inputs = [0, 999, 2]
    elif place == "code":
        network.graph.operators[0].opcodeIndex = 9
    elif place == "buffer":
        network.graph.tensors[0].buffer = 99
    elif place == "signature":
        network.signature({"images": 0}, {"result": 999})
    else:
        network.graph.tensors[0].shape = [1, -5]
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(_subgraphs(0), "it holds no network", id="no subgraph"),
        pytest.param(_subgraphs(2), "2 subgraphs, only one is supported", id="two subgraphs"),
        pytest.param(_pointing_outside("operand"), r"tensor index out of range: \[999\]", id="operand"),
        pytest.param(_pointing_outside("code"), "operator 0 names code 9 of 2", id="operator code"),
        pytest.param(_pointing_outside("buffer"), "tensor 0 names buffer 99 of 5", id="buffer"),
        pytest.param(_pointing_outside("signature"), "a signature names a tensor that is not there", id="signature"),
        pytest.param(_pointing_outside("shape"), r"tensor 0 has shape \[1, -5\]", id="negative size"),
    ],
)
def test_refuses_a_file_that_contradicts_itself(network: Network, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        read_graph(network.write(tmp_path / "odd.tflite"))


def test_any_damage_ends_in_a_model_error_or_a_graph(tmp_path: Path) -> None:
    sound = small_network(between=("FLOOR",)).pack()
    rng = random.Random(0)
    file = tmp_path / "damaged.tflite"
    refused = 0
    for _ in range(1500):
        damaged = bytearray(sound)
        for _ in range(rng.choice((1, 2, 8))):
            place = rng.randrange(8, len(damaged) - 8)
            damaged[place : place + 4] = rng.choice(
                (rng.randbytes(1), rng.randbytes(4), b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"")
            )
        file.write_bytes(damaged)
        try:
            graph = read_graph(file)
            fingerprint(graph)
            total_macs(graph)
        except ModelError:
            refused += 1
    assert 0 < refused < 1500


def test_analysis_imports_nothing_heavy() -> None:
    code = (
        "import sys, ethos.npu.analyze, ethos.npu.tables;"
        "print(sorted({'tensorflow', 'torch', 'mlflow', 'pandas', 'rich', 'ethosu'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
