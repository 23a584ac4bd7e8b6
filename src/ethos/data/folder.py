"""Read a YOLO-format folder: its data.yaml, its images and their labels, and nothing outside of it.

data.yaml names folders of images (`train/images` or `images/train`) or text files that list images, one path a line.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.data.data_file import DATA_FILE, class_names, read_data_file
from ethos.data.found import Found, in_project, inside_files
from ethos.data.manifest import IMAGE_SUFFIXES
from ethos.errors import DataError
from ethos.specs import FolderSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.data.manifest import Side

LIST_SUFFIX = ".txt"
SIDE_KEYS: dict[Side, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}


def find_root(source: FolderSource) -> Path:
    """Return the source's folder.

    Raises:
        DataError: The environment variable is not set, or the folder is not there.
    """
    if source.root_env is not None:
        text = os.environ.get(source.root_env, "")
        if not text:
            holding = f" with {DATA_FILE}" if source.format == "yolo" else ""
            raise DataError(
                f"environment variable {source.root_env} is not set", f"export {source.root_env}=FOLDER{holding}"
            )
        shown = f"{source.root_env}={text}"
    else:
        shown = text = str(source.root)
    root = in_project(text) if source.root_env is None else Path(text).expanduser()
    if not root.is_dir():
        holding = DATA_FILE if source.format == "yolo" else "the data set"
        raise DataError(f"{shown}: no such folder", f"name the folder that holds {holding}")
    return root.resolve()


def read_folder(root: Path, classes: Sequence[str]) -> tuple[list[Found], list[Path]]:
    """Return the images of a YOLO folder in the order of their paths, and label files that belong to no image.

    Raises:
        DataError: data.yaml is missing, malformed, has other classes or leads out of the folder; or there are no
            images.
    """
    data = read_data_file(root / DATA_FILE)
    _compare_names(class_names(data, root / DATA_FILE), classes, root / DATA_FILE)
    base = str(data.get("path") or ".")
    found: list[Found] = []
    orphans: list[Path] = []
    for side, keys in SIDE_KEYS.items():
        for entry in _entries(data, keys):
            if entry.endswith(LIST_SUFFIX):
                found += _read_list(_inside(entry, base, root), side, base, root)
            elif side != "test" or _inside_or_none(entry, base, root):
                # exports name a test folder also where there is none
                folder = _images_in(_inside(entry, base, root))
                images, unused = _pair(folder, _label_place(folder, root), side, root)
                found += images
                orphans += unused
    if not found:
        fix = f"correct 'train:' and 'val:' in {DATA_FILE}"
        raise DataError(f"{root}: no images in the folders that {DATA_FILE} names", fix)
    return found, orphans


def read_names(root: Path) -> tuple[str, ...]:
    """Return the class names of a YOLO folder, in label order.

    Raises:
        DataError: The folder or its data.yaml is missing or malformed.
    """
    path = find_root(FolderSource(type="folder", root=str(root))) / DATA_FILE
    return class_names(read_data_file(path), path)


def _compare_names(names: Sequence[str], classes: Sequence[str], path: Path) -> None:
    """Refuse a data.yaml whose classes are not those of the spec, in their order."""
    fix = "write the same classes in the same order in the data set's spec"
    if len(names) != len(classes):
        raise DataError(f"{path}: {len(names)} classes where the spec has {len(classes)}", fix)
    for place, (given, wanted) in enumerate(zip(names, classes, strict=True)):
        if given != wanted:
            raise DataError(f"{path}: class {place} is '{given}' where the spec has '{wanted}'", fix)


def _entries(data: dict[str, Any], keys: tuple[str, ...]) -> list[str]:
    """Return the folders or lists that data.yaml names for one side."""
    given: Any = next((data[key] for key in keys if data.get(key)), [])
    return [str(entry) for entry in (given if isinstance(given, list) else [given])]


def _inside(entry: str, base: str, root: Path) -> Path:
    """Return the folder, or list, that data.yaml names; it is inside the root."""
    place = _inside_or_none(entry, base, root)
    if place is None:
        kind, what = ("list", "a text file") if entry.endswith(LIST_SUFFIX) else ("folder", "a folder of images")
        raise DataError(
            f"{root / DATA_FILE}: no {kind} '{entry}' inside {root}", f"name {what} relative to {DATA_FILE}"
        )
    return place


def _inside_or_none(entry: str, base: str, root: Path) -> Path | None:
    """Return the first place inside the root that the entry may mean.

    Roboflow writes `../train/images` for a folder beside data.yaml, and `path` is often that of another machine, so
    the places tried are: under `path`, under the root, and under the root without leading `..`.
    """
    places = [(root / base / entry), (root / entry), (root / entry.lstrip("./"))]
    inside = [place.resolve() for place in places if place.resolve().is_relative_to(root)]
    is_there = Path.is_file if entry.endswith(LIST_SUFFIX) else Path.is_dir
    return next((place for place in inside if is_there(place)), None)


def _images_in(folder: Path) -> Path:
    nested = folder / "images"
    return nested if nested.is_dir() and folder.name != "images" else folder


def _read_list(path: Path, side: Side, base: str, root: Path) -> list[Found]:
    """Return the images that a text file lists, one path a line, relative to the data set or to the file itself."""
    found = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}", "a list of images is text in UTF-8") from None
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry:
            continue
        places = [place.absolute() for place in (root / base / entry, root / entry, path.parent / entry)]
        image = next((place for place in places if place.is_file() and place.resolve().is_relative_to(root)), None)
        if image is None:
            fix = f"list images inside {root}, relative to it or to the list"
            raise DataError(f"{path}:{number}: no image '{entry}' inside {root}", fix)
        image = Path(os.path.normpath(image))
        label = _label_place(image, root).with_suffix(".txt")
        found.append(Found(image, side, label if label.is_file() else None))
    return found


def _label_place(images: Path, root: Path) -> Path:
    """Return where labels are kept: the path with the last folder named `images` turned into `labels`."""
    if not images.is_relative_to(root):
        return images
    parts = list(images.relative_to(root).parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if not places:
        return images
    parts[places[-1]] = "labels"
    return root.joinpath(*parts)


def _pair(images: Path, labels: Path, side: Side, root: Path) -> tuple[list[Found], list[Path]]:
    """Return the images under a folder with their labels, and the labels left over."""
    unused = {
        _plain(path.relative_to(labels)): path for path in inside_files(labels, root) if path.suffix.lower() == ".txt"
    }
    taken = set()
    found = []
    for image in inside_files(images, root):
        if image.suffix.lower() in IMAGE_SUFFIXES:
            name = _plain(image.relative_to(images).with_suffix(".txt"))
            taken.add(name)
            found.append(Found(image, side, unused.get(name)))
    # with images and labels in one folder, a text file may be anything
    return found, [] if images == labels else [path for name, path in unused.items() if name not in taken]


def _plain(path: Path) -> str:
    """Return a path in one Unicode form; some systems write a letter with its accent, or a syllable, in parts."""
    return unicodedata.normalize("NFC", path.as_posix()).removesuffix(path.suffix) + ".txt"
