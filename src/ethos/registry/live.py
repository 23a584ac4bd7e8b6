"""What serves a scenario now: answered from the registry's alias, its gates checked again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ethos.catalog import project_root
from ethos.errors import StoreError
from ethos.registry import ledger
from ethos.registry.artifact import REGISTER_AGAIN, check_present
from ethos.registry.journal import MOVED
from ethos.registry.policy import find_scenario, gates, show
from ethos.registry.promote import journal_of
from ethos.registry.records import DECISION_TAG, READY
from ethos.registry.select import NothingPasses, comparable, decide, failing

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.registry.journal import Event, Journal
    from ethos.registry.policy import Gate
    from ethos.registry.records import VersionRecord
    from ethos.registry.select import Rejection
    from ethos.registry.store import Store
    from ethos.specs import Policy, Scenario

SCHEMA = 1


def live(
    store: Store,
    policy: Policy,
    model: str,
    name: str,
    strict: bool = False,
    target: str | None = None,
    root: Path | None = None,
) -> dict[str, Any]:
    """Return the version that serves a scenario, as the select document.

    It is the one the scenario's alias points to. Its gates are checked again on the recorded figures; with `strict` it
    must also be of the pinned variant. What a killed promotion left undone is done first.

    Args:
        store: Where the versions are.
        policy: The scenarios.
        model: Name of the registered model.
        name: The scenario.
        strict: Refuse a version that fails a gate or is not the pinned variant.
        target: Check the gates on this target instead of the scenario's.
        root: The project's folder, for the ledger; found from the working directory when absent.

    Raises:
        SpecError: There is no such scenario, or its gates cannot be read.
        StoreError: Nothing is promoted yet, or the version's INT8 file is gone or altered.
        NothingPasses: Nothing passes the gates, or `strict` refuses.
    """
    scenario = on_target(find_scenario(policy, name), target)
    journal = journal_of(store, policy, model, root or project_root())
    record, by_hand = live_record(journal, scenario, name)
    wanted = gates(name, scenario)
    failed = failing(record, wanted, scenario.target)
    if strict:
        _require_pinned(name, scenario, record, failed)
    told = json.loads(record.tags.get(f"{DECISION_TAG}.{name}", "{}")) if not by_hand else {}
    reason = by_hand or told.get("reason", "the reason was not kept")
    if failed:
        now = "; ".join(f"{rejection.gate} (recorded: {rejection.value})" for rejection in failed)
        reason = f"{reason}; but it fails the gates of today's policy: {now}"
    known = {rejection["version"] for rejection in told.get("rejected", [])}
    own = [failed[0].document()] if failed and record.version not in known else []
    return {
        **document(store, name, scenario, record),
        "by": "hand" if by_hand else told.get("by", "unknown"),
        "reason": reason,
        "disagreement": told.get("disagreement", ""),
        "gates": gate_rows(wanted, record, scenario.target),
        "rejected": [*told.get("rejected", []), *own],
        "rejected_count": told.get("rejected_count", len(told.get("rejected", []))) + len(own),
    }


def live_record(journal: Journal, scenario: Scenario, name: str) -> tuple[VersionRecord, str]:
    """Return the ready version that a scenario's alias points to, and how it came there if that was by hand.

    Raises:
        StoreError: There is none, or it is not ready.
        NothingPasses: There is none because nothing passes the gates.
    """
    record = journal.store.by_alias(journal.model, name)
    by_hand = ""
    if record is None or not _as_promoted(journal, record, name):
        events = journal.refresh()
        record = journal.store.by_alias(journal.model, name)
        last = next((event for event in reversed(events) if event["scenario"] == name), None)
        if record is None:
            raise _nothing_live(journal, scenario, name, last)
        by_hand = _by_hand(record, last)
    if not record.ready:
        raise StoreError(f"{record.label} serves '{name}' but is not ready ({READY} is not true)", REGISTER_AGAIN)
    return record, by_hand


def document(store: Store, name: str, scenario: Scenario, record: VersionRecord) -> dict[str, Any]:
    """Return what a version is and scores, as a JSON document; its INT8 file is checked, see `check_present`.

    Raises:
        StoreError: The file is missing or altered.
    """
    return {
        "schema": SCHEMA,
        "scenario": name,
        "model": record.model,
        "version": record.version,
        "variant": record.variant,
        "form": record.form,
        "stage": record.stage,
        "pin": scenario.pin,
        "target": scenario.target,
        "fp32": _group(record, "fp32"),
        "int8": _group(record, "int8"),
        "npu": {
            target: {**record.npu(target), "provenance": record.tags.get(f"npu.{target}.provenance", "estimate")}
            for target in record.targets
        },
        "protocol_sha256": record.protocol_sha256,
        "run_id": record.run_id,
        "artifact": {"path": check_present(store, record), "sha256": record.artifact_sha256},
    }


def on_target(scenario: Scenario, target: str | None) -> Scenario:
    """Return the scenario with its gates and objective on another target."""
    return scenario.model_copy(update={"target": target}) if target else scenario


def gate_rows(wanted: tuple[Gate, ...], record: VersionRecord, target: str) -> list[dict[str, Any]]:
    """Return each gate with the version's figure, the limit and the margin, all in the figure's own unit."""
    values = [(gate, gate.value(record, target)) for gate in wanted]
    return [
        {
            "gate": gate.text,
            "figure": gate.figure,
            "value": value,
            "limit": gate.limit,
            "margin": gate.margin(value),
            "passes": gate.holds(value),
        }
        for gate, value in values
    ]


def _group(record: VersionRecord, prefix: str) -> dict[str, float]:
    return {
        figure.removeprefix(f"{prefix}."): value
        for figure, value in record.figures.items()
        if figure.startswith(f"{prefix}.")
    }


def _as_promoted(journal: Journal, record: VersionRecord, name: str) -> bool:
    """Return whether the local ledger's newest event says what alias and stage tag say: nothing is left to do."""
    if journal.begun.exists():
        return False
    event = ledger.latest(journal.path, journal.model, name) or {}
    told = (event.get("to"), event.get("artifact_sha256"))
    return told == (record.version, record.artifact_sha256) and name in record.stage.split(",")


