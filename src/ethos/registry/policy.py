"""Gates and objectives of the policy, read into something that can be asked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.errors import SpecError, unknown
from ethos.registry.records import FIGURES, figure
from ethos.specs import GATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.registry.records import VersionRecord
    from ethos.specs import Policy, Scenario

WHERE = "registry/policy.yaml"

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
# factor from a gate's unit to the figure's own
UNITS: dict[str, dict[str, float]] = {
    "": {"": 1.0, "%": 0.01, "k": 1e3, "M": 1e6, "G": 1e9},
    "KiB": {"": 1.0, "B": 1 / 1024, "KiB": 1.0, "MiB": 1024.0},
    "ms": {"": 1.0, "us": 1e-3, "ms": 1.0, "s": 1e3},
    "1/s": {"": 1.0, "fps": 1.0, "FPS": 1.0},
}


@dataclass(frozen=True)
class Gate:
    """A condition on one figure; `limit` is in the figure's own unit."""

    text: str
    figure: str
    operator: str
    limit: float

    def value(self, record: VersionRecord, target: str) -> float | None:
        """Return the version's figure on that target, None if it was not recorded."""
        return record.figures_for(target).get(self.figure)

    def holds(self, value: float | None) -> bool:
        """Return whether a figure passes; one that was not recorded does not."""
        return value is not None and OPERATORS[self.operator](value, self.limit)


def find_scenario(policy: Policy, name: str) -> Scenario:
    """Return a scenario of the policy.

    Raises:
        SpecError: There is no such scenario; the nearest names are listed.
    """
    if name not in policy.scenarios:
        raise unknown("scenario", name, policy.scenarios, where=WHERE)
    return policy.scenarios[name]


def parse_gate(text: str, where: str = WHERE) -> Gate:
    """Return the gate that a policy writes as `FIGURE OPERATOR LIMIT [UNIT]`.

    Raises:
        SpecError: It reads otherwise, names an unknown figure, or its unit does not fit the figure.
    """
    match = GATE.match(text)
    if match is None:
        raise SpecError(f"{where}: gate '{text}' cannot be read", "write FIGURE OPERATOR LIMIT [UNIT]")
    units = UNITS[figure(match["figure"], where).unit]
    if match["unit"] not in units:
        known = ", ".join(unit for unit in units if unit)
        raise SpecError(
            f"{where}: gate '{text}': '{match['figure']}' is not given in '{match['unit']}'", f"use {known} or no unit"
        )
    return Gate(text, match["figure"], match["operator"], float(match["limit"]) * units[match["unit"]])


def gates(name: str, scenario: Scenario) -> tuple[Gate, ...]:
    """Return the gates of a scenario; SpecError as `parse_gate`."""
    return tuple(parse_gate(text, f"{WHERE}: scenario {name}") for text in scenario.gates)


def check(policy: Policy) -> None:
    """Raise SpecError unless every gate and objective of the policy can be read and names known figures."""
    for name, scenario in policy.scenarios.items():
        gates(name, scenario)
        objective = scenario.objective
        for wanted in (objective.minimise, objective.maximise, objective.tie_break):
            if wanted is not None:
                figure(wanted, f"{WHERE}: scenario {name}: objective")


def rank_key(record: VersionRecord, scenario: Scenario) -> tuple[float, float, int]:
    """Return what to sort versions by, the best first: the objective, the tie-break, then the newest.

    A figure that was not recorded sorts last.
    """
    objective = scenario.objective
    figures = record.figures_for(scenario.target)
    wanted = objective.minimise or objective.maximise or ""
    tie_break = objective.tie_break
    return (
        _cost(figures.get(wanted), lower=objective.minimise is not None),
        _cost(figures.get(tie_break), lower=figure(tie_break).better == "lower") if tie_break else 0.0,
        -record.version,
    )


def objective_text(scenario: Scenario) -> str:
    """Return the objective as people read it, such as `lowest npu.latency_ms on ethos-u65-512`."""
    objective = scenario.objective
    name = objective.minimise or objective.maximise or ""
    place = f" on {scenario.target}" if name.startswith("npu.") and name not in FIGURES else ""
    return f"{'lowest' if objective.minimise else 'highest'} {name}{place}"


def show(name: str, value: float | None) -> str:
    """Return a figure with its unit, in at most five significant digits."""
    if value is None:
        return "not recorded"
    unit = figure(name).unit
    text = f"{value:.5g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return f"{text} {unit}" if unit else text


def _cost(value: float | None, lower: bool) -> float:
    if value is None:
        return float("inf")
    return value if lower else -value
