"""`ethos analyze` as a user runs it: documents, pages, exit codes and mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import ethosu
import pytest
from tflite_files import Network, small_network

from ethos.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
ARM_CONFIG = Path(ethosu.__path__[0], "config_files", "Arm", "vela.ini")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def analyze(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Return a function that runs `ethos analyze` in a project that holds small.tflite and cut.tflite."""
    small_network().write(project / "small.tflite")
    small_network(between=("FLOOR",)).write(project / "cut.tflite")

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ethos", "analyze", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return Outcome(ended.value.code or 0, *capsys.readouterr())

    return call


def test_one_file_on_a_compiled_and_a_ruled_target(analyze: Callable[..., Outcome]) -> None:
    done = analyze("cut.tflite", "--target", "ethos-u55-64", "--target", "ethos-n78-1tops", "--json")
    assert (done.code, done.err) == (0, "")
    targets = json.loads(done.out)["targets"]
    assert {name: report["provenance"] for name, report in targets.items()} == {
        "ethos-u55-64": "estimate",
        "ethos-n78-1tops": "rule",
    }
    for report in targets.values():
        assert (report["operators_npu"], report["operators_cpu"], report["regions"]) == (3, 1, 2)
        assert (report["crossings_npu_cpu"], report["crossings_cpu_npu"]) == (1, 1)


def test_the_table_shows_figures_reasons_and_advice(analyze: Callable[..., Outcome]) -> None:
    done = analyze("cut.tflite", "--target", "ethos-u55-64", "--target", "ethos-n78-1tops")
    assert done.code == 0
    assert "ethos-n78-1tops: FLOOR 'floor' runs on the CPU: the driver has no such operator" in done.out
    assert "advice: Quantize weights with one scale a channel" in done.out
    assert "rule by rules 25.03" in done.out


def test_pages_are_written(analyze: Callable[..., Outcome], project: Path) -> None:
    done = analyze(
        "small.tflite", "--target", "ethos-n78-4tops", "--html", "a/b.html", "--markdown", "a/b.md", "--json"
    )
    assert done.code == 0
    assert json.loads(done.out)["schema"] == 1
    assert (project / "a/b.html").read_text().startswith("<!doctype html>")
    assert sorted(path.name for path in (project / "a").iterdir()) == ["b.html", "b.md", "b_pictures"]


def test_over_budget_ends_with_1_and_says_by_how_much(analyze: Callable[..., Outcome], project: Path) -> None:
    spec = project / "specs/targets/ethos-u55-64.yaml"
    spec.write_text(spec.read_text().replace("sram_kib: 2048 ", "sram_kib: 10 "))
    done = analyze("small.tflite", "--target", "ethos-u55-64")
    assert done.code == 1
    assert "no, 2 KiB over" in done.out


def test_a_target_of_ones_own_is_one_file_with_its_own_vela_ini(analyze: Callable[..., Outcome], project: Path) -> None:
    (project / "boards").mkdir()
    text = ARM_CONFIG.read_text().replace("core_clock=500e6", "core_clock=400e6")
    (project / "boards/camera.ini").write_text(text)
    spec = (project / "specs/targets/ethos-u55-64.yaml").read_text().replace("clock_mhz: 500", "clock_mhz: 400")
    (project / "specs/targets/camera.yaml").write_text(spec + "config_file: boards/camera.ini\n")
    done = analyze("small.tflite", "--target", "camera", "--target", "ethos-u55-64", "--json")
    targets = json.loads(done.out)["targets"]
    assert targets["camera"]["clock_mhz"] == 400
    assert targets["camera"]["latency_ms"] == pytest.approx(targets["ethos-u55-64"]["latency_ms"] * 500 / 400)


