"""Read a YOLO-format folder: its data.yaml, its images and their labels, and nothing outside of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ethos.errors import DataError
from ethos.specs import FolderSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.data.manifest import Side

DATA_FILE = "data.yaml"
SIDE_KEYS: dict[Side, tuple[str, ...]] = {"train": ("train",), "val": ("val", "valid", "validation")}
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True)
class Found:
    """An image of the source with its label file (None where there is none) and the side the source has it on."""

    image: Path
    label: Path | None
    side: Side


def find_root(source: FolderSource) -> Path:
    """Return the source's folder.

    Raises:
        DataError: The environment variable is not set, or the folder is not there.
    """
    if source.root_env is not None:
        text = os.environ.get(source.root_env, "")
        if not text:
            raise DataError(
                f"environment variable {source.root_env} is not set",
                f"export {source.root_env}=FOLDER with {DATA_FILE}",
            )
        shown = f"{source.root_env}={text}"
    else:
        shown = text = str(source.root)
    root = Path(text).expanduser()
    if not root.is_dir():
        raise DataError(f"{shown}: no such folder", f"name the folder that holds {DATA_FILE}")
    return root.resolve()


def read_folder(root: Path, classes: Sequence[str]) -> tuple[list[Found], list[Path]]:
    """Return the images of a YOLO folder in the order of their paths, and label files that belong to no image.

    Raises:
        DataError: data.yaml is missing, malformed, has other classes or leads out of the folder; or there are no
            images.
    """
    data = _read_data_file(root / DATA_FILE)
    _compare_names(data.get("names"), classes, root / DATA_FILE)
    found: list[Found] = []
    orphans: list[Path] = []
    for side, keys in SIDE_KEYS.items():
        for folder in _side_folders(data, keys, root):
            images, unused = _pair(folder, _label_folder(folder, root), side, root)
            found += images
            orphans += unused
    if not found:
        fix = f"correct 'train:' and 'val:' in {DATA_FILE}"
        raise DataError(f"{root}: no images in the folders that {DATA_FILE} names", fix)
    return found, orphans


def _read_data_file(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", "a YOLO folder holds one with 'train:', 'val:' and 'names:'") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}", "correct the file") from None
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected a mapping of keys", "write 'train:', 'val:' and 'names:'")
    return data


def read_names(root: Path) -> tuple[str, ...]:
    """Return the class names of a YOLO folder, in label order.

    Raises:
        DataError: The folder or its data.yaml is missing or malformed.
    """
    path = find_root(FolderSource(type="folder", root=str(root))) / DATA_FILE
    return _listed(_read_data_file(path).get("names"), path)


def _listed(names: Any, path: Path) -> tuple[str, ...]:
    """Return names given as a list, or as a mapping from 0, 1, 2, ..., in their order."""
    if isinstance(names, dict) and {str(key) for key in names} == {str(place) for place in range(len(names))}:
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: 'names' is neither a list nor a mapping from 0, 1, 2, ...", "list the classes there")
    return tuple(map(str, names))


def _compare_names(names: Any, classes: Sequence[str], path: Path) -> None:
    """Refuse a data.yaml whose classes are not those of the spec, in their order."""
    names = _listed(names, path)
    fix = "write the same classes in the same order in the data set's spec"
    if len(names) != len(classes):
        raise DataError(f"{path}: {len(names)} classes where the spec has {len(classes)}", fix)
    for place, (given, wanted) in enumerate(zip(names, classes, strict=True)):
        if given != wanted:
            raise DataError(f"{path}: class {place} is '{given}' where the spec has '{wanted}'", fix)


def _side_folders(data: dict[str, Any], keys: tuple[str, ...], root: Path) -> list[Path]:
    """Return the image folders that data.yaml names for one side."""
    given: Any = next((data[key] for key in keys if data.get(key)), [])
    entries = given if isinstance(given, list) else [given]
    return [_side_folder(str(entry), str(data.get("path") or "."), root) for entry in entries]


def _side_folder(entry: str, base: str, root: Path) -> Path:
    """Return one image folder inside the root.

    Roboflow writes `../train/images` for a folder beside data.yaml, and `path` is often that of another machine, so
    the places tried are: under `path`, under the root, and under the root without leading `..`.
    """
    plain = entry.lstrip("./")
    places = [(root / base / entry), (root / entry), (root / plain)]
    inside = [place.resolve() for place in places if place.resolve().is_relative_to(root)]
    folder = next((place for place in inside if place.is_dir()), None)
    if folder is None:
        raise DataError(
            f"{root / DATA_FILE}: no folder '{entry}' inside {root}", f"name a folder of images relative to {DATA_FILE}"
        )
    nested = folder / "images"
    return nested if nested.is_dir() and folder.name != "images" else folder


def _label_folder(images: Path, root: Path) -> Path:
    """Return the folder of labels: the image folder's path with its last `images` turned into `labels`."""
    parts = list(images.relative_to(root).parts)
    places = [place for place, part in enumerate(parts) if part == "images"]
    if not places:
        return images
    parts[places[-1]] = "labels"
    return root.joinpath(*parts)


def _pair(images: Path, labels: Path, side: Side, root: Path) -> tuple[list[Found], list[Path]]:
    """Return the images under a folder with their labels, and the labels left over."""
    unused = {path for path in _files(labels, root) if path.suffix.lower() == ".txt"}
    found = []
    for image in _files(images, root):
        if image.suffix.lower() in IMAGE_SUFFIXES:
            label = (labels / image.relative_to(images)).with_suffix(".txt")
            found.append(Found(image, label if label in unused else None, side))
    unused -= {each.label for each in found if each.label is not None}
    # with images and labels in one folder, a text file may be anything
    return found, [] if images == labels else sorted(unused)


def _files(folder: Path, root: Path) -> list[Path]:
    """Return the files under a folder, sorted; a link that leads out of the root is refused."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    for path in files:
        if not path.resolve().is_relative_to(root):
            raise DataError(f"{path}: leads out of {root}", "replace the link by the file itself")
    return files
