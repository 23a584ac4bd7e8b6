"""The runtime that travels with a model: letterbox, decode, suppression, contract, detector."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_network as tiny

from ethos.model.engine import prepare
from ethos_runtime.contract import Contract, Output, Quantization
from ethos_runtime.decode import as_stored, decode, dequantize, least_logit, nms, passing
from ethos_runtime.detector import Detector
from ethos_runtime.letterbox import letterbox, to_source

if TYPE_CHECKING:
    from pathlib import Path

UNIT = Quantization(1.0, 0)


@pytest.fixture(scope="module")
def files(tiny_files: Path) -> Path:
    return tiny_files


def contract_of(height: int, width: int, classes: int) -> Contract:
    outputs = tuple(
        Output(f"{branch}{stride}", branch, stride, (1, height // stride, width // stride, channels), UNIT)
        for branch, channels in (("box", 64), ("class", classes))
        for stride in (8, 16, 32)
    )
    names = tuple(f"class {number}" for number in range(classes))
    return Contract((height, width), "images", UNIT, outputs, (8, 16, 32), 16, names)


def random_outputs(contract: Contract, seed: int, mean_logit: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    spread = {"box": (0, 3), "class": (mean_logit, 2)}
    return {o.name: rng.normal(*spread[o.branch], o.shape).astype(np.float32) for o in contract.outputs}


# --- letterbox -------------------------------------------------------------------------------------------------------

SHAPES = {
    "as it is": ((64, 64), (64, 64)),
    "smaller": ((416, 416), (160, 160)),
    "larger": ((33, 41), (160, 160)),
    "wide, odd padding": ((37, 91), (160, 160)),
    "tall": ((640, 361), (192, 192)),
    "tall, odd padding": ((91, 37), (160, 160)),
    "thin as a line": ((1, 500), (64, 64)),
    "network not square": ((480, 640), (96, 160)),
    "wide into tall": ((100, 333), (192, 96)),
}


@pytest.mark.parametrize(("shape", "size"), SHAPES.values(), ids=SHAPES)
def test_letterbox_is_ultralytics(shape: tuple[int, int], size: tuple[int, int]) -> None:
    prepare()
    from ultralytics.data.augment import LetterBox

    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    theirs = LetterBox(size)
    params = theirs.get_params({"img": image})

    fitted, ratio, padding = letterbox(image, size)

    np.testing.assert_array_equal(fitted, theirs(image=image.copy()))
    assert (ratio, padding) == (params["ratio"][0], (params["left"], params["top"]))


@pytest.mark.parametrize(
    ("image", "got"),
    [
        pytest.param(np.zeros((4, 4, 3), np.float32), "float32 [4, 4, 3]", id="float"),
        pytest.param(np.zeros((4, 4), np.uint8), "uint8 [4, 4]", id="grey"),
        pytest.param(np.zeros((4, 4, 4), np.uint8), "uint8 [4, 4, 4]", id="four channels"),
        pytest.param(np.zeros((0, 4, 3), np.uint8), "uint8 [0, 4, 3]", id="empty"),
    ],
)
def test_letterbox_refuses(image: np.ndarray, got: str) -> None:
    with pytest.raises(ValueError, match="uint8 image") as caught:
        letterbox(image, (64, 64))
    assert str(caught.value) == f"expected a uint8 image [height, width, 3], got {got}"


def test_to_source_undoes_the_letterbox_and_clips() -> None:
    detections = np.array([[0, 16, 64, 48, 0.5, 1], [10, 20, 30, 40, 0.4, 0], [-9, 0, 80, 64, 0.3, 2]], np.float32)

    source = to_source(detections, 0.5, (0, 16), (64, 128))

    expected = [[0, 0, 128, 64, 0.5, 1], [20, 8, 60, 48, 0.4, 0], [0, 0, 128, 64, 0.3, 2]]
    np.testing.assert_allclose(source, expected)
    assert detections[0, 1] == 16  # the input is left alone


# --- decode ----------------------------------------------------------------------------------------------------------


def ultralytics_decode(outputs: dict[str, np.ndarray], contract: Contract) -> np.ndarray:
    """Return centre x, centre y, width, height and scores [4 + classes, anchors], by Ultralytics' head."""
    prepare()
    import torch
    from ultralytics.nn.modules.head import Detect

    head = Detect(nc=len(contract.names), ch=(16, 16, 16))
    head.stride = torch.tensor(contract.strides, dtype=torch.float32)

    def flat(branch: str) -> torch.Tensor:
        tensors = [outputs[f"{branch}{stride}"] for stride in contract.strides]
        return torch.cat([torch.from_numpy(t.reshape(1, -1, t.shape[-1])).permute(0, 2, 1) for t in tensors], dim=2)

    grids = [torch.zeros(1, 1, *outputs[f"box{stride}"].shape[1:3]) for stride in contract.strides]
    with torch.no_grad():
        return head._inference({"boxes": flat("box"), "scores": flat("class"), "feats": grids})[0].numpy()


