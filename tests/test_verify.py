"""The activations of variants, model files and exported files: what is there, and what is called wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import yaml
from conftest import ROOT
from test_cli import ethos  # noqa: F401 - a fixture
from tflite_files import Network, small_network
from torch import nn

from ethos.compress.convert import export_onnx, onnx_to_saved_model, to_tflite
from ethos.compress.integer import to_int8
from ethos.compress.ranges import observe
from ethos.errors import DamagedFile, ModelError, SpecError
from ethos.files import sha256_file
from ethos.model.census import Node, census, onnx_nodes, prelu
from ethos.model.head import output_names, to_export_form
from ethos.model.levels import Architecture, base_graph, build, resolve_level
from ethos.npu.activations import tflite_nodes
from ethos.npu.tflite import read_graph
from ethos.specs import Quantize
from ethos.verify import verify_file, verify_model_file, verify_variant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from test_cli import Outcome

    from ethos.specs import Activation

WRITTEN = {"relu": "ReLU()", "leaky_relu": "LeakyReLU(0.1)", "silu": "SiLU()"}
MODULES = {"relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(0.1), "silu": nn.SiLU()}
V3 = ROOT.parent / "shared" / "models"


def small(activation: nn.Module | None, last: nn.Module | None = None) -> nn.Module:
    """Return three convolutions of 3x3: two with the activation, the last with `last` or none."""
    layers: list[nn.Module] = []
    for given, wanted in ((3, 8), (8, 8)):
        layers += [nn.Conv2d(given, wanted, 3, padding=1), *([activation] if activation else [])]
    return nn.Sequential(*layers, nn.Conv2d(8, 4, 1), *([last] if last else [])).eval()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return folders with model.onnx, fp32.tflite and int8.tflite of a small network, by activation."""
    samples = np.random.default_rng(0).uniform(0, 1, (20, 32, 32, 3)).astype(np.float32)
    folders = {}
    for name, activation in MODULES.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        export_onnx(small(activation), (32, 32), ["result"], folder / "model.onnx")
        onnx_to_saved_model(folder / "model.onnx", samples, ["result"], folder / "saved")
        (folder / "fp32.tflite").write_bytes(to_tflite(folder / "saved"))
        exact = (folder / "fp32.tflite").read_bytes()
        seen = observe(exact, read_graph(folder / "fp32.tflite"), samples, Quantize())
        (folder / "int8.tflite").write_bytes(to_int8(exact, seen, [], per_channel=True))
    return folders


# --- exported files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["model.onnx", "fp32.tflite", "int8.tflite"])
@pytest.mark.parametrize("activation", MODULES)
def test_each_activation_is_found_after_each_conversion(
    converted: dict[str, Path], activation: Activation, file: str
) -> None:
    path = converted[activation] / file
    report = verify_file(path)
    assert report["found"] == {WRITTEN[activation]: 2}
    assert (report["ok"], report["declared"], report["sha256"]) == (True, None, sha256_file(path))
    assert [layer["activation"] for layer in report["layers"]] == [WRITTEN[activation]] * 2 + [None]
    assert verify_file(path, activation)["ok"]


@pytest.mark.parametrize("file", ["model.onnx", "fp32.tflite", "int8.tflite"])
@pytest.mark.parametrize(("held", "declared"), [("silu", "relu"), ("relu", "leaky_relu"), ("leaky_relu", "silu")])
def test_another_activation_is_named(converted: dict[str, Path], held: str, declared: Activation, file: str) -> None:
    report = verify_file(converted[held] / file, declared)
    assert not report["ok"]
    (problem,) = report["problems"]
    assert problem.startswith(f"activation '{declared}' is declared, but ")
    assert problem.count(f" has {WRITTEN[held]}") == 2


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "silu"])
@pytest.mark.parametrize("level", ["baseline", "level2", "level4"])
def test_a_network_has_as_many_uses_after_export_as_before(level: str, activation: Activation, tmp_path: Path) -> None:
    from ethos.model.activations import activation_uses

    base, steps = resolve_level(level)
    network = to_export_form(build(Architecture(base=base, steps=steps, activation=activation, names=("a",))))
    export_onnx(network, (64, 64), output_names([8, 16, 32]), tmp_path / "model.onnx")
    assert verify_file(tmp_path / "model.onnx")["found"] == {WRITTEN[activation]: len(activation_uses(network))}


