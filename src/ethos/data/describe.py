"""What a materialised data set says of itself: data.yaml, as Ultralytics reads it, and dataset.json with its hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from ethos.data.data_file import DATA_FILE
from ethos.data.manifest import ALL_SIDES, DATASET_FILE, SIDES
from ethos.files import sha256_file, sha256_json, write_json
from ethos.specs import DrawnSource

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.data.manifest import ImageRow
    from ethos.specs import Dataset


def lineage(dataset: Dataset) -> str:
    """Return a hash of what a division is made from; under another one images get new sides.

    It is the method, the wanted share and the seed; for a drawn set, to which nobody adds by hand, all of its spec.
    """
    split = dataset.split
    made: list[Any] = [split.method, split.val_fraction, split.seed]
    if isinstance(dataset.source, DrawnSource):
        made.append([dataset.source.model_dump(), dataset.classes, split.model_dump()])
    return sha256_json(made)


def describe(dataset: Dataset, rows: list[ImageRow], folder: Path) -> None:
    """Write data.yaml and dataset.json."""
    sides = [side for side in ALL_SIDES if side in SIDES or any(row.split == side for row in rows)]
    # without 'path' Ultralytics takes the file's own folder, so that the folder can be moved
    data: dict[str, Any] = {side: f"images/{side}" for side in sides}
    data |= {"nc": len(dataset.classes), "names": list(dataset.classes)}
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
        "images": {side: sum(row.split == side for row in rows) for side in sides},
        "boxes": {side: sum(row.boxes for row in rows if row.split == side) for side in sides},
        "attribution": dataset.attribution,
        "lineage": lineage(dataset),
    }
    write_json(folder / DATASET_FILE, document)
