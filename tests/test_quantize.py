"""Quantization: which images calibrate, and what the files that come out hold, down to their operators and scales."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from conftest import CLASSES, SIDE
from quantized import OPTIONS

from ethos.compress import calibration
from ethos.compress.checks import KNOWN_OPERATORS, require_integer, require_proportion
from ethos.compress.convert import export_onnx, onnx_to_saved_model
from ethos.compress.quantize import (
    CONTRACT_FILE,
    DYNAMIC_FILE,
    FILES,
    FLOAT_FILE,
    HALF_FILE,
    INT8_FILE,
    LABELS_FILE,
    ONNX_FILE,
    PRECISIONS,
    decode_contract,
    describe,
    quantize,
    require_agreement,
)
from ethos.compress.quiet import quiet
from ethos.data.labels import read_labels
from ethos.data.manifest import ImageRow, read_manifest, write_manifest
from ethos.errors import DataError, EthosError, ModelError
from ethos.files import sha256_file
from ethos.model.head import output_names, to_export_form
from ethos.model.levels import Architecture, build
from ethos.model.weights import WEIGHTS_FILE, load_model, save_model
from ethos.npu.tflite import read_graph
from ethos_runtime.contract import Contract
from ethos_runtime.detector import Detector

if TYPE_CHECKING:
    from pathlib import Path

    from quantized import Quantized

    from ethos.npu.graph import Graph

NAMES = ["box8", "box16", "box32", "class8", "class16", "class32"]


def weight_scales(graph: Graph) -> Counter[int]:
    """Return how many convolutions have weights with that many scales."""
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D")
    return Counter(len(graph.tensors[op.inputs[1]].scale) for op in graph.operators if op.kind in kinds)


# --- calibration -----------------------------------------------------------------------------------------------------


def write_set(folder: Path, kinds: list[tuple[int, ...]], val: int = 2) -> Path:
    """Write a data set whose training images hold boxes of these classes, in order of their names."""
    rows = []
    for index, held in enumerate([*kinds, *[(0,)] * val]):
        side = "train" if index < len(kinds) else "val"
        stem = f"{index:03d}"
        for place in ("images", "labels"):
            (folder / place / side).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / "images" / side / f"{stem}.png"), np.full((24, 32, 3), (0, 0, index), np.uint8))
        text = "".join(f"{kind} 0.5 0.5 0.1 0.1\n" for kind in held)
        (folder / "labels" / side / f"{stem}.txt").write_text(text)
        image = folder / "images" / side / f"{stem}.png"
        rows.append(ImageRow(image, side, f"{index:064x}", 32, 24, len(held), stem, look=""))
    write_manifest(folder, rows)
    return folder


def chosen(folder: Path, count: int) -> list[int]:
    return [int(row.path.stem) for row in calibration.choose(folder, count)]


def test_classes_take_turns(tmp_path: Path) -> None:
    kinds = [(0,)] * 20 + [(1,)] * 3 + [(2,)] * 2 + [()]
    write_set(tmp_path, kinds)
    # images without boxes take turns as one more class, first
    assert chosen(tmp_path, 8) == [25, 0, 20, 23, 1, 21, 24, 2]
    assert sorted(chosen(tmp_path, 26)) == list(range(26))


def test_an_image_of_two_classes_is_taken_once(tmp_path: Path) -> None:
    write_set(tmp_path, [(0, 1)] * 16 + [(1,)])
    assert chosen(tmp_path, 4) == [0, 1, 2, 3]
    assert len(set(chosen(tmp_path, 100))) == 17


def test_every_class_is_there_even_if_rare(tiny_dataset: Path) -> None:
    rows = calibration.choose(tiny_dataset, 16)
    found = {int(label[0]) for row in rows for label in read_labels(row.label)}
    assert found == set(range(len(CLASSES)))
    assert {row.split for row in rows} == {"train"}
    assert len(rows) == len({row.path for row in rows}) == 16


def test_the_choice_depends_on_the_data_set_alone(tiny_dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_dataset, tmp_path / "other")
    manifest = tmp_path / "other" / "manifest.csv"
    with manifest.open(newline="") as stream:
        header, *rows = csv.reader(stream)
    with manifest.open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *reversed(rows)])
    one, two = calibration.choose(tiny_dataset, 20), calibration.choose(tmp_path / "other", 20)
    assert [row.path.name for row in one] == [row.path.name for row in two]
    assert calibration.list_hash(one) == calibration.list_hash(two)
    assert calibration.list_hash(one) != calibration.list_hash(one[1:])


def test_more_than_there_are_is_all_there_are(tiny_dataset: Path) -> None:
    train_rows = [row for row in read_manifest(tiny_dataset) if row.split == "train"]
    assert len(calibration.choose(tiny_dataset, 1000)) == len(train_rows)


def test_too_few_images(tmp_path: Path) -> None:
    write_set(tmp_path, [(0,)] * 15, val=30)
    with pytest.raises(DataError) as caught:
        calibration.choose(tmp_path, 16)
    assert str(caught.value) == (
        f"{tmp_path}: 15 training images, calibration needs at least 16\n  fix: use a larger data set"
    )


def test_no_images(tmp_path: Path) -> None:
    write_set(tmp_path, [])
    with pytest.raises(DataError, match=r": 0 training images, calibration needs at least 16"):
        calibration.choose(tmp_path, 16)
    with pytest.raises(DataError) as caught:
        calibration.load([], (64, 64))
    assert str(caught.value) == "no calibration images\n  fix: give at least 16 training images"


def own_images(folder: Path, count: int) -> Path:
    """Write pictures that no data set here holds."""
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:02d}.png"), np.full((24, 32, 3), (9, 9, index), np.uint8))
    return folder


def test_images_of_ones_own_come_evenly_from_a_folder_or_a_list(tmp_path: Path) -> None:
    write_set(tmp_path, [(0,)] * 16)
    own = own_images(tmp_path / "own", 40)
    taken = [row.path.name for row in calibration.choose(tmp_path, 20, str(own))]
    assert taken == [f"{index:02d}.png" for index in range(0, 40, 2)]
    names = [f"own/{index:02d}.png" for index in range(16)]
    (tmp_path / "list.txt").write_text("\n".join(names) + "\n\n")
    rows = calibration.choose(tmp_path, 256, str(tmp_path / "list.txt"))
    assert [row.path for row in rows] == [tmp_path / name for name in names]
    assert rows[0].sha256 == sha256_file(tmp_path / names[0])
    assert calibration.load(rows, (64, 64)).shape == (16, 64, 64, 3)


def test_validation_images_are_refused_wherever_they_come_from(tiny_dataset: Path, tmp_path: Path) -> None:
    own = own_images(tmp_path / "own", 20)
    rows = [row for row in read_manifest(tiny_dataset) if row.split == "val"]
    for index, row in enumerate(rows[:3]):
        shutil.copyfile(row.path, own / f"renamed_{index}{row.path.suffix}")
    with pytest.raises(DataError) as caught:
        calibration.choose(tiny_dataset, 16, str(own))
    twin = rows[0].path
    assert str(caught.value) == (
        f"{own}/renamed_0{twin.suffix}: calibration on a val image, it equals {twin}; so do 2 more\n"
        "  fix: calibrate on training images only"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("nowhere", "quantize.calibration_from: no folder or file nowhere\n  fix: correct the path"),
        ("few", "few: 3 calibration images, calibration needs at least 16\n  fix: add images, or leave out quantize."),
        ("list.txt", "list.txt: 1 images are not there, the first is gone.png\n  fix: correct the list"),
    ],
)
def test_sources_that_cannot_be_used(
    source: str, text: str, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own_images(tmp_path / "few", 3)
    (tmp_path / "list.txt").write_text("few/00.png\ngone.png\n")
    with pytest.raises(EthosError) as caught:
        calibration.choose(tiny_dataset, 16, source)
    assert str(caught.value).startswith(text)


def test_images_are_what_the_network_sees(tmp_path: Path) -> None:
    write_set(tmp_path, [(0,)] * 16)
    images = calibration.load(calibration.choose(tmp_path, 16), (64, 64))
    assert images.shape == (16, 64, 64, 3)
    assert images.dtype == np.float32
    # 32x24 becomes 64x48, with 8 rows of grey above and below; red is the first channel
    assert images[5, 0, 0].tolist() == pytest.approx([114 / 255] * 3)
    assert images[5, 32, 32].tolist() == pytest.approx([5 / 255, 0, 0])


def test_validation_images_are_refused(tiny_dataset: Path) -> None:
    row = next(row for row in read_manifest(tiny_dataset) if row.split == "val")
    with pytest.raises(DataError) as caught:
        calibration.load([row], (64, 64))
    assert str(caught.value) == (f"{row.path}: calibration on a val image\n  fix: calibrate on training images only")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, [(0,)] * 16)
    (tmp_path / "images" / "train" / "003.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        calibration.load(calibration.choose(tmp_path, 16), (64, 64))
    assert caught.value.message == f"{tmp_path}/images/train/003.png: cannot be read as an image"


# --- the files -------------------------------------------------------------------------------------------------------


def test_every_file_is_there(quantized: Quantized) -> None:
    assert {path.name for path in quantized.files.iterdir()} == {*FILES, "quantize.json"}
    assert (quantized.files / LABELS_FILE).read_text() == "\n".join(CLASSES) + "\n"


def test_converters_print_nothing(quantized: Quantized) -> None:
    assert quantized.printed == ""


def test_record_describes_the_files(quantized: Quantized) -> None:
    record = quantized.record
    for name, known in record["files"].items():
        path = (quantized.model if name == WEIGHTS_FILE else quantized.files) / name
        assert known == {"sha256": sha256_file(path), "bytes": path.stat().st_size} == describe(path)
    model, _ = load_model(quantized.model)
    assert record["parameters"] == sum(parameter.numel() for parameter in to_export_form(model).parameters())
    rows = calibration.choose(quantized.dataset, 16)
    assert record["calibration"] == {
        "images": 16,
        "requested": 16,
        "from": "train",
        "sha256": calibration.list_hash(rows),
        "list": [f"images/train/{row.path.name}" for row in rows],
    }
    assert set(record["tools"]) == {"torch", "onnx", "onnx2tf", "tensorflow", "ai-edge-litert"}
    assert json.loads(json.dumps(record)) == record


def test_every_operator_and_tensor_is_int8(quantized: Quantized) -> None:
    graph = read_graph(quantized.files / INT8_FILE)
    assert "DEQUANTIZE" not in {op.kind for op in graph.operators}
    kinds = Counter(graph.tensors[index].dtype for op in graph.operators for index in op.outputs)
    assert set(kinds) == {"INT8"}
    inputs = Counter(graph.tensors[index].dtype for op in graph.operators for index in op.inputs if index >= 0)
    # biases and shapes are int32
    assert set(inputs) == {"INT8", "INT32"}


@pytest.mark.parametrize(("file", "dtype"), [(INT8_FILE, "INT8"), (FLOAT_FILE, "FLOAT32")])
def test_one_signature_with_six_named_outputs(quantized: Quantized, file: str, dtype: str) -> None:
    graph = read_graph(quantized.files / file)
    (signature,) = graph.signatures
    assert signature.key == "serving_default"
    assert list(signature.inputs) == ["images"]
    assert sorted(signature.outputs) == sorted(NAMES) == sorted(output_names([8, 16, 32]))
    ends = {name: graph.tensors[index] for name, index in {**signature.inputs, **signature.outputs}.items()}
    assert {tensor.dtype for tensor in ends.values()} == {dtype}
    assert ends["images"].shape == (1, SIDE, SIDE, 3)
    for stride in (8, 16, 32):
        side = SIDE // stride
        assert ends[f"box{stride}"].shape == (1, side, side, 64)
        assert ends[f"class{stride}"].shape == (1, side, side, len(CLASSES))


def test_contract_names_what_the_file_holds(quantized: Quantized) -> None:
    contract = Contract.read(quantized.files / CONTRACT_FILE)
    graph = read_graph(quantized.files / INT8_FILE)
    assert [output.name for output in contract.outputs] == NAMES
    assert contract.names == CLASSES
    assert (contract.imgsz, contract.strides, contract.reg_max) == ((SIDE, SIDE), (8, 16, 32), 16)
    for output in contract.outputs:
        tensor = graph.tensors[graph.signatures[0].outputs[output.name]]
        assert output.quantization.scale == pytest.approx(tensor.scale[0], rel=1e-6)
        assert output.quantization.zero_point == tensor.zero_point[0]
    # the input covers 0..1 in 255 steps
    assert contract.input_quantization.scale == pytest.approx(1 / 255, rel=0.02)
    assert contract.input_quantization.zero_point == -128


def test_branches_have_scales_of_their_own(quantized: Quantized) -> None:
    contract = Contract.read(quantized.files / CONTRACT_FILE)
    assert len({output.quantization.scale for output in contract.outputs}) == 6


def test_int8_computes_nearly_what_float_computes(quantized: Quantized) -> None:
    detectors = [Detector(quantized.files / name, quantized.files / CONTRACT_FILE) for name in (INT8_FILE, FLOAT_FILE)]
    for image in (255 * quantized.images()[:4]).round().astype(np.uint8):
        int8, exact = (detector.raw(image) for detector in detectors)
        for name in NAMES:
            assert np.abs(int8[name] - exact[name]).mean() < 0.15 * exact[name].std() + 0.05, name


def test_detections_come_out(quantized: Quantized) -> None:
    detector = Detector(quantized.files / INT8_FILE, quantized.files / CONTRACT_FILE)
    found = detector.detect(np.full((90, 120, 3), 114, np.uint8), conf=0.0001)
    assert found.shape[1] == 6
    assert np.isfinite(found).all()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_files_out_of_proportion_are_all_named(tmp_path: Path) -> None:
    sizes = {"int8": 2049, "fp16": 2977, "fp32": 4929}
    files = {precision: tmp_path / f"{precision}.tflite" for precision in sizes}
    for precision, kib in sizes.items():
        files[precision].write_bytes(bytes(kib * 1024))
    with pytest.raises(ModelError) as caught:
        require_proportion(files, 1_000_000, 2.0)
    assert str(caught.value) == (
        "int8.tflite: 2049 KiB for 1000000 parameters, over 2 KiB a thousand; "
        "fp16.tflite: 2977 KiB for 1000000 parameters, over 2.98 KiB a thousand\n"
        "  fix: look for float or repeated weights in the file; the limit is quantize.max_kib_per_kparameter"
    )


def test_weights_of_another_precision_are_out_of_proportion(quantized: Quantized) -> None:
    parameters, limit = quantized.record["parameters"], OPTIONS.max_kib_per_kparameter
    require_proportion({name: quantized.files / file for name, file in PRECISIONS.items()}, parameters, limit)
    for precision, wider in (("int8", HALF_FILE), ("fp16", FLOAT_FILE)):
        with pytest.raises(ModelError, match=rf"^{re.escape(wider)}: "):
            require_proportion({precision: quantized.files / wider}, parameters, limit)


def test_sizes_stand_beside_those_of_the_first_versions(quantized: Quantized) -> None:
    table = {row["precision"]: row for row in quantized.record["sizes"]}
    assert list(table) == ["fp32", "fp16", "dynamic", "int8"]
    for precision, row in table.items():
        assert row["bytes"] == (quantized.files / PRECISIONS[precision]).stat().st_size
        assert row["mb"] == round(row["bytes"] / 1e6, 2)
    assert table["int8"]["v3_mb"] == [3.3, 3.5]
    assert table["fp32"]["bytes"] > 1.9 * table["fp16"]["bytes"] > 3.4 * table["dynamic"]["bytes"]


@pytest.mark.parametrize(("file", "weights"), [(HALF_FILE, "FLOAT16"), (DYNAMIC_FILE, "INT8")])
def test_smaller_float_files_compute_the_same(quantized: Quantized, file: str, weights: str) -> None:
    graph = read_graph(quantized.files / file)
    assert sum(tensor.dtype == weights and len(tensor.shape) == 4 for tensor in graph.tensors) > 40
    image = (255 * quantized.images()[0]).round().astype(np.uint8)
    small, exact = (
        Detector(quantized.files / name, quantized.files / CONTRACT_FILE).raw(image) for name in (file, FLOAT_FILE)
    )
    for name in NAMES:
        assert np.abs(small[name] - exact[name]).max() < 0.05 * np.abs(exact[name]).max(), name


# --- operators -------------------------------------------------------------------------------------------------------


def test_the_int8_file_holds_known_integer_operators(quantized: Quantized) -> None:
    graph = read_graph(quantized.files / INT8_FILE)
    require_integer(graph)
    assert {operator.kind for operator in graph.operators} <= KNOWN_OPERATORS
    assert quantized.record["float_operators"] == 0


def test_a_float_file_given_as_int8(quantized: Quantized) -> None:
    with pytest.raises(ModelError) as caught:
        require_integer(read_graph(quantized.files / FLOAT_FILE))
    assert str(caught.value) == (
        f"{quantized.files}/fp32.tflite: is a float32 file, its input is float32; an INT8 file was expected\n"
        "  fix: give the file that was quantized, int8.tflite"
    )


def changed(graph: Graph, index: int, **changes: Any) -> Graph:
    """Return the graph with one operator changed."""
    operators = list(graph.operators)
    operators[index] = replace(operators[index], **changes)
    return replace(graph, operators=tuple(operators))


def test_float_and_unexpected_operators_are_listed(quantized: Quantized) -> None:
    graph = read_graph(quantized.files / INT8_FILE)
    strange = changed(changed(graph, 3, kind="HARD_SWISH"), 5, kind="TILE")
    with pytest.raises(ModelError, match=r"^int8\.tflite: unexpected operators: 1 HARD_SWISH, 1 TILE\n  fix: if they"):
        require_integer(strange)
    require_integer(strange, allowed=("HARD_SWISH", "TILE"))
    place = graph.operators[0].outputs[0]
    tensors = tuple(replace(each, dtype="FLOAT32") if each.index == place else each for each in graph.tensors)
    with pytest.raises(ModelError, match=r"^int8\.tflite: 2 float operators: PAD \S+, CONV_2D \S+"):
        require_integer(replace(graph, tensors=tensors))


def test_other_classes_than_the_data_set(quantized: Quantized, tmp_path: Path) -> None:
    wider = quantized.architecture.model_copy(update={"names": ("a",) * 5})
    save_model(tmp_path, build(wider), wider)
    with pytest.raises(ModelError) as caught:
        quantize(tmp_path, quantized.dataset, SIDE, OPTIONS, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: detects 5 classes, the data set {quantized.dataset} has 3\n"
        "  fix: train on this data set first: dvc repro train"
    )


def test_a_contract_is_made_of_int8_files_only(quantized: Quantized) -> None:
    with pytest.raises(ModelError, match=r"^tensor \S+: is float32, not quantized; an INT8 file was expected"):
        decode_contract(quantized.files / FLOAT_FILE, NAMES, [8, 16, 32], 16, CLASSES)


# --- agreement -------------------------------------------------------------------------------------------------------


def test_files_of_one_network_agree_and_of_other_weights_do_not(quantized: Quantized, tmp_path: Path) -> None:
    # of six outputs only the last one differs
    model, _ = load_model(quantized.model)
    with torch.no_grad():
        model.model[-1].cv3[-1][-1].bias += 0.5
    export_onnx(to_export_form(model), (SIDE, SIDE), NAMES, tmp_path / "other.onnx")
    for image in quantized.images()[:4]:
        require_agreement(quantized.files / ONNX_FILE, quantized.files / FLOAT_FILE, image)
        with pytest.raises(ModelError, match=r"^output class32: differs by 0\.5 after conversion\n  fix: report"):
            require_agreement(tmp_path / "other.onnx", quantized.files / FLOAT_FILE, image)


def test_files_of_other_shapes_disagree(quantized: Quantized, tmp_path: Path) -> None:
    wider = quantized.architecture.model_copy(update={"names": ("a",) * 5})
    # the boxes agree in shape, so only what is compared after them is looked at
    network = to_export_form(load_widened(quantized, wider, tmp_path))
    export_onnx(network, (SIDE, SIDE), NAMES, tmp_path / "wider.onnx")
    with pytest.raises(ModelError) as caught:
        require_agreement(tmp_path / "wider.onnx", quantized.files / FLOAT_FILE, quantized.images()[0])
    assert caught.value.message == "output class8: (1, 8, 8, 3) after conversion, (1, 8, 8, 5) before"


def load_widened(quantized: Quantized, architecture: Architecture, folder: Path) -> Any:
    """Return the trained network with a head for more classes; its class branches are random."""
    model = build(architecture)
    trained, _ = load_model(quantized.model)
    own = model.state_dict()
    fitting = {name: value for name, value in trained.state_dict().items() if own[name].shape == value.shape}
    model.load_state_dict(fitting, strict=False)
    save_model(folder, model, architecture)
    return load_model(folder)[0]


def test_a_network_that_the_converter_does_not_take(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"^onnx2tf failed: .+\n  fix: check the variant's level and activation$"):
        onnx_to_saved_model(tmp_path / "broken.onnx", np.zeros((1, 8, 8, 3), np.float32), ["a"], tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def fail_loudly(error: BaseException) -> None:
    with quiet("tool"):
        os.write(1, b"one\n\ntwo\n")
        sys.stdout.write("three\nfour\n")
        raise error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("wrong\nand more"), "tool failed: wrong"),
        (SystemExit(1), "tool failed: two | three | four"),
        (KeyError(), "tool failed: two | three | four"),
        (DataError("own"), "own"),
    ],
    ids=["exception", "exit", "no-text", "own"],
)
def test_last_words_of_a_tool_that_fails(error: BaseException, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((ModelError, DataError)) as caught:
        fail_loudly(error)
    assert caught.value.message == text
    sys.stdout.write("after\n")
    assert capfd.readouterr() == ("after\n", "")
