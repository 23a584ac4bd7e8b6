"""Pruning for people: the study's table with ranks and recommendations, channels by layer, and a Pareto picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.figures import COLOURS, MARKERS, new_figure, save_figure
from ethos.reporting.tables import plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from ethos.pruning.report import Row


def study_headings(rows: Sequence[Row]) -> list[str]:
    """Return the headings of the study's table."""
    cycles = [f"{target} cycles" for target in rows[0].cycles]
    return ["model", "parameters", "MMAC", "MB", "mAP50", "FPS", *cycles, "efficiency", "rank", "remarks"]


def study_cells(row: Row, on: str) -> list[str]:
    """Return a line of the study's table."""
    remarks = [
        *([] if row.within_limit else ["over the accuracy limit"]),
        *([] if row.real_time else ["not real time"]),
        *(["Pareto"] if row.pareto else []),
    ]
    return [
        row.model,
        f"{row.parameters:,}",
        f"{row.macs / 1e6:,.1f}",
        f"{row.mb:.2f}",
        f"{row.map50:.3f}",
        f"{row.fps:.1f}",
        *(f"{cycles:,}" for cycles in row.cycles.values()),
        f"{row.efficiency[on]:.2f}",
        "-" if row.rank is None else str(row.rank),
        ", ".join(remarks),
    ]


def study_table(title: str, rows: Sequence[Row], on: str) -> Table:
    """Return the study's table."""
    return plain_table(title, study_headings(rows), [study_cells(row, on) for row in rows])


def channel_table(layers: Sequence[dict[str, Any]]) -> Table:
    """Return input and output channels of each layer, before and after."""
    rows = [
        [each["name"], *(f"{before} -> {after}" for before, after in zip(each["dense"], each["pruned"], strict=True))]
        for each in layers
    ]
    return plain_table("", ["layer", "input channels", "output channels"], rows)


def draw_pareto(rows: Sequence[Row], title: str, on: str, path: Path) -> None:
    """Draw mAP50 against frames a second; those that no other beats in both are joined by a line."""
    figure, axes = new_figure()
    for index, row in enumerate(rows):
        axes.plot(
            row.fps,
            row.map50,
            label=row.model,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="none",
            markersize=8,
        )
    front = sorted((row for row in rows if row.pareto), key=lambda row: row.fps)
    axes.plot([row.fps for row in front], [row.map50 for row in front], color="grey", zorder=0, label="Pareto front")
    provenance = "measured on this CPU" if on == "cpu" else f"estimate by Vela for {on}"
    axes.set_xlabel(f"frames a second ({provenance})")
    axes.set_ylabel("mAP50 on the validation side (measured)")
    axes.set_title(title)
    save_figure(figure, axes, path)
