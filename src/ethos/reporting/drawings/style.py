"""How pictures look: readable without colour, by the colour-blind, and with units on every axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Okabe and Ito's palette for colour-blind readers; shapes, dashes and hatches tell the same without colour
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p", "d", "8")
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
INK, FAINT = "#1a1a1a", "#888888"
HEAT = "cividis_r"
DPI = 110


def new(width: float, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Any, Any]:
    """Return a figure and its axes as a flat list; sizes are in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **layout)
    return figure, list(axes.flat)


def finish(axes: Any, across: str, up: str, title: str = "") -> None:
    """Name the axes, draw a faint grid, and leave out the box around the picture."""
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.set_title(plain(title), fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def plain(text: str) -> str:
    """Return text that is neither taken for a formula nor broken in XML."""
    return "".join(each if each.isprintable() else "?" for each in text).replace("$", r"\$")


def line_style(place: int) -> dict[str, Any]:
    """Return colour, dash and marker of a line; the first 28 differ in one of them at least without colour."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": DASHES[place % len(DASHES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 4,
    }


def save(figure: Any, stem: Path) -> None:
    """Write a picture as STEM.svg and STEM.png; the same figure gives the same bytes."""
    import matplotlib as mpl

    # laid out once, not once for each format
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine("none")
    # without a date and with names of its own the same data gives the same file
    with mpl.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        figure.savefig(stem.with_name(f"{stem.name}.svg"), format="svg", metadata={"Date": None})
    figure.savefig(stem.with_name(f"{stem.name}.png"), format="png", dpi=DPI, metadata={"Software": None})


def heat_map(axes: Any, values: list[list[float | None]], form: str, low: float, high: float, cmap: str = HEAT) -> Any:
    """Draw a table as a heat map with each figure written in its cell, so that it reads without colour."""
    import math

    shown = [[math.nan if value is None else value for value in row] for row in values]
    image = axes.imshow(shown, cmap=cmap, aspect="auto", vmin=low, vmax=max(high, low + 1e-9))
    for down, row in enumerate(values):
        for across, value in enumerate(row):
            text = "-" if value is None else _signless_zero(format(value, form))
            dark = value is not None and _is_dark(image.cmap(image.norm(value)))
            axes.text(across, down, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    return image


def _signless_zero(text: str) -> str:
    return text if any(digit in "123456789" for digit in text) else text.lstrip("+-")


def name_cells(axes: Any, rows: list[str], columns: list[str]) -> None:
    """Name the rows and columns of a heat map."""
    axes.set_xticks(range(len(columns)), [plain(each) for each in columns], rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), [plain(each) for each in rows], fontsize=8)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


def _is_dark(colour: Any) -> bool:
    red, green, blue = colour[:3]
    # relative luminance of sRGB, without its exponent (close enough to choose black or white)
    return bool(0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5)
