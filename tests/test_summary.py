"""The summary of a run: figures as the stages recorded them, in a table."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from registry_run import TARGETS, write_run
from rich.console import Console

from ethos.errors import DamagedFile, DataError
from ethos.files import read_json, write_json
from ethos.reporting.scores import score_tables
from ethos.reporting.summary import Summary, cells, headings, read_summary, start_sentence
from ethos.reporting.tables import check_table, layer_table, plain_table

if TYPE_CHECKING:
    from pathlib import Path

VARIANTS = ("level2_relu", "level3_leaky")
CANDIDATES = tuple((variant, "dense") for variant in VARIANTS)
CHOSEN = {"realtime": 1, "balanced": 1, "accuracy": None}


def write_outputs(outputs: Path) -> Path:
    """Write all outputs of a run of two variants, of which the first serves two scenarios."""
    for version, (variant, map50) in enumerate(zip(VARIANTS, (0.9, 0.85), strict=True), start=1):
        write_run(outputs, variant, map50=map50)
        figures = {
            target: {"latency_ms": 10.0 * version + index, "sram_kib": 200.0 + index, "operators_cpu": index}
            for index, target in enumerate(TARGETS)
        }
        write_json(outputs / "analyze" / variant / "dense" / "metrics.json", figures)
        write_json(outputs / "register" / variant / "dense.json", {"version": version})
    write_json(outputs / "promote" / "decisions.json", {"scenarios": {k: {"version": v} for k, v in CHOSEN.items()}})
    write_json(outputs / "start" / "start.json", {"schema": 1, "source": "scratch"})
    return outputs


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    return write_outputs(tmp_path / "outputs")


def read(outputs: Path) -> Summary:
    return read_summary(outputs, CANDIDATES, tuple(TARGETS))


def printed(renderable: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=200).print(renderable)
    return stream.getvalue()


# --- figures as recorded ---------------------------------------------------------------------------------------------


def test_a_target_known_by_rules_alone_has_no_latency(outputs: Path) -> None:
    for variant in VARIANTS:
        file = outputs / "analyze" / variant / "dense" / "metrics.json"
        ruled = {"latency_ms": None, "sram_kib": None, "operators_cpu": 28}
        write_json(file, {**read_json(file), "ethos-n78-4tops": ruled})
    summary = read_summary(outputs, CANDIDATES, (*TARGETS, "ethos-n78-4tops"))
    row = dict(zip(headings(summary), cells(summary, summary.rows[0]), strict=True))
    assert row["ethos-n78-4tops ms"] == "-"
    assert row["CPU operators"] == "28"


def test_rows_hold_what_the_stages_recorded(outputs: Path) -> None:
    first, second = read(outputs).rows
    assert (first.variant, first.form, first.version) == ("level2_relu", "dense", 1)
    assert first.scenarios == ("realtime", "balanced")
    assert second.scenarios == ()
    for row in (first, second):
        quantized = read_json(outputs / "quantize" / row.variant / "dense" / "quantize.json")
        scores = read_json(outputs / "evaluate" / row.variant / "dense" / "metrics.json")
        assert (row.parameters, row.macs) == (quantized["parameters"], quantized["macs"])
        assert row.sha256 == quantized["files"]["int8.tflite"]["sha256"]
        assert row.int8_kib == quantized["files"]["int8.tflite"]["bytes"] / 1024
        assert (row.fp32_map50, row.int8_map50) == (scores["fp32"]["map50"], scores["int8"]["map50"])
        assert row.int8_map50_95 == scores["int8"]["map50_95"]
        assert row.npu == read_json(outputs / "analyze" / row.variant / "dense" / "metrics.json")
        assert row.drop_points == pytest.approx(0.4)


def test_cells_line_up_with_their_headings(outputs: Path) -> None:
    summary = read(outputs)
    row = dict(zip(headings(summary), cells(summary, summary.rows[0]), strict=True))
    assert row["variant"] == "level2_relu"
    assert row["parameters"] == "2,500,000"
    assert row["GMAC"] == "0.200"
    assert row["FP32 mAP50"] == "0.904"
    assert row["INT8 mAP50"] == "0.900"
    assert row["ethos-u55-256 ms"] == "10.00"
    assert row["ethos-u65-512 ms"] == "11.00"
    assert row["SRAM KiB"] == "201"
    assert row["CPU operators"] == "1"
    assert row["scenario"] == "realtime, balanced"
    assert dict(zip(headings(summary), cells(summary, summary.rows[1]), strict=True))["scenario"] == "-"


@pytest.mark.parametrize(
    "name",
    [
        "promote/decisions.json",
        "quantize/level3_leaky/dense/quantize.json",
        "evaluate/level3_leaky/dense/metrics.json",
        "evaluate/level2_relu/dense/int8.json",
        "register/level3_leaky/dense.json",
        "analyze/level3_leaky/dense/metrics.json",
        "dataset/dataset.json",
        "start/start.json",
    ],
)
def test_an_output_that_is_missing_is_named(outputs: Path, name: str) -> None:
    (outputs / name).unlink()
    with pytest.raises(DataError) as caught:
        read(outputs)
    assert str(caught.value) == f"{outputs}/{name}: no such output\n  fix: run the pipeline first: make repro"


def test_a_target_that_the_run_has_no_figures_for(outputs: Path) -> None:
    with pytest.raises(DamagedFile) as caught:
        read_summary(outputs, CANDIDATES, (*TARGETS, "ethos-u85-256"))
    place = outputs / "analyze" / VARIANTS[0] / "dense" / "metrics.json"
    assert caught.value.message == f"{place}: has no key 'ethos-u85-256'"


def test_candidates_scored_differently_are_not_put_into_one_table(outputs: Path) -> None:
    path = outputs / "evaluate" / "level3_leaky" / "dense" / "int8.json"
    document = read_json(path)
    document["protocol"] |= {"iou": 0.5, "sha256": "0" * 64}
    write_json(path, document)
    with pytest.raises(DataError) as caught:
        read(outputs)
    assert caught.value.message == "level3_leaky (dense) was scored under another protocol: iou differs"


# --- starting weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "sentence"),
    [
        ({"source": "scratch"}, "Variants are trained from scratch."),
        (
            {"source": "path", "file": "a.pt", "sha256": "0123456789abcdef"},
            "All variants begin from a.pt (SHA-256 0123456789ab).",
        ),
        (
            {"source": "warm_start", "recipe": "warm", "epochs": 8, "seconds": 135.6, "map50": 0.9514},
            "All variants begin from one warm start: 8 epochs of recipe warm on the same training images "
            "(136 s, mAP50 0.951).",
        ),
    ],
    ids=["scratch", "path", "warm_start"],
)
def test_where_the_weights_come_from_is_said(outputs: Path, start: dict[str, Any], sentence: str) -> None:
    summary = replace(read(outputs), start=start)
    assert start_sentence(summary) == sentence


# --- tables ----------------------------------------------------------------------------------------------------------


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    table = plain_table("", ["name", "size", "mixed"], [["a", "1,000", "1"], ["bb", "-", "x"]])
    assert [column.justify for column in table.columns] == ["left", "right", "left"]


def test_an_empty_table_is_a_table() -> None:
    assert "name" in printed(plain_table("nothing", ["name"], []))


def test_layers_end_with_their_total_and_steps_with_what_they_changed() -> None:
    layer = {"index": 0, "from": [-1, 4], "module": "Concat", "parameters": 1234, "macs": 56789, "changed_by": [1]}
    step = {"step": "narrow_neck", "arguments": {"width": 0.5}, "parameters": 1234, "parameters_change": -766}
    known = {"name": "mine", "base": "yolo11n", "activation": "relu", "classes": 3, "imgsz": 64}
    base = {"base_parameters": 2000, "base_macs": 60000}
    steps = [{**step, "macs": 56789, "macs_change": -3211}]
    text = printed(layer_table({**known, **base, "steps": steps, "layers": [layer], "parameters": 1234, "macs": 56789}))
    assert "mine: yolo11n, relu, 3 classes, 64 px" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["0", "[-1,", "4]", "Concat", "1,234", "56,789", "1"] in lines
    assert ["total", "1,234", "56,789"] in lines
    assert ["1", "narrow_neck", "width:", "0.5", "1,234", "-766", "56,789", "-3,211"] in lines


def test_scores_begin_with_the_whole_and_leave_out_what_is_unknown(outputs: Path) -> None:
    report = json.loads((outputs / "evaluate" / "level2_relu" / "dense" / "int8.json").read_text())
    for row in report["per_class"]:
        row |= {"precision": 0.5, "recall": None, "f1": None, "map50_interval": [0.85, 0.95]}
    report |= {
        "runtime": "ai-edge-litert",
        "file_precision": "int8",
        "intervals": {"map50": [0.88, 0.92]},
        "confusion": {"conf": 0.25, "iou": 0.45, "labels": ["red", "background"], "matrix": [[9, 2], [0, 0]]},
        **{kind: {"small": {"boxes": 0, "map50": None, "map50_95": None}} for kind in ("sizes", "relative_sizes")},
    }
    report["protocol"].setdefault("excluded", "none")
    lines = [line.split() for line in printed(score_tables(report)).splitlines()]
    assert ["all", "21", "0.900", "0.880", "to", "0.920", "0.450", "0.900", "0.800", "0.847"] in lines
    assert ["red", "7", "0.900", "0.850", "to", "0.950", "0.450", "0.500", "-", "-"] in lines


@pytest.mark.parametrize(
    ("ok", "severity", "word"), [(True, "error", "ok"), (False, "error", "FAIL"), (False, "warning", "warn")]
)
def test_checks_say_how_they_ended(ok: bool, severity: str, word: str) -> None:
    check = {"ok": ok, "severity": severity, "name": "labels", "count": 3, "limit": 0, "message": "as it is"}
    text = printed(check_table({"dataset": "mine", "ok": ok, "sha256": "a" * 64, "checks": [check]}))
    assert f"mine: {'passes' if ok else 'fails'} (SHA-256 {'a' * 12})" in text
    assert [word, "labels", "3", "0", "as", "it", "is"] in [line.split() for line in text.splitlines()]
