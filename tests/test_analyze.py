"""The analysis document: figures, placement, budgets, what is kept and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tflite_files import Network, small_network

from ethos import catalog
from ethos.errors import CompilerError, ModelError, SpecError
from ethos.files import read_json, sha256_file
from ethos.npu.analyze import analyze, flat_figures
from ethos.npu.tables import render
from ethos.specs import Budget, Target

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"
TARGETS = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-1024")
# Vela 5.2.0, milliseconds
V3 = {
    "v3_level2_relu": {"ethos-u55-256": 137.8, "ethos-u65-512": 47.5, "ethos-u85-1024": 68.8},
    "v3_level4_leaky": {"ethos-u55-256": 86.0, "ethos-u65-512": 24.1, "ethos-u85-1024": 67.2},
}
PICTURES = ("01.svg", "02.svg", "03.svg", "04.svg")
KEYS = {
    "provenance",
    "operators_npu",
    "operators_cpu",
    "operator_coverage",
    "mac_coverage",
    "macs",
    "regions",
    "regions_with_macs",
    "crossings_npu_cpu",
    "crossings_cpu_npu",
    "cycles_total",
    "latency_ms",
    "mac_utilisation",
    "sram_kib",
    "dram_kib",
    "flash_kib",
    "budget",
    "fits",
    "fallbacks",
    "layers",
    "over_budget_kib",
    "fps",
    "compiler",
    "compiled",
    "byte_coverage",
    "bytes_npu_cpu",
    "bytes_cpu_npu",
    "bandwidth_gb_s",
    "weight_bytes",
    "operators",
}


def _target(name: str) -> Target:
    return catalog.read_spec(ROOT / "specs" / "targets" / f"{name}.yaml", Target, name=name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("analyze")


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, Any]:
    """Return the report of a network that runs on the NPU in one region; compiled files go to folder/whole/vela."""
    file = small_network().write(folder / "whole.tflite")
    return analyze(file, [_target(name) for name in TARGETS], folder / "whole" / "vela")


@pytest.fixture(scope="module")
def split(folder: Path) -> dict[str, Any]:
    """Return the report of a network that two operators cut in two."""
    file = small_network(between=("FLOOR", "CEIL")).write(folder / "split.tflite")
    return analyze(file, [_target("ethos-u55-256")])


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_document_holds_every_key_and_is_json(whole: dict[str, Any], folder: Path) -> None:
    assert whole["schema"] == 1
    assert whole["file"] == str(folder / "whole.tflite")
    assert whole["sha256"] == sha256_file(folder / "whole.tflite")
    assert list(whole["targets"]) == list(TARGETS)
    for report in whole["targets"].values():
        assert set(report) >= KEYS
        assert report["provenance"] == "estimate"
    assert json.loads(json.dumps(whole, allow_nan=False)) == whole


def test_a_network_in_one_region(whole: dict[str, Any]) -> None:
    assert whole["graph"]["macs"] == 1_179_648
    for report in whole["targets"].values():
        assert (report["operators_npu"], report["operators_cpu"]) == (3, 0)
        assert report["operator_coverage"] == report["mac_coverage"] == 1.0
        assert (report["regions"], report["regions_with_macs"]) == (1, 1)
        assert report["crossings_npu_cpu"] == report["crossings_cpu_npu"] == 0
        assert report["fallbacks"] == []


def test_derived_figures(whole: dict[str, Any]) -> None:
    for name, report in whole["targets"].items():
        target = _target(name)
        assert report["latency_ms"] == pytest.approx(report["cycles_total"] / target.clock_mhz / 1000)
        assert report["fps"] == pytest.approx(1000 / report["latency_ms"])
        assert report["mac_utilisation"] == pytest.approx(1_179_648 / (report["cycles_total"] * target.macs_per_cycle))
        assert sum(layer["cycles"] for layer in report["layers"]) == report["cycles_total"]
        assert sum(layer["share"] for layer in report["layers"]) == pytest.approx(1, abs=1e-4)
        assert all(0 <= layer["util"] <= 1 for layer in report["layers"])


def test_bandwidth_and_weights(whole: dict[str, Any]) -> None:
    report = whole["targets"]["ethos-u55-256"]
    assert report["bandwidth_gb_s"]["sram"]["available"] == pytest.approx(4.0)
    assert report["bandwidth_gb_s"]["off_chip_flash"]["available"] == pytest.approx(0.5)
    moved = report["traffic_bytes"]["sram"] / (report["latency_ms"] / 1000)
    assert report["bandwidth_gb_s"]["sram"]["used"] == pytest.approx(moved / 1e9)
    assert report["weight_bytes"]["original"] == 2 * 16 * 3 * 3 * 16
    assert report["weight_bytes"]["encoded"] > 0


def test_memory_over_time(whole: dict[str, Any]) -> None:
    """One map is 4 KiB: two live in each convolution, and the first one's result waits for the addition."""
    assert whole["graph"]["live_kib"] == [8.0, 8.0, 12.0]


