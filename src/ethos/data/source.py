"""Materialise a data set: from its source to one folder with images, labels, a split and a manifest of hashes.

The folder holds `images/{train,val}`, `labels/{train,val}`, `data.yaml` as Ultralytics reads it, `manifest.csv`,
`dataset.json`, and `findings.csv` where the source held something odd; a test side that the source has is beside them.
It is written beside its place and moved there when complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.data.arrive import Arrivals, Arrived, bring
from ethos.data.data_file import DATA_FILE
from ethos.data.describe import describe
from ethos.data.earlier import read_earlier
from ethos.data.findings import write_findings
from ethos.data.manifest import ALL_SIDES, SIDES, ImageRow, Side, write_manifest
from ethos.data.repairs import repair
from ethos.data.split import divide, group
from ethos.errors import DataError, SpecError
from ethos.files import new_folder

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.data.earlier import Earlier
    from ethos.specs import Dataset

INCOMING = "incoming"


def materialise(dataset: Dataset, into: Path) -> None:
    """Write the data set to the folder `into`, replacing what is there; nothing is left half-written.

    Images of the data set that is replaced keep their side (see `ethos.data.earlier`).

    Raises:
        SpecError: The spec asks for what its source cannot give, or for an unknown repair.
        DataError: The source is missing, malformed or unreadable, or the folder cannot be written.
    """
    earlier = read_earlier(into, dataset)
    try:
        with new_folder(into) as folder:
            incoming = folder / INCOMING
            incoming.mkdir()
            arrivals = bring(dataset, incoming)
            rows = _settle(arrivals, dataset, earlier, folder)
            incoming.rmdir()
            write_findings(folder, [each for image in arrivals.images for each in image.findings])
            write_manifest(folder, rows)
            describe(dataset, rows, folder)
            if dataset.repairs:
                repair(folder, dataset, dataset.repairs)
    except OSError as error:
        raise DataError(f"{into}: cannot be written: {error}", "make room there, or correct its permissions") from None


def _settle(arrivals: Arrivals, dataset: Dataset, earlier: Earlier, folder: Path) -> list[ImageRow]:
    """Split what arrived and move it to its side's folders."""
    arrived = sorted(arrivals.images, key=lambda each: each.item.name)
    items = [each.item for each in arrived]
    # earlier images are grouped along, so that what is related to one that is gone still keeps its side
    groups = group([*items, *earlier.items], dataset.split)
    fixed = earlier.fixed(groups[len(items) :])
    groups = groups[: len(items)]
    sides = _sides(arrived, groups, dataset, fixed)
    for side in ALL_SIDES:
        if side in SIDES or side in sides:
            (folder / "images" / side).mkdir(parents=True)
            (folder / "labels" / side).mkdir(parents=True)
    rows = []
    for each, name, side in zip(arrived, groups, sides, strict=True):
        image = folder / INCOMING / each.item.name
        row = ImageRow(
            path=folder / "images" / side / each.item.name,
            split=side,
            sha256=each.item.sha256,
            width=each.width,
            height=each.height,
            boxes=len(each.item.classes),
            group=name,
            look=each.item.look,
        )
        image.rename(row.path)
        if image.with_suffix(".txt").exists():
            image.with_suffix(".txt").rename(row.label)
        rows.append(row)
    for orphan in arrivals.orphans:
        orphan.rename(folder / "labels" / SIDES[0] / orphan.name)
    return rows


def _sides(arrived: list[Arrived], groups: list[str], dataset: Dataset, fixed: dict[str, Side]) -> list[Side]:
    """Return each image's side; a test side that the source has is not divided."""
    given = [each.side for each in arrived]
    if dataset.split.method == "keep":
        return _kept(given, dataset)
    free = [place for place, side in enumerate(given) if side != "test"]
    if not free:
        raise DataError(f"data set '{dataset.name}': its source has test images alone", "name others under 'train:'")
    divided = divide(
        [arrived[place].item for place in free],
        [groups[place] for place in free],
        len(dataset.classes),
        dataset.split,
        fixed,
    )
    sides: list[Side] = ["test"] * len(arrived)
    for place, side in zip(free, divided, strict=True):
        sides[place] = side
    return sides


def _kept(given: list[Side | None], dataset: Dataset) -> list[Side]:
    sides = [side for side in given if side is not None]
    if len(sides) != len(given):
        raise SpecError(f"data set '{dataset.name}': a drawn source has no split to keep", "write 'method: grouped'")
    for side in SIDES:
        if side not in sides:
            raise DataError(
                f"data set '{dataset.name}': its source has no {side} images, so there is no split to keep",
                f"name them under '{side}:' in {DATA_FILE}, or write 'method: grouped' in the spec",
            )
    return sides
