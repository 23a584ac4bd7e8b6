"""A version's INT8 file: whether it is there and is the one that was registered."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ethos.errors import StoreError
from ethos.files import sha256_file
from ethos.registry.records import INT8

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store

REGISTER_AGAIN = "register it again: dvc repro"


def check_int8(store: Store, record: VersionRecord) -> None:
    """Raise StoreError unless a version's INT8 file has the hash that was registered; a remote one is fetched."""
    place = store.file_place(record, INT8)
    if Path(place).is_absolute():
        check_local(record, Path(place))
        return
    with tempfile.TemporaryDirectory(prefix="ethos-") as folder:
        check_local(record, store.fetch(record, INT8, Path(folder) / INT8))


def check_present(store: Store, record: VersionRecord) -> str:
    """Return where a version's INT8 file lies; its hash is checked where it is on this machine, else its size.

    Raises:
        StoreError: The file is missing or altered.
    """
    place = store.file_place(record, INT8)
    if Path(place).is_absolute():
        check_local(record, Path(place))
        return place
    size = store.remote_size(record, INT8)
    if size is None:
        raise gone(record, place)
    recorded = record.figures.get("size.int8_kib")
    if recorded is not None and size != round(recorded * 1024):
        raise altered(record, place)
    return place


def check_local(record: VersionRecord, path: Path) -> None:
    """Raise StoreError unless a file on this machine is the version's INT8 file."""
    if not path.is_file():
        raise gone(record, path)
    if sha256_file(path) != record.artifact_sha256:
        raise altered(record, path)


def gone(record: VersionRecord, place: Path | str) -> StoreError:
    """Return the error of a file that is not there."""
    return StoreError(f"{record.label}: its INT8 file is gone: {place}", REGISTER_AGAIN)


def altered(record: VersionRecord, place: Path | str) -> StoreError:
    """Return the error of a file with other bytes."""
    return StoreError(f"{record.label}: its INT8 file was altered: {place}", REGISTER_AGAIN)
