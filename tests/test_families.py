"""Another detector family, YOLOv8, through the same stages as the project's own variants."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import yaml
from conftest import CLASSES, ROOT
from registry_run import new_project

from ethos.compress.quantize import FLOAT_FILE, INT8_FILE, ONNX_FILE
from ethos.errors import ModelError
from ethos.npu.graph import census
from ethos.npu.tflite import read_graph
from ethos.verify import require_export, verify_file
from pipelines import analyze, evaluate, plan, quantize, start, train

if TYPE_CHECKING:
    from pathlib import Path

VARIANT = "yolov8n_relu"
HIDDEN = 65  # convolutions of YOLOv8n with an activation: 57, and one more for each of its 8 C2f when split


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """Return a project in which every stage from plan to evaluate has run for YOLOv8n with ReLU."""
    root = new_project(tmp_path_factory.mktemp("families"))
    # it is a link to the project's own
    (root / "specs").unlink()
    shutil.copytree(ROOT / "specs", root / "specs")
    tiny = {"source": {"type": "drawn", "images": 40, "size": 64}, "classes": list(CLASSES)}
    (root / "specs/datasets/tiny.yaml").write_text(yaml.safe_dump(tiny))
    params = {"dataset": "tiny", "recipe": "smoke", "variants": [VARIANT], "targets": ["ethos-u65-512"]}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(tiny_dataset, root / "outputs/dataset")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        plan.main("--start")
        plan.main(VARIANT)
        start.main()
        train.main(VARIANT)
        for stage in (quantize, analyze, evaluate):
            stage.main(VARIANT, "dense")
    return root


def test_it_trains(project: Path) -> None:
    metrics = json.loads((project / f"outputs/train/{VARIANT}/metrics.json").read_text())
    # YOLOv8n of three classes
    assert (metrics["parameters"], metrics["epochs"]) == (3_011_433, 1)
    architecture = json.loads((project / f"outputs/models/{VARIANT}/dense/architecture.json").read_text())
    assert (architecture["base"], architecture["steps"], architecture["activation"]) == ("yolov8n", [], "relu")


def test_it_leaves_with_six_raw_outputs_and_split_blocks(project: Path) -> None:
    graph = read_graph(project / f"outputs/quantize/{VARIANT}/dense/{INT8_FILE}")
    (signature,) = graph.signatures
    assert sorted(signature.outputs) == ["box16", "box32", "box8", "class16", "class32", "class8"]
    kinds = census(graph)
    assert {"STRIDED_SLICE", "SPLIT", "SLICE", "SOFTMAX", "LOGISTIC", "DEQUANTIZE"}.isdisjoint(kinds)
    assert kinds["CONV_2D"] == HIDDEN + 6


def test_it_runs_wholly_on_the_npu(project: Path) -> None:
    report = json.loads((project / f"outputs/analyze/{VARIANT}/dense/npu.json").read_text())
    figures = report["targets"]["ethos-u65-512"]
    assert figures["provenance"] == "estimate"
    assert (figures["operators_cpu"], figures["regions"], figures["operator_coverage"]) == (0, 1, 1.0)


def test_it_is_scored(project: Path) -> None:
    scores = json.loads((project / f"outputs/evaluate/{VARIANT}/dense/int8.json").read_text())
    assert scores["sha256"] == verify_file(project / f"outputs/quantize/{VARIANT}/dense/{INT8_FILE}")["sha256"]
    assert 0 <= scores["map50"] <= 1


@pytest.mark.parametrize("name", [ONNX_FILE, FLOAT_FILE, INT8_FILE])
def test_its_files_hold_the_declared_activation(project: Path, name: str) -> None:
    report = verify_file(project / f"outputs/quantize/{VARIANT}/dense/{name}")
    assert report["ok"]
    assert (report["declared"], report["declared_by"]) == ("relu", "quantize.json")
    assert report["found"] == {"ReLU()": HIDDEN}
    assert report["uses"] == report["uses_expected"] == HIDDEN


def test_the_stage_refuses_files_of_another_activation(project: Path) -> None:
    folder = project / f"outputs/quantize/{VARIANT}/dense"
    with pytest.raises(ModelError) as caught:
        require_export(folder, {"declared": "relu", "uses": HIDDEN + 1}, (ONNX_FILE,))
    assert caught.value.message == f"model.onnx: ReLU() in {HIDDEN} layers, the network has it in {HIDDEN + 1}"
    with pytest.raises(
        ModelError, match=r"^int8\.tflite: activation 'leaky_relu' is declared, but 1 [^;]* has ReLU\(\)"
    ):
        require_export(folder, {"declared": "leaky_relu", "uses": HIDDEN}, (INT8_FILE,))


def test_the_stage_writes_nothing_when_the_export_is_wrong(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage itself asks: with one use more recorded than the file has, its folder stays as it was."""
    monkeypatch.chdir(project)
    before = (project / f"outputs/quantize/{VARIANT}/dense/quantize.json").stat().st_mtime_ns
    source = project / f"outputs/quantize/{VARIANT}/dense"
    record = json.loads((source / "quantize.json").read_text())

    def copied(*arguments: object) -> dict[str, object]:
        shutil.copytree(source, str(arguments[-1]), dirs_exist_ok=True)
        return {**record, "activation": {"declared": "relu", "uses": HIDDEN + 1}}

    monkeypatch.setattr(quantize, "quantize", copied)
    with pytest.raises(ModelError, match=r"^model\.onnx: "):
        quantize.main(VARIANT, "dense")
    assert (source / "quantize.json").stat().st_mtime_ns == before
