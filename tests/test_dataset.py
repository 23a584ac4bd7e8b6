"""The dataset stage: sources become one folder with images, labels, a split and a manifest, complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import yaml
from yolo_folder import CLASSES, SIGNS15, folder_dataset, write_data_file, write_folder, write_image, write_label

from ethos.catalog import load, project_root
from ethos.data.labels import format_labels, read_labels
from ethos.data.manifest import COLUMNS, read_manifest
from ethos.data.source import materialise
from ethos.errors import DataError, EthosError, SpecError
from ethos.specs import Dataset, DrawnSource, FolderSource, Split
from pipelines import dataset as stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def drawn(images: int = 24, seed: int = 0) -> Dataset:
    source = DrawnSource(type="drawn", images=images, size=64, seed=seed)
    return Dataset(name="tiny", source=source, classes=CLASSES, split=Split(track=r"^(?P<scene>scene_\d+)"))


def names(folder: Path) -> list[str]:
    return [row.path.name for row in read_manifest(folder)]


# --- what is written -------------------------------------------------------------------------------------------------


def test_drawn_set_has_the_declared_layout(tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    materialise(drawn(), into)
    assert sorted(path.name for path in into.iterdir()) == [
        "data.yaml",
        "dataset.json",
        "images",
        "labels",
        "manifest.csv",
    ]
    rows = read_manifest(into)
    assert len(rows) == 24
    for row in rows:
        assert row.path.parent == into / "images" / row.split
        assert row.sha256 == hashlib.sha256(row.path.read_bytes()).hexdigest()
        assert row.boxes == len(read_labels(row.label))
        assert row.label.is_file()
        assert (row.width, row.height) == (64, 64)
    assert sum(row.split == "val" for row in rows) == 5


def test_data_file_names_no_place_outside(tmp_path: Path) -> None:
    materialise(drawn(), tmp_path / "dataset")
    assert yaml.safe_load((tmp_path / "dataset" / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "nc": 2,
        "names": list(CLASSES),
    }


def test_two_views_of_a_scene_stay_together(tmp_path: Path) -> None:
    materialise(drawn(60), tmp_path / "dataset")
    sides: dict[str, set[str]] = {}
    for row in read_manifest(tmp_path / "dataset"):
        sides.setdefault(row.path.stem.removesuffix("_f1"), set()).add(row.split)
        assert row.group == row.path.name.replace("_f1", "")
    assert len(sides) == 40
    assert all(len(side) == 1 for side in sides.values())


def test_hashes_are_those_of_the_content(tmp_path: Path) -> None:
    documents = []
    for number, dataset in enumerate([drawn(), drawn(), drawn(seed=1)]):
        materialise(dataset, tmp_path / str(number))
        documents.append(json.loads((tmp_path / str(number) / "dataset.json").read_text()))
    assert documents[0] == documents[1]
    assert documents[0]["sha256"] != documents[2]["sha256"]
    assert documents[0]["split_sha256"] != documents[2]["split_sha256"]
    assert list(documents[0]) == [
        "schema",
        "name",
        "sha256",
        "split_sha256",
        "classes",
        "images",
        "boxes",
        "attribution",
        "lineage",
    ]
    assert documents[0]["images"] == {"train": 19, "val": 5}


def test_hash_follows_labels_too(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    materialise(folder_dataset(root), tmp_path / "before")
    write_label(root / "train" / "labels" / "train000.txt", "0 0.5 0.5 0.25 0.26")
    materialise(folder_dataset(root), tmp_path / "after")
    before, after = (json.loads((tmp_path / name / "dataset.json").read_text()) for name in ("before", "after"))
    assert before["sha256"] != after["sha256"]
    assert before["split_sha256"] == after["split_sha256"]


def test_manifest_has_the_declared_columns(tmp_path: Path) -> None:
    materialise(folder_dataset(write_folder(tmp_path / "source"), "keep"), tmp_path / "dataset")
    header, first, *_ = (tmp_path / "dataset" / "manifest.csv").read_text().splitlines()
    assert header == ",".join(COLUMNS) == "image,split,sha256,width,height,boxes,group,look"
    assert first.startswith("images/train/train000.jpg,train,")
    assert re.search(r",64,48,1,train000.jpg,[0-9a-f]{64}$", first)


# --- YOLO folders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["{side}/{kind}", "{kind}/{side}", "deep/{side}/{kind}"])
def test_usual_layouts(tmp_path: Path, layout: str) -> None:
    root = write_folder(tmp_path / "source", layout=layout)
    materialise(folder_dataset(root, "keep"), tmp_path / "dataset")
    rows = read_manifest(tmp_path / "dataset")
    assert [row.split for row in rows] == ["train"] * 16 + ["val"] * 4
    assert all(row.boxes == 1 and row.label.is_file() for row in rows)


@pytest.mark.parametrize(
    "keys",
    [
        {"train": "../train/images", "val": "../valid/images"},
        {"train": "train", "valid": "valid"},
        {"train": ["train/images"], "validation": "./valid/images"},
        {"path": "/somewhere/else", "train": "train/images", "val": "valid/images"},
        {"train": "train/images", "val": "valid/images", "names": {1: "Yield", 0: "Stop"}},
    ],
    ids=[
        "as Roboflow writes it",
        "side folders, valid",
        "list, validation",
        "path of another machine",
        "names as dict",
    ],
)
def test_usual_data_files(tmp_path: Path, keys: dict[str, object]) -> None:
    root = write_folder(tmp_path / "source")
    write_data_file(root, **{"names": list(CLASSES), **keys})
    materialise(folder_dataset(root, "keep"), tmp_path / "dataset")
    assert [row.split for row in read_manifest(tmp_path / "dataset")] == ["train"] * 16 + ["val"] * 4


def test_grouped_split_pools_both_sides_of_the_source(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source", train=10, val=10)
    materialise(folder_dataset(root), tmp_path / "dataset")
    rows = read_manifest(tmp_path / "dataset")
    assert [sum(row.split == side for row in rows) for side in ("train", "val")] == [16, 4]


def test_names_stay_unique_and_keep_their_start(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source", train=2, val=2)
    for side in ("train", "valid"):
        write_image(root / side / "images" / "same_jpg.rf.1.jpg", len(side))
        write_label(root / side / "labels" / "same_jpg.rf.1.txt", f"{int(side == 'valid')} 0.5 0.5 0.5 0.5")
    write_image(root / "train" / "images" / "SAME_jpg.rf.1.png", 77)
    materialise(folder_dataset(root), tmp_path / "dataset")
    found = {row.path.name: row for row in read_manifest(tmp_path / "dataset") if "rf" in row.path.name}
    assert sorted(found) == ["SAME_jpg.rf.1.png", "same_jpg.rf.1-2.jpg", "same_jpg.rf.1-3.jpg"]
    assert read_labels(found["same_jpg.rf.1-3.jpg"].label)[0, 0] == 1
    assert found["same_jpg.rf.1-2.jpg"].group == found["same_jpg.rf.1-3.jpg"].group


def test_image_without_label_file_is_kept_without_one(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    (root / "train" / "labels" / "train003.txt").unlink()
    materialise(folder_dataset(root), tmp_path / "dataset")
    row = next(row for row in read_manifest(tmp_path / "dataset") if row.path.stem == "train003")
    assert row.boxes == 0
    assert not row.label.exists()


def test_orphan_labels_are_kept_for_the_check(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    write_label(root / "valid" / "labels" / "nobody.txt", "0 0.5 0.5 0.5 0.5")
    materialise(folder_dataset(root), tmp_path / "dataset")
    assert (tmp_path / "dataset" / "labels" / "train" / "nobody.txt").is_file()


def test_labels_are_written_plain(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    (root / "train" / "labels" / "train000.txt").write_bytes(b"\xef\xbb\xbf0 0.5 0.5  0.25 0.123456789012345\r\n\r\n")
    materialise(folder_dataset(root, "keep"), tmp_path / "dataset")
    written = (tmp_path / "dataset" / "labels" / "train" / "train000.txt").read_bytes()
    assert written == b"0 0.5 0.5 0.25 0.123456789012345\n"


def test_korean_names_and_spaces_survive(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    write_image(root / "train" / "images" / "표지판 하나.jpg", 99)
    materialise(folder_dataset(root), tmp_path / "dataset")
    assert "표지판 하나.jpg" in names(tmp_path / "dataset")


@pytest.mark.skipif(not SIGNS15.is_dir(), reason="the signs15 data set is not here")
def test_signs15_is_split_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNS15_ROOT", str(SIGNS15))
    materialise(load("dataset", "signs15"), tmp_path / "dataset")
    document = json.loads((tmp_path / "dataset" / "dataset.json").read_text())
    assert sum(document["images"].values()) == 4331
    assert sum(document["boxes"].values()) == 5242
    assert document["images"]["val"] / 4331 == pytest.approx(0.2, abs=0.001)
    assert "CC BY 4.0" in document["attribution"]


# --- label files -----------------------------------------------------------------------------------------------------


def test_labels_read_back_as_written(tmp_path: Path) -> None:
    labels = np.array([[0, 0.1, 0.2, 0.3, 0.4], [14, 1 / 3, 0.5, 1e-7, 1.0]])
    path = tmp_path / "labels.txt"
    path.write_text(format_labels(labels))
    assert np.array_equal(read_labels(path), labels)


@pytest.mark.parametrize("text", ["", "\n \n"], ids=["empty", "blank lines"])
def test_no_boxes(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    assert read_labels(tmp_path / "labels.txt").shape == (0, 5)
    assert read_labels(tmp_path / "missing.txt").shape == (0, 5)


@pytest.mark.parametrize(
    "line",
    [
        "0 0.5 0.5 0.5",
        "0 0.1 0.1 0.2 0.2 0.3 0.3",
        "0 nan 0.5 0.5 0.5",
        "0 0.5 inf 0.5 0.5",
        "0.5 0.5 0.5 0.5 0.5",
        "a b c d e",
    ],
    ids=["four numbers", "polygon", "NaN", "infinite", "class no whole number", "words"],
)
def test_bad_label_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(f"0 0.5 0.5 0.5 0.5\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_labels(path)
    assert caught.value.message == (
        f"{path}:2: expected five numbers 'class centre-x centre-y width height', got '{line}'"
    )


# --- bad input -------------------------------------------------------------------------------------------------------


def remove_data_file(root: Path) -> None:
    (root / "data.yaml").unlink()


def break_yaml(root: Path) -> None:
    (root / "data.yaml").write_text("names: [Stop, Yield\n")


def make_yaml_a_list(root: Path) -> None:
    (root / "data.yaml").write_text("- Stop\n")


def rename_class(root: Path) -> None:
    write_data_file(root, train="train/images", val="valid/images", names=["Stop", "Give Way"])


def add_class(root: Path) -> None:
    write_data_file(root, train="train/images", val="valid/images", names=["Stop", "Yield", "Other"])


def skip_class_number(root: Path) -> None:
    write_data_file(root, train="train/images", val="valid/images", names={0: "Stop", 2: "Yield"})


def remove_images(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.unlink()


def name_missing_folder(root: Path) -> None:
    write_data_file(root, train="nowhere/images", val="valid/images", names=list(CLASSES))


def lead_out(root: Path) -> None:
    write_image(root.parent / "outside" / "images" / "a.jpg", 1)
    write_data_file(root, train="../outside/images", val="valid/images", names=list(CLASSES))


def link_out(root: Path) -> None:
    write_image(root.parent / "outside.jpg", 1)
    (root / "train" / "images" / "link.jpg").symlink_to(root.parent / "outside.jpg")


def dangle(root: Path) -> None:
    (root / "train" / "images" / "link.jpg").symlink_to("nowhere.jpg")


def drop_val(root: Path) -> None:
    write_data_file(root, train="train/images", names=list(CLASSES))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove_data_file, "{root}/data.yaml: no such file"),
        (break_yaml, "{root}/data.yaml: cannot be read: while parsing a flow sequence"),
        (make_yaml_a_list, "{root}/data.yaml: expected a mapping of keys"),
        (rename_class, "{root}/data.yaml: class 1 is 'Give Way' where the spec has 'Yield'"),
        (add_class, "{root}/data.yaml: 3 classes where the spec has 2"),
        (skip_class_number, "{root}/data.yaml: 'names' is neither a list nor a mapping from 0, 1, 2, ..."),
        (remove_images, "{root}: no images in the folders that data.yaml names"),
        (name_missing_folder, "{root}/data.yaml: no folder 'nowhere/images' inside {root}"),
        (lead_out, "{root}/data.yaml: no folder '../outside/images' inside {root}"),
        (link_out, "{root}/train/images/link.jpg: leads out of {root}"),
        (dangle, "{root}/train/images/link.jpg: a link that leads nowhere"),
        (drop_val, "data set 'small': its source has no val images, so there is no split to keep"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_bad_source_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    root = write_folder(tmp_path / "source")
    damage(root)
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError) as caught:
        materialise(folder_dataset(root, "keep"), tmp_path / "out" / "dataset")
    assert caught.value.message.startswith(message.format(root=root))
    assert "\n" not in caught.value.message
    assert caught.value.fix
    assert list((tmp_path / "out").iterdir()) == []


def test_failure_leaves_the_earlier_data_set(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "source")
    materialise(folder_dataset(root), tmp_path / "dataset")
    before = names(tmp_path / "dataset")
    remove_images(root)
    with pytest.raises(DataError):
        materialise(folder_dataset(root), tmp_path / "dataset")
    assert names(tmp_path / "dataset") == before


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "environment variable SOME_ROOT is not set"),
        ("", "environment variable SOME_ROOT is not set"),
        ("/no/such/folder", "SOME_ROOT=/no/such/folder: no such folder"),
    ],
    ids=["unset", "empty", "not there"],
)
def test_root_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, message: str
) -> None:
    monkeypatch.delenv("SOME_ROOT", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_ROOT", value)
    source = FolderSource(type="folder", root_env="SOME_ROOT")
    with pytest.raises(DataError) as caught:
        materialise(Dataset(name="small", source=source, classes=CLASSES), tmp_path / "dataset")
    assert caught.value.message == message
    assert "data.yaml" in caught.value.fix


def test_drawn_set_has_no_split_to_keep(tmp_path: Path) -> None:
    dataset = drawn().model_copy(update={"split": Split(method="keep")})
    with pytest.raises(SpecError, match="a drawn source has no split to keep"):
        materialise(dataset, tmp_path / "dataset")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read everything")
def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(DataError, match="cannot be written"):
        materialise(drawn(), tmp_path / "out" / "dataset")


def test_place_under_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(DataError, match="cannot be written"):
        materialise(drawn(), tmp_path / "out" / "dataset")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "{path}: no such file"),
        ("image,split\nimages/train/a.jpg,train\n", "{path}: not a manifest"),
        (",".join(COLUMNS) + "\nimages/x/a.jpg,x,0,1,1,1,g\n", "{path}: not a manifest: split 'x'"),
    ],
    ids=["missing", "columns missing", "unknown side"],
)
def test_bad_manifest(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "manifest.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EthosError) as caught:
        read_manifest(tmp_path)
    assert caught.value.message.startswith(message.format(path=path))


# --- the stage -------------------------------------------------------------------------------------------------------


def test_stage_reads_params_and_writes_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project_root()
    (tmp_path / "specs" / "datasets").mkdir(parents=True)
    demo = (root / "specs" / "datasets" / "demo.yaml").read_text()
    demo = re.sub(r"images: \d+", "images: 20", demo)
    (tmp_path / "specs" / "datasets" / "demo.yaml").write_text(demo)
    shutil.copy(root / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    stage.main()
    assert len(read_manifest(tmp_path / "outputs" / "dataset")) == 20
