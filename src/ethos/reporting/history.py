"""What a training's history says beyond its rows: the best epoch, when it had converged, what it took."""

from __future__ import annotations

from typing import Any

SCORE = "map50"
BEST_BY = "map50_95"
WITHIN = 0.01


def derive(metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return what follows from the values of a run's metrics by step.

    Args:
        metrics: Values by step, for each metric.

    Returns:
        `first_epoch`, `last_epoch`; `best_epoch`, that of the highest mAP50-95, the first among equals;
        `converged_epoch`, the first one from which on mAP50 stays within 0.01 of its highest value to the end;
        `seconds`, the sum over epochs; `peak_memory_mib`. What cannot be told is left out.
    """
    found: dict[str, Any] = {}
    scores = {int(step): value for step, value in metrics.get(SCORE, {}).items()}
    if scores:
        found |= {"first_epoch": min(scores), "last_epoch": max(scores)}
        if (converged := converged_epoch(scores)) is not None:
            found["converged_epoch"] = converged
    ranked = {int(step): value for step, value in metrics.get(BEST_BY, {}).items()}
    if ranked:
        found["best_epoch"] = max(ranked, key=lambda epoch: (ranked[epoch], -epoch))
    if "seconds" in metrics:
        found["seconds"] = sum(metrics["seconds"].values())
    if "memory_mib" in metrics:
        found["peak_memory_mib"] = max(metrics["memory_mib"].values())
    return found


def converged_epoch(scores: dict[int, float], within: float = WITHIN) -> int | None:
    """Return the first epoch from which on the score stays close to its best; None if it ends below that."""
    enough = max(scores.values()) - within
    converged = None
    for epoch in sorted(scores, reverse=True):
        if scores[epoch] < enough:
            break
        converged = epoch
    return converged
