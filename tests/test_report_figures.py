"""Figures and texts of the report: formats, rules, drawings, and the two languages."""

from __future__ import annotations

import ast
import re
import string
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import pytest
import tiny_network
from conftest import ROOT
from relu_network import write_network
from report_project import LAYER

from ethos.errors import ModelError, SpecError
from ethos.evaluation.dead import dead_channels
from ethos.evaluation.samples import Sample
from ethos.reporting.blocks import Table
from ethos.reporting.cache import Recent
from ethos.reporting.drawings import DRAWINGS, draw
from ethos.reporting.drawings.images import MISSED, RIGHT, WRONG, iou, judge
from ethos.reporting.drawings.scores import front_of
from ethos.reporting.drawings.style import line_style
from ethos.reporting.figure import FORMATS, Figure, Format, calculate
from ethos.reporting.history import converged_epoch, derive
from ethos.reporting.render import escape
from ethos.reporting.text_catalog import Texts, catalogue, languages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOURCES = ROOT / "src" / "ethos" / "reporting"


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "value", "text"),
    [
        ("score", 0.8954, "0.895"),
        ("points", 0.01234, "+1.23"),
        ("points", -0.00001, "0.00"),
        ("points", 0.0, "0.00"),
        ("count", 3346744.0, "3,346,744"),
        ("kib_of_bytes", 2048, "2"),
        ("gmac", 205629440, "0.206"),
        ("percent", 0.4737, "47.4"),
        ("change", -0.721, "-72.1"),
    ],
)
def test_figures_are_shown_at_their_precision(style: str, value: float, text: str) -> None:
    assert FORMATS[style].text(value) == text


def test_what_is_unknown_has_no_number() -> None:
    assert Figure(None, ("a#b",), "score").text == "-"
    assert Figure(1.5, ("a#b",), "ms").with_unit == "1.50 ms"
    assert calculate("difference", [1.0, None]) is None
    assert calculate("change", [1.0, 0.0]) is None
    assert calculate("change", [3.0, 2.0]) == pytest.approx(0.5)
    assert calculate("largest", [1.0, 4.0, 2.0]) == 4.0
    assert Format(0, signed=True).text(-0.4) == "0"


@pytest.mark.parametrize(
    ("scores", "epoch"),
    [
        ({1: 0.1, 2: 0.6, 3: 0.895, 4: 0.90}, 3),
        ({1: 0.9, 2: 0.5, 3: 0.9}, 3),
        ({1: 0.9, 2: 0.9}, 1),
        ({1: 0.5, 2: 0.9, 3: 0.6}, None),
    ],
    ids=["late", "a dip starts it again", "at once", "ends below"],
)
def test_convergence_follows_the_stated_rule(scores: dict[int, float], epoch: int | None) -> None:
    assert converged_epoch(scores) == epoch


def test_a_history_tells_its_best_epoch_time_and_memory() -> None:
    metrics = {
        "map50": {"1": 0.2, "2": 0.9},
        "map50_95": {"1": 0.5, "2": 0.5},
        "seconds": {"1": 1.5, "2": 2.5},
        "memory_mib": {"1": 9.0, "2": 7.0},
    }
    assert derive(metrics) == {
        "first_epoch": 1,
        "last_epoch": 2,
        "converged_epoch": 2,
        "best_epoch": 1,
        "seconds": 4.0,
        "peak_memory_mib": 9.0,
    }
    assert derive({}) == {}


def test_columns_of_figures_are_told_from_text() -> None:
    figure = Figure(0.5, ("a#b",), "score")
    rows = [["a", figure, (figure, " … ", figure)], ["b", "-", "-"], ["c", figure, "none"]]
    assert Table(["x", "y", "z"], rows).numeric == [False, True, False]


def test_the_least_used_is_forgotten_first() -> None:
    kept: Recent[str, int] = Recent(2)
    kept["a"], kept["b"] = 1, 2
    assert kept["a"] == 1
    kept["c"] = 3
    assert sorted(kept) == ["a", "c"]


def test_markdown_shows_text_as_it_is() -> None:
    assert escape("a|b *c* <d>\n") == "a\\|b \\*c\\* \\<d\\> "


# --- texts -----------------------------------------------------------------------------------------------------------


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def used_keys() -> Iterator[str]:
    """Give the keys that the code asks for; what is filled in at run time as .+"""
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name.lstrip("_") not in {"texts", "either", "sentence"}:
                continue
            key = node.args[0]
            if isinstance(key, ast.Constant):
                yield re.escape(str(key.value))
            elif isinstance(key, ast.JoinedStr):
                parts = (re.escape(str(each.value)) if isinstance(each, ast.Constant) else ".+" for each in key.values)
                yield "".join(parts)
    for path in (SOURCES / "templates").glob("*.j2"):
        yield from map(re.escape, re.findall(r"""\bt\(["']([\w.]+)["']""", path.read_text(encoding="utf-8")))


