"""Pictures of sizes and coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.drawings.style import COLOURS, HATCHES, finish, heat_map, name_cells, new, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = {
    "fp32": "FP32 TFLite",
    "fp16": "FP16 TFLite",
    "dynamic": "INT8 weights only",
    "int8": "full-integer INT8",
    "onnx": "ONNX",
    "weights": "weights",
}


def sizes(data: Mapping[str, Any]) -> Any:
    """Draw the sizes of each candidate's files as bars."""
    rows = data["rows"]
    kinds = [kind for kind in KINDS if any(row["bytes"].get(kind) for row in rows)]
    figure, (axes,) = new(9, 1.4 + 0.14 * max(len(rows), 2) * (len(kinds) + 1.5))
    thickness = 0.85 / max(len(kinds), 1)
    for number, kind in enumerate(kinds):
        places = [place - 0.425 + thickness * (number + 0.5) for place in range(len(rows))]
        widths = [(row["bytes"].get(kind) or 0) / 1e6 for row in rows]
        look = {"color": COLOURS[number], "hatch": HATCHES[number], "edgecolor": "white", "linewidth": 0.5}
        bars = axes.barh(places, widths, thickness, label=KINDS[kind], **look)
        axes.bar_label(bars, [f"{width:.2f}" if width else "" for width in widths], fontsize=6, padding=2)
    axes.set_yticks(range(len(rows)), [plain(row["label"]) for row in rows])
    axes.invert_yaxis()
    finish(axes, "size, MB (measured)", "", "Sizes of the files")
    axes.margins(x=0.08)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def coverage(data: Mapping[str, Any]) -> Any:
    """Draw the share of operators or MACs on each target's NPU."""
    rows, columns = data["rows"], data["columns"]
    values = [[None if value is None else 100 * value for value in row] for row in data["values"]]
    figure, (axes,) = new(3.4 + 1.15 * max(len(columns), 2), 1.5 + 0.4 * max(len(rows), 2))
    image = heat_map(axes, values, ".1f", 0, 100, cmap="cividis")
    name_cells(axes, rows, columns)
    what = {"operator": "operators", "mac": "MACs"}[data["what"]]
    axes.set_title(f"Share of {what} on the NPU, % (Vela: estimate; N78: rule)", fontsize=10, loc="left")
    figure.colorbar(image, ax=axes, label=f"% of {what}", shrink=0.9)
    return figure
