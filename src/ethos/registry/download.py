"""The files to deploy: fetched one by one, each checked against its registered hash, complete or not there."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.files import read_json, sha256_file
from ethos.registry.artifact import REGISTER_AGAIN
from ethos.registry.candidate import CARD, LICENCE, MANIFEST, VELA
from ethos.registry.live import live
from ethos.registry.policy import find_scenario
from ethos.registry.records import INT8, MANIFEST_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store
    from ethos.specs import Policy

DEPLOYED = (INT8, "labels.txt", "decode.json", "decode.h", CARD)


def download(
    store: Store,
    policy: Policy,
    model: str,
    name: str,
    folder: Path,
    strict: bool = False,
    target: str | None = None,
    root: Path | None = None,
) -> dict[str, Any]:
    """Write the files that a device needs into `folder`, each with the hash that was registered, or nothing at all.

    Files arrive in a folder `.NAME.part` beside it. Where that was interrupted, doing it again goes on: what lies there
    with the right hash is not fetched again.

    Returns:
        The select document, with `download`: the folder, its files, and those that were there from an earlier attempt.

    Raises:
        StoreError: The folder is not empty or not writable, or a file is missing or altered. Others as `live`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder}: is there already and not empty", "name a new folder, or remove that one")
    answer = live(store, policy, model, name, strict, target, root)
    record = store.version(model, answer["version"])
    try:
        with _partial(folder) as part:
            wanted = _wanted(store, record, part, target or find_scenario(policy, name).target)
            kept = [file for file in wanted if _fetch(store, record, part, file, wanted[file]["sha256"])]
            _remove_others(part, {*wanted, MANIFEST})
            if folder.exists():
                folder.rmdir()
            part.rename(folder)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}", "name a folder you can write to") from None
    return {**answer, "download": {"folder": str(folder), "files": [*wanted, MANIFEST], "kept": kept}}


class Damaged(StoreError):
    """A version's files are not what was registered; nothing of them is kept."""


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """Give the folder in which the files of a download arrive; one process at a time uses it."""
    part = folder.absolute().with_name(f".{folder.absolute().name}.part")
    part.mkdir(parents=True, exist_ok=True)
    handle = os.open(part, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield part
    except BlockingIOError:
        raise StoreError(f"{folder}: another process is downloading there", "wait for it") from None
    except Damaged:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        os.close(handle)


def _wanted(store: Store, record: VersionRecord, part: Path, target: str) -> dict[str, Any]:
    """Return the entries of the version's manifest that are deployed on a target; the manifest lies in `part` then.

    The manifest must be the one registered, and about the INT8 file that the version's own tags name.
    """
    _bring(store, record, MANIFEST, part / MANIFEST)
    try:
        files: dict[str, Any] = read_json(part / MANIFEST)["files"]
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{record.label}: its {MANIFEST} is unreadable", REGISTER_AGAIN) from None
    if files.get(INT8, {}).get("sha256") != record.artifact_sha256:
        raise Damaged(f"{record.label}: its {MANIFEST} is about another INT8 file", REGISTER_AGAIN)
    registered = record.tags.get(MANIFEST_TAG)
    if registered is not None and sha256_file(part / MANIFEST) != registered:
        raise Damaged(f"{record.label}: its {MANIFEST} was altered", REGISTER_AGAIN)
    compiled = f"{VELA}/{target}.tflite"
    names = [*DEPLOYED, *(name for name in (LICENCE, compiled) if name in files)]
    if absent := [name for name in names if name not in files]:
        raise Damaged(f"{record.label}: its {MANIFEST} lacks {', '.join(absent)}", REGISTER_AGAIN)
    return {name: files[name] for name in names}


def _fetch(store: Store, record: VersionRecord, part: Path, name: str, sha256: str) -> bool:
    """Bring a file into `part`, with the right hash; return whether it was there already."""
    place = part / name
    if place.is_file() and sha256_file(place) == sha256:
        return True
    arriving = place.with_name(f"{place.name}.arriving")
    _bring(store, record, name, arriving)
    if sha256_file(arriving) != sha256:
        raise Damaged(f"{record.label}: {name} was altered: {store.file_place(record, name)}", REGISTER_AGAIN)
    arriving.replace(place)
    return False


def _bring(store: Store, record: VersionRecord, name: str, place: Path) -> None:
    """Copy a file from the store; a store elsewhere that fails may be asked again later, so nothing is thrown away."""
    try:
        store.fetch(record, name, place)
    except StoreError as error:
        if Path(store.file_place(record, name)).is_absolute():
            raise Damaged(error.message, error.fix) from None
        raise


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove what an earlier download of another version left in the partial folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