def test_every_language_has_every_text_with_the_same_placeholders() -> None:
    assert languages() == ["en", "ko"]
    english = catalogue("en")
    for language in languages():
        texts = catalogue(language)
        assert texts.keys() == english.keys()
        assert {key for key in texts if placeholders(texts[key]) != placeholders(english[key])} == set()
        assert all(texts.values())


def test_korean_is_korean() -> None:
    same = {key for key, text in catalogue("ko").items() if text == catalogue("en")[key]}
    # names and units that are the same in both
    assert all(re.fullmatch(r"[\w{} ,./()-]*", catalogue("en")[key]) for key in same)
    assert len(same) < 0.1 * len(catalogue("en"))


def test_every_key_that_is_asked_for_is_there_and_no_other() -> None:
    keys, wanted = set(catalogue("en")), set(used_keys())
    assert [key for key in wanted if not any(re.fullmatch(key, each) for each in keys)] == []
    # tables of keys ask for these
    indirect = {"figure.", "score.", "since.", "loss."}
    unused = [key for key in keys if not any(re.fullmatch(pattern, key) for pattern in wanted)]
    assert [key for key in unused if not key.startswith(tuple(indirect))] == []


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(SpecError, match="unknown language 'kr'"):
        Texts("kr")


# --- drawings --------------------------------------------------------------------------------------------------------

CURVE = {
    "epochs": [1, 2],
    **{f"{side}_{loss}_loss": [2.0, 1.0] for side in ("train", "val") for loss in ("box", "cls", "dfl")},
    **{score: [0.1, 0.2] for score in ("map50", "map50_95", "precision", "recall", "lr")},
}
POINT = {"label": "a", "latency_ms": 2.0, "map50": 0.9, "interval": [0.85, 0.93], "serves": "realtime"}
MATRIX = {"conf": 0.25, "iou": 0.45, "labels": ["Stop", "background"], "matrix": [[3, 1], [0, 0]]}
DATA: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "all_curves": (
        {"lines": [{"label": "a", **CURVE}, {"label": "b", **CURVE}]},
        ("epoch", "mAP50, 0 to 1 (measured)"),
    ),
    "version_curves": (CURVE, ("epoch", "learning rate", "precision")),
    "pareto": (
        {"target": "t", "provenance": "estimate", "points": [POINT, {**POINT, "interval": None, "serves": "-"}]},
        ("latency on t, ms (estimate by Vela)", "mAP50 of the INT8 file (measured)", "1 a [realtime]", "2 a"),
    ),
    "class_loss": (
        {"rows": [{"label": "a", "scores": {"Stop": [0.9, 0.85], "Yield": [None, None]}}]},
        ("Stop", "-5.0", "points of mAP50"),
    ),
    "confusion": ({"matrices": {"fp32": MATRIX, "int8": MATRIX}}, ("true class", "detected as", "Stop", "3")),
    "sizes": ({"rows": [{"label": "a", "bytes": {"fp32": 4e6, "int8": 1e6}}]}, ("size, MB (measured)", "4.00", "1.00")),
    "coverage": (
        {"rows": ["a"], "columns": ["t"], "values": [[0.683]], "what": "operator"},
        ("68.3", "% of operators"),
    ),
    "cycles": (
        {"target": "t", "report": {"provenance": "estimate", "cycles_total": 1000, "layers": [LAYER]}},
        ("% of 1,000 cycles (estimate)", "held up by compute"),
    ),
    "pruning": (
        {"title": "a", "on": "cpu", "rows": [{"model": "dense", "fps": 20.0, "map50": 0.9, "pareto": True}]},
        ("frames a second (measured on the CPU)", "mAP50 on the validation side (measured)", "dense"),
    ),
}


@pytest.mark.parametrize("name", DATA)
def test_drawings_are_sound_and_name_axes_with_units(name: str, tmp_path: Path) -> None:
    data, wanted = DATA[name]
    for _ in range(2):
        draw(name, data, tmp_path / name)
    text = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    for words in wanted:
        assert f">{words}<" in text, words
    picture = cv2.imread(str(tmp_path / f"{name}.png"))
    assert picture is not None
    assert picture.std() > 1


