"""Promote: give a scenario's alias to the version that the policy or a person chooses, and remember every change."""

from __future__ import annotations

import getpass
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ethos.errors import GateFailed, StoreError
from ethos.files import sha256_json
from ethos.registry import ledger
from ethos.registry.artifact import check_int8
from ethos.registry.journal import Journal, stage_of
from ethos.registry.policy import find_scenario, gates, show
from ethos.registry.records import DECISION_TAG, READY, decision_tag
from ethos.registry.replay import chosen_by_person, inputs
from ethos.registry.select import Decision, NothingPasses, comparable, decide, failing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.registry.journal import Event
    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store
    from ethos.specs import Policy

log = logging.getLogger(__name__)


def journal_of(store: Store, policy: Policy, model: str, root: Path) -> Journal:
    """Return the ledger of a model, kept in the project's folder and shared through the store."""
    return Journal(store, model, root / ledger.LEDGER, tuple(policy.scenarios))


def promote(store: Store, policy: Policy, records: Sequence[VersionRecord], root: Path) -> dict[str, Any]:
    """Decide for every scenario among `records`, and let its alias and stage tag say so.

    A scenario for which nothing passes keeps the version it has. A version that serves several scenarios has them all
    in its stage tag, joined by commas in the policy's order. Running it again changes nothing.

    Args:
        store: Where the versions are.
        policy: The scenarios.
        records: The versions to choose from, as the run registered them.
        root: The project's folder, for the ledger.

    Returns:
        The document decisions.json.

    Raises:
        StoreError: A version is not in the store any more, or is not ready; or another promotion came first.
    """
    model = records[0].model
    journal = journal_of(store, policy, model, root)
    events = journal.refresh()
    current = [_still_there(store, record) for record in records]
    before = _aliases(store, model)
    decisions = {name: _decide(policy, name, current) for name in policy.scenarios}
    for name, decision in decisions.items():
        if not isinstance(decision, Decision):
            log.warning("%s", decision.message)
        elif before.get(name) != decision.chosen.version or _told_last(events, name) != decision.chosen.version:
            kept = inputs(name, policy.scenarios[name], current)
            journal.commit(_event(store, policy, name, decision.chosen, before, decision.document(), kept))
            log.info("%s: %s; %s", name, decision.chosen.label, decision.reason)
        else:
            _tell(store, decision)
    after = _aliases(store, model)
    served = {*before.values(), *after.values()} | {record.version for record in current}
    journal.set_stages(served)
    return {
        "schema": 1,
        "model": model,
        "scenarios": {
            name: _document(decision, stage_of(after.get(name, 0), after, tuple(policy.scenarios)))
            for name, decision in decisions.items()
        },
    }


def promote_scenario(
    store: Store,
    policy: Policy,
    model: str,
    name: str,
    root: Path,
    version: int | None = None,
    forced: str | None = None,
) -> dict[str, Any]:
    """Promote one scenario: the version named, or the one that the policy chooses among all ready versions.

    Args:
        store: Where the versions are.
        policy: The scenarios.
        model: Name of the registered model.
        name: The scenario.
        root: The project's folder, for the ledger.
        version: Promote this one.
        forced: Why a version is promoted though it fails a gate.

    Returns:
        The event in the ledger, with `changed`: false if the version served the scenario already.

    Raises:
        GateFailed: The version named fails a gate, and no `forced` says why it is wanted.
        NothingPasses: No version passes the gates.
        StoreError: The version is not there, not ready or damaged, or another promotion came first.
    """
    scenario = find_scenario(policy, name)
    journal = journal_of(store, policy, model, root)
    events = journal.refresh()
    before = _aliases(store, model)
    if version is None:
        records, _ = comparable(store.ready(model))
        found = decide(name, scenario, records)
        chosen, decision = found.chosen, found.document()
    else:
        chosen = store.version(model, version)
        _require_gates(policy, name, chosen, forced)
        decision = chosen_by_person(name, scenario, chosen, f"{_user()} chose version {version}", forced)
        records = [chosen]
    _require_usable(store, chosen)
    event = _event(store, policy, name, chosen, before, decision, inputs(name, scenario, records))
    if before.get(name) == chosen.version == _told_last(events, name):
        return {**event, "changed": False}
    return {**journal.commit(event), "changed": True}


