"""Read a data set in COCO's form: JSON files with `images`, `annotations` and `categories`, and the images they name.

Ultralytics' converter takes a category's number minus one for its class and expects COCO's own folders, so it is not
used: here classes go by name, and crowd regions, which are no single object, are left out.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ethos.data.found import Found, inside_files, side_of
from ethos.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ethos.data.manifest import Side

OBJECTS = "instances"  # COCO's own archives also hold captions and keypoints of the same images
KEYS = ("images", "annotations", "categories")


def read_coco(root: Path, classes: Sequence[str]) -> tuple[list[Found], list[Path]]:
    """Return the images of a COCO folder with their boxes; a file's side is read from its name or its folder's.

    Raises:
        DataError: There are no annotations, one of their files is malformed or names unknown classes, or images are
            missing.
    """
    files = [path for path in inside_files(root, root) if path.suffix.lower() == ".json"]
    files = [path for path in files if path.name.startswith(OBJECTS)] or files
    documents = [(path, document) for path in files if (document := _read(path)) is not None]
    if not documents:
        raise DataError(f"{root}: no JSON file with {', '.join(KEYS)}", "name a folder with COCO annotations")
    found: list[Found] = []
    for path, document in documents:
        side = side_of(path.relative_to(root).as_posix()) or "train"
        try:
            found += _images(path, document, side, root, classes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fix = "correct the file"
            raise DataError(f"{path}: not COCO annotations: {type(error).__name__}: {error}", fix) from None
    if not found:
        raise DataError(f"{root}: its annotations name no images", "name a folder with COCO annotations")
    return found, []


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}", "correct the file, or remove it") from None
    return document if isinstance(document, dict) and all(key in document for key in KEYS) else None


def _images(path: Path, document: dict[str, Any], side: Side, root: Path, classes: Sequence[str]) -> Iterator[Found]:
    boxes, malformed = _boxes(path, document, classes)
    places = _places(path, side, root)
    missing = []
    for image in document["images"]:
        file = _find(str(image["file_name"]), places, root)
        if file is None:
            missing.append(str(image["file_name"]))
            continue
        size = (int(image.get("width") or 0), int(image.get("height") or 0))
        yield Found(
            image=file,
            side=side,
            boxes=tuple(boxes.get(image["id"], ())),
            size=size if all(size) else None,
            malformed=tuple(malformed.get(image["id"], ())),
        )
    if missing:
        fix = "put them beside the JSON file or under a folder named for its side"
        raise DataError(f"{path}: {len(missing)} images are not inside {root}, such as '{missing[0]}'", fix)


def _boxes(
    path: Path, document: dict[str, Any], classes: Sequence[str]
) -> tuple[dict[Any, list[tuple[int, float, float, float, float]]], dict[Any, list[str]]]:
    """Return boxes and malformed entries by the number of their image."""
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    numbers = {name: number for number, name in enumerate(classes)}
    boxes: dict[Any, list[tuple[int, float, float, float, float]]] = {}
    malformed: dict[Any, list[str]] = {}
    for each in document["annotations"]:
        if each.get("iscrowd"):
            continue
        name = names[each["category_id"]]
        if name not in numbers:
            fix = "list it under 'classes:' in the data set's spec"
            raise DataError(f"{path}: class '{name}' is none of the spec's classes", fix)
        box = each.get("bbox")
        if not _is_box(box):
            malformed.setdefault(each["image_id"], []).append(f"annotation {each.get('id')}: bbox {box}")
            continue
        left, top, width, height = map(float, box)
        boxes.setdefault(each["image_id"], []).append((numbers[name], left, top, left + width, top + height))
    return boxes, malformed


def _is_box(box: Any) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, int | float) and math.isfinite(value) for value in box)
    )


def _places(path: Path, side: Side, root: Path) -> list[Path]:
    """Return the folders in which images may be: the file's own, the root, and those named for the side."""
    shelves = [folder for folder in (root, root / "images") if folder.is_dir()]
    named = [
        each for shelf in shelves for each in sorted(shelf.iterdir()) if each.is_dir() and side_of(each.name) == side
    ]
    return [path.parent, *named, *(folder / "images" for folder in named), *shelves]


def _find(name: str, places: Sequence[Path], root: Path) -> Path | None:
    files = (place / name for place in places)
    return next((file for file in files if file.is_file() and file.resolve().is_relative_to(root)), None)
