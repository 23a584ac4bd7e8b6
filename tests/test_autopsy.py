"""The autopsy: losses by branch, class and size add up, layers are told apart, and the command says it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from conftest import CLASSES, SIDE
from typer.testing import CliRunner

from ethos.autopsy.advice import suggestions
from ethos.autopsy.layers import EIGHT_BITS_DB, MOST_DB, compare_layers
from ethos.autopsy.losses import by_branch, by_class, by_size, detect_mixed
from ethos.autopsy.report import autopsy
from ethos.cli import app
from ethos.compress.quantize import CONTRACT_FILE, FLOAT_FILE, INT8_FILE, ONNX_FILE
from ethos.errors import ModelError
from ethos.evaluation.detect import ImageResult
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.specs import ProtocolParams

if TYPE_CHECKING:
    from pathlib import Path

    from quantized import Quantized

    from ethos.autopsy.losses import Mix

PARAMS = ProtocolParams(conf=0.001, iou=0.7, max_det=300)
NAMES = ("one", "two")


def image(
    boxes: list[tuple[int, float, float]], found: list[tuple[int, float, float]], shift: float = 0.0
) -> ImageResult:
    """Return an image with square boxes (class, corner, side) and detections of them, moved by `shift` pixels."""
    labels = [(kind, at, at, at + side, at + side) for kind, at, side in boxes]
    seen = [(at + shift, at, at + shift + side, at + side, 0.9, kind) for kind, at, side in found]
    return ImageResult(np.array(seen, np.float32).reshape(-1, 6), np.array(labels, np.float32).reshape(-1, 5))


BOXES = [(0, 0.0, 8.0), (1, 100.0, 30.0), (0, 300.0, 90.0), (1, 500.0, 10.0), (0, 600.0, 32.0), (1, 700.0, 80.0)]


def mixed(**missed: set[int]) -> dict[Mix, list[ImageResult]]:
    """Return results in which a mix misses some of the boxes."""
    names: tuple[Mix, ...] = ("fp32", "int8", "box", "class")
    kept = {name: [box for at, box in enumerate(BOXES) if at not in missed.get(name, set())] for name in names}
    return {name: [image(BOXES, kept[name])] for name in names}


def test_a_loss_is_found_in_its_branch_class_and_size() -> None:
    found = mixed(int8={0}, **{"class": {0}})
    assert {row["quantized"]: row["map50"] > 0.1 for row in by_branch(found, NAMES)} == {
        "box": False,
        "class": True,
        "both": True,
    }
    worst, other = by_class(found, NAMES)
    assert (worst["name"], other["name"], other["drop"]) == ("one", "two", 0.0)
    assert worst["drop"] == pytest.approx(1 / 3, abs=0.01)
    sizes = {row["size"]: row for row in by_size(found, NAMES)}
    assert [row["boxes"] for row in sizes.values()] == [2, 2, 2]
    assert sizes["small"]["drop"] > 0.4
    assert (sizes["medium"]["drop"], sizes["large"]["drop"]) == (0.0, 0.0)


def test_detections_of_another_size_do_not_count() -> None:
    # a large box found once more, as small as the small ones: wrong among the small, nothing to the others
    found = mixed()
    extra = np.array([[900, 900, 908, 908, 0.95, 0]], np.float32)
    wrong = [replace(each, detections=np.concatenate((extra, each.detections))) for each in found["int8"]]
    sizes = {row["size"]: row["drop"] for row in by_size({**found, "int8": wrong}, NAMES)}
    assert sizes["small"] > 0
    assert (sizes["medium"], sizes["large"]) == (0.0, 0.0)


# --- advice ----------------------------------------------------------------------------------------------------------


def report(**changes: Any) -> dict[str, Any]:
    made = {"per_channel": True, "ranges": "min_max", "calibration_images": 256}
    branches = [
        {"quantized": name, "map50_95": value} for name, value in (("box", 0.05), ("class", 0.05), ("both", 0.1))
    ]
    layers = [{"name": "model.9.cv1.conv", "snr_db": 20.0, "lost_db": 2.0}]
    drop = {"map50": 0.1, "map50_95": 0.1}
    return {"made": made, "branches": branches, "layers": layers, "drop": drop} | changes


def test_nothing_is_suggested_without_a_loss() -> None:
    assert suggestions(report(drop={"map50": 0.001, "map50_95": 0.005})) == ["nothing: the loss is below 0.5 points"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"made": {"per_channel": False, "ranges": "min_max", "calibration_images": 256}},
            "set quantize.per_channel to",
        ),
        ({"made": {"per_channel": True, "ranges": "min_max", "calibration_images": 16}}, "16 images set the ranges"),
        (
            {"branches": [{"quantized": n, "map50_95": v} for n, v in (("box", 0.1), ("class", 0.0), ("both", 0.1))]},
            "mse",
        ),
        (
            {"branches": [{"quantized": n, "map50_95": v} for n, v in (("box", 0.0), ("class", 0.1), ("both", 0.1))]},
            "try quantize.bias_correction",
        ),
        ({"layers": [{"name": "model.9.cv1.conv", "snr_db": 8.0, "lost_db": 12.0}]}, "model.9.cv1.conv loses 12 dB"),
    ],
    ids=["per-tensor", "few-images", "boxes", "classes", "one-layer"],
)
def test_what_is_suggested(changes: dict[str, Any], text: str) -> None:
    found = suggestions(report(**changes))
    assert any(text in line for line in found), found
    assert not any(text in line for line in suggestions(report()))
    assert found[-1].endswith("qat in the recipe.")


# --- files -----------------------------------------------------------------------------------------------------------


def test_layers_are_compared_under_their_pytorch_names(quantized: Quantized) -> None:
    files = quantized.files
    layers = compare_layers(files / FLOAT_FILE, files / INT8_FILE, quantized.images()[:3], files / ONNX_FILE)
    assert all(0 < layer.snr_db <= MOST_DB and 0 <= layer.lost_db <= EIGHT_BITS_DB for layer in layers)
    first = next(layer for layer in layers if layer.name == "model.0.conv")
    assert 20 < first.snr_db < 60
    assert sum(layer.name.startswith("model.") for layer in layers) > 40
    same = compare_layers(files / FLOAT_FILE, files / INT8_FILE, quantized.images()[:3], files / "no.onnx")
    assert [layer.snr_db for layer in same] == [layer.snr_db for layer in layers]


def test_mixing_neither_branch_or_both_is_evaluating_the_files(quantized: Quantized) -> None:
    data = load_samples(quantized.dataset, "val")
    files = quantized.files
    found = detect_mixed(files / FLOAT_FILE, files / INT8_FILE, files / CONTRACT_FILE, data, PARAMS)
    assert {mix: len(each) for mix, each in found.items()} == dict.fromkeys(found, len(data.samples))
    whole = autopsy(files, data, PARAMS)
    for precision, name in (("fp32", FLOAT_FILE), ("int8", INT8_FILE)):
        scored = assess(files / name, data, PARAMS).document()
        assert whole[precision]["map50"] == pytest.approx(scored["map50"], abs=1e-4)
        assert whole["protocol"] == scored["protocol"]
    assert {row["name"] for row in whole["classes"]} <= set(CLASSES)
    assert sum(row["boxes"] for row in whole["sizes"]) == sum(len(sample.labels) for sample in data.samples)


def test_a_missing_or_a_float_file(quantized: Quantized, tmp_path: Path) -> None:
    data = load_samples(quantized.dataset, "val")
    with pytest.raises(ModelError, match=r": no fp32\.tflite\n  fix: name a variant"):
        autopsy(tmp_path, data, PARAMS)
    for name in (FLOAT_FILE, CONTRACT_FILE):
        shutil.copyfile(quantized.files / name, tmp_path / name)
    shutil.copyfile(quantized.files / FLOAT_FILE, tmp_path / INT8_FILE)
    with pytest.raises(ModelError, match=r"int8\.tflite: is a float32 file, its input is float32; an INT8 file was"):
        autopsy(tmp_path, data, PARAMS)


def test_other_classes(quantized: Quantized) -> None:
    data = replace(load_samples(quantized.dataset, "val"), names=("a", "b"))
    with pytest.raises(ModelError, match=r"detects 3 classes, the data set has 2\n"):
        autopsy(quantized.files, data, PARAMS)


# --- command ---------------------------------------------------------------------------------------------------------


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["quantize", *arguments])


def test_the_command_shows_sizes(quantized: Quantized, project: Path) -> None:
    done = call(str(quantized.files))
    assert done.exit_code == 0, done.output
    for text in ("level4_leaky (dense)", "V3 MB (reported)", "3.3 - 3.5", "one scale a channel", "onnx2tf"):
        assert text in done.output
    assert json.loads(call(str(quantized.files), "--json").output)["sizes"] == quantized.record["sizes"]
    place = project / "outputs" / "quantize" / "level4_leaky" / "dense"
    place.parent.mkdir(parents=True)
    shutil.copytree(quantized.files, place)
    assert json.loads(call("level4_leaky", "--json").output)["sizes"] == quantized.record["sizes"]


@pytest.mark.usefixtures("project")
def test_the_command_runs_an_autopsy(quantized: Quantized) -> None:
    done = call(str(quantized.files), "--autopsy", "--data", str(quantized.dataset), "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert set(document["sha256"]) == {FLOAT_FILE, INT8_FILE}
    assert document["provenance"] == "measured"
    shown = call(str(quantized.files), "--autopsy", "--data", str(quantized.dataset)).output
    for text in ("By branch", "By class", "By size", "Layers that lose most", "model.", "To try"):
        assert text in shown


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["level4_lecky"], "unknown variant or folder 'level4_lecky'"),
        (
            ["level4_leaky"],
            "level4_leaky (dense) is not quantized yet\n  fix: run: dvc repro quantize@level4_leaky-dense",
        ),
        (["level4_leaky", "--into", "new"], "level4_leaky (dense) is not trained yet"),
        (["level4_leaky", "--into", "specs"], "--into specs: is there already"),
        (["specs"], "specs: no quantize.json"),
        (["specs", "--autopsy", "--data", "nowhere"], "nowhere: no such file"),
        (
            ["level4_leaky", "--form", "prunned"],
            "unknown form 'prunned'\n  fix: did you mean pruned? known: dense, pruned",
        ),
        (["specs", "--split", "test"], "--data and --split are for --autopsy"),
    ],
    ids=["unknown", "not-quantized", "not-trained", "exists", "no-record", "no-data", "form", "no-autopsy"],
)
@pytest.mark.usefixtures("project")
def test_what_the_command_refuses(arguments: list[str], text: str) -> None:
    done = call(*arguments)
    assert done.exit_code != 0
    assert text in str(done.exception)


def test_quantizing_now_by_the_spec(quantized: Quantized, project: Path) -> None:
    outputs = project / "outputs"
    (outputs / "models" / "level4_leaky").mkdir(parents=True)
    shutil.copytree(quantized.model, outputs / "models" / "level4_leaky" / "dense")
    shutil.copytree(quantized.dataset, outputs / "dataset")
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("recipe: demo", "recipe: smoke"))
    spec = project / "specs" / "variants" / "level4_leaky.yaml"
    spec.write_text(
        spec.read_text() + "quantize: {per_channel: false, calibration_images: 16, ranges: mse, bias_correction: true, "
        "keep_float: [model.0.conv]}\n"
    )
    done = call("level4_leaky", "--into", "tried", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert (record["per_channel"], record["ranges"], len(record["kept_float"])) == (False, "mse", 1)
    assert record["float_operators"] > 0 < record["biases_corrected"]
    assert record["imgsz"] == SIDE
    assert (project / "tried" / INT8_FILE).is_file()