def test_flat_figures(whole: dict[str, Any]) -> None:
    figures = flat_figures(whole)
    assert list(figures) == list(TARGETS)
    assert set(figures["ethos-u65-512"]) == {
        *("latency_ms", "cycles_total", "sram_kib", "operators_cpu", "mac_utilisation")
    }
    assert figures["ethos-u65-512"]["cycles_total"] == whole["targets"]["ethos-u65-512"]["cycles_total"]


def test_operators_on_the_cpu(split: dict[str, Any]) -> None:
    report = split["targets"]["ethos-u55-256"]
    assert (report["operators_npu"], report["operators_cpu"]) == (3, 2)
    assert report["operator_coverage"] == 0.6
    assert report["mac_coverage"] == 1.0
    assert (report["bytes_npu_cpu"], report["bytes_cpu_npu"]) == (4096, 4096)
    assert [each["placement"] for each in report["operators"]] == ["npu", "cpu", "cpu", "npu", "npu"]
    assert (report["regions"], report["regions_with_macs"]) == (2, 2)
    assert (report["crossings_npu_cpu"], report["crossings_cpu_npu"]) == (1, 1)
    assert report["fallbacks"] == [
        {"operator": "FLOOR", "name": "floor", "reason": "Unsupported opType"},
        {"operator": "CEIL", "name": "ceil", "reason": "Unsupported opType"},
    ]


def _half_float() -> Network:
    """Return conv0 in INT8, then a float part, with a convolution in it, that no NPU takes."""
    network = Network()
    rng = np.random.default_rng(0)
    source = network.feature_map("input")
    first = network.conv(source, "conv0", rng)
    real = network.feature_map("real", quantized=False)
    network.operator("DEQUANTIZE", [first], [real])
    last = network.conv(real, "conv1", rng, dtype="float32")
    network.graph.inputs, network.graph.outputs = [source], [last]
    return network


def test_macs_on_the_cpu_lower_the_coverage(tmp_path: Path) -> None:
    file = _half_float().write(tmp_path / "half.tflite")
    report = analyze(file, [_target("ethos-u55-256")])["targets"]["ethos-u55-256"]
    assert (report["operators_npu"], report["operators_cpu"]) == (1, 2)
    assert report["mac_coverage"] == 0.5
    assert report["mac_utilisation"] == pytest.approx(1_179_648 / 2 / (report["cycles_total"] * 256))
    assert (report["regions_with_macs"], report["crossings_npu_cpu"], report["crossings_cpu_npu"]) == (1, 1, 0)


def test_nothing_on_the_npu_has_no_latency(tmp_path: Path) -> None:
    network = Network()
    source, result = network.feature_map("input"), network.feature_map("floor")
    network.operator("FLOOR", [source], [result])
    network.graph.inputs, network.graph.outputs = [source], [result]
    report = analyze(network.write(tmp_path / "cpu.tflite"), [_target("ethos-u65-512")])
    figures = report["targets"]["ethos-u65-512"]
    assert figures["latency_ms"] is figures["fps"] is None
    assert (figures["regions"], figures["operator_coverage"], figures["mac_utilisation"]) == (0, 0.0, 0.0)
    assert "latency" in _shown(report)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "specs" / "targets").glob("*.yaml")))
