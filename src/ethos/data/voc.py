"""Read a data set in Pascal VOC's form: an XML file for each image, beside it or in a folder `Annotations`.

Sides come from the lists in `ImageSets/Main`, else from the folders' names. A pixel of VOC counts from 1 and a box
includes its last one, so a box goes from `xmin - 1` to `xmax` (The PASCAL VOC 2012 development kit, section 3).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ethos.data.found import Found, inside_files, side_of
from ethos.data.manifest import IMAGE_SUFFIXES
from ethos.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.data.manifest import Side

SETS = ("ImageSets", "Main")
SET_FILES: dict[str, Side] = {"trainval.txt": "train", "train.txt": "train", "val.txt": "val", "test.txt": "test"}
IMAGE_FOLDERS = ("JPEGImages", "images", "Images")
LABEL_FOLDERS = ("Annotations", "annotations", "labels")


def read_voc(root: Path, classes: Sequence[str]) -> tuple[list[Found], list[Path]]:
    """Return the images of a VOC folder with their boxes, and XML files that belong to no image.

    Raises:
        DataError: There are no annotations, or one is malformed or names an unknown class.
    """
    files = inside_files(root, root)
    unused = {path for path in files if path.suffix.lower() == ".xml"}
    if not unused:
        raise DataError(f"{root}: no XML files", "name a folder with Pascal VOC annotations")
    listed = _read_sets(root)
    found = []
    for image in files:
        if image.suffix.lower() not in IMAGE_SUFFIXES or (listed and image.stem not in listed):
            continue
        xml = next((path for path in _label_places(image) if path in unused), None)
        side = listed.get(image.stem) or side_of(image.parent.relative_to(root).as_posix()) or "train"
        found.append(Found(image, side) if xml is None else _read(xml, image, side, classes))
        unused.discard(xml)
    if not found:
        raise DataError(f"{root}: no images", "name a folder with Pascal VOC annotations and their images")
    return found, [] if listed else sorted(unused)


def _read_sets(root: Path) -> dict[str, Side]:
    """Return the side of each stem that the lists name; a later list of `SET_FILES` wins."""
    sides: dict[str, Side] = {}
    for name, side in SET_FILES.items():
        path = root.joinpath(*SETS, name)
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            sides.update({line.split()[0]: side for line in lines if line.strip()})
    return sides


def _label_places(image: Path) -> list[Path]:
    places = [image.parent]
    if image.parent.name in IMAGE_FOLDERS:
        places += [image.parent.with_name(name) for name in LABEL_FOLDERS]
    return [place / f"{image.stem}.xml" for place in places]


def _read(path: Path, image: Path, side: Side, classes: Sequence[str]) -> Found:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, parse

    try:
        tree = parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}", "correct the file") from None
    boxes, malformed = [], []
    for each in tree.iter("object"):
        name = (each.findtext("name") or "").strip()
        if name not in classes:
            fix = "list it under 'classes:' in the data set's spec"
            raise DataError(f"{path}: class '{name}' is none of the spec's classes", fix)
        corners = [_number(each.find("bndbox"), key) for key in ("xmin", "ymin", "xmax", "ymax")]
        if all(map(math.isfinite, corners)):
            left, top, right, bottom = corners
            boxes.append((classes.index(name), max(left - 1, 0.0), max(top - 1, 0.0), right, bottom))
        else:
            malformed.append(f"object '{name}': a corner is no number")
    size = (_whole(tree.find("size"), "width"), _whole(tree.find("size"), "height"))
    return Found(image, side, boxes=tuple(boxes), size=size if all(size) else None, malformed=tuple(malformed))


def _number(node: Any, key: str) -> float:
    """Return a number below a node; NaN where there is none."""
    try:
        return float(node.findtext(key))
    except (AttributeError, TypeError, ValueError):
        return math.nan


def _whole(node: Any, key: str) -> int:
    number = _number(node, key)
    return int(number) if math.isfinite(number) else 0
