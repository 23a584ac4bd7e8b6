"""Pictures of scores: accuracy against latency, INT8's loss by class, confusion matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.drawings.style import COLOURS, FAINT, INK, MARKERS, finish, heat_map, name_cells, new, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray


def pareto(data: Mapping[str, Any]) -> Any:
    """Draw the INT8 files' mAP50 against latency, with 95 % intervals, and the line that nothing is better than."""
    figure, (axes,) = new(8.5, 4.6)
    points: Sequence[Mapping[str, Any]] = data["points"]
    front = front_of([(point["latency_ms"], point["map50"]) for point in points])
    axes.plot(*zip(*front, strict=True), color=FAINT, linestyle="--", linewidth=1, zorder=1, label="nothing is better")
    for place, point in enumerate(points):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        across, up = point["latency_ms"], point["map50"]
        if point["interval"]:
            low, high = point["interval"]
            # a percentile interval need not hold the score itself
            bars = [[max(up - low, 0)], [max(high - up, 0)]]
            axes.errorbar([across], [up], yerr=bars, color=colour, capsize=3, linewidth=1, fmt="none", zorder=2)
        name = point["label"] if point["serves"] in ("", "-") else f"{point['label']} [{point['serves']}]"
        axes.plot([across], [up], color=colour, marker=marker, markersize=8, linestyle="none", label=plain(name))
        axes.annotate(str(place + 1), (across, up), textcoords="offset points", xytext=(7, 5), fontsize=8, color=INK)
    word = "estimate by Vela" if data["provenance"] == "estimate" else data["provenance"]
    finish(axes, plain(f"latency on {data['target']}, ms ({word})"), "mAP50 of the INT8 file (measured)")
    axes.set_title(plain(f"Accuracy against latency on {data['target']}"), fontsize=10, loc="left")
    axes.margins(x=0.12, y=0.15)
    handles, labels = axes.get_legend_handles_labels()
    numbered = [labels[0], *(f"{number} {label}" for number, label in enumerate(labels[1:], start=1))]
    axes.legend(handles, numbered, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def front_of(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points (latency, score) that no other one beats in both, from the fastest on."""
    front: list[tuple[float, float]] = []
    for latency, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((latency, score))
    return front


def class_loss(data: Mapping[str, Any]) -> Any:
    """Draw what INT8 takes from each class's mAP50, in points; minus is a loss."""
    rows = data["rows"]
    classes = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    values = [[_change(row["scores"].get(name)) for name in classes] for row in rows]
    most = max((abs(value) for row in values for value in row if value is not None), default=0.0)
    figure, (axes,) = new(3.2 + 0.75 * max(len(classes), 4), 1.6 + 0.42 * max(len(rows), 2))
    image = heat_map(axes, values, "+.1f", -max(most, 1.0), max(most, 1.0), cmap="PuOr")
    name_cells(axes, [row["label"] for row in rows], classes)
    axes.set_title("INT8 less FP32, points of mAP50 (measured)", fontsize=10, loc="left")
    figure.colorbar(image, ax=axes, label="points of mAP50", shrink=0.9)
    return figure


def _change(pair: Sequence[float | None] | None) -> float | None:
    if pair is None or pair[0] is None or pair[1] is None:
        return None
    return round(100 * (pair[1] - pair[0]), 6) + 0.0


def confusion(data: Mapping[str, Any]) -> Any:
    """Draw the confusion matrices of both precisions side by side: counts, shaded by the share of each true class."""
    import numpy as np

    matrices = data["matrices"]
    labels = next(iter(matrices.values()))["labels"]
    side = 1.6 + 0.42 * len(labels)
    figure, panels = new(2 * side + 1.2, side + 0.7, 1, len(matrices))
    for panel, (precision, document) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(document["matrix"], np.int64)
        image = panel.imshow(_shares(counts), cmap="Blues", vmin=0, vmax=1)
        for (down, across), count in np.ndenumerate(counts):
            if count:
                colour = "white" if _shares(counts)[down, across] > 0.5 else "black"
                panel.text(across, down, str(count), ha="center", va="center", fontsize=7, color=colour)
        name_cells(panel, labels if panel is panels[0] else [""] * len(labels), labels)
        panel.set_xlabel("true class", fontsize=9)
        panel.set_title(f"{precision.upper()}, boxes at conf {document['conf']}, IoU {document['iou']}", fontsize=9)
    panels[0].set_ylabel("detected as", fontsize=9)
    figure.colorbar(image, ax=panels, label="share of the true class, 0 to 1", shrink=0.8)
    return figure


def _shares(counts: NDArray[Any]) -> NDArray[Any]:
    totals = counts.sum(axis=0, keepdims=True)
    shares: NDArray[Any] = counts / totals.clip(1)
    return shares
