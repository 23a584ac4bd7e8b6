"""Pruning for people: the study's table with ranks, and channels by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.tables import plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    Row = dict[str, Any]


def study_headings(rows: Sequence[Row]) -> list[str]:
    """Return the headings of the study's table; rows are those of `ethos.pruning.report.study`."""
    cycles = [f"{target} cycles" for target in rows[0]["cycles"]]
    return ["model", "parameters", "MMAC", "MB", "mAP50", "FPS", *cycles, "efficiency", "rank", "remarks"]


def study_cells(row: Row, on: str) -> list[str]:
    """Return a line of the study's table."""
    remarks = [
        *([] if row["within_limit"] else ["over the accuracy limit"]),
        *([] if row["real_time"] else ["not real time"]),
        *(["Pareto"] if row["pareto"] else []),
    ]
    return [
        row["model"],
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:,.1f}",
        f"{row['mb']:.2f}",
        f"{row['map50']:.3f}",
        f"{row['fps']:.1f}",
        *(f"{cycles:,}" for cycles in row["cycles"].values()),
        f"{row['efficiency'][on]:.2f}",
        "-" if row["rank"] is None else str(row["rank"]),
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
