"""A decision made afresh over all ready versions, with all that led to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.registry.live import SCHEMA, document, gate_rows, on_target
from ethos.registry.pareto import AXES, front
from ethos.registry.policy import best_by_figure, find_scenario, gates, objective_figure, objective_text
from ethos.registry.records import FIGURES, INTERVAL_BOUNDS, interval
from ethos.registry.select import Decision, NothingPasses, comparable, decide, failing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store
    from ethos.specs import Policy, Scenario


def explain(store: Store, policy: Policy, model: str, name: str, target: str | None = None) -> dict[str, Any]:
    """Return the select document of a fresh decision over all ready versions, whatever the alias says.

    Only versions scored under the newest version's protocol can be ranked; `not_compared` lists the others.

    Raises:
        NothingPasses: Nothing passes; `rejected` holds every version's first failing gate.
        StoreError: No version is registered.
    """
    scenario = on_target(find_scenario(policy, name), target)
    records = store.ready(model)
    same, _ = comparable(records)
    decision = decide(name, scenario, same)
    current = store.by_alias(model, name)
    return {
        **document(store, name, scenario, decision.chosen),
        **decision.document(),
        "live": current.version if current else None,
        "gates": gate_rows(gates(name, scenario), decision.chosen, scenario.target),
        **_looked_at(name, scenario, records, decision),
    }


def candidates(store: Store, policy: Policy, model: str, name: str, target: str | None = None) -> dict[str, Any]:
    """Return all ready versions with what decides among them; `version` is the one chosen, None if nothing passes."""
    scenario = on_target(find_scenario(policy, name), target)
    records = store.ready(model)
    same, _ = comparable(records)
    decision: Decision | None = None
    try:
        decision = decide(name, scenario, same)
        reason = decision.reason
    except NothingPasses as error:
        reason = error.message
    return {
        "schema": SCHEMA,
        "scenario": name,
        "model": model,
        "target": scenario.target,
        "version": decision.chosen.version if decision else None,
        "reason": reason,
        "objective": objective_text(scenario),
        **_looked_at(name, scenario, records, decision),
    }


def _looked_at(
    name: str, scenario: Scenario, records: Sequence[VersionRecord], decision: Decision | None
) -> dict[str, Any]:
    same, others = comparable(records)
    best = {record.version for record in front(same, scenario.target)}
    wanted = gates(name, scenario)
    rows = []
    for record in same:
        failed = failing(record, wanted, scenario.target)
        figures = record.figures_for(scenario.target)
        rows.append(
            {
                "version": record.version,
                "variant": record.variant,
                "form": record.form,
                "passes": not failed,
                "gate": failed[0].gate if failed else None,
                "objective": figures.get(objective_figure(scenario)),
                **{axis: figures.get(axis) for axis in AXES},
                "pareto": record.version in best,
            }
        )
    return {
        "candidates": rows,
        "pareto": {"axes": list(AXES), "versions": sorted(best)},
        "interval": _interval(scenario, decision, same),
        "not_compared": [record.version for record in others],
    }


def _interval(scenario: Scenario, decision: Decision | None, records: Sequence[VersionRecord]) -> dict[str, Any] | None:
    """Return the confidence interval within which versions count as equal; None where the objective can have none."""
    name = objective_figure(scenario)
    if f"{name}_{INTERVAL_BOUNDS[0]}" not in FIGURES:
        return None
    lacking = [record.version for record in records if interval(record.figures, name) is None]
    rejected = {rejection.version for rejection in decision.rejected} if decision else set()
    leader = best_by_figure([record for record in records if record.version not in rejected], scenario)
    bounds = interval(leader.figures, name)
    return {
        "figure": name,
        "version": leader.version,
        "low": bounds[0] if bounds else None,
        "high": bounds[1] if bounds else None,
        "tied": [record.version for record in decision.tied] if decision else [],
        "not_recorded": lacking,
    }
