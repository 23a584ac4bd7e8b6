"""Figures of a data set, as SVG text to put into a page."""

from __future__ import annotations

import re
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ethos.data.manifest import Side

    Boxes = NDArray[np.float64]  # [n, 7]: class, cx, cy, w, h in shares of the image, w, h in pixels

SIDE_COLOURS: dict[Side, str] = {"train": "#3b6ea5", "val": "#d9822b", "test": "#5b9e6f"}
POSITION_BINS = 24
SIZE_BINS = 28
PANEL = 3.1  # inches
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "ethos", "font.family": "sans-serif", "font.size": 9}


def class_bars(classes: Sequence[str], counts: Mapping[Side, NDArray[np.int64]]) -> str:
    """Return bars of each class's share of its side's boxes, one colour a side; `counts` are boxes [classes]."""
    figure, (axes,) = _figure(1, (7.4, 0.7 + 0.17 * len(classes) * (1 + len(counts))))
    thickness = 0.8 / max(len(counts), 1)
    for number, (side, values) in enumerate(counts.items()):
        shares = 100 * values / max(int(values.sum()), 1)
        axes.barh(np.arange(len(classes)) + number * thickness, shares, thickness, color=SIDE_COLOURS[side], label=side)
    axes.set_yticks(np.arange(len(classes)) + 0.4 - thickness / 2, classes)
    axes.invert_yaxis()
    axes.set_xlabel("share of the side's boxes, %")
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def size_maps(boxes: Mapping[Side, Boxes]) -> str:
    """Return a heat map of box width and height in pixels for each side; both axes are logarithmic."""
    figure, panels = _figure(len(boxes), (PANEL * len(boxes), PANEL))
    pixels = np.concatenate([each[:, 5:7] for each in boxes.values()])
    top = max(float(pixels.max(initial=2.0)), 2.0)
    edges = np.geomspace(1.0, top, SIZE_BINS + 1)
    for axes, (side, each) in zip(panels, boxes.items(), strict=True):
        sizes = each[:, 5:7].clip(1.0, top)
        density, _, _ = np.histogram2d(sizes[:, 0], sizes[:, 1], bins=[edges, edges])
        axes.pcolormesh(edges, edges, _shares(density).T, cmap="magma", rasterized=True)
        axes.set(xscale="log", yscale="log", title=f"{side}: {len(each)} boxes", xlabel="width, px")
    panels[0].set_ylabel("height, px")
    return _svg(figure)


def position_maps(boxes: Mapping[Side, Boxes]) -> str:
    """Return a heat map of where the centres of boxes lie, for each side; every image is stretched to a square."""
    figure, panels = _figure(len(boxes), (PANEL * len(boxes), PANEL))
    edges = np.linspace(0.0, 1.0, POSITION_BINS + 1)
    for axes, (side, each) in zip(panels, boxes.items(), strict=True):
        density, _, _ = np.histogram2d(each[:, 1].clip(0, 1), each[:, 2].clip(0, 1), bins=[edges, edges])
        axes.pcolormesh(edges, edges, _shares(density).T, cmap="magma", rasterized=True)
        axes.set(title=side, xlabel="left to right", aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.invert_yaxis()
    panels[0].set_ylabel("top to bottom")
    return _svg(figure)


def _shares(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return counts as shares of the highest, the root taken so that rare cells show too."""
    roots: NDArray[np.float64] = np.sqrt(density / max(float(density.max(initial=0.0)), 1.0))
    return roots


def _figure(panels: int, inches: tuple[float, float]) -> tuple[Any, list[Any]]:
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained", dpi=110)
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, panels, squeeze=False)[0]
    return figure, list(axes)


def _svg(figure: Any) -> str:
    from matplotlib import rc_context

    stream = StringIO()
    with rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    # a page takes the picture alone, without the declaration of a file of its own
    return re.sub(r"\A.*?(?=<svg)", "", text, flags=re.DOTALL)