def rollback(store: Store, policy: Policy, model: str, name: str, root: Path, why: str | None = None) -> dict[str, Any]:
    """Give a scenario back the version that served it before the present one.

    Rolling back again goes one further back. The version's gates are checked and recorded; they do not stop it.

    Returns:
        The event in the ledger.

    Raises:
        StoreError: No version served before, or it is gone or damaged, or another promotion came first.
    """
    scenario = find_scenario(policy, name)
    journal = journal_of(store, policy, model, root)
    events = journal.refresh()
    before = _aliases(store, model)
    earlier = earlier_version(events, name, before.get(name))
    fix = f"promote a version: ethos promote --scenario {name} --version N"
    if earlier is None:
        raise StoreError(f"'{name}' has no earlier version to go back to", fix)
    record = store.find_version(model, earlier)
    if record is None:
        raise StoreError(f"version {earlier} served '{name}' before, but it was deleted", fix)
    _require_usable(store, record)
    said = f": {why}" if why else ""
    decision = chosen_by_person(name, scenario, record, f"{_user()} rolled back{said}", None)
    event = _event(store, policy, name, record, before, decision, inputs(name, scenario, [record]))
    return journal.commit({**event, "event": "rollback"})


def earlier_version(events: Sequence[Event], scenario: str, now: int | None) -> int | None:
    """Return the version that served a scenario before the present one; what was rolled back is left out."""
    served: list[int] = []
    for event in (event for event in events if event["scenario"] == scenario):
        if event["event"] == "rollback" and len(served) > 1:
            served.pop()
        elif event["to"] is not None and served[-1:] != [event["to"]]:
            served.append(event["to"])
    if now is not None and served[-1:] != [now]:
        served.append(now)  # moved by hand since
    return served[-2] if len(served) > 1 else None


def _aliases(store: Store, model: str) -> dict[str, int]:
    found = store.model(model)
    return found.aliases if found else {}


def _told_last(events: Sequence[Event], scenario: str) -> int | None:
    return next((event["to"] for event in reversed(events) if event["scenario"] == scenario), None)


def _still_there(store: Store, record: VersionRecord) -> VersionRecord:
    found = store.find_version(record.model, record.version)
    if found is None or not found.ready or found.artifact_sha256 != record.artifact_sha256:
        raise StoreError(
            f"{record.label} is not in the store as it was registered", "register it again: dvc repro -f register"
        )
    return found


def _require_usable(store: Store, record: VersionRecord) -> None:
    if not record.ready:
        raise StoreError(f"{record.label} is not ready ({READY} is not true)", "register it again: dvc repro")
    check_int8(store, record)


def _require_gates(policy: Policy, name: str, record: VersionRecord, forced: str | None) -> None:
    scenario = policy.scenarios[name]
    wanted = gates(name, scenario)
    failed = failing(record, wanted, scenario.target)
    if failed and not forced:
        first = failed[0]
        figure = next(gate.figure for gate in wanted if gate.text == first.gate)
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise GateFailed(
            f"{record.label} fails {first.gate} of '{name}' with {show(figure, first.value)}{more}",
            "choose another version, or say why this one: --force --reason TEXT",
        )


def _decide(policy: Policy, name: str, records: Sequence[VersionRecord]) -> Decision | NothingPasses:
    try:
        return decide(name, policy.scenarios[name], records)
    except NothingPasses as error:
        return error


def _tell(store: Store, decision: Decision) -> None:
    """Let the reason travel with the version, so that selecting it later reads this version alone."""
    told = decision_tag(decision.document())
    if decision.chosen.tags.get(f"{DECISION_TAG}.{decision.scenario}") != told:
        store.tag_version(decision.chosen, {f"{DECISION_TAG}.{decision.scenario}": told})


def _event(
    store: Store,
    policy: Policy,
    name: str,
    chosen: VersionRecord,
    before: dict[str, int],
    decision: dict[str, Any],
    kept: dict[str, Any],
) -> Event:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": _user(),
        "event": "promote",
        "scenario": name,
        "model": chosen.model,
        "store": store.identity(),
        "from": before.get(name),
        "to": chosen.version,
        "variant": chosen.variant,
        "form": chosen.form,
        "artifact_sha256": chosen.artifact_sha256,
        "policy_sha256": sha256_json(policy.model_dump(mode="json")),
        "decision": decision,
        "inputs": kept,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"


def _document(decision: Decision | NothingPasses, stage: str) -> dict[str, Any]:
    if isinstance(decision, NothingPasses):
        rejected = [rejection.document() for rejection in decision.rejected]
        return {"version": None, "reason": decision.message, "rejected": rejected}
    chosen = decision.chosen
    return {
        "version": chosen.version,
        "variant": chosen.variant,
        "form": chosen.form,
        "stage": stage,
        **decision.document(),
    }
