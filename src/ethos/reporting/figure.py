"""A figure: a number with where it was read, what it is worth, and the precision it is shown at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ABSENT = "-"


@dataclass(frozen=True)
class Format:
    """How a figure is shown: `value * scale` with that many decimals, then the unit."""

    digits: int
    unit: str = ""
    scale: float = 1.0
    signed: bool = False

    def text(self, value: float) -> str:
        """Return the number as text, without its unit; what rounds to nothing has no sign."""
        text = f"{value * self.scale:{'+' if self.signed else ''},.{self.digits}f}"
        return text if any(digit in "123456789" for digit in text) else text.lstrip("+-")


FORMATS: dict[str, Format] = {
    "score": Format(3),
    "points": Format(2, "points", 100, signed=True),
    "points_given": Format(2, "points", 100),
    "percent": Format(1, "%", 100),
    "percent_given": Format(1, "%"),
    "change": Format(1, "%", 100, signed=True),
    "count": Format(0),
    "loss": Format(3),
    "rate": Format(6),
    "ms": Format(2, "ms"),
    "fps": Format(1, "1/s"),
    "seconds": Format(1, "s"),
    "minutes": Format(0, "min"),
    "kib": Format(0, "KiB"),
    "kib_of_bytes": Format(0, "KiB", 1 / 1024),
    "mb": Format(1, "MB"),
    "mb_fine": Format(2, "MB"),
    "mib": Format(0, "MiB"),
    "gmac": Format(3, "GMAC", 1e-9),
    "cycles": Format(0, "cycles"),
    "efficiency": Format(2),
}
# what a figure makes of the values it was read from
OPERATIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "value": lambda values: values[0],
    "difference": lambda values: values[0] - values[1],
    "ratio": lambda values: values[0] / values[1],
    "change": lambda values: values[0] / values[1] - 1,
    "largest": max,
    "least": min,
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
}


@dataclass(frozen=True)
class Origin:
    """What a figure is bound to.

    Attributes:
        provenance: measured, estimate, rule or declared.
        sha256: Hash of the file that it is about.
        protocol: Hash of the protocol of a score, else empty.
        version: The registered version, if it belongs to one.
        run_id: The MLflow run, if it was read from one.
    """

    provenance: str = ""
    sha256: str = ""
    protocol: str = ""
    version: int | None = None
    run_id: str = ""


@dataclass(frozen=True)
class Figure:
    """A number on a page.

    Attributes:
        value: None if it was not recorded.
        sources: Locators it was read from; see `ethos.reporting.evidence`.
        style: Name of its format in FORMATS.
        operation: Name in OPERATIONS: what was made of the sources' values.
    """

    value: float | None
    sources: tuple[str, ...]
    style: str
    operation: str = "value"
    origin: Origin = field(default_factory=Origin)

    @property
    def format(self) -> Format:
        """How it is shown."""
        return FORMATS[self.style]

    @property
    def text(self) -> str:
        """The number as it is shown, without its unit."""
        return ABSENT if self.value is None else self.format.text(self.value)

    @property
    def with_unit(self) -> str:
        """The number as it is shown, with its unit."""
        return " ".join(filter(None, (self.text, self.format.unit))) if self.value is not None else ABSENT


@dataclass(frozen=True)
class Fact:
    """A text on a page that was read from a record, such as a setting or a tool's version."""

    text: str
    sources: tuple[str, ...]
    origin: Origin = field(default_factory=Origin)


def calculate(operation: str, values: Sequence[float | None]) -> float | None:
    """Return what an operation makes of values; None if one of them is unknown or it divides by nothing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    try:
        return float(OPERATIONS[operation](known))
    except ZeroDivisionError:
        return None
