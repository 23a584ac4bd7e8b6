"""Scores: metrics on cases worked out by hand, protocol, data, both output styles, and the stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_network as tiny
from relu_network import write_network
from squares import materialise, write_images

from ethos.errors import DataError, EthosError, ModelError, SpecError
from ethos.evaluation.detect import ImageResult, place_labels, predict_all
from ethos.evaluation.evaluate import assess, protocol_of
from ethos.evaluation.metrics import score
from ethos.evaluation.predictors import open_predictor
from ethos.evaluation.protocol import Protocol, require_same
from ethos.evaluation.samples import load_samples
from ethos.files import sha256_file
from ethos.specs import ProtocolParams
from pipelines.evaluate import main as stage

SHARED = Path(__file__).resolve().parents[2] / "shared"
PARAMS = ProtocolParams()
# Ultralytics samples precision at 101 recalls and lets it fall to 0 at the last one reached: half a step is lost
PERFECT = 0.995


# --- metrics ---------------------------------------------------------------------------------------------------------


def result(detections: list[list[float]], labels: list[list[float]]) -> ImageResult:
    return ImageResult(np.array(detections, np.float32).reshape(-1, 6), np.array(labels, np.float32).reshape(-1, 5))


RED, GREEN = [0, 10, 10, 50, 50], [1, 60, 60, 100, 90]
FOUND_RED, FOUND_GREEN = [10, 10, 50, 50, 0.9, 0], [60, 60, 100, 90, 0.8, 1]
# 40 x 40 moved by 6 pixels: IoU = 34 / 46 = 0.739, right at the five thresholds 0.50 to 0.70
MOVED_RED = [16, 10, 56, 50, 0.9, 0]

METRICS: dict[str, tuple[list[ImageResult], float, float, float]] = {
    "all found": ([result([FOUND_RED, FOUND_GREEN], [RED, GREEN])], PERFECT, PERFECT, 1.0),
    "found beside an empty image": ([result([FOUND_RED], [RED]), result([], [])], PERFECT, PERFECT, 1.0),
    # precision 1 up to recall 0.5, less half a step
    "one of two missed": ([result([FOUND_RED], [RED]), result([], [RED])], 0.495, 0.495, 0.5),
    "one class of two missed": ([result([FOUND_RED], [RED, GREEN])], PERFECT / 2, PERFECT / 2, 0.5),
    "wrong class": ([result([[*FOUND_RED[:5], 1]], [RED])], 0.0, 0.0, 0.0),
    "wrong place": ([result([[60, 60, 90, 90, 0.9, 0]], [RED])], 0.0, 0.0, 0.0),
    "moved": ([result([MOVED_RED], [RED])], PERFECT, PERFECT / 2, 1.0),
    "found twice, the second is wrong": ([result([FOUND_RED, [*FOUND_RED[:4], 0.5, 0]], [RED])], PERFECT, PERFECT, 1.0),
    # the better scored one is wrong: precision 1/2 at every recall
    "a better wrong one": ([result([[60, 60, 90, 90, 0.95, 0], FOUND_RED], [RED])], PERFECT / 2, PERFECT / 2, 1.0),
    "nothing found": ([result([], [RED])], 0.0, 0.0, 0.0),
}


@pytest.mark.parametrize(("images", "map50", "map50_95", "recall"), METRICS.values(), ids=METRICS)
def test_metrics_by_hand(images: list[ImageResult], map50: float, map50_95: float, recall: float) -> None:
    scores = score(images, ("red", "green"))
    assert scores.map50 == pytest.approx(map50, abs=1e-5)
    assert scores.map50_95 == pytest.approx(map50_95, abs=1e-5)
    assert scores.recall == pytest.approx(recall, abs=1e-6)
    assert scores.images == len(images)


def test_scores_per_class() -> None:
    scores = score([result([FOUND_RED, FOUND_GREEN], [RED, GREEN, [1, 0, 0, 9, 9]])], ("red", "green", "blue"))

    red, green, blue = scores.document()["per_class"]
    assert (red["name"], red["map50"], red["f1"], red["boxes"]) == ("red", PERFECT, 1.0, 1)
    assert (green["recall"], green["precision"], green["boxes"]) == (0.5, 1.0, 2)
    assert green["f1"] == pytest.approx(2 / 3)
    nothing = dict.fromkeys(("map50", "map50_95", "precision", "recall", "f1"))
    assert blue == {"name": "blue", **nothing, "boxes": 0}


def test_labels_move_with_the_letterbox() -> None:
    """A source of 32 x 64 doubles to 64 x 128 in a square of 128: 32 pixels of grey above."""
    placed = place_labels(np.array([[3, 0.5, 0.5, 0.25, 0.5]]), (32, 64), 2.0, (0, 32))
    np.testing.assert_allclose(placed, [[3, 48, 48, 80, 80]])


# --- protocol --------------------------------------------------------------------------------------------------------

PROTOCOL = Protocol(
    dataset="demo",
    split="val",
    split_sha256="ab",
    labels_sha256="cd",
    imgsz=(160, 160),
    conf=0.001,
    iou=0.7,
    max_det=300,
    ap="ultralytics 8.4.190",
    batch=1,
    device="cpu",
    tools={"numpy": "2.4.6", "ultralytics": "8.4.190"},
)

DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "dataset": ({"dataset": "signs15"}, "dataset is demo in one and signs15 in the other"),
    "split": ({"split": "test"}, "split is val in one and test in the other"),
    "hash of the split": ({"split_sha256": "ef"}, "split_sha256 is ab in one and ef in the other"),
    "labels": ({"labels_sha256": "ef"}, "labels_sha256 is cd in one and ef in the other"),
    "left out": ({"excluded": "5 images: why"}, "excluded is none in one and 5 images: why in the other"),
    "size": ({"imgsz": (192, 160)}, "imgsz is [160, 160] in one and [192, 160] in the other"),
    "confidence": ({"conf": 0.25}, "conf is 0.001 in one and 0.25 in the other"),
    "overlap": ({"iou": 0.45}, "iou is 0.7 in one and 0.45 in the other"),
    "detections": ({"max_det": 100}, "max_det is 300 in one and 100 in the other"),
    "precision": ({"ap": "coco 2"}, "ap is ultralytics 8.4.190 in one and coco 2 in the other"),
    "batch": ({"batch": 8}, "batch is 1 in one and 8 in the other"),
    "device": ({"device": "cuda"}, "device is cpu in one and cuda in the other"),
    "version": (
        {"tools": {"numpy": "2.0.0", "ultralytics": "8.4.190"}},
        "tools.numpy is 2.4.6 in one and 2.0.0 in the other",
    ),
    "tool": ({"tools": {"numpy": "2.4.6"}}, "tools.ultralytics is 8.4.190 in one and absent in the other"),
    "first of two": ({"iou": 0.5, "conf": 0.1}, "conf is 0.001 in one and 0.1 in the other"),
}


@pytest.mark.parametrize(("change", "text"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_different_protocols_do_not_compare(change: dict[str, Any], text: str) -> None:
    other = PROTOCOL.model_copy(update=change)

    with pytest.raises(SpecError) as caught:
        require_same(PROTOCOL, other)
    assert caught.value.message == f"scores of different protocols cannot be compared: {text}"
    assert caught.value.fix.startswith("evaluate both files again under one protocol")
    assert other.sha256 != PROTOCOL.sha256


def test_a_protocol_survives_its_document() -> None:
    document = json.loads(json.dumps(PROTOCOL.document()))
    again = Protocol.from_document(document)
    require_same(PROTOCOL, again)
    assert again.sha256 == document["sha256"] == PROTOCOL.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"conf": 0.25}, "protocol: its hash is not that of its fields, so it was edited", id="edited"),
        pytest.param({"sha256": None}, "protocol: its hash is not that of its fields, so it was edited", id="no hash"),
        pytest.param({"colour": 1}, "protocol: colour: Extra inputs are not permitted", id="unknown field"),
    ],
)
def test_a_changed_document_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Protocol.from_document(PROTOCOL.document() | change)
    assert caught.value.message == message


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tiny_files: Path) -> Path:
    return tiny_files


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materialise(tmp_path_factory.mktemp("data") / "dataset")


def write_yolo(folder: Path, text: str) -> Path:
    write_images(folder, "valid")
    (folder / "data.yaml").write_text(text)
    return folder / "data.yaml"


def test_samples_of_a_materialised_set(dataset: Path) -> None:
    data = load_samples(dataset, "val")

    assert (data.dataset, data.split, data.names, data.split_sha256) == ("squares", "val", tiny.NAMES, "12ab")
    assert [sample.image.name for sample in data.samples] == ["a.png", "b.png", "c.png", "d.png"]
    assert [len(sample.labels) for sample in data.samples] == [1, 2, 1, 0]
    assert load_samples(dataset / "data.yaml", "val").labels_sha256 == data.labels_sha256


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("val: images/valid\nnames: [red, green, blue]", id="list of names"),
        pytest.param("val: images/valid\nnames: {0: red, 1: green, 2: blue}", id="numbered names"),
        pytest.param("\ufeffval: images/valid\nnames: {'0': red, '2': blue, '1': green}", id="what other tools write"),
        pytest.param("path: images\nval: [valid]\nnames: [red, green, blue]", id="path and list of folders"),
    ],
)
def test_samples_of_a_yolo_folder(tmp_path: Path, dataset: Path, text: str) -> None:
    data = load_samples(write_yolo(tmp_path / "squares", text), "val")

    own = load_samples(dataset, "val")
    assert (data.dataset, data.names) == ("squares", tiny.NAMES)
    assert data.labels_sha256 == own.labels_sha256
    assert len(data.split_sha256) == 64


YAML = "val: images/valid\nnames: [red, green, blue]"
NO_NAMES = "data.yaml: 'names' is neither a list nor a mapping from 0, 1, 2, ..."
NO_YAML = (
    "while parsing a flow node expected the node content, but found '<stream end>' "
    'in "<unicode string>", line 1, column 5: a: [ ^'
)
BAD_DATA: dict[str, tuple[str, str, type[EthosError], str]] = {
    "no such side": (YAML, "test", SpecError, "data.yaml: unknown split 'test'"),
    "no names": ("val: images/valid", "val", DataError, NO_NAMES),
    "names from 1": (YAML.split("\n")[0] + "\nnames: {1: a}", "val", DataError, NO_NAMES),
    "no mapping": ("[1, 2]", "val", DataError, "data.yaml: expected a mapping of keys"),
    "no YAML": ("a: [", "val", DataError, f"data.yaml: cannot be read: {NO_YAML}"),
    "no such folder": ("val: pictures\nnames: [a]", "val", DataError, "pictures is no folder of images"),
    "no image": ("val: labels\nnames: [a]", "val", DataError, "data.yaml: split 'val' holds no image"),
    "unknown class": (
        "val: images/valid\nnames: [a, b]",
        "val",
        DataError,
        "b.png: a box is of class 2, known are 0 to 1",
    ),
}


@pytest.mark.parametrize(("text", "split", "kind", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_says_what(tmp_path: Path, text: str, split: str, kind: type[EthosError], message: str) -> None:
    path = write_yolo(tmp_path, text)
    with pytest.raises(kind) as caught:
        load_samples(path, split)
    assert caught.value.message.endswith(message)
    assert caught.value.fix


def test_no_data_yaml(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path / "data.yaml", "val")
    assert caught.value.message == f"{tmp_path / 'data.yaml'}: no such file"
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path, "val")
    assert caught.value.message == f"{tmp_path}: cannot be read: Is a directory"


# --- detectors and their scores --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fp32", "int8", "decoded_fp32", "decoded_int8"])
def test_a_detector_that_finds_all_scores_perfectly(files: Path, dataset: Path, tmp_path: Path, name: str) -> None:
    file = files / f"{name}.tflite"
    if name.startswith("decoded"):  # no contract beside it
        file = tmp_path / file.name
        file.write_bytes((files / file.name).read_bytes())
    seen: list[tuple[int, int]] = []

    scored = assess(file, load_samples(dataset, "val"), PARAMS, progress=lambda *done: seen.append(done))

    document = scored.document()

    figures = {key: document[key] for key in ("schema", "provenance", "file", "sha256", "map50", "images", "recall")}
    assert figures == {
        "schema": 1,
        "provenance": "measured",
        "file": str(file),
        "sha256": sha256_file(file),
        "map50": PERFECT,
        "images": 4,
        "recall": 1.0,
    }
    assert document["map50_95"] >= 0.99
    assert [entry["boxes"] for entry in document["per_class"]] == [1, 1, 2]
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert json.loads(json.dumps(document)) == document
    protocol = Protocol.from_document(document["protocol"])
    assert (protocol.dataset, protocol.imgsz, protocol.conf, protocol.batch) == ("squares", (64, 64), 0.001, 1)
    assert protocol.ap == f"ultralytics {protocol.tools['ultralytics']}"


def test_both_files_have_one_protocol_and_other_settings_another(dataset: Path) -> None:
    data = load_samples(dataset, "val")
    ours = protocol_of(data, PARAMS, (64, 64))
    require_same(ours, protocol_of(data, PARAMS, (64, 64)))

    fewer = replace(data, samples=(replace(data.samples[0], labels=np.zeros((0, 5))), *data.samples[1:]))
    with pytest.raises(SpecError, match="labels_sha256"):
        require_same(ours, protocol_of(fewer, PARAMS, (64, 64)))


def test_the_number_of_workers_changes_nothing(files: Path, dataset: Path) -> None:
    samples = load_samples(dataset, "val").samples * 5
    one, three = (
        predict_all([open_predictor(files / "int8.tflite", tiny.NAMES) for _ in range(count)], samples, 0.001, 0.7, 300)
        for count in (1, 3)
    )
    for left, right in zip(one, three, strict=True):
        np.testing.assert_array_equal(left.detections, right.detections)
        np.testing.assert_array_equal(left.labels, right.labels)


def test_an_unreadable_image_is_named(files: Path, dataset: Path, tmp_path: Path) -> None:
    data = load_samples(dataset, "val")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError) as caught:
        assess(files / "int8.tflite", replace(data, samples=(replace(data.samples[0], image=broken),)), PARAMS)
    assert caught.value.message == f"{broken}: cannot be read as an image"


def test_a_file_of_neither_form_is_refused(files: Path, tmp_path: Path) -> None:
    alone = tmp_path / "int8.tflite"
    alone.write_bytes((files / "int8.tflite").read_bytes())
    with pytest.raises(ModelError) as caught:
        open_predictor(alone, tiny.NAMES)
    assert caught.value.message == f"{alone}: has 1 inputs and 6 outputs and no decode contract"
    assert caught.value.fix == "give a whole detector of batch 1, with its decode.json if its head is raw"


def test_other_classes_are_refused(files: Path, tmp_path: Path) -> None:
    raw = files / "int8.tflite"
    with pytest.raises(ModelError) as caught:
        open_predictor(raw, ("red", "green", "yellow"))
    assert caught.value.message == (
        f"{raw}: detects 3 classes (red, green, blue), the data set has 3 classes (red, green, yellow)"
    )
    decoded = tmp_path / "decoded.tflite"
    decoded.write_bytes((files / "decoded_int8.tflite").read_bytes())
    with pytest.raises(ModelError) as caught:
        open_predictor(decoded, ("red", "green"))
    assert caught.value.message == f"{decoded}: detects 3 classes (0, 1, 2), the data set has 2 classes (red, green)"


# --- the stage -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "specs").mkdir()
    (tmp_path / "params.yaml").write_text(
        "dataset: demo\nrecipe: demo\nvariants: [level3_relu]\ntargets: [ethos-u55-256]\n"
        "protocol: {conf: 0.01, iou: 0.6, max_det: 50}\n"
    )
    materialise(tmp_path / "outputs" / "dataset")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_stage_scores_both_files(project: Path, files: Path) -> None:
    source = project / "outputs/quantize/level3_relu/dense"
    source.mkdir(parents=True)
    for name in ("fp32.tflite", "int8.tflite", "decode.json"):
        (source / name).write_bytes((files / name).read_bytes())
    write_network(source / "model.onnx", [0.5, -1.5])

    stage("level3_relu", "dense")

    folder = project / "outputs/evaluate/level3_relu/dense"
    written = ["activations.json", "fp32.json", "int8.json", "metrics.json"]
    assert sorted(path.name for path in folder.iterdir()) == written
    assert json.loads((folder / "activations.json").read_text())["dead_share"] == 0.5
    fp32, int8, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("fp32", "int8", "metrics"))
    assert int8["file"] == "outputs/quantize/level3_relu/dense/int8.tflite"
    assert fp32["protocol"] == int8["protocol"]
    assert (int8["protocol"]["conf"], int8["protocol"]["max_det"]) == (0.01, 50)
    bounds = {"map50_low": PERFECT, "map50_high": PERFECT}
    bounds_95 = [
        dict(zip(("map50_95_low", "map50_95_high"), f["intervals"]["map50_95"], strict=True)) for f in (fp32, int8)
    ]
    assert metrics == {
        "fp32": {"map50": PERFECT, "map50_95": fp32["map50_95"], **bounds, **bounds_95[0]},
        "int8": {
            "map50": PERFECT,
            "map50_95": int8["map50_95"],
            **bounds,
            **bounds_95[1],
            "map50_drop": 0.0,
            "map50_95_drop": round(fp32["map50_95"] - int8["map50_95"], 6),
            "worst_class_drop": 0.0,
            "worst_class_drop_95": max(entry["map50_95"] for entry in int8["loss"]["per_class"]),
        },
    }
    assert int8["loss"]["map50"] == {"value": 0.0, "interval": [0.0, 0.0], "probability": 0.5}
    assert [entry["name"] for entry in int8["loss"]["per_class"]] == list(tiny.NAMES)


def test_the_stage_refuses_a_float_file_named_int8(project: Path, files: Path) -> None:
    source = project / "outputs/quantize/level3_relu/dense"
    source.mkdir(parents=True)
    for name, content in (
        ("fp32.tflite", "fp32.tflite"),
        ("int8.tflite", "fp32.tflite"),
        ("decode.json", "decode.json"),
    ):
        (source / name).write_bytes((files / content).read_bytes())

    with pytest.raises(ModelError, match=r"int8\.tflite: is fp32, asked for int8"):
        stage("level3_relu", "dense")
    assert not (project / "outputs/evaluate").exists()


def test_the_stage_leaves_nothing_half_written(project: Path, files: Path) -> None:
    source = project / "outputs/quantize/level3_relu/dense"
    source.mkdir(parents=True)
    for name in ("fp32.tflite", "decode.json"):
        (source / name).write_bytes((files / name).read_bytes())

    with pytest.raises(ModelError, match=r"int8\.tflite: cannot be run as a TFLite model: no such file"):
        stage("level3_relu", "dense")
    assert not (project / "outputs/evaluate").exists()


# --- a real file -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "models").is_dir(), reason="needs ../shared/models and ../shared/data")
def test_a_published_file_scores_as_ultralytics_measured_it() -> None:
    file = SHARED / "models/v3_level4_leaky_full_integer_quant.tflite"

    scores = assess(file, load_samples(SHARED / "data/signs15/data.yaml", "val"), PARAMS).scores

    assert scores.images == 801
    assert scores.map50 == pytest.approx(0.8365, abs=0.01)
    assert scores.map50_95 == pytest.approx(0.6715, abs=0.01)
