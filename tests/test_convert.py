"""Two converters behind one interface: the same contract, the same outputs, the same score."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import SIDE
from quantized import OPTIONS, Quantized

from ethos.compress.convert import CONVERTERS
from ethos.compress.quantize import CONTRACT_FILE, FILES, FLOAT_FILE, INT8_FILE, ONNX_FILE, PRECISIONS, quantize
from ethos.errors import ModelError
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.npu.tflite import read_graph
from ethos.specs import ProtocolParams, Quantize
from ethos.verify import require_export
from ethos_runtime.contract import Contract
from ethos_runtime.detector import Detector

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def other(quantized: Quantized, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the files of the same network by the second converter, and their record."""
    pytest.importorskip("litert_torch", reason="litert-torch, an optional extra, is not installed")
    folder = tmp_path_factory.mktemp("litert")
    options = OPTIONS.model_copy(update={"converter": "litert_torch"})
    return folder, quantize(quantized.model, quantized.dataset, SIDE, options, folder)


def test_every_converter_of_the_spec_is_there() -> None:
    assert set(CONVERTERS) == set(Quantize.model_fields["converter"].annotation.__args__)  # type: ignore[union-attr]


def test_the_same_files_with_the_same_contract(quantized: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    folder, record = other
    assert {path.name for path in folder.iterdir()} == set(FILES)
    assert record["converter"] == "litert_torch"
    assert {"litert-torch", "ai-edge-quantizer"} <= set(record["tools"])
    one, two = (Contract.read(place / CONTRACT_FILE) for place in (quantized.files, folder))
    assert [(each.name, each.shape) for each in one.outputs] == [(each.name, each.shape) for each in two.outputs]
    for mine, theirs in zip(one.outputs, two.outputs, strict=True):
        assert theirs.quantization.scale == pytest.approx(mine.quantization.scale, rel=0.01)
    for precision, dtype in (("fp32", "FLOAT32"), ("int8", "INT8")):
        graph = read_graph(folder / PRECISIONS[precision])
        assert {graph.tensors[index].dtype for index in (*graph.inputs, *graph.outputs)} == {dtype}
        assert list(graph.signatures[0].inputs) == ["images"]


def test_both_keep_the_activations(quantized: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    for folder, record in ((quantized.files, quantized.record), other):
        require_export(folder, record["activation"], (ONNX_FILE, FLOAT_FILE, INT8_FILE))


def test_both_compute_the_same(quantized: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = other
    for image in (255 * quantized.images()[:3]).round().astype(np.uint8):
        for file, tolerance in ((FLOAT_FILE, 1e-3), (INT8_FILE, 0.2)):
            mine, theirs = (
                Detector(place / file, place / CONTRACT_FILE).raw(image) for place in (quantized.files, folder)
            )
            for name, values in mine.items():
                assert np.abs(theirs[name] - values).mean() < tolerance * values.std() + 1e-4, (file, name)


def test_both_score_the_same(quantized: Quantized, other: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = other
    data = load_samples(quantized.dataset, "train")
    params = ProtocolParams(conf=0.001, iou=0.7, max_det=300)
    for file in (FLOAT_FILE, INT8_FILE):
        one, two = (assess(place / file, data, params).scores for place in (quantized.files, folder))
        assert abs(one.map50 - two.map50) < 0.003
        assert abs(one.map50_95 - two.map50_95) < 0.003


def test_a_converter_that_is_not_installed(quantized: Quantized, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(ModelError) as caught:
        CONVERTERS["litert_torch"](None, quantized.files / ONNX_FILE, quantized.images(), [])
    assert str(caught.value) == (
        "quantize.converter: litert_torch cannot be used, litert_torch is not installed\n"
        "  fix: run: pip install 'ethos-vision-optimizer[litert]', or use converter: onnx2tf"
    )