@pytest.mark.parametrize(
    ("height", "width", "classes", "mean_logit"),
    [
        pytest.param(160, 160, 15, -4, id="square"),
        pytest.param(96, 160, 8, 0, id="not square"),
        pytest.param(64, 64, 1, -2, id="one class"),
    ],
)
def test_decode_is_ultralytics(height: int, width: int, classes: int, mean_logit: float) -> None:
    contract = contract_of(height, width, classes)
    outputs = random_outputs(contract, seed=classes, mean_logit=mean_logit)
    theirs = ultralytics_decode(outputs, contract)

    boxes, scores = decode(outputs, contract)

    corners = np.concatenate((theirs[:2] - theirs[2:4] / 2, theirs[:2] + theirs[2:4] / 2)).T
    np.testing.assert_allclose(boxes, corners, atol=0.01)
    np.testing.assert_allclose(scores, theirs[4:].T, atol=1e-6)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)


def test_decode_survives_huge_logits() -> None:
    contract = contract_of(64, 64, 2)
    outputs = {output.name: np.full(output.shape, 1e4, np.float32) for output in contract.outputs}
    outputs["class8"][...] = -1e4

    boxes, scores = decode(outputs, contract)

    assert np.isfinite(boxes).all()
    assert (scores[:64].max(), scores[64:].min()) == (0, 1)


@pytest.mark.parametrize("conf", [0.001, 0.25, 0.9])
def test_a_threshold_only_saves_work(conf: float) -> None:
    contract = contract_of(160, 160, 15)
    outputs = random_outputs(contract, seed=3, mean_logit=-3)
    every, few = decode(outputs, contract), decode(outputs, contract, conf)

    assert len(few[0]) < len(every[0]) or conf == 0.001
    assert (few[1] > conf).sum() == (every[1] > conf).sum() > 0
    np.testing.assert_array_equal(nms(*few, conf, 0.7), nms(*every, conf, 0.7))


# --- suppression -----------------------------------------------------------------------------------------------------


