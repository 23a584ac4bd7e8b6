"""The matrix of candidates, targets and memory modes, and the comparison of two analyses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tflite_files import small_network

from ethos import catalog
from ethos.errors import ModelError
from ethos.files import write_json
from ethos.npu.analyze import analyze
from ethos.npu.blocks import Picture, Table
from ethos.npu.compare import compare, comparison_blocks, load_analysis
from ethos.npu.matrix import build_matrix, candidates_of_run, matrix_blocks
from ethos.npu.vela import MEMORY_MODES
from ethos.specs import Target

ROOT = Path(__file__).parents[1]
MODELS = ROOT.parent / "shared" / "models"


def _target(name: str) -> Target:
    return catalog.read_spec(ROOT / "specs" / "targets" / f"{name}.yaml", Target, name=name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    networks = {"whole": small_network(), "cut": small_network(between=("FLOOR",))}
    return {name: network.write(folder / f"{name}.tflite") for name, network in networks.items()}


# --- matrix ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matrix(files: dict[str, Path]) -> dict[str, Any]:
    targets = [_target("ethos-u55-256"), _target("ethos-n78-4tops")]
    return build_matrix(files, targets, ["Shared_Sram", "Dedicated_Sram_512KB"])


def test_every_candidate_meets_every_target_and_mode(matrix: dict[str, Any], files: dict[str, Path]) -> None:
    assert [(column["target"], column["memory_mode"]) for column in matrix["columns"]] == [
        ("ethos-u55-256", "Shared_Sram"),
        ("ethos-u55-256", "Dedicated_Sram_512KB"),
        ("ethos-n78-4tops", None),
    ]
    assert [row["candidate"] for row in matrix["rows"]] == list(files)
    whole, cut = (row["cells"] for row in matrix["rows"])
    alone = analyze(files["whole"], [_target("ethos-u55-256")])["targets"]["ethos-u55-256"]
    assert whole[0]["latency_ms"] == alone["latency_ms"]
    assert (cut[0]["operators_cpu"], cut[2]["operators_cpu"], cut[2]["regions"]) == (1, 1, 2)
    assert whole[2]["provenance"] == "rule"
    assert json.loads(json.dumps(matrix, allow_nan=False)) == matrix


def test_a_mode_that_a_system_cannot_have_gives_velas_reason(matrix: dict[str, Any]) -> None:
    for row in matrix["rows"]:
        assert row["cells"][1] == {
            "error": "target ethos-u55-256: Vela refuses its configuration: Invalid configuration of "
            "arena_mem_area=OffChipFlash (must be Sram or Dram)"
        }


def test_the_page_has_one_table_and_heat_maps(matrix: dict[str, Any]) -> None:
    blocks = matrix_blocks(matrix)
    table = next(block for block in blocks if isinstance(block, Table))
    assert table.columns == ["target, memory mode", "whole", "cut"]
    assert [row[0] for row in table.rows][1:] == ["ethos-u55-256 Dedicated_Sram_512KB", "ethos-n78-4tops"]
    assert table.rows[1][1:] == ["no", "no"]
    assert table.rows[2][1:] == ["100.0% of operators, 1 regions", "75.0% of operators, 2 regions"]
    captions = [block.caption for block in blocks if isinstance(block, Picture)]
    assert captions == ["latency, ms (estimate)", "operators on the NPU, % (estimate, rule)"]


def test_without_modes_each_target_keeps_its_own(files: dict[str, Path]) -> None:
    found = build_matrix({"whole": files["whole"]}, [_target("ethos-u65-512")], [])
    assert found["columns"] == [{"target": "ethos-u65-512", "memory_mode": "Dedicated_Sram_512KB"}]


def test_all_modes_of_a_system_with_dram(files: dict[str, Path]) -> None:
    found = build_matrix({"whole": files["whole"]}, [_target("ethos-u85-256")], MEMORY_MODES)
    assert all("error" not in cell for cell in found["rows"][0]["cells"])
    assert len(found["columns"]) == 6


def test_a_file_that_cannot_be_read_stops_the_matrix(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        build_matrix({"none": tmp_path / "none.tflite"}, [_target("ethos-n78-4tops")], [])


def test_candidates_of_a_run(tmp_path: Path) -> None:
    for place in ("level3_relu/dense", "level3_relu/pruned", "level4_relu/dense"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "int8.tflite").touch()
    (tmp_path / "level4_relu/dense/fp32.tflite").touch()
    assert list(candidates_of_run(tmp_path)) == ["level3_relu/dense", "level3_relu/pruned", "level4_relu/dense"]


# --- comparison ------------------------------------------------------------------------------------------------------


def _slowed(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report as another version of the compiler might have given it: conv1 slower by 1000 cycles."""
    other: dict[str, Any] = json.loads(json.dumps(report))
    target = other["targets"]["ethos-u55-256"]
    target["compiler"]["version"] = "6.0.0"
    target["cycles_total"] += 1000
    layer = next(layer for layer in target["layers"] if layer["name"] == "conv1" and layer["cycles"])
    layer["cycles"] += 1000
    return other


