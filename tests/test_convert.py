"""Two converters behind one interface: the same contract, the same outputs, the same score."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import CLASSES, SIDE
from quantized import OPTIONS, Quantized

from ethos.compress.convert import CONVERTERS
from ethos.compress.quantize import CONTRACT_FILE, FILES, FLOAT_FILE, INT8_FILE, ONNX_FILE, PRECISIONS, quantize
from ethos.data.source import materialise
from ethos.errors import ModelError
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.npu.tflite import read_graph
from ethos.specs import Dataset, DrawnSource, ProtocolParams, Quantize, Split
from ethos.verify import require_export
from ethos_runtime.contract import Contract
from ethos_runtime.detector import Detector

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Recipe


@pytest.fixture(scope="module")
def able(tmp_path_factory: pytest.TempPathFactory, smoke: Recipe) -> Quantized:
    """Return a network that has learnt to find most of what is drawn, and its files by the first converter."""
    folder = tmp_path_factory.mktemp("able")
    source = DrawnSource(type="drawn", images=200, size=SIDE, seed=0)
    spec = Dataset(name="drawn", source=source, classes=CLASSES, split=Split(track=r"^(?P<scene>scene_\d+)"))
    materialise(spec, folder / "dataset")
    longer = {"epochs": 8, "lr0": 0.004, "lrf": 0.05, "warmup_epochs": 1.0, "cls": 1.0}
    return Quantized(folder, folder / "dataset", smoke.model_copy(update=longer))


@pytest.fixture(scope="module")
def other(able: Quantized, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the files of the same network by the second converter, and their record."""
    pytest.importorskip("litert_torch", reason="litert-torch, an optional extra, is not installed")
    folder = tmp_path_factory.mktemp("litert")
    options = OPTIONS.model_copy(update={"converter": "litert_torch"})
    return folder, quantize(able.model, able.dataset, SIDE, options, folder)


def test_every_converter_of_the_spec_is_there() -> None:
    assert set(CONVERTERS) == set(Quantize.model_fields["converter"].annotation.__args__)  # type: ignore[union-attr]


def test_the_same_files_with_the_same_contract(able: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    folder, record = other
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert record["converter"] == "litert_torch"
    assert {"litert-torch", "ai-edge-quantizer"} <= set(record["tools"])
    one, two = (Contract.read(place / CONTRACT_FILE) for place in (able.files, folder))
    assert [(each.name, each.shape) for each in one.outputs] == [(each.name, each.shape) for each in two.outputs]
    for mine, theirs in zip(one.outputs, two.outputs, strict=True):
        assert theirs.quantization.scale == pytest.approx(mine.quantization.scale, rel=0.01)
    for precision, dtype in (("fp32", "FLOAT32"), ("int8", "INT8")):
        graph = read_graph(folder / PRECISIONS[precision])
        assert {graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)} == {dtype}
        assert list(graph.signatures[0].inputs) == ["images"]


def test_both_keep_the_activations(able: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    for folder, record in ((able.files, able.record), other):
        require_export(folder, record["activation"], (ONNX_FILE, FLOAT_FILE, INT8_FILE))


def test_both_compute_the_same(able: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = other
    for image in (255 * able.images()[:3]).round().astype(np.uint8):
        for file, tolerance in ((FLOAT_FILE, 1e-3), (INT8_FILE, 0.2)):
            mine, theirs = (Detector(place / file, place / CONTRACT_FILE).raw(image) for place in (able.files, folder))
            for name, values in mine.items():
                assert np.abs(theirs[name] - values).mean() < tolerance * values.std() + 1e-4, (file, name)


@pytest.mark.parametrize("file", [FLOAT_FILE, INT8_FILE])
def test_both_score_the_same(able: Quantized, other: tuple[Path, dict[str, Any]], file: str) -> None:
    folder, _ = other
    data = load_samples(able.dataset, "train")
    params = ProtocolParams(conf=0.001, iou=0.7, max_det=300)
    one, two = (assess(place / file, data, params) for place in (able.files, folder))
    assert one.sha256 != two.sha256
    assert one.scores.map50 > 0.7
    assert abs(one.scores.map50 - two.scores.map50) < 0.003
    assert abs(one.scores.map50_95 - two.scores.map50_95) < 0.003


def test_a_converter_that_is_not_installed(able: Quantized, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(ModelError) as caught:
        CONVERTERS["litert_torch"](None, able.files / ONNX_FILE, able.images(), [])
    assert str(caught.value) == (
        "quantize.converter: litert_torch cannot be used, litert_torch is not installed\n"
        "  fix: run: pip install 'ethos-vision-optimizer[litert]', or use converter: onnx2tf"
    )
