"""Progress of a training: a table that grows in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import RenderableType

    from ethos.training.epoch import Epoch

# heading, width, and how an epoch's figure is written; what is None for the first epoch has no column
COLUMNS: tuple[tuple[str, int, Callable[[Epoch], str | None]], ...] = (
    ("box", 7, lambda epoch: f"{epoch.train_box_loss:.3f}"),
    ("class", 7, lambda epoch: f"{epoch.train_cls_loss:.3f}"),
    ("dfl", 7, lambda epoch: f"{epoch.train_dfl_loss:.3f}"),
    ("distill", 7, lambda epoch: None if epoch.train_distill_loss is None else f"{epoch.train_distill_loss:.3f}"),
    ("mAP50", 7, lambda epoch: f"{epoch.map50:.3f}"),
    ("mAP50-95", 9, lambda epoch: f"{epoch.map50_95:.3f}"),
    ("lr", 8, lambda epoch: f"{epoch.lr:.2g}"),
    ("images/s", 9, lambda epoch: f"{epoch.images_per_second:.1f}"),
    ("RAM MiB", 8, lambda epoch: f"{epoch.memory_mib:.0f}"),
    ("GPU MiB", 8, lambda epoch: f"{epoch.gpu_memory_mib:.0f}" if epoch.gpu_memory_mib else None),
)
COUNTER, LEFT = ("epoch", 9), ("left", 8)
REFRESHES_PER_SECOND = 1
# lines of a terminal that the rows of a live table leave free
AROUND_THE_TABLE = 8


class Monitor(Protocol):
    """What shows a training."""

    def __call__(self, epoch: Epoch) -> None:
        """Show a finished epoch."""

    def tell(self, text: str) -> None:
        """Show a line that a user should not miss."""


class Silent:
    """Shows nothing."""

    def __call__(self, epoch: Epoch) -> None:
        """Let the epoch pass."""

    def tell(self, text: str) -> None:
        """Let the line pass."""


@contextmanager
def monitor(title: str, epochs: int, stream: TextIO) -> Iterator[Monitor]:
    """Show a training while the block runs: as a live table if the stream is a terminal, else line by line.

    Args:
        title: What is trained.
        epochs: How many epochs are planned.
        stream: Where to write.
    """
    if not stream.isatty():
        yield EpochLines(title, epochs, stream)
        return
    from rich.console import Console
    from rich.live import Live

    table = EpochTable(title, epochs)
    with Live(
        get_renderable=table.render, console=Console(file=stream), refresh_per_second=REFRESHES_PER_SECOND
    ) as live:
        # plain: a path in square brackets is no markup
        table.print = partial(live.console.print, highlight=False, markup=False, soft_wrap=True)
        table.refresh = live.refresh
        table.rows = max(live.console.height - AROUND_THE_TABLE, 1)
        yield table
        table.rows = epochs


class _Rows:
    """Writes epochs as rows of text, and reckons the time left from the mean of the epochs so far."""

    def __init__(self, title: str, epochs: int) -> None:
        self.title, self.epochs, self._seconds = title, epochs, 0.0
        self.columns: list[tuple[str, int, Callable[[Epoch], str | None]]] = []

    def row(self, epoch: Epoch) -> list[str]:
        if not self.columns:
            self.columns = [column for column in COLUMNS if column[2](epoch) is not None]
        self._seconds += epoch.seconds
        left = timedelta(seconds=round(self._seconds / epoch.epoch * (self.epochs - epoch.epoch)))
        return [f"{epoch.epoch}/{self.epochs}", *(write(epoch) or "-" for _, _, write in self.columns), str(left)]

    def headings(self) -> list[str]:
        return [COUNTER[0], *(name for name, _, _ in self.columns), LEFT[0]]

    def widths(self) -> list[int]:
        return [COUNTER[1], *(width for _, width, _ in self.columns), LEFT[1]]


class EpochLines:
    """Writes a table of epochs as they finish: mean training losses, validation scores, speed, memory, time left.

    Args:
        title: What is trained.
        epochs: How many epochs are planned.
        stream: Where to write.
    """

    def __init__(self, title: str, epochs: int, stream: TextIO) -> None:
        self._rows, self._stream, self._headed = _Rows(title, epochs), stream, False
        self._write(title)

    def __call__(self, epoch: Epoch) -> None:
        """Write one finished epoch."""
        cells = self._rows.row(epoch)
        if not self._headed:
            self._headed = True
            self._write(self._aligned(self._rows.headings()))
        self._write(self._aligned(cells))

    def tell(self, text: str) -> None:
        """Write a line between the epochs."""
        self._write(f"note: {text}")

    def _aligned(self, cells: list[str]) -> str:
        return " ".join(f"{cell:>{width}}" for cell, width in zip(cells, self._rows.widths(), strict=True))

    def _write(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class EpochTable:
    """A table of epochs that is drawn again while the next one is trained; it shows the last `rows` of them."""

    def __init__(self, title: str, epochs: int) -> None:
        self._rows, self._cells = _Rows(title, epochs), list[list[str]]()
        self._since, self.rows = time.monotonic(), epochs
        self.print: Callable[..., None] = lambda _: None
        self.refresh: Callable[[], None] = lambda: None

    def __call__(self, epoch: Epoch) -> None:
        """Add one finished epoch."""
        self._cells.append(self._rows.row(epoch))
        self._since = time.monotonic()
        self.refresh()

    def tell(self, text: str) -> None:
        """Print a line above the table."""
        self.print(f"note: {text}")

    def render(self) -> RenderableType:
        """Return the table as it stands, with how long the epoch under way has taken."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in self._rows.headings():
            table.add_column(heading, justify="right")
        for cells in self._cells[-self.rows :]:
            table.add_row(*cells)
        running = timedelta(seconds=round(time.monotonic() - self._since))
        now = f"epoch {len(self._cells) + 1}/{self._rows.epochs} since {running}"
        done = len(self._cells) == self._rows.epochs
        return Group(Text(self._rows.title), table, Text("" if done else now))
