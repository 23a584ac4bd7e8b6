"""What a page is made of, whether it becomes Markdown, HTML or a terminal's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PROVENANCE = (
    "Provenance: estimate - by the compiler named, never a hardware measurement; rule - from the operator rules of a "
    "driver release, or computed from the file; expected - from published or earlier figures, not checked on this file."
)


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    text: str
    level: int = 2
    kind: str = "heading"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """A table of plain text; columns but the first are aligned to the right if `numeric`."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Picture:
    """A picture with what it shows."""

    caption: str
    svg: str
    kind: str = "picture"


Block = Heading | Text | Table | Picture
