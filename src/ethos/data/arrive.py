"""Bring the images and labels of a source into one incoming folder, hashed and looked at on the way."""

from __future__ import annotations

import hashlib
import tempfile
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.data.archive import unpack
from ethos.data.coco import read_coco
from ethos.data.data_file import DATA_FILE
from ethos.data.draw import draw_picture
from ethos.data.fetch import fetch
from ethos.data.findings import Finding
from ethos.data.folder import find_root, read_folder
from ethos.data.found import in_project
from ethos.data.image import UNREADABLE, Seen, see
from ethos.data.labels import format_labels, read_source_labels
from ethos.data.split import Item
from ethos.data.voc import read_voc
from ethos.errors import DataError
from ethos.files import CHUNK_BYTES
from ethos.specs import ArchiveSource, DrawnSource, FolderSource, UrlSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ethos.data.found import Found
    from ethos.data.manifest import Side
    from ethos.specs import DataFormat, Dataset

    Reader = Callable[[Path, Sequence[str]], tuple[list[Found], list[Path]]]

BATCH = 512


@dataclass(frozen=True)
class Arrived:
    """An image in the incoming folder, with its label file beside it unless the source had none.

    Attributes:
        item: What the split needs to know.
        width: Pixels, as shown; 0 for a file that is no image.
        height: Pixels, as shown.
        side: Where the source has it; None where the source has no sides.
        findings: What is noteworthy about it.
    """

    item: Item
    width: int
    height: int
    side: Side | None
    findings: list[Finding] = field(default_factory=list)


@dataclass
class Arrivals:
    """All that arrived: images, and label files that belong to none."""

    images: list[Arrived] = field(default_factory=list)
    orphans: list[Path] = field(default_factory=list)


def bring(dataset: Dataset, incoming: Path) -> Arrivals:
    """Bring all images and labels of the source into an empty folder.

    Raises:
        SpecError: A class is no sign that can be drawn.
        DataError: The source is missing, malformed or unreadable.
    """
    source = dataset.source
    if isinstance(source, DrawnSource):
        return Arrivals(list(_draw(dataset, source, incoming)))
    if isinstance(source, FolderSource):
        return _copy(find_root(source), source.format, dataset, incoming)
    path = in_project(source.file) if isinstance(source, ArchiveSource) else fetch(source.url, source.sha256)
    return _unpack(path, source, dataset, incoming)


def _unpack(path: Path, source: ArchiveSource | UrlSource, dataset: Dataset, incoming: Path) -> Arrivals:
    with tempfile.TemporaryDirectory(prefix=".unpacked.", dir=incoming.parent) as scratch:
        unpack(path, Path(scratch), source.limits, source.sha256)
        return _copy(_top(Path(scratch).resolve(), source.format), source.format, dataset, incoming)


def _top(root: Path, form: DataFormat) -> Path:
    """Return the folder of an unpacked archive that is the data set: it may lie a few folders deep."""
    if form == "yolo":
        files = sorted(root.rglob(DATA_FILE), key=lambda path: (len(path.parts), path))
        return files[0].parent if files else root
    while len(inner := list(root.iterdir())) == 1 and inner[0].is_dir():
        root = inner[0]
    return root


def _draw(dataset: Dataset, source: DrawnSource, incoming: Path) -> Iterator[Arrived]:
    for index in range(source.images):
        picture = draw_picture(index, source.size, source.seed, dataset.classes)
        image = incoming / picture.name
        image.write_bytes(picture.jpeg)
        image.with_suffix(".txt").write_text(format_labels(picture.labels), encoding="utf-8")
        kinds = tuple(int(kind) for kind in picture.labels[:, 0])
        item = Item(picture.name, hashlib.sha256(picture.jpeg).hexdigest(), kinds, see(image).look)
        yield Arrived(item, source.size, source.size, None)