def test_one_layer_that_lost_its_activation_is_missed(tmp_path: Path) -> None:
    """A linear layer alone is no fault; one more of them than the network had is."""
    write_record(tmp_path, small_network(activation=1), declared="relu", uses=3)
    report = verify_file(tmp_path / "int8.tflite")
    assert report["problems"] == ["ReLU() in 2 layers, the network has it in 3"]


def write_record(folder: Path, network: Network, declared: str, uses: int, name: str = "quantize.json") -> Path:
    file = network.write(folder / "int8.tflite")
    entry = {"activation": {"declared": declared, "uses": uses}, "files": {file.name: {"sha256": sha256_file(file)}}}
    (folder / name).write_text(json.dumps(entry))
    return file


@pytest.mark.parametrize("name", ["quantize.json", "manifest.json"])
def test_a_record_beside_the_file_declares(tmp_path: Path, name: str) -> None:
    file = write_record(tmp_path, small_network(activation=3), declared="relu", uses=2, name=name)
    report = verify_file(file)
    assert (report["declared"], report["declared_by"], report["uses_expected"]) == ("relu", name, 2)
    assert report["problems"][0].count("has ReLU6()") == 2


def test_a_record_of_other_bytes_declares_nothing(tmp_path: Path) -> None:
    file = write_record(tmp_path, small_network(activation=1), declared="silu", uses=9)
    small_network(seed=1, activation=1).write(file)
    report = verify_file(file)
    assert (report["ok"], report["declared"], report["uses_expected"]) == (True, None, None)


def test_two_activations_without_a_declaration_are_no_uniform_network(tmp_path: Path) -> None:
    file = small_network(between=("TANH",), activation=1).write(tmp_path / "a.tflite")
    report = verify_file(file)
    assert report["problems"] == ["several activations: ReLU(), Tanh() in 1, ReLU() in 1 layers"]


def test_a_network_without_activations(tmp_path: Path) -> None:
    report = verify_file(small_network(activation=0).write(tmp_path / "a.tflite"))
    assert report["problems"] == ["no layer has an activation"]


@pytest.mark.skipif(not V3.is_dir(), reason="no files of the earlier project beside this one")
@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("v3_level2_relu_full_integer_quant.tflite", {"ReLU()": 56}),
        ("v3_level4_leaky_full_integer_quant.tflite", {"LeakyReLU(0.1)": 57}),
    ],
)
def test_scores_of_a_decoded_head_are_no_activation(file: str, found: dict[str, int]) -> None:
    assert verify_file(V3 / file)["found"] == found


@pytest.mark.parametrize(
    ("last", "activation", "found"),
    [
        (nn.Sigmoid(), nn.ReLU(), {"ReLU()": 2}),
        (None, nn.Sigmoid(), {"Sigmoid()": 2}),
        (None, nn.Hardswish(), {"Hardswish()": 2}),
        (None, nn.ReLU6(), {"ReLU6()": 2}),
        (None, nn.PReLU(1, 0.1), {"LeakyReLU(0.1)": 2}),
        (None, nn.LeakyReLU(0.2), {"LeakyReLU(0.2)": 2}),
        (None, nn.ELU(), {"ELU()": 2}),
    ],
    ids=["scores", "sigmoid", "hardswish", "relu6", "prelu", "slope", "elu"],
)
def test_other_activations_in_onnx(
    last: nn.Module | None, activation: nn.Module, found: dict[str, int], tmp_path: Path
) -> None:
    export_onnx(small(activation, last), (32, 32), ["result"], tmp_path / "model.onnx")
    report = verify_file(tmp_path / "model.onnx")
    assert report["found"] == found


def test_a_slope_for_each_channel_is_no_leaky_relu() -> None:
    assert prelu([0.1, 0.1]) == "LeakyReLU(0.1)"
    assert prelu([0.1, 0.2]) == prelu([]) == "PReLU()"


@pytest.mark.parametrize(("dtype", "scale"), [("float32", None), ("int8", 0.1 / 127)])
def test_a_prelu_in_tflite(tmp_path: Path, dtype: str, scale: float | None) -> None:
    network = small_network(dtype=dtype, activation=0)
    slopes = np.full(16, 0.1 if scale is None else 127).astype(dtype)
    result = network.feature_map("activated", dtype == "int8")
    network.operator("PRELU", [network.graph.outputs[0], network.constant("slopes", slopes, scale)], [result])
    (network.graph.outputs, network.model.signatureDefs) = ([result], [])
    report = verify_file(network.write(tmp_path / "a.tflite"))
    assert report["found"] == {"LeakyReLU(0.1)": 1}