def test_two_compiler_versions(files: dict[str, Path], tmp_path: Path) -> None:
    report = analyze(files["whole"], [_target("ethos-u55-256")])
    write_json(tmp_path / "new.json", _slowed(report))
    found = compare(report, load_analysis(tmp_path / "new.json", []))["targets"]["ethos-u55-256"]
    (layer,) = found["layers"]
    assert (layer["name"], layer["operator"], layer["change"]) == ("conv1", "Conv2D", 1000)
    assert found["figures"]["cycles_total"]["b"] - found["figures"]["cycles_total"]["a"] == 1000
    assert [each["version"] for each in found["compilers"]][1] == "6.0.0"
    blocks = comparison_blocks(compare(report, _slowed(report)))
    rows = [row for block in blocks if isinstance(block, Table) for row in block.rows]
    assert rows[-1] == ["conv1", "Conv2D", f"{layer['a']:,}", f"{layer['b']:,}", "+1,000", "slower"]


def test_an_analysis_equals_itself(files: dict[str, Path]) -> None:
    report = analyze(files["cut"], [_target("ethos-u55-256"), _target("ethos-n78-4tops")])
    for target in compare(report, report)["targets"].values():
        assert target["layers"] == target["moved"] == []


def test_operators_that_moved(files: dict[str, Path]) -> None:
    target = _target("ethos-n78-4tops")
    renamed = analyze(files["cut"], [target])
    renamed["targets"]["ethos-n78-4tops"]["operators"][1]["placement"] = "npu"
    found = compare(analyze(files["cut"], [target]), renamed)["targets"]["ethos-n78-4tops"]["moved"]
    assert found == [{"operator": "FLOOR", "name": "floor", "a": "cpu", "b": "npu"}]


def test_files_whose_names_differ_are_compared_by_structure(tmp_path: Path) -> None:
    one = small_network(prefix="a_").write(tmp_path / "one.tflite")
    other = small_network(prefix="b_", activation=0, seed=1).write(tmp_path / "other.tflite")
    target = _target("ethos-u55-256")
    found = compare(analyze(one, [target]), analyze(other, [target]))["targets"]["ethos-u55-256"]["layers"]
    assert all(layer["a"] and layer["b"] for layer in found)


def test_the_attention_is_what_large_networks_differ_in() -> None:
    models = [MODELS / f"v3_{name}_full_integer_quant.tflite" for name in ("level2_relu", "level4_leaky")]
    if not all(file.is_file() for file in models):
        pytest.skip("the models are not there")
    found = compare(*(analyze(file, [_target("ethos-u65-512")]) for file in models))["targets"]["ethos-u65-512"]
    assert found["figures"]["cycles_total"]["a"] > 1.9 * found["figures"]["cycles_total"]["b"]
    assert {layer["operator"] for layer in found["layers"][:4]} == {"FullyConnected"}
    assert all(layer["b"] == 0 for layer in found["layers"][:4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{", "not a readable JSON document", id="no JSON"),
        pytest.param("[]", "is no analysis", id="another document"),
        pytest.param('{"file": "a"}', "is no analysis", id="half a report"),
        pytest.param(None, "no such file", id="missing"),
    ],
)
def test_what_is_no_stored_report(text: str | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ModelError, match=message):
        load_analysis(file, [])


def test_analyses_without_a_common_target(files: dict[str, Path]) -> None:
    reports = [analyze(files["whole"], [_target(name)]) for name in ("ethos-u55-256", "ethos-n78-4tops")]
    with pytest.raises(ModelError, match="share no target: ethos-u55-256 against ethos-n78-4tops"):
        compare(*reports)