def test_every_target_spec_compiles_and_holds_a_small_network(name: str, folder: Path) -> None:
    file = small_network().write(folder / f"{name}.tflite")
    report = analyze(file, [_target(name)])["targets"][name]
    assert report["operator_coverage"] == 1.0
    if report["provenance"] == "rule":
        assert report["fits"] is report["latency_ms"] is report["sram_kib"] is None
    else:
        assert report["fits"]
        assert report["budget"]["sram_kib"] > report["sram_kib"]


@pytest.mark.parametrize("model", V3)
def test_figures_of_large_networks(model: str) -> None:
    file = MODELS / f"{model}_full_integer_quant.tflite"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    report = analyze(file, [_target(name) for name in V3[model]])["targets"]
    for name, milliseconds in V3[model].items():
        assert report[name]["latency_ms"] == pytest.approx(milliseconds, rel=0.02)
        assert report[name]["operators_cpu"] == 0
        assert report[name]["operator_coverage"] == 1.0
    assert not report["ethos-u55-256"]["fits"]
    assert report["ethos-u55-256"]["over_budget"]["sram_kib"] == pytest.approx(9179.3 - 4096, abs=0.1)
    assert report["ethos-u65-512"]["fits"]


def test_a_target_whose_macs_contradict_its_accelerator_is_refused(tmp_path: Path) -> None:
    text = (ROOT / "specs" / "targets" / "ethos-u55-128.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("macs_per_cycle: 128", "macs_per_cycle: 256"))
    with pytest.raises(SpecError, match="macs_per_cycle is 256, which is not that of ethos-u55-128"):
        catalog.read_spec(tmp_path / "mine.yaml", Target, name="mine")


# --- budgets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "over"),
    [
        pytest.param(Budget(), {}, id="none given"),
        pytest.param(Budget(sram_kib=12, flash_kib=5.578125), {}, id="just enough"),
        pytest.param(Budget(sram_kib=10), {"sram_kib": 2.0}, id="SRAM"),
        pytest.param(Budget(sram_kib=10, flash_kib=5), {"sram_kib": 2.0, "flash_kib": 0.578125}, id="SRAM and flash"),
    ],
)
def test_budget(budget: Budget, over: dict[str, float], folder: Path) -> None:
    file = small_network().write(folder / "budget.tflite")
    target = _target("ethos-u55-256").model_copy(update={"budget": budget})
    report = analyze(file, [target])["targets"]["ethos-u55-256"]
    assert (report["sram_kib"], report["flash_kib"]) == (12.0, 5.578125)
    assert report["over_budget"] == over
    assert report["over_budget_kib"] == sum(over.values())
    assert report["fits"] is (not over)
    assert report["budget"] == budget.model_dump()


# --- files -----------------------------------------------------------------------------------------------------------


def test_compiled_files_are_kept_with_their_hashes(whole: dict[str, Any], folder: Path) -> None:
    kept = sorted((folder / "whole" / "vela").iterdir())
    assert [path.name for path in kept] == sorted(f"{name}.tflite" for name in TARGETS)
    for report in whole["targets"].values():
        assert report["compiled"]["sha256"] == sha256_file(folder / "whole" / report["compiled"]["path"])


def test_nothing_is_kept_unless_asked(split: dict[str, Any]) -> None:
    assert split["targets"]["ethos-u55-256"]["compiled"]["path"] is None


def test_nothing_is_kept_when_one_target_fails(folder: Path, tmp_path: Path) -> None:
    file = small_network().write(folder / "fails.tflite")
    bad = _target("ethos-u55-256").model_copy(update={"name": "bad", "memory_mode": "Dedicated_Sram_512KB"})
    with pytest.raises(CompilerError, match="target bad: Vela refuses its configuration"):
        analyze(file, [_target("ethos-u55-256"), bad], tmp_path / "vela")
    assert list(tmp_path.iterdir()) == []


# --- what is refused -------------------------------------------------------------------------------------------------


def _open_shape() -> Network:
    network = small_network()
    network.graph.tensors[0].shapeSignature = [-1, 16, 16, 16]
    return network


