"""What a source is found to hold, before anything is copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ethos import catalog
from ethos.errors import DataError, SpecError

if TYPE_CHECKING:
    from ethos.data.manifest import Side


@dataclass(frozen=True)
class Found:
    """An image of the source with its boxes and the side that the source has it on.

    Attributes:
        image: The file.
        side: Where the source has it.
        label: Its YOLO label file; None where there is none or the source has no such files.
        boxes: Class, left, top, right, bottom in pixels, where the source is not YOLO's.
        size: Width and height in pixels that the source states beside the boxes.
        malformed: Entries of the source that are no boxes, as text.
    """

    image: Path
    side: Side
    label: Path | None = None
    boxes: tuple[tuple[int, float, float, float, float], ...] | None = None
    size: tuple[int, int] | None = None
    malformed: tuple[str, ...] = ()


def in_project(text: str) -> Path:
    """Return a path that a spec gives relative to the project; outside of one, relative to the working directory."""
    path = Path(text).expanduser()
    if path.is_absolute():
        return path
    try:
        return catalog.project_root() / path
    except SpecError:
        return path


def inside_files(folder: Path, root: Path) -> list[Path]:
    """Return the files under a folder, sorted; a link that leads out of the root, or nowhere, is refused."""
    files = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_symlink() and not path.exists():
            raise DataError(f"{path}: a link that leads nowhere", "replace it by the file itself, or remove it")
        if path.is_file():
            if not path.resolve().is_relative_to(root):
                raise DataError(f"{path}: leads out of {root}", "replace the link by the file itself")
            files.append(path)
    return files


def side_of(text: str) -> Side | None:
    """Return the side that a folder's or file's name speaks of; None if it speaks of none or of several."""
    words = text.lower()
    sides = {side for side, parts in SIDE_WORDS.items() if any(part in words for part in parts)}
    return sides.pop() if len(sides) == 1 else None


SIDE_WORDS: dict[Side, tuple[str, ...]] = {"train": ("train",), "val": ("val",), "test": ("test",)}