def _by_hand(record: VersionRecord, last: Event | None) -> str:
    """Return how an alias came to a version if no promotion brought it there; empty if one did."""
    if last is None:
        return "its alias was set by hand: the ledger knows no promotion"
    if last["event"] == MOVED:
        return f"its alias was moved by hand, from version {last['from']}, as noticed at {last['at']}"
    if last["to"] != record.version:
        return f"its alias was moved by hand: {last['who']} promoted version {last['to']} at {last['at']}"
    return ""


def _nothing_live(journal: Journal, scenario: Scenario, name: str, last: Event | None) -> StoreError:
    """Return why no version can be had by a scenario's alias; NothingPasses is raised if that is why."""
    store, model = journal.store, journal.model
    found = store.model(model)
    again = f"promote another: ethos promote --scenario {name}"
    if found and name in found.aliases:
        return StoreError(f"alias '{name}' points to version {found.aliases[name]}, which was deleted", again)
    if last is not None and found:
        gone = "was deleted" if store.find_version(model, last["to"] or 0) is None else "lost its alias by hand"
        told = f"promoted by {last.get('who')} at {last['at']}"
        return StoreError(f"version {last['to']}, {told}, {gone}: nothing serves '{name}'", again)
    decide(name, scenario, comparable(store.ready(model))[0])
    return StoreError(
        f"no version of '{model}' is promoted to '{name}' yet", f"promote one: ethos promote --scenario {name}"
    )


def _require_pinned(name: str, scenario: Scenario, record: VersionRecord, failed: list[Rejection]) -> None:
    fix = f"see ethos select --scenario {name} --explain; without --strict it is shown all the same"
    if failed:
        first = failed[0]
        figure = next(gate.figure for gate in gates(name, scenario) if gate.text == first.gate)
        value = show(figure, first.value)
        raise NothingPasses(f"{record.label} serves '{name}' but fails {first.gate} with {value}", fix, tuple(failed))
    if record.variant != scenario.pin:
        raise NothingPasses(f"{record.label} serves '{name}' but {scenario.pin} is pinned", fix)