@pytest.mark.parametrize(
    ("network", "message"),
    [
        pytest.param(small_network(dtype="float32"), "no operator is quantized, an NPU runs none of it", id="float"),
        pytest.param(_open_shape(), "input 'input' has no fixed shape", id="dynamic"),
    ],
)
def test_refuses_what_has_no_meaningful_figures(network: Network, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        analyze(network.write(tmp_path / "odd.tflite"), [_target("ethos-u55-256")])


def test_refuses_a_compiled_file(whole: dict[str, Any], folder: Path) -> None:
    compiled = folder / "whole" / whole["targets"]["ethos-u55-256"]["compiled"]["path"]
    with pytest.raises(ModelError, match="already compiled for an Ethos-U"):
        analyze(compiled, [_target("ethos-u55-256")])


@pytest.mark.parametrize("key", ["config_file", "accelerator"])
def test_a_refused_file_is_told_before_a_refused_target(key: str, tmp_path: Path) -> None:
    target = catalog.load("target", "ethos-u55-256").model_copy(update={key: "none"})
    file = tmp_path / "cut.tflite"
    file.write_bytes(small_network().pack()[:5000])
    with pytest.raises(ModelError, match="damaged TFLite file"):
        analyze(file, [target])
    with pytest.raises((SpecError, CompilerError), match=r"^target ethos-u55-256: "):
        analyze(small_network().write(file), [target])


# --- the table -------------------------------------------------------------------------------------------------------


def _shown(report: dict[str, Any]) -> str:
    console = Console(width=140, file=StringIO())
    console.print(render(report))
    text = console.file
    assert isinstance(text, StringIO)
    return text.getvalue()


def test_table(whole: dict[str, Any], split: dict[str, Any]) -> None:
    text = _shown(whole)
    assert all(name in text for name in TARGETS)
    assert "estimate by vela" in text
    assert f"{whole['targets']['ethos-u55-256']['cycles_total']:,}" in text
    assert "12 KiB of 4.0 MiB" in text
    assert "CPU:" not in text
    assert "ethos-u55-256: FLOOR 'floor' runs on the CPU: Unsupported opType" in _shown(split)


def test_table_shows_names_with_brackets(split: dict[str, Any]) -> None:
    report = json.loads(json.dumps(split))
    report["targets"]["ethos-u55-256"]["fallbacks"][0]["name"] = "[red]x[/red]"
    assert "'[red]x[/red]'" in _shown(report)


# --- the stage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a project with one target and a network to analyze."""
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    params = (ROOT / "params.yaml").read_text().replace("  - ethos-u65-512\n  - ethos-u85-1024\n", "")
    (tmp_path / "params.yaml").write_text(params)
    quantized = tmp_path / "outputs" / "quantize" / "level3_relu" / "dense"
    quantized.mkdir(parents=True)
    small_network().write(quantized / "int8.tflite")
    return tmp_path


def _run_stage(project: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-m", "pipelines.analyze", "level3_relu", "dense"]
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_stage(project: Path) -> None:
    done = _run_stage(project)
    assert (done.returncode, done.stderr) == (0, "")
    folder = project / "outputs" / "analyze" / "level3_relu" / "dense"
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        *("metrics.json", "npu.json", "page", "page/index.html", "page/npu.md", "page/npu_pictures"),
        *(f"page/npu_pictures/{name}" for name in PICTURES),
        *("vela", "vela/ethos-u55-256.tflite"),
    ]
    report = read_json(folder / "npu.json")
    assert report["file"] == "outputs/quantize/level3_relu/dense/int8.tflite"
    assert report["targets"]["ethos-u55-256"]["compiled"]["path"] == "vela/ethos-u55-256.tflite"
    assert read_json(folder / "metrics.json") == flat_figures(report)


def test_stage_on_a_damaged_file_writes_nothing(project: Path) -> None:
    file = project / "outputs" / "quantize" / "level3_relu" / "dense" / "int8.tflite"
    file.write_bytes(file.read_bytes()[:3000])
    done = _run_stage(project)
    assert done.returncode == 1
    assert done.stderr.startswith("error: outputs/quantize/level3_relu/dense/int8.tflite: damaged TFLite file: ")
    assert "Traceback" not in done.stderr
    assert not [path for path in (project / "outputs" / "analyze").rglob("*") if path.is_file()]
