"""The promotion ledger: append-only JSON lines, each bound to the one before by its hash."""

from __future__ import annotations

import fcntl
import json
import os
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.files import sha256_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEDGER = "registry/ledger.jsonl"
SCHEMA = 1
FIRST = "0" * 64


def append(path: Path, event: Mapping[str, Any]) -> dict[str, Any]:
    """Append an event and return it as written: with `schema`, `previous` and `sha256`.

    `sha256` is that of the event without itself, `previous` that of the event before (zeros for the first).

    Raises:
        StoreError: The ledger cannot be written, or was altered.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            events = _parse(stream.read(), path)
            entry = {"schema": SCHEMA, **event, "previous": events[-1]["sha256"] if events else FIRST}
            entry["sha256"] = sha256_json(entry)
            stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}", "make the folder writable") from None
    return entry


def read(path: Path) -> list[dict[str, Any]]:
    """Return all events, oldest first; none if there is no ledger.

    Raises:
        StoreError: A line was altered, removed or inserted; it says which.
    """
    return _parse(path.read_text(encoding="utf-8"), path) if path.is_file() else []


def _parse(text: str, path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    previous = FIRST
    for number, line in enumerate(text.splitlines(), start=1):
        event = _read_line(line, f"{path}:{number}")
        body = {key: value for key, value in event.items() if key != "sha256"}
        if event.get("previous") != previous or event.get("sha256") != sha256_json(body):
            raise _altered(f"{path}:{number}")
        previous = event["sha256"]
        events.append(event)
    return events


def _read_line(line: str, where: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        raise _altered(where) from None
    if not isinstance(event, dict):
        raise _altered(where)
    return event


def _altered(where: str) -> StoreError:
    return StoreError(f"{where}: the ledger was altered: hashes do not match", "restore the file from a backup")
