"""Sides that images had in an earlier version of a data set: they keep them when images are added."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ethos.data.describe import lineage
from ethos.data.found import in_project
from ethos.data.manifest import DATASET_FILE, MANIFEST_FILE, SIDES, Side, read_manifest
from ethos.data.split import Item
from ethos.errors import DataError, SpecError
from ethos.files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.specs import Dataset


@dataclass(frozen=True)
class Earlier:
    """Images of an earlier version with their sides."""

    items: list[Item] = field(default_factory=list)
    sides: list[Side] = field(default_factory=list)

    def fixed(self, groups: Sequence[str]) -> dict[str, Side]:
        """Return the side of each group that holds earlier images, given the groups of `items`.

        Where new images join groups of both sides, the side with more of the earlier images wins, and train where
        they are equal: an image changes its side rather than leak.
        """
        votes: dict[str, Counter[Side]] = {}
        for name, side in zip(groups, self.sides, strict=True):
            votes.setdefault(name, Counter())[side] += 1
        return {name: max(SIDES, key=lambda side, count=count: count[side]) for name, count in votes.items()}  # type: ignore[misc]


def read_earlier(into: Path, dataset: Dataset) -> Earlier:
    """Return what the spec's `split.sides` holds, else the data set of that name in the folder `into`, if any.

    Raises:
        SpecError: `split.sides` names no file.
        DataError: It is not a manifest.
    """
    if dataset.split.method == "keep":
        return Earlier()
    if dataset.split.sides is not None:
        path = in_project(dataset.split.sides)
        if not path.is_file():
            fix = f"copy a {MANIFEST_FILE} there, or remove 'sides' from the spec"
            raise SpecError(f"data set '{dataset.name}': sides: {path}: no such file", fix)
        earlier = _read(path.parent, path.name)
        if not earlier.items:
            raise DataError(f"{path}: holds no images", f"copy a {MANIFEST_FILE} there")
        return earlier
    try:
        record = read_json(into / DATASET_FILE)
        if record["name"] == dataset.name and record.get("lineage") == lineage(dataset):
            return _read(into, MANIFEST_FILE)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError):
        # the data set to be replaced is broken; there is nothing to keep
        pass
    return Earlier()


def _read(folder: Path, name: str) -> Earlier:
    rows = [row for row in read_manifest(folder, name) if row.split in SIDES]
    items = [Item(row.path.name, row.sha256, (), row.look) for row in rows]
    return Earlier(items, [row.split for row in rows])
