"""What a check says, and what it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.specs import Params

Status = Literal["ok", "warn", "error"]
GIB = 1024**3


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fix` is empty where nothing is to be done."""

    name: str
    status: Status
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Subject:
    """What is examined: a project on this machine.

    Attributes:
        root: The project's folder.
        params: Its params.yaml; None if that cannot be read, which is the specs' check to say.
        fast: Start no program that takes long.
        memory_gib: Memory that must be available.
        disk_gib: Space that must be free where the project and temporary files are.
    """

    root: Path
    params: Params | None
    fast: bool
    memory_gib: float
    disk_gib: float


def enough(name: str, found: float, wanted: float, what: str, fix: str) -> Finding:
    """Return whether there is enough of something, in GiB; less than twice the wanted is a warning."""
    status: Status = "error" if found < wanted else "warn" if found < 2 * wanted else "ok"
    detail = f"{found:.1f} GiB {what}, {wanted:g} GiB wanted"
    return Finding(name, status, detail, "" if status == "ok" else fix)
