"""One HTML page that shows a data set: figures of each side, samples with boxes, and related images side by side.

The page holds its pictures and reaches for nothing; it opens from disk.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ImageDraw, ImageOps

from ethos.data.drawings import class_bars, position_maps, size_maps
from ethos.data.image import FAILURES, open_image
from ethos.data.labels import read_labels
from ethos.data.manifest import ALL_SIDES, DATASET_FILE, ImageRow, Side, read_manifest
from ethos.data.split import RELATIONS, Item, counterparts
from ethos.files import read_json, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ethos.specs import Dataset

    Boxes = NDArray[np.float64]

TEMPLATE = "report.html.j2"
SAMPLES = 18  # of each side
PAIRS = 12  # of each relation
GROUPS = 6
GROUP_IMAGES = 8
THUMBNAIL = 160  # pixels of the longer side
QUALITY = 80
BOX_COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#46f0f0", "#f032e6", "#d2f53c", "#fabebe")
RELATION_TITLES = {
    "bytes": "the same file, byte for byte",
    "name": "the same original picture",
    "track": "the same track or sequence",
    "near": "nearly the same look",
}


@dataclass(frozen=True)
class Labelled:
    """An image with its boxes [n, 5]."""

    row: ImageRow
    boxes: Boxes


def write_page(folder: Path, dataset: Dataset, into: Path) -> dict[str, Any]:
    """Write the page of a materialised data set; return its record (dataset.json).

    Raises:
        DataError: The folder holds no materialised data set, or a label file is malformed.
    """
    import jinja2

    record: dict[str, Any] = read_json(folder / DATASET_FILE, "sha256")
    images = [Labelled(row, read_labels(row.label)) for row in read_manifest(folder)]
    sides = {side: [each for each in images if each.row.split == side] for side in ALL_SIDES}
    sides = {side: listed for side, listed in sides.items() if listed}
    boxes = {side: _all_boxes(listed) for side, listed in sides.items()}
    counts = {side: _class_counts(each, len(dataset.classes)) for side, each in boxes.items()}
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    template = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        TEMPLATE
    )
    page = template.render(
        dataset=dataset,
        record=record,
        sides={side: _numbers(listed) for side, listed in sides.items()},
        classes=[(name, [int(each[place]) for each in counts.values()]) for place, name in enumerate(dataset.classes)],
        class_bars=class_bars(dataset.classes, counts),
        size_maps=size_maps(boxes),
        position_maps=position_maps(boxes),
        samples={side: [_thumbnail(each, dataset) for each in _spread(listed)] for side, listed in sides.items()},
        leaks=[_leak(relation, images, dataset) for relation in RELATIONS],
        groups=_groups(images, dataset),
    )
    write_text(into, page)
    return record


def _all_boxes(images: Sequence[Labelled]) -> Boxes:
    """Return all boxes [n, 7]: class, cx, cy, w, h in shares of the image, then w, h in pixels."""
    sized = [np.hstack([each.boxes, each.boxes[:, 3:] * (each.row.width, each.row.height)]) for each in images]
    return np.concatenate([*sized, np.empty((0, 7))])


def _class_counts(boxes: Boxes, classes: int) -> NDArray[np.int64]:
    kinds = boxes[:, 0].astype(np.int64)
    return np.bincount(kinds[(kinds >= 0) & (kinds < classes)], minlength=classes)


def _numbers(images: Sequence[Labelled]) -> dict[str, Any]:
    return {
        "images": len(images),
        "boxes": sum(len(each.boxes) for each in images),
        "backgrounds": sum(not len(each.boxes) for each in images),
        "groups": len({each.row.group for each in images}),
    }


def _spread(images: Sequence[Labelled]) -> list[Labelled]:
    """Return some images, the same ones each time and in no order that their names give."""
    return sorted(images, key=lambda each: each.row.sha256)[:SAMPLES]


def _leak(relation: str, images: Sequence[Labelled], dataset: Dataset) -> dict[str, Any]:
    """Return the validation images related to training images, the first of them as pairs of thumbnails."""
    items = [Item(each.row.path.name, each.row.sha256, (), each.row.look) for each in images]
    sides: list[Side] = [each.row.split for each in images]
    found = counterparts(items, sides, relation, dataset.split)
    pairs = [(images[place], images[other]) for place, other in enumerate(found) if other is not None]
    step = max(len(pairs) // PAIRS, 1)
    shown = [[_thumbnail(each, dataset) for each in pair] for pair in pairs[::step][:PAIRS]]
    return {"name": relation, "title": RELATION_TITLES.get(relation, relation), "count": len(pairs), "pairs": shown}


def _groups(images: Sequence[Labelled], dataset: Dataset) -> list[dict[str, Any]]:
    """Return the largest groups of related images with thumbnails of some of their images."""
    members: dict[str, list[Labelled]] = {}
    for each in images:
        members.setdefault(each.row.group, []).append(each)
    largest = sorted(members.values(), key=lambda group: (-len(group), group[0].row.group))[:GROUPS]
    return [
        {
            "name": group[0].row.group,
            "count": len(group),
            "sides": sorted({each.row.split for each in group}),
            "images": [
                _thumbnail(each, dataset) for each in group[:: max(len(group) // GROUP_IMAGES, 1)][:GROUP_IMAGES]
            ],
        }
        for group in largest
        if len(group) > 1
    ]


def _thumbnail(each: Labelled, dataset: Dataset) -> dict[str, str]:
    """Return an image with its boxes as a small JPEG for the page, its name and the classes on it."""
    names = [_class_name(int(kind), dataset) for kind in each.boxes[:, 0]]
    shown = {"name": each.row.path.name, "side": each.row.split, "classes": ", ".join(names), "data": ""}
    try:
        with open_image(each.row.path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except FAILURES:
        return shown
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    draw = ImageDraw.Draw(image)
    for kind, cx, cy, width, height in each.boxes.tolist():
        corners = ((cx - width / 2) * image.width, (cy - height / 2) * image.height)
        ends = ((cx + width / 2) * image.width, (cy + height / 2) * image.height)
        if corners[0] <= ends[0] and corners[1] <= ends[1]:
            draw.rectangle((*corners, *ends), outline=BOX_COLOURS[int(kind) % len(BOX_COLOURS)], width=2)
    stream = BytesIO()
    image.save(stream, "JPEG", quality=QUALITY)
    return shown | {"data": b64encode(stream.getvalue()).decode()}


def _class_name(kind: int, dataset: Dataset) -> str:
    return dataset.classes[kind] if 0 <= kind < len(dataset.classes) else f"unknown class {kind}"
