"""Figures of a run, as SVG: readable without colour, axes with units."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.reporting.summary import Summary

# distinct in shape and dash as well as in colour (Okabe and Ito's palette for colour-blind readers)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")


def draw_curves(summary: Summary, outputs: Path, path: Path) -> None:
    """Draw mAP50 on the validation side over epochs, one line a variant."""
    figure, axes = new_figure()
    for index, variant in enumerate(dict.fromkeys(row.variant for row in summary.rows)):
        with (outputs / "train" / variant / "epochs.csv").open(encoding="utf-8", newline="") as stream:
            epochs = list(csv.DictReader(stream))
        axes.plot(
            [int(row["epoch"]) for row in epochs],
            [float(row["map50"]) for row in epochs],
            label=variant,
            color=COLOURS[index % len(COLOURS)],
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel("mAP50 on the validation side (measured)")
    axes.set_title("Training")
    save_figure(figure, axes, path)


def draw_accuracy_latency(summary: Summary, target: str, path: Path) -> None:
    """Draw the INT8 files' mAP50 against their estimated latency on a target, one mark a candidate."""
    figure, axes = new_figure()
    for index, row in enumerate(summary.rows):
        axes.plot(
            row.npu[target]["latency_ms"],
            row.int8_map50,
            label=f"{row.variant} ({row.form})",
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="none",
            markersize=8,
        )
    axes.set_xlabel(f"latency on {target}, ms (estimate by Vela)")
    axes.set_ylabel("mAP50 of the INT8 file (measured)")
    axes.set_title("Accuracy against latency")
    save_figure(figure, axes, path)


def new_figure() -> tuple[Any, Any]:
    """Return an empty figure and its axes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def save_figure(figure: Any, axes: Any, path: Path) -> None:
    """Write a figure as SVG, its legend beside it."""
    axes.grid(visible=True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    from matplotlib import rc_context

    # with neither a date nor random identifiers the same run gives the same bytes
    with rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path, format="svg", metadata={"Date": None})
