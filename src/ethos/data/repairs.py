"""Repairs of a materialised data set: each is one function whose docstring is the sentence that the user reads.

They work on the copy, never on the source, in the order of `REPAIRS`. A spec's `repairs` has the dataset stage apply
them on every run; `ethos data fix` applies them once.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethos.data.describe import describe
from ethos.data.findings import read_findings, write_findings
from ethos.data.image import see
from ethos.data.labels import format_labels, read_labels
from ethos.data.manifest import ImageRow, Side, read_manifest, write_manifest
from ethos.errors import unknown
from ethos.files import new_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ethos.specs import Dataset

    Boxes = NDArray[np.float64]
    Rule = Callable[["Copy"], Iterator["Change"]]

SAME_DECIMALS = 3  # boxes that agree to a thousandth of the image are the same box
KEPT_FIRST: tuple[Side, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Change:
    """What a repair does to one image."""

    repair: str
    image: str
    detail: str


@dataclass
class Copy:
    """A materialised data set while it is repaired.

    Attributes:
        dataset: Its spec.
        folder: Where it is.
        rows: Its images.
        boxes: For each image its boxes [n, 5]; None where it has no label file.
        orphans: Label files that belong to no image.
    """

    dataset: Dataset
    folder: Path
    rows: list[ImageRow]
    boxes: list[Boxes | None]
    orphans: list[Path]

    def keep(self, kept: Sequence[bool]) -> None:
        """Keep the images of which `kept` is true."""
        self.rows = [row for row, keep in zip(self.rows, kept, strict=True) if keep]
        self.boxes = [boxes for boxes, keep in zip(self.boxes, kept, strict=True) if keep]

    def labelled(self) -> Iterator[tuple[int, ImageRow, Boxes]]:
        """Yield each image that has boxes: its place, its row and the boxes."""
        for place, (row, boxes) in enumerate(zip(self.rows, self.boxes, strict=True)):
            if boxes is not None and len(boxes):
                yield place, row, boxes

    def twins(self) -> list[list[int]]:
        """Return the places of images that are the same file, for each such file with more than one image."""
        places: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows):
            places.setdefault(row.sha256, []).append(place)
        return [group for group in places.values() if len(group) > 1]


def drop_unreadable(copy: Copy) -> Iterator[Change]:
    """Images that do not decode are removed."""
    whole = [see(row.path).whole for row in copy.rows]
    for row, readable in zip(copy.rows, whole, strict=True):
        if not readable:
            yield Change("drop_unreadable", row.path.name, "removed")
    copy.keep(whole)


def drop_orphans(copy: Copy) -> Iterator[Change]:
    """Label files without an image are removed."""
    for path in copy.orphans:
        yield Change("drop_orphans", path.name, "removed")
    copy.orphans = []


def clip_boxes(copy: Copy) -> Iterator[Change]:
    """Boxes that reach out of their image are cut at its border."""
    for place, row, boxes in copy.labelled():
        low, high = boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2
        outside = ((low < 0) | (high > 1)).any(axis=1)
        if outside.any():
            cut_low, cut_high = low[outside].clip(0, 1), high[outside].clip(0, 1)
            cut = boxes.copy()
            cut[outside, 1:] = np.hstack([(cut_low + cut_high) / 2, cut_high - cut_low])
            copy.boxes[place] = cut
            yield Change("clip_boxes", row.path.name, f"{int(outside.sum())} of {len(boxes)} boxes")


def drop_degenerate(copy: Copy) -> Iterator[Change]:
    """Boxes with a side shorter than min_box_side pixels are removed."""
    least = copy.dataset.checks.min_box_side
    for place, row, boxes in copy.labelled():
        shorter = (boxes[:, 3:] * (row.width, row.height)).min(axis=1)
        small = (shorter < least) | (boxes[:, 3:] <= 0).any(axis=1)
        if small.any():
            copy.boxes[place] = boxes[~small]
            yield Change("drop_degenerate", row.path.name, f"{int(small.sum())} of {len(boxes)} boxes")


def drop_repeated(copy: Copy) -> Iterator[Change]:
    """Of boxes that stand in an image more than once, one stays."""
    for place, row, boxes in copy.labelled():
        _, first = np.unique(boxes.round(SAME_DECIMALS), axis=0, return_index=True)
        if len(first) < len(boxes):
            copy.boxes[place] = boxes[np.sort(first)]
            yield Change("drop_repeated", row.path.name, f"{len(boxes) - len(first)} of {len(boxes)} boxes")


def resolve_conflicts(copy: Copy) -> Iterator[Change]:
    """Copies of a file whose boxes differ get those that most copies have; among equals most boxes, then the first."""
    for group in copy.twins():
        forms = {place: canonical(copy.boxes[place]) for place in group}
        votes = Counter(forms.values())
        if len(votes) == 1:
            continue
        chosen = max(group, key=lambda place: (votes[forms[place]], len(forms[place]), -place))
        for place in group:
            if forms[place] != forms[chosen]:
                copy.boxes[place] = copy.boxes[chosen]
                detail = f"{len(forms[place])} boxes become the {len(forms[chosen])} of {copy.rows[chosen].path.name}"
                yield Change("resolve_conflicts", copy.rows[place].path.name, detail)


def drop_duplicates(copy: Copy) -> Iterator[Change]:
    """Of images that are the same file one stays: the first on test, else on val, else on train."""
    kept = [True] * len(copy.rows)
    for group in copy.twins():
        stays = min(group, key=lambda place: (KEPT_FIRST.index(copy.rows[place].split), place))
        for place in group:
            if place != stays:
                kept[place] = False
                yield Change("drop_duplicates", copy.rows[place].path.name, f"same as {copy.rows[stays].path.name}")
    copy.keep(kept)


def canonical(boxes: Boxes | None) -> tuple[tuple[float, ...], ...]:
    """Return boxes in a form that is equal for the same boxes in any order."""
    rows = [] if boxes is None else (boxes.round(SAME_DECIMALS) + 0.0).tolist()
    return tuple(sorted(tuple(row) for row in rows))


def repair(folder: Path, dataset: Dataset, names: Sequence[str] = (), *, dry_run: bool = False) -> list[Change]:
    """Repair a materialised data set and return what was done.

    Args:
        folder: The materialised data set.
        dataset: Its spec.
        names: Which repairs; all of them when empty.
        dry_run: Only return what would be done.

    Raises:
        SpecError: A repair is unknown.
        DataError: The folder holds no materialised data set, or a label file is malformed.
    """
    for name in names:
        if name not in REPAIRS:
            raise unknown("repair", name, REPAIRS, where=f"data set '{dataset.name}'")
    rows = read_manifest(folder)
    wanted = {row.label for row in rows}
    labels = sorted((folder / "labels").glob("*/*.txt"))
    copy = Copy(
        dataset=dataset,
        folder=folder,
        rows=rows,
        boxes=[read_labels(row.label) if row.label.exists() else None for row in rows],
        orphans=[path for path in labels if path not in wanted],
    )
    changes = [change for name, rule in REPAIRS.items() if not names or name in names for change in rule(copy)]
    if changes and not dry_run:
        _write(copy)
    return changes


def _write(copy: Copy) -> None:
    """Replace the data set by its repaired copy; files that stay are linked, not copied, where that is possible."""
    with new_folder(copy.folder) as folder:
        rows = []
        for row, boxes in zip(copy.rows, copy.boxes, strict=True):
            path = folder / row.path.relative_to(copy.folder)
            new = dataclasses.replace(row, path=path, boxes=0 if boxes is None else len(boxes))
            for part in (new.path, new.label):
                part.parent.mkdir(parents=True, exist_ok=True)
            _link(row.path, new.path)
            if boxes is not None:
                new.label.write_text(format_labels(boxes), encoding="utf-8")
            rows.append(new)
        for orphan in copy.orphans:
            _link(orphan, folder / orphan.relative_to(copy.folder))
        names = {row.path.name for row in rows}
        write_findings(folder, [each for each in read_findings(copy.folder) if each.image in names])
        write_manifest(folder, rows)
        describe(copy.dataset, rows, folder)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


REPAIRS: dict[str, Rule] = {
    "drop_unreadable": drop_unreadable,
    "drop_orphans": drop_orphans,
    "clip_boxes": clip_boxes,
    "drop_degenerate": drop_degenerate,
    "drop_repeated": drop_repeated,
    "resolve_conflicts": resolve_conflicts,
    "drop_duplicates": drop_duplicates,
}
