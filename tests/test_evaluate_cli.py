"""`ethos evaluate`: what it answers, what it leaves out, and a clear line for every file or data set that is wrong."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cli_call import call
from squares import CELLS, DATA, write_images, write_yolo
from tflite_files import small_network
from tiny_onnx import write_onnx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def data(project: Path) -> Path:
    return write_yolo(project / "squares")


@pytest.fixture
def files(tiny_files: Path, tmp_path: Path) -> Path:
    """Return a folder of one's own with the raw-head files and their contract."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("int8.tflite", "fp32.tflite", "decode.json"):
        shutil.copyfile(tiny_files / name, folder / name)
    return folder


def test_the_document(data: Path, files: Path) -> None:
    document = call("evaluate", files / "int8.tflite", "--data", data, "--resamples", 50, "--seed", 3, "--json").json

    wanted = "file sha256 protocol map50 map50_95 precision recall per_class images intervals sizes relative_sizes"
    assert set(wanted.split()) <= set(document)
    assert (document["map50"], document["file_precision"], document["images"]) == (0.995, "int8", 4)
    assert (document["intervals"]["resamples"], document["intervals"]["seed"]) == (50, 3)
    assert document["intervals"]["map50"] == [0.995, 0.995]
    # 32 px boxes in images of 64 px: COCO's medium, and large for their image
    assert {size: entry["boxes"] for size, entry in document["sizes"].items()} == {"small": 0, "medium": 4, "large": 0}
    assert document["relative_sizes"]["large"]["boxes"] == 4
    assert np.array(document["confusion"]["matrix"]).diagonal().tolist() == [1, 1, 2, 0]


def test_the_table(data: Path, files: Path) -> None:
    answer = call("evaluate", files / "int8.tflite", "--data", data, "--against", files / "fp32.tflite", "--leaks")
    assert answer.code == 0
    for words in ("measured on 4 images of squares val", "0.995 to 0.995", "medium", "left out by", "paired resamples"):
        assert words in answer.out


def test_two_files_on_one_protocol(data: Path, files: Path, tmp_path: Path) -> None:
    other = write_onnx(tmp_path / "model.onnx", "pixels")
    document = call("evaluate", files / "int8.tflite", "--data", data, "--against", other, "--json").json
    found = document["against"]
    assert found["file"] == str(other)
    assert found["difference"]["map50"] == {"value": 0.0, "interval": [0.0, 0.0], "probability": 0.5}
    assert found["resamples"] == 1000


# --- images left out -------------------------------------------------------------------------------------------------


