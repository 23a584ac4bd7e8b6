"""Stability: images that were in an earlier version of a data set keep their side when others are added."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from yolo_folder import folder_dataset, write_folder, write_image, write_label

from ethos.data.manifest import read_manifest
from ethos.data.source import materialise
from ethos.errors import DataError, SpecError
from ethos.specs import Dataset, DrawnSource, Split

if TYPE_CHECKING:
    from pathlib import Path


def sides(folder: Path) -> dict[str, str]:
    return {row.path.name: row.split for row in read_manifest(folder)}


def add(root: Path, *stems: str, start: int = 300) -> None:
    for number, stem in enumerate(stems, start=start):
        write_image(root / "train/images" / f"{stem}.jpg", number)
        write_label(root / "train/labels" / f"{stem}.txt", f"{number % 2} 0.5 0.5 0.25 0.5")


def with_split(dataset: Dataset, **changes: object) -> Dataset:
    return dataset.model_copy(update={"split": dataset.split.model_copy(update=changes)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source", train=40, val=10)


def test_old_images_keep_their_side(root: Path, tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    materialise(folder_dataset(root), into)
    before = sides(into)
    # names before and after the old ones, so that no order of names explains it
    add(root, *(f"{letter}{number}" for letter in "az" for number in range(25)))
    materialise(folder_dataset(root), into)
    after = sides(into)
    assert {name: after[name] for name in before} == before
    assert sum(side == "val" for side in after.values()) == 20
    materialise(folder_dataset(root), tmp_path / "afresh")
    assert {name: sides(tmp_path / "afresh")[name] for name in before} != before


def test_new_images_join_the_side_of_those_they_are_related_to(root: Path, tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    add(root, "track1_0", "track2_0", "track3_0", "track4_0", "track5_0", "x_jpg.rf.1")
    materialise(folder_dataset(root), into)
    before = sides(into)
    add(root, *(f"track{number}_{frame}" for number in range(1, 6) for frame in (1, 2)), "x_jpg.rf.2", start=400)
    materialise(folder_dataset(root), into)
    after = sides(into)
    for number in range(1, 6):
        assert {after[f"track{number}_{frame}.jpg"] for frame in range(3)} == {before[f"track{number}_0.jpg"]}
    assert after["x_jpg.rf.2.jpg"] == before["x_jpg.rf.1.jpg"]


def test_what_is_related_to_a_removed_image_keeps_its_side(root: Path, tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    add(root, *(f"track{number}_0" for number in range(8)))
    materialise(folder_dataset(root), into)
    before = sides(into)
    for number in range(8):
        (root / f"train/images/track{number}_0.jpg").unlink()
        (root / f"train/labels/track{number}_0.txt").unlink()
    add(root, *(f"track{number}_1" for number in range(8)), start=500)
    materialise(folder_dataset(root), into)
    after = sides(into)
    assert {"train", "val"} == {before[f"track{number}_0.jpg"] for number in range(8)}
    assert all(after[f"track{number}_1.jpg"] == before[f"track{number}_0.jpg"] for number in range(8))


def test_an_image_changes_its_side_rather_than_leak(root: Path, tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    add(root, "track1_0", "track1_1", "track1_2", "plain")
    materialise(folder_dataset(root), into)
    before = sides(into)
    other = next(name for name, side in before.items() if side != before["track1_0.jpg"] and name.startswith("train"))
    shutil.copy(root / "train/images" / other, root / "train/images/track1_9.jpg")
    materialise(folder_dataset(root), into)
    after = sides(into)
    joined = [after[name] for name in ("track1_0.jpg", "track1_1.jpg", "track1_2.jpg", "track1_9.jpg", other)]
    assert set(joined) == {before["track1_0.jpg"]}
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {other}


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"val_fraction": 0.3}, {"method": "keep"}], ids=["seed", "fraction", "method"]
)
def test_another_division_starts_afresh(root: Path, tmp_path: Path, change: dict[str, object]) -> None:
    into = tmp_path / "dataset"
    dataset = folder_dataset(root)
    materialise(with_split(dataset, **change), into)
    materialise(dataset, into)
    materialise(dataset, tmp_path / "afresh")
    assert sides(into) == sides(tmp_path / "afresh")


def test_another_data_set_in_that_place_says_nothing(root: Path, tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    materialise(with_split(folder_dataset(root), seed=0).model_copy(update={"name": "other"}), into)
    add(root, "a", "b")
    materialise(folder_dataset(root), into)
    materialise(folder_dataset(root), tmp_path / "afresh")
    assert sides(into) == sides(tmp_path / "afresh")


def test_a_drawn_set_depends_on_its_spec_alone(tmp_path: Path) -> None:
    def drawn(images: int) -> Dataset:
        source = DrawnSource(type="drawn", images=images, size=64)
        return Dataset(name="tiny", source=source, classes=("Stop", "Yield"))

    materialise(drawn(24), tmp_path / "dataset")
    materialise(drawn(36), tmp_path / "dataset")
    materialise(drawn(36), tmp_path / "afresh")
    assert sides(tmp_path / "dataset") == sides(tmp_path / "afresh")


def test_a_broken_earlier_version_is_replaced(root: Path, tmp_path: Path) -> None:
    into = tmp_path / "dataset"
    materialise(folder_dataset(root), into)
    before = sides(into)
    (into / "manifest.csv").write_text("nonsense")
    materialise(folder_dataset(root), into)
    assert sides(into) == before


def test_sides_of_a_manifest_that_the_spec_names(root: Path, tmp_path: Path) -> None:
    materialise(folder_dataset(root), tmp_path / "first")
    shutil.copy(tmp_path / "first/manifest.csv", tmp_path / "sides.csv")
    add(root, *(f"a{number}" for number in range(30)))
    materialise(with_split(folder_dataset(root), sides=str(tmp_path / "sides.csv")), tmp_path / "second")
    before, after = sides(tmp_path / "first"), sides(tmp_path / "second")
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, SpecError, "data set 'small': sides: {path}: no such file"),
        ("image\n", DataError, "{path}: holds no images"),
        ("image,split\na,val\n", DataError, "{path}: not a manifest"),
    ],
    ids=["missing", "empty", "no manifest"],
)
def test_bad_sides(root: Path, tmp_path: Path, text: str | None, error: type[Exception], message: str) -> None:
    path = tmp_path / "sides.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error) as caught:
        materialise(with_split(folder_dataset(root), sides=str(path)), tmp_path / "dataset")
    assert str(caught.value).startswith(message.format(path=path))


def test_split_seed_alone_decides_without_an_earlier_version(root: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        materialise(with_split(folder_dataset(root), seed=seed), tmp_path / name)
    assert sides(tmp_path / "first") == sides(tmp_path / "again") != sides(tmp_path / "other")
    assert Split().sides is None
