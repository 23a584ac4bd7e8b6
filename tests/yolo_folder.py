"""Small YOLO-format folders with real images, for tests of what reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ethos.specs import CheckLimits, Dataset, FolderSource, Split

CLASSES = ("Stop", "Yield")
ROOT = Path(__file__).resolve().parents[1]
SIGNS15 = ROOT.parent / "shared" / "data" / "signs15"


def write_image(path: Path, seed: int, size: tuple[int, int] = (64, 48)) -> None:
    """Write an image of noise, [width, height] pixels; other seeds give other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_label(path: Path, *lines: str) -> None:
    """Write a label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_folder(root: Path, train: int = 16, val: int = 4, layout: str = "{side}/{kind}") -> Path:
    """Write a data set of two classes in which every image has one box; val is the folder `valid`."""
    seed = 0
    for side, count in (("train", train), ("valid", val)):
        for number in range(count):
            stem = f"{side}{number:03d}"
            write_image(root / layout.format(side=side, kind="images") / f"{stem}.jpg", seed)
            write_label(root / layout.format(side=side, kind="labels") / f"{stem}.txt", f"{seed % 2} 0.5 0.5 0.25 0.5")
            seed += 1
    sides = {key: layout.format(side=side, kind="images") for key, side in (("train", "train"), ("val", "valid"))}
    write_data_file(root, **sides, names=list(CLASSES))
    return root


def write_data_file(root: Path, **keys: object) -> None:
    """Write data.yaml."""
    (root / "data.yaml").write_text(yaml.safe_dump(keys), encoding="utf-8")


def folder_dataset(root: Path, method: str = "grouped", **limits: object) -> Dataset:
    """Return the spec of such a folder."""
    return Dataset(
        name="small",
        source=FolderSource(type="folder", root=str(root)),
        classes=CLASSES,
        split=Split(method=method, track=r"^track(?P<track>\d+)_"),
        checks=CheckLimits(**{"max_class_share_difference": 0.3, **limits}),
    )


def write_project(root: Path) -> Path:
    """Write a project whose data set is such a folder, `source` in it; return the folder."""
    (root / "specs" / "datasets").mkdir(parents=True)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (root / "params.yaml").write_text(re.sub(r"^dataset: .*$", "dataset: small", params, flags=re.MULTILINE))
    spec = {"source": {"type": "folder", "root": "source"}, "classes": list(CLASSES), "split": {"method": "keep"}}
    (root / "specs" / "datasets" / "small.yaml").write_text(json.dumps(spec))
    return write_folder(root / "source")
