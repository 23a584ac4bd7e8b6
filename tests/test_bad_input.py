"""What real data sets get wrong, each with a real broken file: it arrives with a clear report or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from yolo_folder import CLASSES, folder_dataset, write_data_file, write_folder, write_image, write_label

from ethos.data.guard import run_checks
from ethos.data.labels import read_labels
from ethos.data.manifest import ImageRow, read_manifest
from ethos.data.source import materialise
from ethos.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IMAGE = "train/images/train004.jpg"
LABEL = "train/labels/train004.txt"
GROUPS = {"image_side", "box_sizes", "class_shares", "split_ratio", "background_share"}  # follow from few images


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "source")


def failing(root: Path) -> dict[str, list[str]]:
    """Materialise and check the folder; return the examples of each check that fails."""
    dataset = folder_dataset(root, "keep")
    materialise(dataset, root.parent / "dataset")
    report = run_checks(root.parent / "dataset", dataset)
    return {each["name"]: each["examples"] for each in report["checks"] if not each["ok"]}


def rows(root: Path) -> dict[str, ImageRow]:
    return {row.path.name: row for row in read_manifest(root.parent / "dataset")}


def truncated(root: Path) -> None:
    content = (root / IMAGE).read_bytes()
    (root / IMAGE).write_bytes(content[: len(content) // 2])


def truncated_in_its_head(root: Path) -> None:
    (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:100])


def text(root: Path) -> None:
    (root / IMAGE).write_text("<html>404 Not Found</html>")


def empty(root: Path) -> None:
    (root / IMAGE).write_bytes(b"")


def png_named_jpg(root: Path) -> None:
    with Image.open(root / IMAGE) as image:
        image.save(root / IMAGE, format="PNG")


def cmyk(root: Path) -> None:
    with Image.open(root / IMAGE) as image:
        image.convert("CMYK").save(root / IMAGE)


def turned(root: Path) -> None:
    with Image.open(root / IMAGE) as image:
        exif = image.getexif()
        exif[0x0112] = 8
        image.save(root / IMAGE, exif=exif)


def line(text: str) -> Callable[[Path], None]:
    return lambda root: write_label(root / LABEL, "0 0.5 0.5 0.25 0.5", text)


def label_bytes(content: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / LABEL).write_bytes(content)

    return write


NOBODY = 65534  # a user without rights
FIFTH = ["images/train/train004.jpg"]
BROKEN: dict[str, tuple[Callable[[Path], None], dict[str, list[str]]]] = {
    "truncated JPEG": (truncated, {"image_readable": FIFTH}),
    "JPEG truncated in its head": (truncated_in_its_head, {"image_readable": FIFTH}),
    "text named .jpg": (text, {"image_readable": FIFTH}),
    "no bytes": (empty, {"image_readable": FIFTH}),
    "PNG named .jpg": (png_named_jpg, {"image_format": FIFTH}),
    "CMYK": (cmyk, {"image_channels": FIFTH}),
    "turned by EXIF": (turned, {"image_upright": FIFTH}),
    "NaN": (line("0 nan 0.5 0.5 0.5"), {"label_lines": FIFTH}),
    "infinite": (line("0 0.5 inf 0.5 0.5"), {"label_lines": FIFTH}),
    "words": (line("stop 0.5 0.5 0.5 0.5"), {"label_lines": FIFTH}),
    "four numbers": (line("0 0.5 0.5 0.5"), {"label_lines": FIFTH}),
    "six numbers": (line("0 0.5 0.5 0.5 0.5 0.9"), {"label_lines": FIFTH}),
    "class no whole number": (line("0.5 0.5 0.5 0.5 0.5"), {"label_lines": FIFTH}),
    "negative centre": (line("0 -0.5 0.5 0.2 0.2"), {"box_inside": FIFTH}),
    "negative extent": (line("0 0.5 0.5 -0.2 0.2"), {"box_side": FIFTH}),
    "pixels": (line("0 32 24 16 12"), {"box_inside": FIFTH}),
    "polygon": (line("0 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4"), {"label_polygons": FIFTH}),
    "class out of range": (line("2 0.3 0.3 0.25 0.5"), {"class_ids": FIFTH}),
    "class below zero": (line("-1 0.3 0.3 0.25 0.5"), {"class_ids": FIFTH}),
    "no text": (label_bytes(b"0 0.5 0.5 0.25 0.5\xff\xfe"), {"label_lines": FIFTH}),
    "empty label": (label_bytes(b""), {}),
    "Windows line ends and a mark": (label_bytes(b"\xef\xbb\xbf0 0.5 0.5 0.25 0.5\r\n"), {}),
}


@pytest.mark.parametrize(("damage", "expected"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files_are_named_by_a_check(
    root: Path, damage: Callable[[Path], None], expected: dict[str, list[str]]
) -> None:
    damage(root)
    found = failing(root)
    assert {name: examples for name, examples in found.items() if name not in GROUPS} == expected


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_deep_images(root: Path, mode: str) -> None:
    (root / IMAGE).unlink()
    pixels = np.random.default_rng(0).integers(0, 65536, (48, 64)).astype(np.uint16 if mode == "I;16" else np.float32)
    Image.fromarray(pixels).save((root / IMAGE).with_suffix(".tiff"))
    assert failing(root) == {"image_channels": ["images/train/train004.tiff"]}


def test_grey_and_transparent_images_are_fine(root: Path) -> None:
    for number, mode in enumerate(("L", "P", "RGBA", "LA", "1")):
        path = root / f"train/images/train{number:03d}.jpg"
        with Image.open(path) as image:
            image.convert(mode).save(path.with_suffix(".png"))
        path.unlink()
    assert failing(root) == {}


def test_an_empty_label_is_an_image_without_boxes(root: Path) -> None:
    (root / LABEL).write_bytes(b"")
    failing(root)
    row = rows(root)["train004.jpg"]
    assert (row.boxes, row.label.read_text()) == (0, "")


def test_a_polygon_becomes_the_box_around_it(root: Path) -> None:
    write_label(root / LABEL, "1 0.1 0.2 0.5 0.2 0.3 0.6")
    failing(root)
    assert read_labels(rows(root)["train004.jpg"].label)[0] == pytest.approx([1, 0.3, 0.4, 0.4, 0.4])


def test_malformed_lines_are_left_out_and_told_with_their_numbers(root: Path, tmp_path: Path) -> None:
    write_label(root / LABEL, "0 0.5 0.5 0.25 0.5", "nonsense", "", "1 0.5 0.5")
    failing(root)
    assert rows(root)["train004.jpg"].boxes == 1
    assert (tmp_path / "dataset/findings.csv").read_text().splitlines() == [
        "kind,image,detail",
        "malformed,train004.jpg,line 2: nonsense",
        "malformed,train004.jpg,line 4: 1 0.5 0.5",
    ]


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_that_are_not_utf8_are_written_so_that_they_can_be(root: Path) -> None:
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        source = root / IMAGE if kind == "images" else root / LABEL
        source.rename(root / f"train/{kind}" / os.fsdecode(b"caf\xe9 1." + suffix.encode()))
    assert failing(root) == {}
    assert rows(root)["caf%e9 1.jpg"].boxes == 1


@pytest.mark.parametrize(
    "name", ["표지판 하나", "two words (1)", "a,b;c'd", 'quote"d', "dots.in.name", "-leading"], ids=lambda name: name
)
def test_unusual_names_survive(root: Path, name: str) -> None:
    (root / IMAGE).rename(root / f"train/images/{name}.jpg")
    (root / LABEL).rename(root / f"train/labels/{name}.txt")
    assert failing(root) == {}
    assert rows(root)[f"{name}.jpg"].boxes == 1


def test_letters_in_parts_and_in_one_are_the_same_name(root: Path) -> None:
    decomposed, composed = "\u1112\u1161\u11ab", "\ud55c"
    (root / IMAGE).rename(root / f"train/images/{composed}.jpg")
    (root / LABEL).rename(root / f"train/labels/{decomposed}.txt")
    assert failing(root) == {}
    assert rows(root)[f"{composed}.jpg"].boxes == 1


def test_a_line_end_in_a_name(root: Path) -> None:
    (root / IMAGE).rename(root / "train/images/two\nlines.jpg")
    (root / LABEL).rename(root / "train/labels/two\nlines.txt")
    assert failing(root) == {}
    assert rows(root)["two%0Alines.jpg"].boxes == 1


def test_capital_suffixes(root: Path) -> None:
    (root / IMAGE).rename(root / "train/images/train004.JPG")
    assert failing(root) == {}
    assert rows(root)["train004.jpg"].boxes == 1


def test_two_images_with_one_stem_both_arrive_and_are_told(root: Path) -> None:
    write_image(root / "train/images/train004.png", 700)
    assert failing(root) == {"image_stem": ["images/train/train004-2.png", "images/train/train004.jpg"]}
    assert rows(root)["train004-2.png"].boxes == rows(root)["train004.jpg"].boxes == 1


# --- files and folders -----------------------------------------------------------------------------------------------


def test_links_inside_the_folder_are_followed(root: Path) -> None:
    (root / IMAGE).rename(root / "elsewhere.jpg")
    (root / IMAGE).symlink_to(root / "elsewhere.jpg")
    assert failing(root) == {}
    assert not rows(root)["train004.jpg"].path.is_symlink()


@pytest.mark.parametrize("target", ["nowhere.jpg", "train004.jpg"], ids=["to nothing", "to itself"])
def test_links_that_lead_nowhere(root: Path, target: str) -> None:
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to(target)
    with pytest.raises(DataError) as caught:
        failing(root)
    assert caught.value.message == f"{root}/{IMAGE}: a link that leads nowhere"


@pytest.fixture
def place_of_nobody() -> Iterator[Path]:
    """A folder in which this process, if it is root's, is nobody while the test runs: root may read everything."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        root = write_folder(folder / "source")
        # what is imported on the way may not be readable for nobody
        materialise(folder_dataset(root, "keep"), folder / "before")
        is_root = os.geteuid() == 0
        if is_root:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)


