from __future__ import annotations

import json
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from ethos.errors import StoreError
from ethos.registry.ledger import FIRST, append, read

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = tmp_path / "registry/ledger.jsonl"
    for version in (1, 2, 3):
        append(ledger, {"event": "promote", "to": version})
    return ledger


def test_events_are_chained(path: Path) -> None:
    events = read(path)
    assert [event["to"] for event in events] == [1, 2, 3]
    assert [event["previous"] for event in events] == [FIRST, events[0]["sha256"], events[1]["sha256"]]
    assert len({event["sha256"] for event in events}) == 3


def test_no_ledger_holds_no_events(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == []


def _edit(lines: list[str]) -> list[str]:
    return [lines[0], json.dumps({**json.loads(lines[1]), "to": 9}), lines[2]]


TAMPERED: dict[str, tuple[Callable[[list[str]], list[str]], int]] = {
    "value changed": (_edit, 2),
    "line removed": (lambda lines: [lines[0], lines[2]], 2),
    "first line removed": (lambda lines: lines[1:], 1),
    "lines swapped": (lambda lines: [lines[0], lines[2], lines[1]], 2),
    "line repeated": (lambda lines: [*lines, lines[2]], 4),
    "line cut": (lambda lines: [*lines[:2], lines[2][:40]], 3),
    "not an object": (lambda lines: [*lines, "7"], 4),
}


@pytest.mark.parametrize(("tamper", "line"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_noticed(path: Path, tamper: Callable[[list[str]], list[str]], line: int) -> None:
    path.write_text("".join(f"{text}\n" for text in tamper(path.read_text().splitlines())))
    before = path.read_bytes()
    for use in (lambda: read(path), lambda: append(path, {"event": "promote"})):
        with pytest.raises(StoreError) as caught:
            use()
        assert caught.value.message == f"{path}:{line}: the ledger was altered: hashes do not match"
    assert path.read_bytes() == before


def test_processes_append_one_after_the_other(path: Path) -> None:
    with get_context("spawn").Pool(3) as pool:
        pool.starmap(_append_many, [(path, name) for name in "abc"])
    assert sorted(event["event"] for event in read(path)[3:]) == ["a"] * 20 + ["b"] * 20 + ["c"] * 20


def _append_many(path: Path, name: str) -> None:
    for number in range(20):
        append(path, {"event": name, "number": number})


def test_a_ledger_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("a file in its place")
    with pytest.raises(StoreError) as caught:
        append(tmp_path / "registry/ledger.jsonl", {})
    assert caught.value.message == f"{tmp_path}/registry/ledger.jsonl: cannot be written: File exists"
