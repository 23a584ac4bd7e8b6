"""The policy against the registry: what each pin chooses, what the measurements choose, and where they differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.registry.live import gate_rows
from ethos.registry.policy import check, figures_used, gates, objective_text
from ethos.registry.select import Decision, NothingPasses, comparable, decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store
    from ethos.specs import Policy, Scenario

SCHEMA = 1
COMPARED = ("int8.map50", "int8.map50_95", "npu.latency_ms", "npu.cycles_total", "size.int8_kib")


def review(store: Store, policy: Policy, model: str) -> dict[str, Any]:
    """Return for each scenario the pinned choice, the choice by measurement, and where they disagree.

    `ok` is false if no version passes a scenario's gates, or no version carries a figure that the scenario names.

    Raises:
        SpecError: The policy cannot be read, or there is no such model.
        StoreError: No version is registered.
    """
    check(policy)
    same, others = comparable(store.ready(model))
    scenarios = {name: _scenario(name, scenario, same) for name, scenario in policy.scenarios.items()}
    return {
        "schema": SCHEMA,
        "ok": all(not found["problems"] for found in scenarios.values()),
        "model": model,
        "versions": [record.version for record in same],
        "not_compared": [record.version for record in others],
        "scenarios": scenarios,
    }


def _scenario(name: str, scenario: Scenario, records: Sequence[VersionRecord]) -> dict[str, Any]:
    head = {"target": scenario.target, "pin": scenario.pin, "objective": objective_text(scenario)}
    lacking = _lacking(name, scenario, records)
    try:
        decision = decide(name, scenario, records)
    except NothingPasses as error:
        nothing: dict[str, Any] = {
            "pinned": None,
            "measured": None,
            "agree": None,
            "differences": [],
            "disagreement": "",
            "cycles": "",
        }
        return {**head, **nothing, "reason": error.message, "problems": [error.message, *lacking]}
    pinned = decision.chosen if decision.by == "pin" else None
    return {
        **head,
        "pinned": _choice(name, scenario, pinned) if pinned else None,
        "measured": _choice(name, scenario, decision.best),
        "agree": pinned is not None and not decision.disagreement,
        "differences": _differences(scenario, decision) if pinned else [],
        "disagreement": decision.disagreement,
        "cycles": _cycles(scenario, decision) if pinned else "",
        "reason": decision.reason,
        "problems": lacking,
    }


def _choice(name: str, scenario: Scenario, record: VersionRecord) -> dict[str, Any]:
    figures = record.figures_for(scenario.target)
    return {
        "version": record.version,
        "variant": record.variant,
        "form": record.form,
        "figures": {figure: figures.get(figure) for figure in COMPARED},
        "gates": gate_rows(gates(name, scenario), record, scenario.target),
    }


def _differences(scenario: Scenario, decision: Decision) -> list[dict[str, Any]]:
    pinned, measured = (record.figures_for(scenario.target) for record in (decision.chosen, decision.best))
    return [
        {"figure": figure, "pinned": pinned.get(figure), "measured": measured.get(figure)}
        for figure in COMPARED
        if pinned.get(figure) != measured.get(figure)
    ]


def _cycles(scenario: Scenario, decision: Decision) -> str:
    """Return what the pinned choice costs in NPU cycles beside the measured one, empty where both cost the same."""
    pinned, measured = (
        record.figures_for(scenario.target).get("npu.cycles_total") for record in (decision.chosen, decision.best)
    )
    if not pinned or not measured or pinned == measured:
        return ""
    share = 100 * (pinned / measured - 1)
    return (
        f"the pinned {decision.chosen.label} costs {pinned:,.0f} cycles on {scenario.target}, {abs(share):.1f} % "
        f"{'more' if share > 0 else 'fewer'} than the {measured:,.0f} of {decision.best.label}"
    )


def _lacking(name: str, scenario: Scenario, records: Sequence[VersionRecord]) -> list[str]:
    """Return the gates and objectives whose figure no version carries: a limit that nothing was measured against."""
    carried = {figure for record in records for figure in record.figures_for(scenario.target)}
    named = figures_used(scenario.model_copy(update={"gates": ()}), ())
    optional = {figure for figure in named if figure.endswith(("_low", "_high"))}
    wanted = {gate.figure for gate in gates(name, scenario)} | (named - optional)
    return [f"no version carries {figure} on {scenario.target}" for figure in sorted(wanted - carried)]
