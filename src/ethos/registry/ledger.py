"""The promotion ledger: append-only JSON lines, each bound by its hash to the one before of the same chain.

One file serves all stores and models that a project has worked with; the events of one model in one store are a chain.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.files import sha256_json
from ethos.registry.lock import locked, unwritable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEDGER = "registry/ledger.jsonl"
SCHEMA = 1
FIRST = "0" * 64
Chain = tuple[str | None, str | None]


def append(path: Path, event: Mapping[str, Any]) -> dict[str, Any]:
    """Append an event and return it as written, see `chained`.

    Raises:
        StoreError: The ledger cannot be written, or was altered.
    """
    with locked(path):
        entry = chained(event, [other for other in read(path) if chain_of(other) == chain_of(event)])
        write(path, [entry])
    return entry


def chained(event: Mapping[str, Any], before: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the event as it is written after those `before` it in its chain.

    `sha256` is that of the event without itself, `previous` that of the event before (zeros for the first).
    """
    entry = {"schema": SCHEMA, **event, "previous": before[-1]["sha256"] if before else FIRST}
    return {**entry, "sha256": sha256_json(entry)}


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    """Append entries that `chained` made; hold the lock. On return they are on the disk."""
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    try:
        _cut_unfinished(path)
        with path.open("a", encoding="utf-8") as stream:
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def read(path: Path) -> list[dict[str, Any]]:
    """Return all events, oldest first; none if there is no ledger.

    A last line without an end was not written to its end and does not count: it was never part of the ledger.

    Raises:
        StoreError: A line was altered, removed or inserted; it says which.
    """
    events: list[dict[str, Any]] = []
    heads: dict[Chain, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        event = _read_line(line, f"{path}:{number}")
        if event.get("previous") != heads.get(chain_of(event), FIRST) or not _is_whole(event):
            raise _altered(f"{path}:{number}")
        heads[chain_of(event)] = event["sha256"]
        events.append(event)
    return events


def chain_of(event: Mapping[str, Any]) -> Chain:
    """Return which chain an event belongs to: its store's identity and its model."""
    return event.get("store"), event.get("model")


def reason(event: Mapping[str, Any]) -> str:
    """Return why an event's version was chosen; empty if it does not say. Early events have the reason outside."""
    return str(event.get("decision", event).get("reason", ""))


def latest(path: Path, model: str, scenario: str) -> dict[str, Any] | None:
    """Return the newest event of a scenario without checking the chain before it.

    Raises:
        StoreError: That event was altered.
    """
    for line in reversed(_lines(path)):
        # a cheap look spares most lines the parser
        if f'"{scenario}"' not in line:
            continue
        event = _read_line(line, str(path))
        if event.get("scenario") == scenario and event.get("model") == model:
            if not _is_whole(event):
                raise _altered(f"{path}: newest event of {scenario}")
            return event
    return None


def _cut_unfinished(path: Path) -> None:
    """Remove a last line that a killed process did not write to its end."""
    content = path.read_bytes() if path.is_file() else b""
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return text.split("\n")[:-1]


def _is_whole(event: dict[str, Any]) -> bool:
    return event.get("sha256") == sha256_json({key: value for key, value in event.items() if key != "sha256"})


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