@pytest.mark.parametrize("name", [IMAGE, LABEL, "data.yaml"], ids=["image", "label", "data.yaml"])
def test_unreadable_file(place_of_nobody: Path, name: str) -> None:
    root = place_of_nobody / "source"
    (root / name).chmod(0)
    with pytest.raises(DataError) as caught:
        materialise(folder_dataset(root, "keep"), place_of_nobody / "dataset")
    assert caught.value.message.startswith(f"{root}/{name}: cannot be read: ")
    assert "Permission denied" in caught.value.message
    assert sorted(path.name for path in place_of_nobody.iterdir()) == ["before", "source"]


@pytest.mark.parametrize(
    "names", [list(CLASSES), {0: "Stop", 1: "Yield"}, {"1": "Yield", "0": "Stop"}], ids=["list", "dict", "text keys"]
)
def test_names_as_list_and_as_dict(root: Path, names: Any) -> None:
    write_data_file(root, train="train/images", val="valid/images", names=names)
    assert failing(root) == {}


def test_missing_val_can_be_split(root: Path) -> None:
    write_data_file(root, train="train/images", names=list(CLASSES))
    with pytest.raises(DataError, match="has no val images, so there is no split to keep"):
        failing(root)
    materialise(folder_dataset(root), root.parent / "dataset")
    assert sum(row.split == "val" for row in rows(root).values()) == 3


def test_zero_images(root: Path) -> None:
    for path in root.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"no images in the folders that data.yaml names"):
        failing(root)


def test_a_failed_import_leaves_what_was_there(root: Path) -> None:
    failing(root)
    before = {path: path.read_bytes() for path in (root.parent / "dataset").rglob("*") if path.is_file()}
    (root / IMAGE).unlink()
    (root / IMAGE).symlink_to("nowhere.jpg")
    with pytest.raises(DataError):
        failing(root)
    after = {path: path.read_bytes() for path in (root.parent / "dataset").rglob("*") if path.is_file()}
    assert after == before
    assert sorted(path.name for path in root.parent.iterdir()) == ["dataset", "source"]