def test_listed_images_are_left_out(data: Path, files: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("a.png\nimages/val/c.png\n\n")
    document = call("evaluate", files / "int8.tflite", "--data", data, "--exclude", listed, "--json").json
    assert document["images"] == 2
    assert document["protocol"]["excluded"] == "2 images: listed in list.txt"

    listed.write_text("z.png\n")
    answer = call("evaluate", files / "int8.tflite", "--data", data, "--exclude", listed)
    assert (answer.code, answer.out) == (1, "")
    assert "list.txt: 1 images are not in 'val', such as z.png" in answer.err


def test_images_with_a_relative_in_train(data: Path, files: Path) -> None:
    """b comes byte for byte in train; c under another hash of the same original name."""
    folder = data.parent
    shutil.copyfile(folder / "images/val/b.png", folder / "images/train/copy.png")
    for side, name in (("val", "c"), ("train", "t")):
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            (folder / kind / side / f"{name}.{suffix}").rename(folder / kind / side / f"same.rf.{name}.{suffix}")

    document = call("evaluate", files / "int8.tflite", "--data", data, "--leaks", "--json").json
    leaks = document["leaks"]
    assert {name: leaks[name]["related"] for name in ("bytes", "name", "track")} == {"bytes": 1, "name": 1, "track": 0}
    assert leaks["bytes"] | {"intervals": None} == {
        "related": 1,
        "images": 3,
        "classes": 2,
        "map50": 0.995,
        "map50_95": leaks["bytes"]["map50_95"],
        "intervals": None,
    }
    assert (leaks["any"]["related"], document["images"]) == (2 + leaks["near"]["related"] - 1, 4)

    clean = call("evaluate", files / "int8.tflite", "--data", data, "--leak-free", "--json").json
    assert clean["images"] == leaks["any"]["images"]
    assert clean["protocol"]["excluded"].endswith("images: related to a training image")
    assert clean["protocol"]["sha256"] != document["protocol"]["sha256"]


def test_all_images_are_related(data: Path, files: Path) -> None:
    write_images(data.parent, "train", CELLS)
    answer = call("evaluate", files / "int8.tflite", "--data", data, "--leak-free")
    assert answer.code == 1
    assert "related to a training image leaves no image of 'val'" in answer.err


# --- what is wrong ---------------------------------------------------------------------------------------------------


def other_outputs(files: Path, data: Path) -> list[object]:
    del data
    return [small_network().write(files / "int8.tflite")]


def no_contract(files: Path, data: Path) -> list[object]:
    del data
    (files / "decode.json").unlink()
    return [files / "int8.tflite"]


def float_as_int8(files: Path, data: Path) -> list[object]:
    del data
    return [files / "fp32.tflite", "--precision", "int8"]


def wrong_size(files: Path, data: Path) -> list[object]:
    del data
    return [files / "int8.tflite", "--imgsz", "128"]


def wrong_contract_size(files: Path, data: Path) -> list[object]:
    del data
    text = (files / "decode.json").read_text().replace('"imgsz": [64, 64]', '"imgsz": [128, 128]')
    for old, new in (("8, 8,", "16, 16,"), ("4, 4,", "8, 8,"), ("2, 2,", "4, 4,")):
        text = text.replace(f"[1, {old}", f"[1,{new}")
    (files / "decode.json").write_text(text)
    return [files / "int8.tflite"]


def other_class_count(files: Path, data: Path) -> list[object]:
    data.write_text(DATA.replace(", blue", ", blue, black"))
    return [files / "int8.tflite"]


def other_class_count_decoded(files: Path, data: Path) -> list[object]:
    data.write_text(DATA.replace(", blue", ", blue, black"))
    return [write_onnx(files / "model.onnx", "pixels")]


def corrupt(files: Path, data: Path) -> list[object]:
    del data
    content = (files / "int8.tflite").read_bytes()
    (files / "int8.tflite").write_bytes(content[: len(content) // 2])
    return [files / "int8.tflite"]


def corrupt_onnx(files: Path, data: Path) -> list[object]:
    del data
    (files / "model.onnx").write_bytes(b"not a network")
    return [files / "model.onnx"]


def corrupt_checkpoint(files: Path, data: Path) -> list[object]:
    del data
    (files / "model.pt").write_bytes(b"not a checkpoint")
    return [files / "model.pt"]


def missing(files: Path, data: Path) -> list[object]:
    del data
    return [files / "no.tflite"]


def unknown_kind(files: Path, data: Path) -> list[object]:
    del data
    return [files / "model.engine"]


def unknown_precision(files: Path, data: Path) -> list[object]:
    del data
    return [files / "int8.tflite", "--precision", "int4"]


def empty_split(files: Path, data: Path) -> list[object]:
    for path in (data.parent / "images/val").iterdir():
        path.unlink()
    return [files / "int8.tflite"]


def no_training_side(files: Path, data: Path) -> list[object]:
    data.write_text(DATA.replace("train: images/train\n", ""))
    return [files / "int8.tflite", "--leaks"]


def other_size_against(files: Path, data: Path) -> list[object]:
    del data
    import torch

    class Large(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(2)[:, :, :20].repeat(1, 3, 1)[:, :7]

    shape = torch.zeros(1, 3, 96, 96)
    torch.onnx.export(Large(), (shape,), files / "large.onnx", opset_version=17, dynamo=False)
    return [files / "int8.tflite", "--against", files / "large.onnx"]


BROKEN = {
    "other outputs": (other_outputs, 1, "tensors are ['images', 'result'], the contract has"),
    "raw head without contract": (no_contract, 1, "has 1 inputs and 6 outputs and no decode contract"),
    "float given as int8": (float_as_int8, 1, "fp32.tflite: is fp32, asked for int8"),
    "wrong size": (wrong_size, 1, "takes images of 64x64 pixels, asked for 128x128 pixels"),
    "contract of another size": (
        wrong_contract_size,
        1,
        "images has shape [1, 64, 64, 3], the contract has [1, 128",
    ),
    "other class count": (other_class_count, 1, "detects 3 classes (red, green, blue), the data set has 4 classes"),
    "other class count, decoded": (
        other_class_count_decoded,
        1,
        "3 classes (0, 1, 2), the data set has 4 classes",
    ),
    "corrupt TFLite": (corrupt, 1, "int8.tflite: cannot be run as a TFLite model"),
    "corrupt ONNX": (corrupt_onnx, 1, "model.onnx: cannot be run as an ONNX model"),
    "corrupt checkpoint": (corrupt_checkpoint, 1, "model.pt: not a readable PyTorch file"),
    "missing": (missing, 1, "no.tflite: cannot be run as a TFLite model: no such file"),
    "unknown kind": (unknown_kind, 2, "model.engine: a file of no known kind"),
    "unknown precision": (unknown_precision, 2, "unknown precision 'int4'"),
    "empty split": (empty_split, 1, "split 'val' holds no image"),
    "no training side": (no_training_side, 2, "unknown split 'train'"),
    "another size to compare": (other_size_against, 2, "imgsz is [64, 64] in one and [96, 96] in the other"),
}


@pytest.mark.parametrize(("spoil", "code", "text"), BROKEN.values(), ids=BROKEN)
def test_a_clear_line(
    spoil: Callable[[Path, Path], list[object]], code: int, text: str, files: Path, data: Path
) -> None:
    answer = call("evaluate", *spoil(files, data), "--data", data)

    assert (answer.code, answer.out) == (code, "")
    told = [line for line in answer.err.splitlines() if not line.startswith("INFO")]
    assert len(told) == 2
    assert told[0].startswith("error: ")
    assert text in told[0]
    assert told[1].startswith("  fix: ")
