"""What a page is made of, whether it becomes Markdown or HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ethos.reporting.figure import ABSENT, Fact, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

SHORT_HASH = 12


@dataclass(frozen=True)
class Link:
    """A link to another page of the site, by the page's name, or to an address."""

    text: str
    page: str = ""
    address: str = ""


@dataclass(frozen=True)
class Digest:
    """The beginning of a hash, a commit or a run's id; it may consist of digits and is no number all the same."""

    full: str
    address: str = ""

    @property
    def text(self) -> str:
        """What is shown."""
        return self.full[:SHORT_HASH]


# what may stand between and behind figures in a column of figures
FILLERS = ("", ABSENT, " … ", " (", ")", " %", " points")
Part = str | Figure | Fact | Link | Digest
Cell = Part | tuple[Part, ...]


def parts_of(cell: Cell) -> tuple[Part, ...]:
    """Return what a cell holds, one after the other."""
    return cell if isinstance(cell, tuple) else (cell,)


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3; a page's title is level 1."""

    text: str
    level: int = 2
    kind: str = "heading"


@dataclass(frozen=True)
class Text:
    """A paragraph; `tone` is plain, note or warning."""

    cell: Cell
    tone: str = "plain"
    kind: str = "text"


@dataclass(frozen=True)
class Listing:
    """A list."""

    items: Sequence[Cell]
    kind: str = "listing"


@dataclass(frozen=True)
class Table:
    """A table; `reported` marks figures that are somebody else's."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    reported: bool = False
    kind: str = "table"

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds figures."""
        return [
            bool(self.rows)
            and all(_is_number(row[place]) for row in self.rows)
            and any(isinstance(part, Figure) for row in self.rows for part in parts_of(row[place]))
            for place in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Picture:
    """A picture that is drawn when what it shows has changed.

    Attributes:
        name: Its file's name, without suffix.
        drawing: Which drawing, a name in `ethos.reporting.drawings.DRAWINGS`.
        data: What it shows, as JSON.
    """

    name: str
    caption: str
    drawing: str
    data: Mapping[str, Any]
    kind: str = "picture"


@dataclass(frozen=True)
class Card:
    """What serves a scenario, in short."""

    title: str
    lines: Sequence[Cell]
    figures: Sequence[tuple[str, Figure]] = ()
    picture: Picture | None = None


@dataclass(frozen=True)
class Cards:
    """Cards side by side."""

    cards: Sequence[Card]
    kind: str = "cards"


Block = Heading | Text | Listing | Table | Picture | Cards


@dataclass(frozen=True)
class Page:
    """A page: its name (the file's without suffix), its title, its blocks, and what is missing on it."""

    name: str
    title: str
    blocks: Sequence[Block]
    missing: Sequence[str] = field(default=())


def pictures_of(blocks: Iterable[Block]) -> Iterator[Picture]:
    """Give the pictures of a page."""
    for block in blocks:
        if isinstance(block, Picture):
            yield block
        elif isinstance(block, Cards):
            yield from (card.picture for card in block.cards if card.picture)


def figures_of(block: Block) -> Iterator[Figure]:
    """Give the figures of a block."""
    if isinstance(block, Table):
        cells: list[Cell] = [cell for row in block.rows for cell in row]
    elif isinstance(block, Text):
        cells = [block.cell]
    elif isinstance(block, Listing):
        cells = list(block.items)
    elif isinstance(block, Cards):
        cells = [cell for card in block.cards for cell in (*card.lines, *(figure for _, figure in card.figures))]
    else:
        cells = []
    yield from (part for cell in cells for part in parts_of(cell) if isinstance(part, Figure))


def _is_number(cell: Cell) -> bool:
    """Return whether a cell holds figures alone, or nothing."""
    return all(isinstance(part, Figure) or part in FILLERS for part in parts_of(cell))
