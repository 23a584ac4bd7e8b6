"""Pictures of a pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.drawings.style import COLOURS, FAINT, MARKERS, finish, new, plain

if TYPE_CHECKING:
    from collections.abc import Mapping


def steps(data: Mapping[str, Any]) -> Any:
    """Draw mAP50 against frames a second of the dense network and each step, and the line that nothing is better than.

    `rows` are those of `ethos.pruning.report.study_rows`, `on` says where the frames a second are from.
    """
    figure, (axes,) = new(8.5, 4.6)
    front = sorted((row["fps"], row["map50"]) for row in data["rows"] if row["pareto"])
    axes.plot(*zip(*front, strict=True), color=FAINT, linestyle="--", linewidth=1, zorder=1, label="nothing is better")
    for place, row in enumerate(data["rows"]):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        axes.plot(
            [row["fps"]],
            [row["map50"]],
            color=colour,
            marker=marker,
            markersize=8,
            linestyle="none",
            label=plain(row["model"]),
        )
    on = "measured on the CPU" if data["on"] == "cpu" else f"estimate by Vela for {data['on']}"
    finish(axes, plain(f"frames a second ({on})"), "mAP50 on the validation side (measured)", data["title"])
    axes.margins(x=0.12, y=0.15)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
