"""The drawings of the site, by name: each is a function of JSON data that returns a matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.drawings.files import coverage, sizes
from ethos.reporting.drawings.images import detections, thumbnails
from ethos.reporting.drawings.npu import cycles
from ethos.reporting.drawings.pruning import steps
from ethos.reporting.drawings.scores import class_loss, confusion, pareto
from ethos.reporting.drawings.style import save
from ethos.reporting.drawings.training import all_curves, version_curves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def draw(drawing: str, data: Mapping[str, Any], stem: Path) -> None:
    """Draw a picture and write it as STEM.svg and STEM.png."""
    save(DRAWINGS[drawing](data), stem)


DRAWINGS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "all_curves": all_curves,
    "version_curves": version_curves,
    "pareto": pareto,
    "class_loss": class_loss,
    "confusion": confusion,
    "sizes": sizes,
    "coverage": coverage,
    "cycles": cycles,
    "pruning": steps,
    "detections": detections,
    "thumbnails": thumbnails,
}
