"""Pictures of trainings: losses and scores over epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.drawings.style import finish, line_style, new, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

LOSSES = ("box", "cls", "dfl")
NAMES = {"map50": "mAP50", "map50_95": "mAP50-95", "precision": "precision", "recall": "recall", "cls": "class"}


def all_curves(data: Mapping[str, Any]) -> Any:
    """Draw losses and scores of several trainings, one line each."""
    figure, axes = new(10, 6, 2, 2)
    panels = (("train", "training loss"), ("val", "validation loss"), ("map50", "mAP50"), ("map50_95", "mAP50-95"))
    for place, line in enumerate(data["lines"]):
        style = {**line_style(place), "markevery": max(len(line["epochs"]) // 10, 1)}
        for panel, (key, _) in zip(axes, panels, strict=True):
            values = _total(line, key) if key in ("train", "val") else line.get(key)
            if values:
                panel.plot(line["epochs"], _known(values), label=plain(line["label"]), **style)
    for panel, (key, title) in zip(axes, panels, strict=True):
        up = "box + class + dfl loss" if key in ("train", "val") else f"{title}, 0 to 1 (measured)"
        finish(panel, "epoch", up, title)
        _whole_epochs(panel)
    handles, labels = axes[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), fontsize=8, frameon=False)
    return figure


def version_curves(data: Mapping[str, Any]) -> Any:
    """Draw losses, scores and learning rate of one training."""
    figure, axes = new(10, 6, 2, 2)
    groups = [
        ("training loss", "loss", [(f"train_{loss}_loss", loss) for loss in LOSSES]),
        ("validation loss", "loss", [(f"val_{loss}_loss", loss) for loss in LOSSES]),
        ("scores on the validation side", "0 to 1 (measured)", [(name, name) for name in list(NAMES)[:4]]),
        ("learning rate", "learning rate", [("lr", "learning rate")]),
    ]
    for panel, (title, up, lines) in zip(axes, groups, strict=True):
        for place, (key, label) in enumerate(lines):
            if key in data:
                style = {**line_style(place), "markevery": max(len(data["epochs"]) // 10, 1)}
                panel.plot(data["epochs"], _known(data[key]), label=NAMES.get(label, label), **style)
        finish(panel, "epoch", up, title)
        _whole_epochs(panel)
        if panel.lines and len(lines) > 1:
            panel.legend(fontsize=8, frameon=False)
    return figure


def _total(line: Mapping[str, Any], side: str) -> list[float | None] | None:
    """Return the sum of the three losses in each epoch."""
    parts = [line.get(f"{side}_{loss}_loss") for loss in LOSSES]
    if None in parts:
        return None
    return [None if None in values else sum(values) for values in zip(*parts, strict=True)]


def _known(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _whole_epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