def test_every_drawing_is_tested() -> None:
    assert DATA.keys() | {"detections", "thumbnails"} == DRAWINGS.keys()


def test_lines_differ_without_colour() -> None:
    looks = [(style["linestyle"], style["marker"]) for style in map(line_style, range(28))]
    assert len(set(looks)) == len(looks)


def test_nothing_on_the_front_is_beaten() -> None:
    assert front_of([(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.8), (4.0, 0.9)]) == [
        (1.0, 0.5),
        (2.0, 0.8),
        (3.0, 0.9),
    ]


def test_boxes_are_right_wrong_or_missed() -> None:
    truth = np.array([[0, 0, 0, 10, 10], [1, 20, 20, 30, 30], [0, 50, 50, 60, 60]], np.float32)
    found = np.array(
        [
            [0, 0, 10, 9, 0.6, 0],  # the second best of the first label
            [0, 0, 10, 10, 0.9, 0],
            [20, 20, 30, 30, 0.8, 0],  # of another class
            [50, 50, 53, 60, 0.7, 0],  # overlaps too little
        ],
        np.float32,
    )
    judged = judge(found, truth, 0.5)
    assert [each[0] for each in judged] == [RIGHT, WRONG, WRONG, WRONG, MISSED, MISSED]
    assert [each[2] for each in judged if each[0] == MISSED] == [1, 0]
    assert iou(found[1, :4], truth[0, 1:]) == 1.0
    assert iou(truth[0, 1:], truth[1, 1:]) == 0.0


def test_detections_and_thumbnails_are_drawn_from_real_files(tmp_path: Path, tiny_files: Path) -> None:
    cells = [(0, 2, 2), (1, 5, 5)]
    cv2.imwrite(str(tmp_path / "image.png"), cv2.cvtColor(tiny_network.picture(cells), cv2.COLOR_RGB2BGR))
    left, top, right, bottom = (edge / tiny_network.SIZE for edge in tiny_network.box(2, 2))
    box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    (tmp_path / "image.txt").write_text(f"0 {' '.join(map(str, box))}\n2 0.5 0.1 0.1 0.1\n")
    sample = {"image": str(tmp_path / "image.png"), "label": str(tmp_path / "image.txt")}
    files = {kind: {"path": str(tiny_files / f"{kind}.tflite")} for kind in ("fp32", "int8")}
    contract = {"path": str(tiny_files / "decode.json")}
    rest = {"title": "tiny", "conf": 0.25, "match": 0.5, "iou": 0.7, "max_det": 300}
    draw("detections", {"samples": [sample], "files": files, "contract": contract, **rest}, tmp_path / "found")
    text = (tmp_path / "found.svg").read_text(encoding="utf-8")
    # in both files: the labelled red cell, the green one that nobody labelled, and the blue label on nothing
    for mark in ("T red 1.00", "F green 1.00", "M blue"):
        assert text.count(f">{mark}<") == 2, mark
    shown = {"path": sample["image"], "side": "val", "name": "image.png"}
    draw("thumbnails", {"kind": "leaks", "rows": [{"title": "track", "images": [shown, shown]}]}, tmp_path / "leaks")
    assert "val: image.png" in (tmp_path / "leaks.svg").read_text(encoding="utf-8")


# --- dead neurons ----------------------------------------------------------------------------------------------------


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Return one black and one white picture."""
    found = []
    for name, value in (("black", 0), ("white", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((8, 8, 3), value, np.uint8))
        found.append(Sample(tmp_path / f"{name}.png", np.zeros((0, 5))))
    return found


def test_channels_that_never_fire_are_counted(tmp_path: Path, samples: list[Sample]) -> None:
    # on black and white: always, on white alone, never
    file = write_network(tmp_path / "net.onnx", [0.5, -0.5, -1.5])
    report = dead_channels(file, samples)
    assert (report["channels"], report["dead"], report["images"]) == (3, 1, 2)
    assert report["dead_share"] == pytest.approx(1 / 3, abs=1e-6)
    assert report["layers"] == [{"name": "out", "channels": 3, "dead": 1}]
    assert dead_channels(file, samples, most=1)["dead"] == 2


def test_a_network_without_relu_has_no_share(tmp_path: Path, samples: list[Sample]) -> None:
    report = dead_channels(write_network(tmp_path / "net.onnx", [0.5], "Sigmoid"), samples)
    assert report["channels"] == 0
    assert report["dead_share"] is None


def test_a_file_that_is_no_network_is_named(tmp_path: Path, samples: list[Sample]) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"broken\.onnx: is no ONNX network"):
        dead_channels(tmp_path / "broken.onnx", samples)
