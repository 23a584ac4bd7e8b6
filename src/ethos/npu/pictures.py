"""Pictures of an analysis, as SVG: readable without colour, axes with units and the provenance of what they show."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# Okabe and Ito's palette for colour-blind readers; hatches tell the same without colour
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#999999"
# what can hold a step up: the key of its cycles in a layer, its name, colour and hatch
BOUNDS = (
    ("cycles_npu", "compute", BLUE, ""),
    ("cycles_sram", "SRAM", GREEN, "///"),
    ("cycles_dram", "DRAM", ORANGE, "..."),
    ("cycles_flash", "flash", PINK, "xxx"),
)
MARKERS = {"SRAM": "o", "DRAM": "s", "flash": "^"}
MEMORY_OF = {"SRAM": ("sram",), "DRAM": ("dram",), "flash": ("on_chip_flash", "off_chip_flash")}
TOP_LAYERS = 15
MAX_LABEL = 34
WIDTH = 8.5


def draw_placement(name: str, target: dict[str, Any]) -> str:
    """Draw where each operator runs along the network, and how the MACs and bytes spread over it."""
    operators = target["operators"]
    figure, (lanes, work) = _new(3.4, rows=2, ratios=(1, 1.6), share_x=True)
    for lane, place, colours, hatch in ((1, "npu", (BLUE, "#56B4E9"), ""), (0, "cpu", (ORANGE, ORANGE), "///")):
        for start, end, region in _runs(operators, place):
            shade = colours[(region or 0) % 2]
            bar = [(start - 0.5, end - start)]
            lanes.broken_barh(bar, (lane - 0.4, 0.8), facecolor=shade, hatch=hatch, edgecolor="white", linewidth=0.5)
    lanes.set_yticks((0, 1), ("CPU", "NPU"))
    lanes.set_ylim(-0.6, 1.6)
    places = range(len(operators))
    for key, label, colour, style in (("macs", "MACs", BLUE, "-"), ("bytes", "bytes", ORANGE, "--")):
        total = sum(each[key] for each in operators) or 1
        sums = _running([100 * each[key] / total for each in operators])
        work.plot(places, sums, label=label, color=colour, linestyle=style)
    work.set_xlabel("operator, in running order")
    work.set_ylabel("% up to here")
    lanes.set_title(_plain(f"Placement on {name} ({target['provenance']})"))
    return _svg(figure, work, f"placement {name}")


def draw_cycles(name: str, target: dict[str, Any]) -> str:
    """Draw the costliest steps of the compiler's schedule and what holds each of them up."""
    return _svg(cycles_figure(name, target), None, f"cycles {name}")


def cycles_figure(name: str, target: dict[str, Any]) -> Any:
    """Return the figure that `draw_cycles` writes; `target` needs its cycles_total, provenance and layers alone."""
    total = target["cycles_total"]
    layers = sorted(target["layers"], key=lambda layer: -layer["cycles"])[:TOP_LAYERS][::-1]
    figure, (axes,) = _new(0.6 + 0.28 * max(len(layers), 6))
    for key, label, colour, hatch in BOUNDS:
        chosen = [(place, layer) for place, layer in enumerate(layers) if bound(layer) == key]
        if chosen:
            shares = [100 * layer["cycles"] / total for _, layer in chosen]
            places = [place for place, _ in chosen]
            axes.barh(places, shares, label=f"held up by {label}", color=colour, hatch=hatch, edgecolor="white")
    axes.set_yticks(range(len(layers)), [_plain(f"{_short(each['name'])}  {each['step']}") for each in layers])
    axes.tick_params(axis="y", labelsize=7)
    axes.set_xlabel(f"% of {total:,} cycles ({target['provenance']})")
    axes.set_title(_plain(f"Costliest steps on {name}"))
    _finish(figure, axes)
    return figure


def draw_roofline(name: str, target: dict[str, Any]) -> str:
    """Draw what each step computes a cycle against how much it computes for each byte of the memory it uses most."""
    figure, (axes,) = _new(3.6)
    points: dict[str, list[tuple[float, float, float]]] = {}
    for layer in target["layers"]:
        if (memory := _busiest(layer)) and layer["macs"]:
            moved = layer[f"cycles_{memory.lower()}"] * _bytes_per_cycle(target, memory)
            points.setdefault(memory, []).append(
                (layer["macs"] / moved, layer["macs"] / layer["cycles"], layer["share"])
            )
    for _, memory, colour, _ in BOUNDS[1:]:
        if memory in points:
            across, up, shares = zip(*points[memory], strict=True)
            sizes = [12 + 900 * share for share in shares]
            label = f"steps that use {memory} most"
            axes.scatter(across, up, sizes, colour, marker=MARKERS[memory], alpha=0.7, label=label)
    _roofs(axes, target, [x for group in points.values() for x, _, _ in group])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs for each byte moved")
    axes.set_ylabel("MACs a cycle")
    axes.set_title(_plain(f"Roofline on {name} ({target['provenance']}); area: share of cycles"))
    return _svg(figure, axes, f"roofline {name}")


