"""One interface over detector files: every form of ONNX, TFLite and PyTorch finds the same boxes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_network as tiny
from squares import CELLS
from tiny_onnx import FORMS, write_onnx

from ethos.errors import ModelError
from ethos.evaluation.metadata import Metadata, parse
from ethos.evaluation.predictors import open_predictor, require_precision
from ethos.model.levels import Architecture, build
from ethos.model.weights import save_model

if TYPE_CHECKING:
    from ethos.evaluation.predictors import Predictor

SIDE = 96


def boxes_found(predictor: Predictor, name: str) -> list[tuple[int, list[int]]]:
    found = predictor.predict(tiny.picture(CELLS[name]), 0.5, 0.7, 300)
    return sorted((int(row[5]), np.round(row[:4]).astype(int).tolist()) for row in found)


def boxes_there(name: str) -> list[tuple[int, list[int]]]:
    return sorted((colour, tiny.box(row, column)) for colour, row, column in CELLS[name])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_onnx(form: str, tmp_path: Path, tiny_files: Path) -> None:
    file = write_onnx(tmp_path / "model.onnx", form, names=tiny.NAMES)
    contract = tiny_files / "decode.json" if form == "raw" else None

    predictor = open_predictor(file, tiny.NAMES, contract)

    assert (predictor.runtime, predictor.precision, predictor.imgsz) == ("onnxruntime", "fp32", (64, 64))
    for name in CELLS:
        assert boxes_found(predictor, name) == boxes_there(name)


def test_rows_of_two_classes_are_not_taken_for_final_boxes(tmp_path: Path) -> None:
    """A network of 64 px has 64 + 16 + 4 anchors; with two classes each gives a row of six."""
    import torch

    class Rows(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            level = images.mean((1, 2, 3)).reshape(1, 1, 1).expand(1, 84, 1)
            side = torch.arange(84.0).reshape(1, 84, 1)
            return torch.cat((side, side, level + 8, level + 8, level * 0 + 0.9, level * 0 + 0.6), 2)

    torch.onnx.export(Rows(), (torch.zeros(1, 3, 64, 64),), tmp_path / "rows.onnx", opset_version=17, dynamo=False)
    predictor = open_predictor(tmp_path / "rows.onnx", ("red", "green"))
    found = predictor.predict(tiny.picture([]), 0.5, 1.0, 300)
    assert len(found) == 168
    assert set(found[:, 5]) == {0.0, 1.0}


def test_half_precision_onnx(tmp_path: Path) -> None:
    predictor = open_predictor(write_onnx(tmp_path / "model.onnx", "pixels", half=True), tiny.NAMES)
    assert predictor.precision == "fp16"
    assert boxes_found(predictor, "b") == boxes_there("b")


@pytest.mark.parametrize("name", ["int8", "fp32"])
def test_tflite_of_both_forms_and_its_precision(name: str, tiny_files: Path, tmp_path: Path) -> None:
    raw = open_predictor(tiny_files / f"{name}.tflite", tiny.NAMES)
    alone = tmp_path / "alone.tflite"
    alone.write_bytes((tiny_files / f"decoded_{name}.tflite").read_bytes())
    decoded = open_predictor(alone, tiny.NAMES)
    assert raw.precision == decoded.precision == name
    assert boxes_found(raw, "b") == boxes_found(decoded, "b") == boxes_there("b")


def test_names_in_a_tflite_file_count(tiny_files: Path, tmp_path: Path) -> None:
    file = tmp_path / "alone.tflite"
    file.write_bytes((tiny_files / "decoded_int8.tflite").read_bytes())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("metadata.json", '{"names": {"0": "cat", "1": "dog", "2": "cow"}, "imgsz": [64, 64]}')
    assert open_predictor(file).names == ("cat", "dog", "cow")
    with pytest.raises(ModelError, match=r"detects 3 classes \(cat, dog, cow\), the data set has 3 classes \(red"):
        open_predictor(file, tiny.NAMES)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"names": "{0: 'a', 1: 'b'}", "imgsz": "[32, 64]"}, Metadata(("a", "b"), (32, 64))),
        ({"names": {"1": "b", "0": "a"}}, Metadata(("a", "b"))),
        ({"names": ["a"]}, Metadata(("a",))),
        ({"names": "__import__('os').system('true')", "imgsz": "[1]"}, Metadata()),
        ({"names": {"x": "a"}}, Metadata()),
        ([], Metadata()),
    ],
    ids=["onnx", "json", "list", "code is text", "no numbers", "no mapping"],
)
def test_metadata(values: Any, expected: Metadata) -> None:
    assert parse(values) == expected


def test_a_required_precision(tiny_files: Path) -> None:
    predictor = open_predictor(tiny_files / "fp32.tflite", tiny.NAMES)
    require_precision(predictor, "fp32", Path("fp32.tflite"))
    with pytest.raises(ModelError, match=r"fp32\.tflite: is fp32, asked for int8"):
        require_precision(predictor, "int8", Path("fp32.tflite"))


# --- PyTorch, and what Ultralytics exports from it -------------------------------------------------------------------


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with one random network: as a weights folder, a checkpoint, and Ultralytics' ONNX export."""
    import torch

    folder = tmp_path_factory.mktemp("networks")
    architecture = Architecture(base="yolo11n", steps=(), activation="silu", names=tiny.NAMES)
    model = build(architecture, seed=3)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # so that what the image shows reaches the outputs
            module.running_var.fill_(0.2)
    for branch in model.model[-1].cv3:
        torch.nn.init.normal_(branch[-1].bias, std=2.0)
        torch.nn.init.normal_(branch[-1].weight, std=0.5)
    save_model(folder, model, architecture)
    model.yaml["yaml_file"] = "yolo11n.yaml"
    torch.save({"model": model, "epoch": 3}, folder / "model.pt")

    from ultralytics.cfg import DEFAULT_CFG_DICT
    from ultralytics.engine.exporter import Exporter

    model.args, model.task, model.pt_path = DEFAULT_CFG_DICT, "detect", str(folder / "model.pt")
    Exporter(overrides={"format": "onnx", "imgsz": SIDE, "batch": 1, "simplify": False, "device": "cpu"})(model=model)
    return folder


def test_torch_folder_checkpoint_and_export_agree(networks: Path) -> None:
    image = np.random.default_rng(5).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    found = [
        open_predictor(file, tiny.NAMES, imgsz=(SIDE, SIDE)).predict(image, 0.25, 0.45, 300)
        for file in (networks, networks / "weights.safetensors", networks / "model.pt", networks / "model.onnx")
    ]
    assert len(found[0]) > 5
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=0.2)


def test_a_checkpoint_of_an_unknown_graph(networks: Path, tmp_path: Path) -> None:
    import torch

    checkpoint = torch.load(networks / "model.pt", weights_only=False)  # the test's own file
    checkpoint["model"].model[0] = torch.nn.Conv2d(3, 8, 3)
    torch.save(checkpoint, tmp_path / "odd.pt")
    with pytest.raises(ModelError, match=r"odd\.pt: is none of the networks known here with 3 classes \(tried yolo11n"):
        open_predictor(tmp_path / "odd.pt", tiny.NAMES)


def test_a_checkpoint_that_would_run_code(tmp_path: Path) -> None:
    import torch

    torch.save({"model": Path("x")}, tmp_path / "bad.pt")
    with pytest.raises(ModelError, match="refused, since opening it would use"):
        open_predictor(tmp_path / "bad.pt", tiny.NAMES)
