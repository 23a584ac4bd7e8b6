"""Confidence intervals by drawing the images again, with replacement (percentile bootstrap, Efron 1979)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ethos.evaluation.precision import average_precisions, means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ethos.evaluation.matching import Matches

RESAMPLES = 1000
LEVEL = 0.95
CHUNK = 100  # resamples worked on at a time, which bounds memory
DIGITS = 6
FIGURES = ("map50", "map50_95")


class Draws:
    """Scores of the same resamples of images; those of two files with equal seed and images pair up.

    Args:
        matches: Detections and labels.
        classes: Number of classes.
        resamples: How many to draw.
        seed: Of the drawing.
    """

    def __init__(self, matches: Matches, classes: int, resamples: int = RESAMPLES, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        images = matches.images
        parts = []
        for begin in range(0, resamples, CHUNK):
            count = min(CHUNK, resamples - begin)
            weights = rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float32)
            parts.append(average_precisions(matches, weights, classes))
        self.seed, self.resamples = seed, resamples
        self.precisions: NDArray[np.float64] = np.concatenate(parts)
        self.values = dict(zip(FIGURES, means(self.precisions), strict=True))

    def document(self) -> dict[str, Any]:
        """Return the intervals of both figures, with how they were drawn."""
        return {
            "method": "percentile bootstrap over images",
            "resamples": self.resamples,
            "level": LEVEL,
            "seed": self.seed,
            **{name: interval(values) for name, values in self.values.items()},
        }

    def class_intervals(self) -> list[list[float] | None]:
        """Return the interval of each class's AP50; None where the images hold no box of it."""
        return [
            None if np.isnan(values).all() else interval(values[~np.isnan(values)])
            for values in self.precisions[:, :, 0].T
        ]


def interval(values: NDArray[np.float64], level: float = LEVEL) -> list[float]:
    """Return the lowest and the highest of the middle share of values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return [round(float(low), DIGITS), round(float(high), DIGITS)]


def paired(one: Draws, other: Draws, name: str) -> dict[str, Any]:
    """Return the interval of one figure of `one` less that of `other`, and how probable it is that `one` is better.

    The probability is the share of resamples in which it is, ties counted half.
    """
    difference = one.values[name] - other.values[name]
    better = float((difference > 0).mean() + (difference == 0).mean() / 2)
    return {"interval": interval(difference), "probability": round(better, DIGITS)}
