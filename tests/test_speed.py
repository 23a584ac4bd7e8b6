"""`ethos bench`: times and memory of files, each in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import tiny_network as tiny
from cli_call import call
from tiny_onnx import write_onnx

from ethos.evaluation.predictors import open_predictor
from ethos.evaluation.speed_worker import noise, once, peak_mib, spread
from ethos.files import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

PARTS = ("preprocess_ms", "network_ms", "postprocess_ms", "end_to_end_ms")


@pytest.mark.usefixtures("project")
def test_files_side_by_side(tiny_files: Path, tmp_path: Path) -> None:
    onnx = write_onnx(tmp_path / "model.onnx", "pixels", names=tiny.NAMES)
    answer = call("bench", tiny_files / "int8.tflite", onnx, "--runs", 9, "--warmup", 2, "--threads", 1, "--json")

    document = answer.json
    protocol = document["protocol"]
    assert document["provenance"] == "measured"
    assert (protocol["threads"], protocol["runs"], protocol["warmup"], protocol["batch"]) == (1, 9, 2, 1)
    assert protocol["cpu"]
    assert len(protocol["sha256"]) == 64
    assert protocol["images"]["source"] == "noise, seed 0"
    first, second = document["files"]
    assert (first["runtime"], first["file_precision"]) == ("ai-edge-litert", "int8")
    assert (second["runtime"], second["file_precision"]) == ("onnxruntime", "fp32")
    assert first["sha256"] == sha256_file(tiny_files / "int8.tflite")
    for entry in document["files"]:
        for part in PARTS:
            assert 0 < entry[part]["p5"] <= entry[part]["median"] <= entry[part]["p95"]
        assert entry["end_to_end_ms"]["median"] > entry["network_ms"]["median"]
        assert entry["fps"]["end_to_end"] == pytest.approx(1000 / entry["end_to_end_ms"]["median"], rel=0.01)
        assert entry["ram_peak_mib"] > entry["ram_before_mib"] > 10
    assert first["times_as_fast_as_first"] == {"network": 1.0, "end_to_end": 1.0}


def test_the_table_and_images_of_ones_own(project: Path, tiny_files: Path) -> None:
    import cv2

    cv2.imwrite(str(project / "a.png"), tiny.picture([(0, 2, 2)]))
    answer = call("bench", tiny_files / "fp32.tflite", "--runs", 5, "--warmup", 0, "--images", project)
    assert answer.code == 0
    assert "medians of 5 runs after 0" in answer.out
    assert sha256_file(tiny_files / "fp32.tflite")[:12] in answer.out
    assert "measuring" in answer.err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no.tflite", "no.tflite: cannot be run as a TFLite model: no such file"),
        ("broken.onnx", "broken.onnx: cannot be run as an ONNX model"),
        ("alone.tflite", "alone.tflite: has 1 inputs and 6 outputs and no decode contract"),
    ],
)
@pytest.mark.usefixtures("project")
def test_a_file_that_cannot_run(name: str, text: str, tiny_files: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    (tmp_path / "alone.tflite").write_bytes((tiny_files / "int8.tflite").read_bytes())
    answer = call("bench", tmp_path / name, "--runs", 5)
    assert (answer.code, answer.out) == (1, "")
    assert text in answer.err
    assert answer.err.splitlines()[-1].startswith("  fix: ")


def test_no_images(project: Path, tiny_files: Path) -> None:
    (project / "empty").mkdir()
    answer = call("bench", tiny_files / "int8.tflite", "--images", project / "empty")
    assert (answer.code, answer.err.splitlines()[0]) == (1, f"error: {project / 'empty'}: holds no image")


def test_the_parts_of_a_run(tiny_files: Path) -> None:
    predictor = open_predictor(tiny_files / "int8.tflite")
    times = once(predictor, noise(), {"conf": 0.25, "iou": 0.7, "max_det": 300})
    assert len(times) == 3
    assert all(part > 0 for part in times)


def test_memory_that_is_taken_shows() -> None:
    before = peak_mib()
    block = bytearray(64 << 20)
    block[::4096] = b"\1" * len(block[::4096])
    assert peak_mib() >= before
    assert peak_mib() > 64


def test_spread() -> None:
    import numpy as np

    assert spread(np.arange(101) / 1000) == {"median": 50.0, "p5": 5.0, "p95": 95.0}