def test_a_fused_activation_of_an_addition_counts(tmp_path: Path) -> None:
    network = small_network(activation=0)
    network.graph.operators[-1].builtinOptions.fusedActivationFunction = 1
    nodes = tflite_nodes(read_graph(network.write(tmp_path / "a.tflite")))
    assert [node.activation for node in nodes] == [None, None, "ReLU()"]
    assert sum(layer.activation == "ReLU()" for layer in census(nodes)) == 1


def test_an_activation_that_follows_no_convolution_is_a_layer_of_its_own() -> None:
    nodes = [
        Node("a", "Conv", "convolution", ("x",), ("y",)),
        Node("sum", "Add", "other", ("x", "y"), ("z",)),
        Node("act", "Relu", "activation", ("z",), ("out",), "ReLU()"),
    ]
    assert [(layer.name, layer.activation) for layer in census(nodes)] == [("a", None), ("act", "ReLU()")]


# --- files that are refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.onnx", None, "no such file"),
        ("a.onnx", b"", "holds no network"),
        ("a.onnx", b"\xff\xff\xff no network", "not a readable ONNX file"),
        ("a.tflite", None, "no such file"),
        ("a.tflite", b"TFL3", "not a TFLite file"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes | None, text: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        verify_file(tmp_path / name)
    assert caught.value.message.startswith(f"{tmp_path / name}: {text}")
    assert caught.value.fix
    assert "\n" not in caught.value.message


def test_a_compiled_file_is_refused(tmp_path: Path) -> None:
    network = small_network(between=("ethos-u",))
    with pytest.raises(ModelError, match="compiled for an NPU, its operators cannot be seen"):
        verify_file(network.write(tmp_path / "a.tflite"))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    small_network().write(tmp_path / "int8.tflite")
    (tmp_path / "quantize.json").write_text("{")
    with pytest.raises(DamagedFile, match=r"quantize\.json: not a readable JSON document"):
        verify_file(tmp_path / "int8.tflite")


def test_data_beside_an_onnx_file_is_not_read(tmp_path: Path) -> None:
    export_onnx(small(nn.ReLU()), (32, 32), ["result"], tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    assert len([node for node in onnx_nodes(tmp_path / "model.onnx") if node.role == "convolution"]) == 3


# --- model files -----------------------------------------------------------------------------------------------------


def write_model(folder: Path, **changes: Any) -> Path:
    """Write YOLO11n's model file with other keys; a key that is None is left out."""
    graph = {**base_graph("yolo11n"), **changes}
    graph = {key: value for key, value in graph.items() if value is not None and key not in {"scale", "yaml_file"}}
    path = folder / "model.yaml"
    path.write_text(yaml.safe_dump(graph, sort_keys=False))
    return path


def test_act_instead_of_activation_is_caught(tmp_path: Path) -> None:
    report = verify_model_file(write_model(tmp_path, act="nn.ReLU()"))
    assert not report["ok"]
    assert report["problems"][0] == "'act:' has no effect in Ultralytics, write 'activation:'"
    assert report["problems"][1].startswith("activation 'relu' is declared, but model.0 has SiLU()")
    assert set(report["found"]) == {"SiLU()"}


def test_act_beside_activation_is_caught_too(tmp_path: Path) -> None:
    report = verify_model_file(write_model(tmp_path, activation="nn.ReLU()", act="nn.SiLU()"))
    assert report["problems"] == ["'act:' has no effect in Ultralytics, write 'activation:'"]
    assert set(report["found"]) == {"ReLU()"}


def test_the_scale_is_that_of_the_name(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    counts = [verify_model_file(path.rename(tmp_path / name))["uses"] for name in ("yolo11n.yaml",)]
    path = tmp_path / "yolo11n.yaml"
    counts.append(verify_model_file(path.rename(tmp_path / "mine_yolo11m.yaml"))["uses"])
    # the larger one repeats more blocks
    assert counts[1] > counts[0]


@pytest.mark.parametrize(
    ("expression", "activation"),
    [
        ("nn.ReLU()", "relu"),
        ("torch.nn.LeakyReLU(0.1)", "leaky_relu"),
        ("nn.LeakyReLU(negative_slope=0.1, inplace=True)", "leaky_relu"),
        ("nn.SiLU()", "silu"),
    ],
)
@pytest.mark.usefixtures("project")
def test_activation_in_a_model_file(tmp_path: Path, expression: str, activation: Activation) -> None:
    path = write_model(tmp_path, activation=expression)
    report = verify_model_file(path)
    uses = verify_variant("baseline")["uses"]
    assert (report["ok"], report["declared"], report["found"]) == (True, activation, {WRITTEN[activation]: uses})
    others = [each for each in WRITTEN if each != activation]
    assert not any(verify_model_file(path, other)["ok"] for other in others)  # type: ignore[arg-type]


def test_a_model_file_that_names_none(tmp_path: Path) -> None:
    report = verify_model_file(write_model(tmp_path))
    assert (report["ok"], report["declared"], set(report["found"])) == (True, None, {"SiLU()"})
    assert not verify_model_file(tmp_path / "model.yaml", "relu")["ok"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"activation": "nn.GELU()"}, "activation 'nn.GELU()' is none that a spec can declare"),
        ({"activation": "open('MARKER', 'w')"}, "activation \"open('MARKER', 'w')\" is none that a spec can declare"),
        ({"backbone": None}, "no model file: 'backbone' and 'head' must list layers"),
        ({"head": [["Conv"]]}, "no model file: 'backbone' and 'head' must list layers"),
        ({"nc": "many"}, "nc is 'many'"),
    ],
    ids=["other", "code", "no-backbone", "no-layer", "classes"],
)
def test_model_files_that_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_model(tmp_path, **changes)
    with pytest.raises((SpecError, ModelError)) as caught:
        verify_model_file(path)
    assert caught.value.message == f"{path}: {text}"
    assert [each.name for each in tmp_path.iterdir()] == ["model.yaml"]


