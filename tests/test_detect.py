"""`ethos detect`: pictures and JSON from an image, a folder and a video, by a file or by the live version."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import tiny_network as tiny
from cli_call import call
from registry_run import new_project, register_run
from squares import CELLS, write_images

from ethos import catalog
from ethos.evaluation.draw import COLOURS, draw
from ethos.files import sha256_file
from ethos.registry.promote import promote
from ethos.registry.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def images(project: Path) -> Path:
    write_images(project / "data", "val")
    return project / "data/images/val"


def found(entry: dict[str, Any]) -> list[tuple[str, list[int]]]:
    return sorted((each["class"], [round(side) for side in each["box"]]) for each in entry["detections"])


def there(name: str) -> list[tuple[str, list[int]]]:
    """Return class and box of each object; boxes end at the edge of the image."""
    return sorted(
        (tiny.NAMES[colour], [min(side, tiny.SIZE) for side in tiny.box(row, column)])
        for colour, row, column in CELLS[name]
    )


def test_a_folder(images: Path, tiny_files: Path) -> None:
    document = call("detect", images, "--file", tiny_files / "int8.tflite", "--json").json

    folder = images.parents[2] / "outputs/detect/val"
    assert document["model"] == {
        "file": str(tiny_files / "int8.tflite"),
        "sha256": sha256_file(tiny_files / "int8.tflite"),
        "runtime": "ai-edge-litert",
        "file_precision": "int8",
        "imgsz": [64, 64],
    }
    assert {entry["picture"]: found(entry) for entry in document["images"]} == {
        f"{name}.png": there(name) for name in CELLS
    }
    assert json.loads((folder / "detections.json").read_text()) == document
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png", "c.png", "d.png", "detections.json"]
    assert cv2.imread(str(folder / "a.png")).shape == (640, 640, 3)  # enlarged ten times
    # again into the same folder, which is its own
    assert call("detect", images / "a.png", "--file", tiny_files / "int8.tflite", "--out", folder).code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "detections.json"]


def test_a_video(project: Path, tiny_files: Path) -> None:
    video = project / "street.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 64))
    assert writer.isOpened()
    for number in range(9):
        writer.write(cv2.cvtColor(tiny.picture([(2, 4, 4)] if number % 2 == 0 else []), cv2.COLOR_RGB2BGR))
    writer.release()

    options = ("--every", 2, "--frames", 3, "--conf", 0.1, "--out", project / "seen", "--json")
    document = call("detect", video, "--file", tiny_files / "int8.tflite", *options).json

    assert [(entry["frame"], entry["seconds"]) for entry in document["images"]] == [(0, 0.0), (2, 0.2), (4, 0.4)]
    assert all("blue" in [each["class"] for each in entry["detections"]] for entry in document["images"])
    assert (project / "seen/frame_000004.jpg").is_file()


def test_the_live_version_of_a_scenario(tmp_path: Path, tiny_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = new_project(tmp_path / "registry")
    monkeypatch.chdir(root)
    promote(open_store(root), catalog.load_policy(), register_run(root, {"level2_relu": {"network": tiny_files}}), root)
    (image, *_) = write_images(tmp_path / "data", "val")

    answer = call("detect", image, "--scenario", "realtime", "--out", tmp_path / "seen", "--json")

    model = answer.json["model"]
    assert {key: model[key] for key in ("scenario", "version", "variant", "form")} == {
        "scenario": "realtime",
        "version": 1,
        "variant": "level2_relu",
        "form": "dense",
    }
    assert model["sha256"] == sha256_file(tiny_files / "int8.tflite")
    assert found(answer.json["images"][0]) == there("a")
    table = call("detect", image, "--scenario", "realtime", "--out", tmp_path / "seen")
    assert "version 1 (level2_relu, dense)" in table.out

    (stored,) = (root / "registry").rglob("candidate/int8.tflite")
    stored.write_bytes(stored.read_bytes() + b"x")
    altered = call("detect", image, "--scenario", "realtime", "--out", tmp_path / "again")
    assert altered.code == 1
    assert "int8.tflite" in altered.err or "INT8 file was altered" in altered.err
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        pytest.param(("{images}",), 2, "give either --scenario or --file", id="neither"),
        pytest.param(("{images}", "--scenario", "realtime", "--file", "x"), 2, "give either", id="both"),
        pytest.param(("{images}/z.png", "--file", "{file}"), 1, "z.png: no such file", id="no image"),
        pytest.param(("{images}/text.png", "--file", "{file}"), 1, "cannot be read as an image", id="broken image"),
        pytest.param(("{images}/z.mp4", "--file", "{file}"), 1, "z.mp4: no such file", id="no video"),
        pytest.param(("{images}/text.mp4", "--file", "{file}"), 1, "cannot be read as a video", id="broken video"),
        pytest.param(("{images}/empty", "--file", "{file}"), 1, "holds no image that can be read", id="empty folder"),
        pytest.param(("{images}", "--file", "{images}/x.tflite"), 1, "no such file", id="no file"),
        pytest.param(
            ("{images}/a.png", "--file", "{file}", "--out", "{images}"), 1, "holds something else", id="full folder"
        ),
    ],
)
def test_what_is_wrong(arguments: tuple[str, ...], code: int, text: str, images: Path, tiny_files: Path) -> None:
    (images / "empty").mkdir()
    (images / "text.png").write_text("no image")
    (images / "text.mp4").write_text("no video")
    before = sorted(path.name for path in images.iterdir())
    answer = call("detect", *(part.format(images=images, file=tiny_files / "int8.tflite") for part in arguments))

    assert (answer.code, answer.out) == (code, "")
    assert text in answer.err.splitlines()[0]
    assert answer.err.splitlines()[1].startswith("  fix: ")
    assert sorted(path.name for path in images.iterdir()) == before
    assert not list(images.parents[2].rglob("*.part"))


# --- the drawing -----------------------------------------------------------------------------------------------------


def test_a_box_is_drawn_where_it_is() -> None:
    image = np.full((640, 800, 3), 128, np.uint8)
    picture = draw(image, np.array([[100, 200, 300, 400, 0.9, 1]], np.float32), tiny.NAMES)
    assert picture.shape == image.shape
    assert tuple(picture[300, 101]) == COLOURS[1]
    assert tuple(picture[201, 250]) == COLOURS[1]
    assert (picture[230:370, 130:270] == 128).all()
    assert (image == 128).all()


def test_labels_stay_in_the_picture_and_apart() -> None:
    """Two boxes in the upper right corner, one over the other."""
    image = np.full((640, 640, 3), 128, np.uint8)
    boxes = np.array([[600, 0, 640, 30, 0.9, 0], [602, 2, 640, 32, 0.8, 2]], np.float32)
    picture = draw(image, boxes, ("a rather long name", "b", "another long name"))
    for colour in (COLOURS[0], COLOURS[2]):
        rows, columns = np.nonzero((picture == colour).all(axis=2))
        assert columns.min() < 560  # the label begins left of its box
        assert rows.max() < 120


def test_detections_outside_the_usual() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    boxes = np.array([[5, 5, 5, 5, 1, 0], [0, 0, 20, 20, 0.5, 2]], np.float32)
    assert draw(image, boxes, tiny.NAMES).shape == (640, 640, 3)
    assert (draw(image, np.zeros((0, 6), np.float32), tiny.NAMES) == 0).all()