def random_boxes(count: int, classes: int, seed: int, power: float, steps: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes on a grid of an eighth of a pixel, so that no arithmetic rounds, and scores, in steps if wanted."""
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 8 * 60, (count, 2))
    boxes = np.concatenate((start, start + rng.integers(8 * 30, 8 * 60, (count, 2))), axis=1) / np.float32(8)
    scores = rng.uniform(0, 1, (count, classes)) ** power
    if steps:
        scores = np.round(scores * steps) / steps
    return boxes.astype(np.float32), scores.astype(np.float32)


SUPPRESSION: dict[str, dict[str, Any]] = {
    "few": {"count": 50, "classes": 8},
    "many": {"count": 2000, "classes": 15, "conf": 0.001},
    "one class": {"count": 800, "classes": 1},
    "best class only": {"count": 800, "classes": 8, "multi_label": False},
    "equal scores": {"count": 600, "classes": 3, "steps": 16},
    "strict overlap": {"count": 600, "classes": 3, "iou": 0.2},
    "cut at max_det": {"count": 900, "classes": 5, "max_det": 7},
    "more than enter suppression": {"count": 4000, "classes": 10, "conf": 0.0001, "power": 1},
    "nothing above conf": {"count": 20, "classes": 3, "conf": 0.9999},
}


@pytest.mark.parametrize("case", SUPPRESSION.values(), ids=SUPPRESSION)
def test_nms_is_ultralytics(case: dict[str, Any]) -> None:
    settings = {"conf": 0.25, "iou": 0.7, "max_det": 300, "multi_label": True, "power": 3, "steps": None, **case}
    boxes, scores = random_boxes(settings["count"], settings["classes"], 1, settings["power"], settings["steps"])
    prepare()
    import torch
    from ultralytics.utils.nms import non_max_suppression

    prediction = np.concatenate(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2], scores), axis=1)
    theirs = non_max_suppression(
        torch.from_numpy(prediction.T[None]),
        settings["conf"],
        settings["iou"],
        nc=settings["classes"],
        multi_label=settings["multi_label"],
        max_det=settings["max_det"],
    )[0].numpy()

    ours = nms(boxes, scores, *(settings[key] for key in ("conf", "iou", "max_det", "multi_label")))

    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.float32


def test_boxes_without_area_do_not_remove_each_other() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert len(nms(boxes, np.array([[0.9], [0.8]], np.float32), 0.25, 0.7)) == 2


# --- contract --------------------------------------------------------------------------------------------------------


def test_contract_is_read(files: Path) -> None:
    contract = Contract.read(files / "decode.json")

    assert (contract.imgsz, contract.names, contract.strides, contract.reg_max) == (
        (64, 64),
        tiny.NAMES,
        (8, 16, 32),
        16,
    )
    assert [output.name for output in contract.outputs] == ["box8", "box16", "box32", "class8", "class16", "class32"]
    assert contract.output("class", 16).shape == (1, 4, 4, 3)


def changed(document: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """Return the document with one value replaced, or removed if the value is Ellipsis."""
    document = copy.deepcopy(document)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


BAD_CONTRACTS: dict[str, tuple[tuple[str | int, ...], Any, str]] = {
    "other schema": (("schema",), 2, "schema is 2, this reader knows 1"),
    "no names": (("names",), ..., "key 'names' is missing"),
    "empty names": (("names",), [], "needs at least one stride, one class name and one bin (reg_max)"),
    "a name too few": (("names",), ["a", "b"], "output class8: shape is (1, 8, 8, 3), expected (1, 8, 8, 2)"),
    "other reg_max": (("reg_max",), 8, "output box8: shape is (1, 8, 8, 64), expected (1, 8, 8, 32)"),
    "other size": (("imgsz",), [96, 64], "output box8: shape is (1, 8, 8, 64), expected (1, 12, 8, 64)"),
    "a stride without tensor": (("strides",), [8, 16, 64], "key 'box tensor of stride 64' is missing"),
    "a stride too few": (("strides",), [8, 16], "6 outputs for 2 strides, expected two a stride"),
    "unknown branch": (("outputs", 0, "branch"), "mask", "output box8: branch is 'mask', expected 'box' or 'class'"),
    "NCHW": (("input", "layout"), "NCHW", "input layout is 'NCHW', expected 'NHWC'"),
    "zero scale": (("outputs", 1, "scale"), 0, "tensor box16: scale is 0.0, expected more than 0"),
    "float tensor": (("input", "dtype"), "float32", "tensor images: dtype is 'float32', expected 'int8'"),
}


@pytest.mark.parametrize(("path", "value", "text"), BAD_CONTRACTS.values(), ids=BAD_CONTRACTS)
def test_a_bad_contract_says_why(
    files: Path, tmp_path: Path, path: tuple[str | int, ...], value: Any, text: str
) -> None:
    bad = tmp_path / "decode.json"
    bad.write_text(json.dumps(changed(json.loads((files / "decode.json").read_text()), path, value)))

    with pytest.raises(ValueError, match=r"decode\.json") as caught:
        Contract.read(bad)
    assert str(caught.value) == f"{bad}: {text}"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(None, "cannot be read: No such file or directory", id="missing"),
        pytest.param("scale: 1", "is no JSON document", id="not JSON"),
        pytest.param("[1]", "expected a JSON object, got list", id="a list"),
    ],
)
def test_no_contract_at_all(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "decode.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match="decode") as caught:
        Contract.read(path)
    assert str(caught.value) == f"{path}: {text}"


# --- detector --------------------------------------------------------------------------------------------------------

PRECISIONS = pytest.mark.parametrize("precision", ["fp32", "int8"])


@PRECISIONS
def test_detector_finds_what_is_there(files: Path, precision: str) -> None:
    detector = Detector(files / f"{precision}.tflite", files / "decode.json")

    detections = detector.detect(tiny.picture([(0, 3, 4), (2, 1, 1)]))

    assert (detector.names, detector.imgsz) == (tiny.NAMES, (64, 64))
    found = {int(row[5]): row for row in detections}
    assert sorted(found) == [0, 2]
    np.testing.assert_allclose(found[0][:5], [*tiny.box(3, 4), tiny.SCORE], atol=0.01)
    np.testing.assert_allclose(found[2][:4], [0, 0, 28, 28], atol=0.01)  # reaches over the edge: clipped


@PRECISIONS
def test_detections_are_in_source_pixels(files: Path, precision: str) -> None:
    """A source of 64 x 128 shrinks to half, with a quarter of grey above and below."""
    source = tiny.picture([(1, 3, 4)], size=128)[32:96]

    detections = Detector(files / f"{precision}.tflite", files / "decode.json").detect(source)

    x1, y1, x2, y2 = (2 * value for value in tiny.box(3, 4))
    np.testing.assert_allclose(detections, [[x1, max(y1 - 32, 0), x2, min(y2 - 32, 64), tiny.SCORE, 1]], atol=0.01)


def test_raw_values_are_the_file_s_own(files: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    raw = Detector(files / "int8.tflite", files / "decode.json").raw(image)

    runner = Interpreter(str(files / "int8.tflite")).get_signature_runner()
    scale, zero = runner.get_input_details()["images"]["quantization"]
    integers = runner(images=np.round(image[None] / 255 / scale + zero).clip(-128, 127).astype(np.int8))
    details = runner.get_output_details()
    assert set(raw) == set(details)
    for name, values in raw.items():
        scale, zero = details[name]["quantization"]
        np.testing.assert_allclose(values, (integers[name].astype(np.float64) - zero) * scale, rtol=1e-6)
    fp32 = Detector(files / "fp32.tflite", files / "decode.json").raw(image[None])
    assert np.abs(fp32["class8"] - raw["class8"]).max() < 0.2


def test_no_detection_is_an_empty_array(files: Path) -> None:
    assert Detector(files / "int8.tflite", files / "decode.json").detect(tiny.picture([])).shape == (0, 6)


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        pytest.param(
            ("input", "scale"),
            0.5,
            "tensor images has Quantization(scale=0.003921568859368563, zero_point=-128), the contract has "
            "Quantization(scale=0.5, zero_point=-128): not its contract",
            id="other scale",
        ),
        pytest.param(
            ("outputs", 0, "name"),
            "boxes",
            "tensors are ['box16', 'box32', 'box8', 'class16', 'class32', 'class8', 'images'], the contract has "
            "['box16', 'box32', 'boxes', 'class16', 'class32', 'class8', 'images']",
            id="other name",
        ),
    ],
)
def test_a_contract_of_another_file_is_refused(
    files: Path, tmp_path: Path, path: tuple[str | int, ...], value: Any, text: str
) -> None:
    contract = tmp_path / "decode.json"
    contract.write_text(json.dumps(changed(json.loads((files / "decode.json").read_text()), path, value)))
    model = files / "int8.tflite"

    with pytest.raises(ValueError, match="the contract has") as caught:
        Detector(model, contract)
    assert str(caught.value) == f"{model}: {text}"


def test_a_contract_of_another_size_is_refused(files: Path, tmp_path: Path) -> None:
    document = json.loads((files / "decode.json").read_text())
    document["imgsz"] = [128, 128]
    for output in document["outputs"]:
        output["shape"][1:3] = [2 * output["shape"][1], 2 * output["shape"][2]]
    (tmp_path / "decode.json").write_text(json.dumps(document))

    with pytest.raises(
        ValueError, match=r"tensor images has shape \[1, 64, 64, 3\], the contract has \[1, 128, 128, 3\]"
    ):
        Detector(files / "int8.tflite", tmp_path / "decode.json")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(None, "no such file", id="missing"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"this is no flatbuffer at all", "", id="text"),
    ],
)
def test_a_broken_model_is_refused(files: Path, tmp_path: Path, content: bytes | None, text: str) -> None:
    model = tmp_path / "model.tflite"
    if content is not None:
        model.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be run as a TFLite model") as caught:
        Detector(model, files / "decode.json")
    assert str(caught.value).startswith(f"{model}: cannot be run as a TFLite model: {text}")
    assert "\n" not in str(caught.value)


def test_raw_refuses_another_size(files: Path) -> None:
    detector = Detector(files / "int8.tflite", files / "decode.json")
    with pytest.raises(ValueError, match=r"expected one uint8 image \[64, 64, 3\], got uint8 \[32, 64, 3\]"):
        detector.raw(np.zeros((32, 64, 3), np.uint8))


def test_the_runtime_needs_nothing_of_the_project() -> None:
    unwanted = "{'ethos', 'pipelines', 'torch', 'tensorflow', 'ultralytics', 'mlflow', 'pandas', 'pydantic'}"
    script = f"import ethos_runtime.detector, sys; print(sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_passes_on_integers_is_what_passes_on_real_values(files: Path) -> None:
    detector = Detector(files / "int8.tflite", files / "decode.json")
    rng = np.random.default_rng(7)
    for conf in (0.0, 0.001, 0.25, 0.9, 1.0):
        image = rng.integers(0, 256, (tiny.SIZE, tiny.SIZE, 3), dtype=np.uint8)
        image[:8, :24] = (255, 0, 0)
        boxes, scores = decode(detector.raw(image), detector.contract, conf)
        expected = nms(boxes, scores, conf, 0.7, 300)
        np.testing.assert_array_equal(detector.decode(detector.read(), conf, 0.7, 300), expected)


@pytest.mark.parametrize("conf", [0.001, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("scale", "zero_point"), [(0.12, 87), (0.05, -100), (0.3, 0)])
def test_the_threshold_on_integers_is_the_one_on_real_values(conf: float, scale: float, zero_point: int) -> None:
    quantization = Quantization(scale, zero_point)
    stored = np.arange(-128, 128, dtype=np.int8).reshape(-1, 1)
    least = least_logit(conf)
    expected = passing(dequantize(stored, quantization), least)
    np.testing.assert_array_equal(passing(stored, as_stored(least, quantization)), expected)
