"""Materialise a data set: from its source to one folder with images, labels, a split and a manifest of hashes.

The folder holds `images/{train,val}`, `labels/{train,val}`, `data.yaml` as Ultralytics reads it, `manifest.csv` and
`dataset.json`. It is written beside its place and moved there when complete.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from PIL import Image, UnidentifiedImageError

from ethos.data.draw import draw_picture
from ethos.data.folder import find_root, read_folder
from ethos.data.labels import format_labels, read_labels
from ethos.data.manifest import SIDES, ImageRow, Side, write_manifest
from ethos.data.split import Item, divide, group
from ethos.errors import DataError, SpecError
from ethos.files import CHUNK_BYTES, new_folder, sha256_file, sha256_json, write_json
from ethos.specs import DrawnSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ethos.specs import Dataset, FolderSource

DATASET_FILE = "dataset.json"
DATA_FILE = "data.yaml"
INCOMING = "incoming"


@dataclass(frozen=True)
class _Arrived:
    """An image in the incoming folder, with its label file beside it unless the source had none."""

    item: Item
    width: int
    height: int
    side: Side | None


def materialise(dataset: Dataset, into: Path) -> None:
    """Write the data set to the folder `into`, replacing what is there; nothing is left half-written.

    Raises:
        SpecError: The spec asks for what its source cannot give.
        DataError: The source is missing, malformed or unreadable, or the folder cannot be written.
    """
    try:
        with new_folder(into) as folder:
            incoming = folder / INCOMING
            incoming.mkdir()
            for side in SIDES:
                (folder / "images" / side).mkdir(parents=True)
                (folder / "labels" / side).mkdir(parents=True)
            arrived = sorted(_fetch(dataset, folder), key=lambda each: each.item.name)
            rows = _settle(arrived, dataset, folder)
            incoming.rmdir()
            write_manifest(folder, rows)
            _describe(dataset, rows, folder)
    except OSError as error:
        raise DataError(f"{into}: cannot be written: {error}", "make room there, or correct its permissions") from None


def _fetch(dataset: Dataset, folder: Path) -> Iterator[_Arrived]:
    """Bring all images and labels of the source into the incoming folder."""
    if isinstance(dataset.source, DrawnSource):
        return _draw(dataset, dataset.source, folder / INCOMING)
    return _copy(dataset, dataset.source, folder)


def _draw(dataset: Dataset, source: DrawnSource, incoming: Path) -> Iterator[_Arrived]:
    for index in range(source.images):
        picture = draw_picture(index, source.size, source.seed, dataset.classes)
        image = incoming / picture.name
        image.write_bytes(picture.jpeg)
        image.with_suffix(".txt").write_text(format_labels(picture.labels), encoding="utf-8")
        kinds = tuple(int(kind) for kind in picture.labels[:, 0])
        item = Item(picture.name, hashlib.sha256(picture.jpeg).hexdigest(), kinds)
        yield _Arrived(item, source.size, source.size, None)


def _copy(dataset: Dataset, source: FolderSource, folder: Path) -> Iterator[_Arrived]:
    found, orphans = read_folder(find_root(source), dataset.classes)
    stems: set[str] = set()
    for each in found:
        image = folder / INCOMING / _unused_name(each.image, stems)
        digest = _copy_hashed(each.image, image)
        width, height = _image_size(image, each.image)
        kinds: tuple[int, ...] = ()
        if each.label is not None:
            labels = read_labels(each.label)
            kinds = tuple(int(kind) for kind in labels[:, 0])
            image.with_suffix(".txt").write_text(format_labels(labels), encoding="utf-8")
        yield _Arrived(Item(image.name, digest, kinds), width, height, each.side)
    for orphan in orphans:
        # kept, for the check to name them
        _copy_hashed(orphan, folder / "labels" / SIDES[0] / _unused_name(orphan, stems))


def _unused_name(path: Path, stems: set[str]) -> str:
    """Return the file's name, numbered at its end if another has its stem; what the split reads from it still holds."""
    stem, number = path.stem, 1
    while stem.casefold() in stems:
        number += 1
        stem = f"{path.stem}-{number}"
    stems.add(stem.casefold())
    return stem + path.suffix.lower()


def _copy_hashed(source: Path, target: Path) -> str:
    """Copy a file in chunks and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    try:
        stream = source.open("rb")
    except OSError as error:
        raise DataError(
            f"{source}: cannot be read: {error.strerror}", "correct its permissions, or remove it"
        ) from None
    with stream, target.open("wb") as copy:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest()


def _image_size(path: Path, source: Path) -> tuple[int, int]:
    """Return width and height from an image's header; whether the rest decodes is for the checks."""
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError):
        raise DataError(f"{source}: not an image that can be read", "replace or remove the file") from None


def _settle(arrived: list[_Arrived], dataset: Dataset, folder: Path) -> list[ImageRow]:
    """Split what arrived and move it to its side's folders."""
    items = [each.item for each in arrived]
    groups = group(items, dataset.split)
    rows = []
    for each, name, side in zip(arrived, groups, _sides(arrived, groups, dataset), strict=True):
        image = folder / INCOMING / each.item.name
        row = ImageRow(
            path=folder / "images" / side / each.item.name,
            split=side,
            sha256=each.item.sha256,
            width=each.width,
            height=each.height,
            boxes=len(each.item.classes),
            group=name,
        )
        image.rename(row.path)
        if image.with_suffix(".txt").exists():
            image.with_suffix(".txt").rename(row.label)
        rows.append(row)
    return rows


def _sides(arrived: list[_Arrived], groups: list[str], dataset: Dataset) -> list[Side]:
    if dataset.split.method == "grouped":
        return divide([each.item for each in arrived], groups, len(dataset.classes), dataset.split)
    sides = [each.side for each in arrived if each.side is not None]
    if len(sides) != len(arrived):
        raise SpecError(f"data set '{dataset.name}': a drawn source has no split to keep", "write 'method: grouped'")
    for side in SIDES:
        if side not in sides:
            raise DataError(
                f"data set '{dataset.name}': its source has no {side} images, so there is no split to keep",
                f"name them under '{side}:' in {DATA_FILE}, or write 'method: grouped' in the spec",
            )
    return sides


def _describe(dataset: Dataset, rows: list[ImageRow], folder: Path) -> None:
    """Write data.yaml and dataset.json."""
    # without 'path' Ultralytics takes the file's own folder, so that the folder can be moved
    data = {"train": "images/train", "val": "images/val", "nc": len(dataset.classes), "names": list(dataset.classes)}
    (folder / DATA_FILE).write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")
    content = sorted(
        [
            row.path.relative_to(folder).as_posix(),
            row.sha256,
            sha256_file(row.label) if row.label.exists() else "",
            row.split,
        ]
        for row in rows
    )
    document = {
        "schema": 1,
        "name": dataset.name,
        "sha256": sha256_json(content),
        "split_sha256": sha256_json(sorted([row.sha256, row.split] for row in rows)),
        "classes": list(dataset.classes),
        "images": {side: sum(row.split == side for row in rows) for side in SIDES},
        "boxes": {side: sum(row.boxes for row in rows if row.split == side) for side in SIDES},
        "attribution": dataset.attribution,
    }
    write_json(folder / DATASET_FILE, document)