def test_a_layer_of_a_model_file_calls_nothing_but_layers(tmp_path: Path) -> None:
    graph = base_graph("yolo11n")
    graph["backbone"][0] = [-1, 1, "torch_safe_load", ["weights.pt"]]
    with pytest.raises(ModelError, match="unknown layer 'torch_safe_load'"):
        verify_model_file(write_model(tmp_path, backbone=graph["backbone"]))


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("project")
def test_a_variant_is_verified_as_it_is_built() -> None:
    report = verify_variant("level4_leaky")
    assert (report["ok"], report["declared"], set(report["found"])) == (True, "leaky_relu", {"LeakyReLU(0.1)"})
    assert report["uses"] == len(report["layers"]) > 40


def test_right_is_zero_and_wrong_is_one(
    converted: dict[str, Path],
    ethos: Callable[..., Outcome],  # noqa: F811 - the fixture
) -> None:
    file = str(converted["relu"] / "int8.tflite")
    right = ethos("verify", file, "--activation", "relu")
    assert right.code == 0
    assert "ok: ReLU() in 2 layers, as declared (--activation)" in right.out
    assert right.out.count("CONV_2D") == 3
    open_question = ethos("verify", file)
    assert open_question.code == 0
    assert "ReLU() in all 2 layers that have one; nothing declares it" in open_question.out
    wrong = ethos("verify", file, "--activation", "silu")
    assert (wrong.code, wrong.err) == (1, "")
    assert "WRONG: activation 'silu' is declared, but " in wrong.out
    document = json.loads(ethos("verify", file, "--activation", "silu", "--json").out)
    assert (document["schema"], document["ok"], document["uses"]) == (1, False, 2)


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("level2_reul",), "unknown variant 'level2_reul'"),
        (("a.onnx", "--activation", "rleu"), "unknown activation 'rleu'"),
        (("level2_relu", "--activation", "relu"), "--activation is for files"),
        (("a.yaml",), "a.yaml: no such file"),
    ],
)
def test_mistaken_arguments(
    arguments: tuple[str, ...],
    text: str,
    ethos: Callable[..., Outcome],  # noqa: F811 - the fixture
) -> None:
    outcome = ethos("verify", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert text in outcome.err
    assert "\n  fix: " in outcome.err
