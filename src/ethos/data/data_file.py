"""data.yaml, in which a YOLO-format folder names its images and classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from ethos.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

DATA_FILE = "data.yaml"
FIX = "name a data.yaml of YOLO's format, with 'train:', 'val:' and 'names:'"


def read_data_file(path: Path) -> dict[str, Any]:
    """Return what a data.yaml holds.

    Raises:
        DataError: It is missing, cannot be read, or is no mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file", FIX) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", FIX) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}", "correct the file") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a mapping of keys", FIX)
    return document


def class_names(document: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return the names in label order; YOLO writes them as a list, or as a mapping from 0, 1, 2, ...

    Raises:
        DataError: They are neither.
    """
    names = document.get("names")
    if isinstance(names, dict) and {str(key) for key in names} == {str(place) for place in range(len(names))}:
        names = [names[key] for key in sorted(names, key=int)]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: 'names' is neither a list nor a mapping from 0, 1, 2, ...", "list the classes there")
    return tuple(map(str, names))
