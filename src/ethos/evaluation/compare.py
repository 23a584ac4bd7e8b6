"""Two files on one protocol: what separates their scores, and how sure that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.evaluation.bootstrap import DIGITS, FIGURES, LEVEL, paired
from ethos.evaluation.protocol import require_same

if TYPE_CHECKING:
    from ethos.evaluation.evaluate import Scored


def compare(one: Scored, other: Scored) -> dict[str, Any]:
    """Return each figure of `one` less that of `other`, with a paired bootstrap over the images.

    Raises:
        SpecError: They were scored under different protocols; the text names the field.
    """
    require_same(one.protocol, other.protocol)
    return {
        "file": str(other.file),
        "sha256": other.sha256,
        "map50": other.scores.map50,
        "map50_95": other.scores.map50_95,
        "method": "paired percentile bootstrap over images",
        "resamples": one.draws.resamples,
        "level": LEVEL,
        "seed": one.draws.seed,
        "difference": {
            name: {
                "value": round(getattr(one.scores, name) - getattr(other.scores, name), DIGITS),
                **paired(one.draws, other.draws, name),
            }
            for name in FIGURES
        },
        "per_class": class_differences(one, other),
    }


def class_differences(one: Scored, other: Scored) -> list[dict[str, Any]]:
    """Return the differences of each class's AP50 and AP50-95; None where the images hold no box of it."""
    return [
        {
            "name": mine.name,
            **{name: _difference(getattr(mine, name), getattr(theirs, name)) for name in FIGURES},
        }
        for mine, theirs in zip(one.scores.per_class, other.scores.per_class, strict=True)
    ]


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else round(one - other, DIGITS)