def draw_memory(name: str, target: dict[str, Any], live_kib: Sequence[float]) -> str:
    """Draw memory over time: the SRAM in the compiler's schedule, the maps that are alive, and the budget."""
    figure, (axes,) = _new(3.2)
    steps = [layer["staging_kib"] for layer in target["layers"] if layer["cycles"]]
    if steps:
        axes.step(_along(steps), steps, where="mid", color=BLUE, label=f"SRAM in the schedule ({target['provenance']})")
    axes.step(
        *(_along(live_kib), live_kib),
        where="mid",
        color=ORANGE,
        linestyle="--",
        label="maps alive in the file's order (rule)",
    )
    limit = target["budget"]["sram_kib"]
    if limit is not None:
        axes.axhline(limit, color="black", linestyle=":", label=f"SRAM of the target, {limit:,.0f} KiB")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("% of the network, in running order")
    axes.set_ylabel("KiB")
    axes.set_title(_plain(f"Memory over time on {name}"))
    return _svg(figure, axes, f"memory {name}")


def draw_heat_map(title: str, rows: Sequence[str], columns: Sequence[str], values: list[list[float | None]]) -> str:
    """Draw a table of figures as a heat map, on a logarithmic scale, with each figure written in its cell."""
    known = [value for row in values for value in row if value is not None and value > 0]
    figure, (axes,) = _new(1.3 + 0.42 * len(rows), width=3.0 + 1.25 * len(columns))
    shown = [[math.log10(value) if value else math.nan for value in row] for row in values]
    low, high = (math.log10(min(known)), math.log10(max(known))) if known else (0.0, 1.0)
    axes.imshow(shown, cmap="cividis_r", aspect="auto", vmin=low, vmax=max(high, low + 1e-9))
    for down, row in enumerate(values):
        for across, value in enumerate(row):
            dark = bool(value) and math.log10(value or 1) > (low + high) / 2
            text = "-" if value is None else f"{value:,.1f}"
            axes.text(across, down, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), [_plain(each) for each in columns], rotation=25, ha="right", fontsize=7)
    axes.set_yticks(range(len(rows)), [_plain(each) for each in rows], fontsize=7)
    axes.set_title(_plain(title), fontsize=9)
    return _svg(figure, None, f"matrix {title}")


def bound(layer: dict[str, Any]) -> str:
    """Return the key of what holds a step up: the slowest of compute and memories."""
    return max((key for key, *_ in BOUNDS), key=lambda key: layer[key])


# --- parts -----------------------------------------------------------------------------------------------------------


def _runs(operators: list[dict[str, Any]], place: str) -> list[tuple[int, int, int | None]]:
    """Return the stretches of one placement and region: (first, behind the last, region)."""
    runs: list[tuple[int, int, int | None]] = []
    for index, each in enumerate(operators):
        if each["placement"] != place:
            continue
        if runs and runs[-1][1] == index and runs[-1][2] == each["region"]:
            runs[-1] = (runs[-1][0], index + 1, each["region"])
        else:
            runs.append((index, index + 1, each["region"]))
    return runs


def _busiest(layer: dict[str, Any]) -> str | None:
    """Return the memory in which a step spends most cycles; none if it moves nothing."""
    key, memory, *_ = max(BOUNDS[1:], key=lambda each: layer[each[0]])
    return memory if layer[key] and layer["cycles"] else None


def _bytes_per_cycle(target: dict[str, Any], memory: str) -> float:
    speeds = [target["bandwidth_gb_s"].get(each, {}).get("available", 0.0) for each in MEMORY_OF[memory]]
    return max(speeds) * 1e3 / target["clock_mhz"] or 1.0


def _roofs(axes: Any, target: dict[str, Any], intensities: list[float]) -> None:
    peak = target["macs_per_cycle"]
    low, high = (min(intensities), max(intensities)) if intensities else (0.1, 1000.0)
    for _, memory, colour, _ in BOUNDS[1:]:
        speed = max(target["bandwidth_gb_s"].get(each, {}).get("available", 0.0) for each in MEMORY_OF[memory])
        if speed:
            knee = peak / _bytes_per_cycle(target, memory)
            ends = [min(low, knee / 10), knee, max(high, knee * 10)]
            heights = [min(peak, x * _bytes_per_cycle(target, memory)) for x in ends]
            axes.plot(ends, heights, color=colour, linewidth=1, label=f"roof: {peak} MACs, {memory} {speed:.1f} GB/s")


def _along(values: Sequence[float]) -> list[float]:
    return [100 * (place + 0.5) / len(values) for place in range(len(values))]


def _running(values: list[float]) -> list[float]:
    sums, total = [], 0.0
    for value in values:
        total += value
        sums.append(total)
    return sums


def _short(name: str) -> str:
    """Return the end of a name, which tells more than its start."""
    return name if len(name) <= MAX_LABEL else f"...{name[3 - MAX_LABEL :]}"


def _plain(text: str) -> str:
    """Return text that is neither taken for a formula nor broken in XML."""
    return "".join(each if each.isprintable() else "?" for each in text).replace("$", r"\$")


def _new(
    height: float, rows: int = 1, ratios: Sequence[float] = (1,), share_x: bool = False, width: float = WIDTH
) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(rows, 1, squeeze=False, sharex=share_x, height_ratios=ratios)
    for each in axes[:, 0]:
        each.title.set_fontsize(10)
    return figure, axes[:, 0]


def _finish(figure: Any, axes: Any) -> None:
    if axes is not None:
        axes.grid(visible=True, alpha=0.3)
        axes.legend(frameon=False, fontsize=7)
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)


def _svg(figure: Any, axes: Any, salt: str) -> str:
    """Return a figure as an SVG element; with text as text, and ids that differ from those of other pictures."""
    import matplotlib as mpl

    _finish(figure, axes)
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt, "svg.fonttype": "none"}):
        # without a date the same analysis gives the same bytes
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
