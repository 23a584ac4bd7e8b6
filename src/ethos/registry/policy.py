"""Gates and objectives of the policy, read into something that can be asked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ethos.catalog import POLICY_FILE
from ethos.errors import SpecError, unknown
from ethos.registry.records import FIGURES, INTERVAL_BOUNDS, figure, interval
from ethos.specs import GATE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ethos.registry.records import VersionRecord
    from ethos.specs import Policy, Scenario

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
}
COSTS = ("npu.latency_ms", "size.int8_kib")
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

    def margin(self, value: float | None) -> float | None:
        """Return how far a figure is on the good side of the limit, negative on the bad one, in the figure's unit."""
        if value is None:
            return None
        if self.operator == "==":
            return 0.0 - abs(value - self.limit)
        return value - self.limit if self.operator.startswith(">") else self.limit - value


def find_scenario(policy: Policy, name: str) -> Scenario:
    """Return a scenario of the policy.

    Raises:
        SpecError: There is no such scenario; the nearest names are listed.
    """
    if name not in policy.scenarios:
        raise unknown("scenario", name, policy.scenarios, where=POLICY_FILE)
    return policy.scenarios[name]


def parse_gate(text: str, where: str = POLICY_FILE) -> Gate:
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
    return tuple(parse_gate(text, f"{POLICY_FILE}: scenario {name}") for text in scenario.gates)


def check(policy: Policy) -> None:
    """Raise SpecError unless every gate and objective of the policy can be read and names known figures."""
    for name, scenario in policy.scenarios.items():
        gates(name, scenario)
        objective = scenario.objective
        for wanted in (objective.minimise, objective.maximise, objective.tie_break):
            if wanted is not None:
                figure(wanted, f"{POLICY_FILE}: scenario {name}: objective")


def ranked(records: Sequence[VersionRecord], scenario: Scenario) -> tuple[list[VersionRecord], list[VersionRecord]]:
    """Return versions best first, and those that the objective cannot tell from the best one.

    The objective decides, then the tie-break, then the newest. A score within the confidence interval of the best score
    is no worse than it: of those versions the cheapest comes first, by `cost`. A figure not recorded sorts last.
    """
    name = objective_figure(scenario)
    order = sorted(records, key=lambda record: _rank(record, scenario))
    bounds = interval(order[0].figures_for(scenario.target), name) if order else None
    if bounds is None:
        return order, []
    tied = [record for record in order if (value := record.figures.get(name)) is not None and value >= bounds[0]]
    if len(tied) == 1:
        return order, []
    tied.sort(key=lambda record: (cost(record, scenario), _rank(record, scenario)))
    versions = {record.version for record in tied}
    return [*tied, *(record for record in order if record.version not in versions)], tied


def best_by_figure(records: Sequence[VersionRecord], scenario: Scenario) -> VersionRecord:
    """Return the version with the best objective, whose confidence interval tells which others count as equal."""
    return min(records, key=lambda record: _rank(record, scenario))


def cost(record: VersionRecord, scenario: Scenario) -> tuple[float, ...]:
    """Return what a version costs: the tie-break where that is a cost, then latency, then the size of the INT8 file."""
    figures = record.figures_for(scenario.target)
    tie_break = scenario.objective.tie_break
    own = (tie_break,) if tie_break and figure(tie_break).better == "lower" else ()
    return tuple(_cost(figures.get(name), lower=True) for name in dict.fromkeys((*own, *COSTS)))


def objective_figure(scenario: Scenario) -> str:
    """Return the figure that the objective minimises or maximises."""
    return scenario.objective.minimise or scenario.objective.maximise or ""


def figures_used(scenario: Scenario, gates: Sequence[Gate]) -> set[str]:
    """Return the names of all figures that a decision for the scenario may depend on."""
    name = objective_figure(scenario)
    bounds = [f"{name}_{bound}" for bound in INTERVAL_BOUNDS if f"{name}_{bound}" in FIGURES]
    ties = filter(None, [scenario.objective.tie_break])
    return {name, *bounds, *ties, *COSTS, *(gate.figure for gate in gates)}


def _rank(record: VersionRecord, scenario: Scenario) -> tuple[float, float, int]:
    figures = record.figures_for(scenario.target)
    tie_break = scenario.objective.tie_break
    return (
        _cost(figures.get(objective_figure(scenario)), lower=scenario.objective.minimise is not None),
        _cost(figures.get(tie_break), lower=figure(tie_break).better == "lower") if tie_break else 0.0,
        -record.version,
    )


def objective_text(scenario: Scenario) -> str:
    """Return the objective as people read it, such as `lowest npu.latency_ms on ethos-u65-512`."""
    name = objective_figure(scenario)
    place = f" on {scenario.target}" if name.startswith("npu.") and name not in FIGURES else ""
    return f"{'lowest' if scenario.objective.minimise else 'highest'} {name}{place}"


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