def test_the_matrix_of_a_run(analyze: Callable[..., Outcome], project: Path) -> None:
    folder = project / "outputs/quantize/level3_relu/dense"
    folder.mkdir(parents=True)
    small_network().write(folder / "int8.tflite")
    done = analyze("--matrix", "--target", "ethos-u65-256", "--memory-mode", "all", "--html", "m.html", "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert [row["candidate"] for row in found["rows"]] == ["level3_relu/dense"]
    assert len(found["columns"]) == len(found["rows"][0]["cells"]) == 6
    assert (project / "m.html").is_file()
    shown = analyze("--matrix", "small.tflite", "cut.tflite", "--target", "ethos-n78-4tops")
    assert "75.0% of operators, 2 regions" in shown.out


def test_comparing_a_stored_report_with_a_file(analyze: Callable[..., Outcome], project: Path) -> None:
    stored = analyze("small.tflite", "--target", "ethos-u55-64", "--json").out
    (project / "stored.json").write_text(stored)
    done = analyze("--compare", "stored.json", "cut.tflite", "--target", "ethos-u55-64")
    assert done.code == 0
    assert "NPU comparison" in done.out
    same = analyze("--compare", "stored.json", "stored.json", "--json")
    assert json.loads(same.out)["targets"]["ethos-u55-64"]["layers"] == []


def _subgraphs() -> Network:
    network = small_network()
    network.model.subgraphs = [network.graph] * 2
    return network


@pytest.mark.parametrize("target", ["ethos-u55-256", "ethos-n78-4tops"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"GIF89a and so on", "not a TFLite file", id="another format"),
        pytest.param(small_network().pack()[:4000], "damaged TFLite file", id="truncated"),
        pytest.param(small_network(dtype="float32").pack(), "no operator is quantized", id="float"),
        pytest.param(_subgraphs().pack(), "2 subgraphs, only one is supported", id="subgraphs"),
    ],
)
def test_bad_files(content: bytes, message: str, target: str, analyze: Callable[..., Outcome], project: Path) -> None:
    (project / "bad.tflite").write_bytes(content)
    done = analyze("bad.tflite", "--target", target)
    assert done.code == 1
    assert done.out == ""
    assert message in done.err
    assert len(done.err.splitlines()) == 2


def test_custom_operators_are_named_and_stay_on_the_cpu(analyze: Callable[..., Outcome], project: Path) -> None:
    small_network(between=("MyOperator",)).write(project / "custom.tflite")
    done = analyze("custom.tflite", "--target", "ethos-u55-256", "--target", "ethos-n78-4tops", "--json")
    assert done.code == 0
    for report in json.loads(done.out)["targets"].values():
        assert [each["operator"] for each in report["fallbacks"]] == ["MyOperator"]


def test_a_compiled_file_is_not_analyzed_again(analyze: Callable[..., Outcome]) -> None:
    analyze("small.tflite", "--target", "ethos-u55-64", "--compiled", "vela")
    for target in ("ethos-u55-64", "ethos-n78-4tops"):
        done = analyze("vela/ethos-u55-64.tflite", "--target", target)
        assert done.code == 1
        assert "already compiled for an Ethos-U\n  fix: give the file it was compiled from" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["small.tflite", "--target", "ethos-n78"], "did you mean ethos-n78-4tops", id="unknown target"),
        pytest.param([], "one file is analyzed at a time, got 0", id="no file"),
        pytest.param(["small.tflite", "cut.tflite"], "one file is analyzed at a time, got 2", id="two files"),
        pytest.param(["--compare", "small.tflite"], "--compare takes two files, got 1", id="one to compare"),
        pytest.param(["--compare", "--matrix"], "--compare and --matrix exclude each other", id="both"),
        pytest.param(["--matrix"], "no INT8 files in outputs/quantize", id="no run"),
        pytest.param(["small.tflite", "--memory-mode", "all"], "--memory-mode is for --matrix", id="mode"),
        pytest.param(
            ["--matrix", "small.tflite", "--memory-mode", "Shared_SRAM"], "did you mean Shared_Sram", id="unknown mode"
        ),
        pytest.param(["--matrix", "small.tflite", "--verify"], "are for a single file", id="verify"),
    ],
)
def test_mistakes(arguments: list[str], message: str, analyze: Callable[..., Outcome]) -> None:
    done = analyze(*arguments)
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 2


def _imported(arguments: list[str], folder: Path) -> set[str]:
    code = (
        "import sys, ethos.cli\n"
        f"sys.argv = ['ethos', 'analyze', *{arguments!r}]\n"
        "try:\n    ethos.cli.main()\nexcept SystemExit: pass\n"
        "print(' '.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.usefixtures("analyze")
def test_analysis_imports_no_tensorflow_and_pictures_only_for_pages(project: Path) -> None:
    heavy = {"tensorflow", "torch", "mlflow", "pandas", "cv2", "ultralytics"}
    plain = _imported(["small.tflite", "--target", "ethos-n78-4tops"], project)
    assert not plain & (heavy | {"matplotlib", "jinja2"})
    paged = _imported(["small.tflite", "--target", "ethos-n78-4tops", "--html", "a.html"], project)
    assert "matplotlib" in paged
    assert not paged & heavy


def test_specs_list_shows_the_targets(project: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(
        [sys.executable, "-c", "from ethos.cli import main; main()", "specs", "list", "targets"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {
        *(f"ethos-u55-{macs}" for macs in (64, 128, 256)),
        *(f"ethos-u65-{macs}" for macs in (256, 512)),
        *(f"ethos-u85-{macs}" for macs in (256, 512, 1024)),
        *(f"ethos-n78-{tops}tops" for tops in (1, 4)),
    }
    assert wanted <= set(done.stdout.split())