def _copy(root: Path, form: DataFormat, dataset: Dataset, incoming: Path) -> Arrivals:
    found, orphans = READERS[form](root, dataset.classes)
    stems: set[str] = set()
    named = [(each, incoming / _unused_name(each.image, stems)) for each in found]
    shared = _shared_labels(found)
    arrivals = Arrivals()
    for each, image, digest, seen in _looked_at(named):
        findings = (
            [Finding("stem", image.name, f"shares {each.label.name} with another image")]
            if (each.label in shared and each.label is not None)
            else []
        )
        labels = _labels(each, seen, image.name, findings)
        if labels is not None:
            image.with_suffix(".txt").write_text(format_labels(labels), encoding="utf-8")
        kinds = () if labels is None else tuple(int(kind) for kind in labels[:, 0])
        item = Item(image.name, digest, kinds, seen.look)
        arrivals.images.append(Arrived(item, seen.width, seen.height, each.side, findings))
    for orphan in orphans:
        # kept, for the check to name them
        place = (incoming / _unused_name(orphan, stems)).with_suffix(".txt")
        if orphan.suffix.lower() == ".txt":
            _copy_hashed(orphan, place)
        else:
            place.touch()
        arrivals.orphans.append(place)
    return arrivals


def _looked_at(named: Sequence[tuple[Found, Path]]) -> Iterator[tuple[Found, Path, str, Seen]]:
    """Copy images, several at a time, and yield each with its hash and what is seen on it, in their order."""

    def arrive(pair: tuple[Found, Path]) -> tuple[Found, Path, str, Seen]:
        each, image = pair
        return each, image, _copy_hashed(each.image, image), see(image)

    with ThreadPoolExecutor() as pool:
        # in batches, so that a large data set does not queue as a whole
        for start in range(0, len(named), BATCH):
            yield from pool.map(arrive, named[start : start + BATCH])


def _shared_labels(found: Iterable[Found]) -> set[Path]:
    seen: set[Path] = set()
    shared: set[Path] = set()
    for each in found:
        if each.label is not None:
            (shared if each.label in seen else seen).add(each.label)
    return shared


def _labels(
    each: Found, seen: Seen, name: str, findings: list[Finding]
) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """Return an image's boxes as label rows [n, 5], None where the source says nothing; and note what is odd."""
    findings += [Finding("malformed", name, text) for text in each.malformed]
    if each.label is not None:
        read = read_source_labels(each.label)
        findings += [Finding("malformed", name, text) for text in read.malformed]
        findings += [Finding("polygon", name, f"line {number}") for number in read.polygons]
        return np.array(read.boxes, dtype=np.float64).reshape(-1, 5)
    if each.boxes is None:
        return None
    width, height = each.size or (seen.stored_width, seen.stored_height)
    if (
        seen != UNREADABLE
        and each.size
        and each.size
        not in {
            (seen.stored_width, seen.stored_height),
            (seen.width, seen.height),
        }
    ):
        findings.append(Finding("size", name, f"{seen.width}x{seen.height}, the labels say {width}x{height}"))
    boxes = np.array(each.boxes, dtype=np.float64).reshape(-1, 5)
    extent = np.array([max(width, 1), max(height, 1)], dtype=np.float64)
    corners = boxes[:, 1:] / np.tile(extent, 2)
    return np.hstack([boxes[:, :1], (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])


def _unused_name(path: Path, stems: set[str]) -> str:
    """Return the file's name, numbered at its end if another has its stem; what the split reads from it still holds.

    Bytes of a name that are not UTF-8, and characters that end a line, are written as %XX.
    """
    stem = _readable(path.stem)
    base, number = stem, 1
    while stem.casefold() in stems:
        number += 1
        stem = f"{base}-{number}"
    stems.add(stem.casefold())
    return stem + path.suffix.lower()


def _readable(name: str) -> str:
    plain = unicodedata.normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    plain = plain.replace("\\x", "%")
    return "".join(letter if letter.isprintable() else f"%{ord(letter):02X}" for letter in plain)


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


READERS: dict[DataFormat, Reader] = {"yolo": read_folder, "coco": read_coco, "voc": read_voc}
