"""How many channels each group keeps: pure functions over widths, importances and costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ethos.errors import ModelError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ethos.pruning.costs import Cost

Widths = dict[str, int]
BISECTIONS = 20
RATIO_STEP = 0.01


@dataclass(frozen=True)
class Goal:
    """A cost, and what it may be at most."""

    cost: Cost
    limit: float

    def met(self, widths: Mapping[str, int]) -> bool:
        """Whether the cost of these widths is within the limit."""
        return self.cost.total(widths) <= self.limit


@dataclass(frozen=True)
class Limits:
    """How far groups may be narrowed: to a multiple of channels, by a share of their dense widths at most."""

    multiple: int
    max_ratio: float
    dense: Mapping[str, int]

    def choices(self, group: str, width: int) -> list[int]:
        """Return the widths that a group of `width` channels can be narrowed to, widest first."""
        # rounded, because 0.3 of 160 is a little more than 48 in floating point
        least = max(self.multiple, math.ceil(round((1 - self.max_ratio) * self.dense[group], 6)))
        start = (width - 1) // self.multiple * self.multiple
        return [choice for choice in range(start, 0, -self.multiple) if choice >= least]

    def nearest(self, group: str, width: int, wanted: float) -> int:
        """Return the allowed width, at most `width`, nearest to the wanted one."""
        return min((width, *self.choices(group, width)), key=lambda choice: abs(choice - wanted))


def check_goals(goals: Sequence[Goal], full: Mapping[str, int]) -> None:
    """Refuse a goal that needs no pruning.

    Raises:
        SpecError: A goal is met by the dense network.
    """
    for goal in goals:
        dense = goal.cost.total(full)
        if dense <= goal.limit:
            raise SpecError(
                f"prune goal {goal.cost.name} <= {goal.limit:,.0f} is already met: unpruned it has {dense:,.0f}",
                "lower the goal, or leave the variant's prune section out",
            )


def uniform(
    goals: Sequence[Goal],
    full: Mapping[str, int],
    limits: Limits,
    correct: Callable[[Widths], None] = lambda _: None,
    corrections: int = 3,
) -> Widths:
    """Narrow every group by the same ratio, the smallest that meets all goals.

    Args:
        goals: What must be reached.
        full: Unpruned widths.
        limits: What a group may become.
        correct: Called with the widths found; it may correct the costs by measuring them.
        corrections: How often the ratio is found anew with corrected costs.

    Raises:
        ModelError: No ratio that the limits allow does.
    """

    def at(ratio: float) -> Widths:
        return {group: limits.nearest(group, width, width * (1 - ratio)) for group, width in full.items()}

    for _ in range(corrections):
        low, high = 0.0, limits.max_ratio
        if not _all_met(goals, at(high)):
            raise _out_of_reach(goals, at(high))
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if _all_met(goals, at(middle)) else (middle, high)
        correct(at(high))
    while not _all_met(goals, at(high)):
        if high >= limits.max_ratio:
            raise _out_of_reach(goals, at(high))
        high = min(high + RATIO_STEP, limits.max_ratio)
        correct(at(high))
    return at(high)


class Kept:
    """What is lost by narrowing a group: minus the logarithm of the share of its importance that is kept.

    Losses of groups add up as shares multiply, and the narrower a group is, the more its next channel is worth.
    """

    def __init__(self, importance: Mapping[str, NDArray[np.float64]]) -> None:
        self._kept = {}
        for group, values in importance.items():
            best_first = np.sort(values)[::-1]
            self._kept[group] = np.cumsum(best_first) / best_first.sum()

    def loss(self, group: str, before: int, after: int) -> float:
        """Return what is lost by narrowing a group from one width to another, weakest channels first."""
        shares = self._kept[group]
        return math.log(shares[before - 1] / shares[after - 1])


def by_worth(
    goals: Sequence[Goal],
    full: Mapping[str, int],
    kept: Kept,
    limits: Limits,
    *,
    blind: bool = False,
    correct: Callable[[Widths], None] = lambda _: None,
    corrections: int = 8,
) -> Widths:
    """Narrow one group at a time, each time by what saves most for what is lost, until all goals are met.

    Args:
        goals: What must be reached.
        full: Unpruned widths.
        kept: What is lost.
        limits: What a group may become.
        blind: Count each channel as saving the same, whatever it costs.
        correct: Called with the widths on the way and at the end; it may correct the costs by measuring them.
        corrections: How often on the way.

    Raises:
        ModelError: The goals cannot be reached within the limits.
    """
    widths = dict(full)
    whole = [goal.cost.total(full) for goal in goals]
    next_correction = 1.0 / corrections
    while True:
        if _all_met(goals, widths):
            correct(widths)
            if _all_met(goals, widths):
                return widths
        move = _best_move(goals, whole, widths, kept, limits, blind)
        if move is None:
            raise _out_of_reach(goals, widths)
        widths[move[0]] = move[1]
        if _progress(goals, whole, widths) >= next_correction:
            correct(widths)
            next_correction += 1.0 / corrections


def _best_move(
    goals: Sequence[Goal],
    whole: Sequence[float],
    widths: Widths,
    kept: Kept,
    limits: Limits,
    blind: bool,
) -> tuple[str, int] | None:
    """Return the group and its new width that save most for what is lost; several blocks may go at once.

    A single block may save nothing where an NPU counts channels in larger steps.
    """
    unmet = [(goal, most) for goal, most in zip(goals, whole, strict=True) if not goal.met(widths)]
    best: tuple[float, str, int] | None = None
    for group, width in widths.items():
        for choice in limits.choices(group, width):
            if blind:
                saved = float(width - choice)
            else:
                saved = sum(goal.cost.saved(widths, group, choice) / most for goal, most in unmet)
            worth = saved / max(kept.loss(group, width, choice), 1e-12)
            if saved > 0 and (best is None or worth > best[0]):
                best = (worth, group, choice)
    return best[1:] if best else None


def _progress(goals: Sequence[Goal], whole: Sequence[float], widths: Widths) -> float:
    """Return how much of the way to the farthest goal has been gone, 0 to 1; some goals were met from the start."""
    ways = [(goal, most) for goal, most in zip(goals, whole, strict=True) if most > goal.limit]
    return min(((most - goal.cost.total(widths)) / (most - goal.limit) for goal, most in ways), default=1.0)


def _all_met(goals: Sequence[Goal], widths: Mapping[str, int]) -> bool:
    return all(goal.met(widths) for goal in goals)


def _out_of_reach(goals: Sequence[Goal], widths: Mapping[str, int]) -> ModelError:
    goal = next(goal for goal in goals if not goal.met(widths))
    return ModelError(
        f"prune goal {goal.cost.name} <= {goal.limit:,.0f} cannot be reached, {goal.cost.total(widths):,.0f} is left",
        "raise the goal or max_layer_ratio, or keep fewer layers",
    )
