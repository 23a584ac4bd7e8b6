"""What an exported file says of itself: class names and input size, as Ultralytics' exporter writes them."""

from __future__ import annotations

import ast
import json
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TFLITE_ENTRIES = ("metadata.json", "temp_meta.txt")
MAX_METADATA_BYTES = 1 << 20


@dataclass(frozen=True)
class Metadata:
    """Class names in label order, and height and width of the input in pixels; None where the file does not say."""

    names: tuple[str, ...] | None = None
    imgsz: tuple[int, int] | None = None


def tflite_metadata(path: Path) -> Metadata:
    """Return what is written in the archive that the exporter appends to a TFLite file; nothing without one."""
    if not zipfile.is_zipfile(path):
        return Metadata()
    try:
        with zipfile.ZipFile(path) as archive:
            for name in TFLITE_ENTRIES:
                if name in archive.namelist() and archive.getinfo(name).file_size <= MAX_METADATA_BYTES:
                    return parse(_literal(archive.read(name).decode()))
    except (zipfile.BadZipFile, UnicodeDecodeError, OSError):  # damaged metadata says nothing; the network may be whole
        return Metadata()
    return Metadata()


def parse(values: Any) -> Metadata:
    """Return names and input size of a mapping whose values are Python literals, text of such, or JSON's."""
    if not isinstance(values, dict):
        return Metadata()
    return Metadata(_names(values), _imgsz(values))


def _names(values: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = _literal(values.get("names"))
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict):
        return None
    try:
        by_number = {int(number): str(name) for number, name in names.items()}
    except (TypeError, ValueError):
        return None
    return tuple(by_number[number] for number in sorted(by_number)) or None


def _imgsz(values: Mapping[str, Any]) -> tuple[int, int] | None:
    size = _literal(values.get("imgsz"))
    if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
        return int(size[0]), int(size[1])
    return None


def _literal(value: Any) -> Any:
    """Return what a text stands for as JSON or as a Python literal; anything else as it is."""
    if not isinstance(value, str):
        return value
    for read in (json.loads, ast.literal_eval):
        try:
            return read(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return value
