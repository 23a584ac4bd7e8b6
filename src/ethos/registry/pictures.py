"""Pictures of a version for MLflow's pages."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = "pictures"  # folder of a version
EPOCH = "epoch"
LOSSES = "loss"  # columns with this word share the left half
SCORES = ("map", "precision", "recall")
WIDTH_INCHES, HEIGHT_INCHES = 9.0, 3.6


def read_history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the values of each recorded metric, as (epoch, value), from the train stage's epochs.csv."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = [{key.strip(): value for key, value in row.items()} for row in csv.DictReader(stream)]
    history: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != EPOCH and value.strip():
                history.setdefault(name, []).append((int(float(row[EPOCH])), float(value)))
    return history


def draw_training(history: Path, title: str, place: Path) -> None:
    """Draw losses and scores over the epochs into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = read_history(history)
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES))
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}: training")
    losses, scores = figure.subplots(1, 2, gridspec_kw={"left": 0.06, "right": 0.98, "top": 0.8, "bottom": 0.14})
    for axes, heading, words in ((losses, "loss", (LOSSES,)), (scores, "on the validation side", SCORES)):
        axes.set_title(heading)
        axes.set_xlabel(EPOCH)
        for name in (name for name in lines if any(word in name.lower() for word in words)):
            axes.plot(*zip(*lines[name], strict=True), marker=".", label=name)
        if axes.lines:
            axes.legend(fontsize="small")
    place.parent.mkdir(parents=True, exist_ok=True)
    # without the program's version in it, equal histories give equal files
    figure.savefig(place, metadata={"Software": None})
