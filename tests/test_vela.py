"""Vela as this project calls it: the same figures as by hand, and one clear line when it fails."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
import tempfile
import venv
from importlib import metadata
from pathlib import Path

import ethosu
import pytest
from tflite_files import Network, small_network

from ethos.errors import CompilerError, SpecError
from ethos.npu import vela
from ethos.specs import VelaTarget

U55 = VelaTarget(
    name="ethos-u55-256",
    compiler="vela",
    accelerator="ethos-u55-256",
    system_config="Ethos_U55_High_End_Embedded",
    memory_mode="Shared_Sram",
    macs_per_cycle=256,
    clock_mhz=500,
)
ARM_CONFIG = Path(ethosu.__path__[0], "config_files", "Arm", "vela.ini")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_network().write(tmp_path_factory.mktemp("vela") / "small.tflite")


@pytest.fixture(scope="module")
def compiled(small: Path, tmp_path_factory: pytest.TempPathFactory) -> vela.Compiled:
    return vela.compile_network(small, U55, tmp_path_factory.mktemp("compiled"))


def test_figures_are_those_of_vela_run_by_hand(small: Path, compiled: vela.Compiled, tmp_path: Path) -> None:
    by_hand = Path(sys.executable).with_name("vela")
    options = ["--accelerator-config", U55.accelerator, "--system-config", U55.system_config]
    options += ["--memory-mode", U55.memory_mode, "--output-dir", str(tmp_path)]
    subprocess.run([by_hand, small, *options], check=True, capture_output=True)
    with next(tmp_path.glob("*_summary_*.csv")).open(newline="") as stream:
        summary = next(csv.DictReader(stream))
    assert compiled.cycles["total"] == int(summary["cycles_total"]) > 0
    assert compiled.cycles["off_chip_flash_access"] == int(summary["cycles_off_chip_flash_access"]) > 0
    assert compiled.latency_ms == float(summary["inference_time"]) * 1e3
    assert compiled.memory_kib["sram"] == float(summary["sram_memory_used"]) > 0
    assert compiled.memory_kib["off_chip_flash"] == float(summary["off_chip_flash_memory_used"]) > 0
    assert compiled.traffic_bytes["sram"] == int(summary["sram_total_bytes"])
    assert compiled.file.read_bytes() == next(tmp_path.glob("*_vela.tflite")).read_bytes()
    assert compiled.version == metadata.version("ethos-u-vela")


def test_layers_add_up(compiled: vela.Compiled) -> None:
    assert sum(layer.cycles for layer in compiled.layers) == compiled.cycles["total"]
    assert sum(layer.macs for layer in compiled.layers) == compiled.macs == 1_179_648
    assert [(layer.name, layer.operator) for layer in compiled.layers if layer.macs] == [
        ("conv0", "Conv2D"),
        ("conv1", "Conv2D"),
    ]
    assert compiled.refusals == {}


def test_names_with_commas_and_line_breaks_do_not_upset_the_layers(tmp_path: Path) -> None:
    file = small_network(prefix='a,b"\n,').write(tmp_path / "names, odd.tflite")
    result = vela.compile_network(file, U55, tmp_path)
    assert sum(layer.cycles for layer in result.layers) == result.cycles["total"]


@pytest.mark.parametrize(
    ("network", "refused", "reason"),
    [
        pytest.param(small_network(between=("FLOOR",)), {"floor"}, "Unsupported opType", id="kind"),
        pytest.param(
            small_network(dtype="float32"),
            {"conv0", "conv1", "sum"},
            "unsupported DataType Float32 .*; Feature-map dataTypes must be one of",
            id="type, a reason of two lines",
        ),
    ],
)
def test_refused_operators_have_a_reason(network: Network, refused: set[str], reason: str, tmp_path: Path) -> None:
    result = vela.compile_network(network.write(tmp_path / "cpu.tflite"), U55, tmp_path)
    assert set(result.refusals) == refused
    for text in result.refusals.values():
        assert re.search(reason, text)
    assert {layer.name for layer in result.layers if not layer.on_npu} == refused


def test_a_config_file_of_ones_own(small: Path, compiled: vela.Compiled, project: Path, tmp_path: Path) -> None:
    (project / "board.ini").write_text(ARM_CONFIG.read_text().replace("core_clock=500e6", "core_clock=400e6"))
    target = U55.model_copy(update={"config_file": "board.ini", "clock_mhz": 400})
    result = vela.compile_network(small, target, tmp_path)
    assert result.clock_mhz == 400
    assert result.latency_ms == pytest.approx(compiled.latency_ms * 500 / 400)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "params.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- started ahead ---------------------------------------------------------------------------------------------------


def test_a_started_run_gives_the_same(small: Path, compiled: vela.Compiled) -> None:
    with vela.started(small, [U55]) as compilers:
        folder = compilers.folder / U55.name
        result = vela.compile_network(small, U55, folder, compilers.runs[U55.name])
        assert result.file.read_bytes() == compiled.file.read_bytes()
    assert dataclasses.replace(result, file=compiled.file) == compiled


def test_what_still_runs_is_stopped(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with vela.started(small, [U55]) as compilers:
        process = compilers.runs[U55.name].process
        assert process.poll() is None
    assert process.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_no_more_are_started_than_there_are_cores(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with vela.started(small, [U55, U55.model_copy(update={"name": "second"})]) as compilers:
        assert list(compilers.runs) == [U55.name]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"memory_mode": "Dedicated_Sram_512KB"},
            "Invalid configuration of arena_mem_area=OffChipFlash (must be Sram or Dram)",
            id="mode that the system cannot have",
        ),
        pytest.param(
            {"system_config": "Nonsense"},
            "Incorrect argument to CLI option --system-config=Nonsense: "
            "Section System_Config.Nonsense not found in Vela config file",
            id="system",
        ),
        pytest.param(
            {"memory_mode": "Nonsense"},
            "Incorrect argument to CLI option --memory-mode=Nonsense: "
            "Section Memory_Mode.Nonsense not found in Vela config file",
            id="mode",
        ),
    ],
)
def test_an_invalid_configuration_gives_velas_reason(
    change: dict[str, str], message: str, small: Path, tmp_path: Path
) -> None:
    with pytest.raises(CompilerError) as raised:
        vela.compile_network(small, U55.model_copy(update=change), tmp_path)
    assert raised.value.message == f"target ethos-u55-256: Vela refuses its configuration: {message}"
    assert "specs/targets/ethos-u55-256.yaml" in raised.value.fix


def test_an_unknown_accelerator_gives_the_known_ones(small: Path, tmp_path: Path) -> None:
    with pytest.raises(CompilerError, match=r"invalid choice: 'ethos-u99-256' .*'ethos-u55-256'") as raised:
        vela.compile_network(small, U55.model_copy(update={"accelerator": "ethos-u99-256"}), tmp_path)
    assert "\n" not in raised.value.message


def test_the_targets_clock_must_be_the_systems(small: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="clock_mhz is 400, Ethos_U55_High_End_Embedded runs at 500"):
        vela.compile_network(small, U55.model_copy(update={"clock_mhz": 400.0}), tmp_path)


@pytest.mark.usefixtures("project")
def test_a_missing_config_file_is_named(small: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"target ethos-u55-256: config_file board\.ini is not there"):
        vela.compile_network(small, U55.model_copy(update={"config_file": "board.ini"}), tmp_path)


def test_a_crash_is_reported_with_the_last_line(tmp_path: Path) -> None:
    file = tmp_path / "half.tflite"
    file.write_bytes(small_network().pack()[:5000])
    with pytest.raises(CompilerError) as raised:
        vela.compile_network(file, U55, tmp_path)
    assert raised.value.message == (
        f"Vela failed on {file} for ethos-u55-256: crashed (SIGSEGV): "
        "Failed to load TfLite model. Buffer contents inconsistent with generated schema."
    )


def test_a_compiler_that_never_ends_is_stopped(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "TIMEOUT_S", 0.01)
    with pytest.raises(CompilerError, match=r"did not finish .*small\.tflite for ethos-u55-256 within 0\.01 s"):
        vela.compile_network(small, U55, tmp_path)


def test_missing_vela(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(CompilerError) as raised:
        vela.compile_network(small, U55, tmp_path)
    assert str(raised.value) == (
        "Vela, the Ethos-U compiler, is not installed\n  fix: run `make setup` (or `pip install ethos-u-vela`)"
    )


def test_an_interpreter_without_vela(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare"
    venv.create(bare, symlinks=True)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(CompilerError, match=r"Vela, the Ethos-U compiler, is not installed for .*/bare/bin/python"):
        vela.compile_network(small, U55, tmp_path)


def test_an_interpreter_that_is_gone(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CompilerError, match="Vela could not be started: No such file or directory"):
        vela.compile_network(small, U55, tmp_path)
