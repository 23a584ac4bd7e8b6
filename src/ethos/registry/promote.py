"""Promote: give each scenario's alias to the version that the policy chooses, and remember every change."""

from __future__ import annotations

import getpass
import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.files import sha256_json
from ethos.registry import ledger
from ethos.registry.records import CANDIDATE, DECISION_TAG
from ethos.registry.select import Decision, NothingPasses, decide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.registry.records import VersionRecord
    from ethos.registry.store import Store
    from ethos.specs import Policy

log = logging.getLogger(__name__)


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
        StoreError: A version is not in the store any more, or is not ready.
    """
    current = [_still_there(store, record) for record in records]
    decisions = {name: _decide(policy, name, current) for name in policy.scenarios}
    model = records[0].model
    before = {name: store.by_alias(model, name) for name in policy.scenarios}
    for name, decision in decisions.items():
        if isinstance(decision, Decision):
            _give(store, policy, decision, before[name], root)
        else:
            log.warning("%s", decision.message)
    after = {name: _after(decision, before[name]) for name, decision in decisions.items()}
    _set_stages(store, [*current, *filter(None, before.values())], after)
    return {
        "schema": 1,
        "model": model,
        "scenarios": {name: _document(decision, _stage(after, after[name])) for name, decision in decisions.items()},
    }


def _still_there(store: Store, record: VersionRecord) -> VersionRecord:
    found = store.version(record.model, record.version)
    if not found.ready or found.artifact_sha256 != record.artifact_sha256:
        raise StoreError(
            f"{record.label} is not in the store as it was registered", "register it again: dvc repro -f register"
        )
    return found


def _decide(policy: Policy, name: str, records: Sequence[VersionRecord]) -> Decision | NothingPasses:
    try:
        return decide(name, policy.scenarios[name], records)
    except NothingPasses as error:
        return error


def _give(store: Store, policy: Policy, decision: Decision, before: VersionRecord | None, root: Path) -> None:
    """Let the scenario's alias point to the chosen version; a change is written to the ledger first."""
    chosen, scenario = decision.chosen, decision.scenario
    if before is None or before.version != chosen.version:
        ledger.append(root / ledger.LEDGER, _event(store, policy, decision, before))
        store.set_alias(chosen, scenario)
        log.info("%s: %s; %s", scenario, chosen.label, decision.reason)
    # the reason travels with the version, so that selecting it later reads this version alone
    told = json.dumps(told_by(decision), sort_keys=True, ensure_ascii=False)
    if chosen.tags.get(f"{DECISION_TAG}.{scenario}") != told:
        store.tag_version(chosen, {f"{DECISION_TAG}.{scenario}": told})


def told_by(decision: Decision) -> dict[str, Any]:
    """Return why a version was chosen, as a JSON document."""
    return {
        "by": decision.by,
        "reason": decision.reason,
        "disagreement": decision.disagreement,
        "rejected": [rejection.document() for rejection in decision.rejected],
    }


def _event(store: Store, policy: Policy, decision: Decision, before: VersionRecord | None) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": _user(),
        "event": "promote",
        "scenario": decision.scenario,
        "model": decision.chosen.model,
        "store": store.identity(),
        "from": before.version if before else None,
        "to": decision.chosen.version,
        "variant": decision.chosen.variant,
        "artifact_sha256": decision.chosen.artifact_sha256,
        "policy_sha256": sha256_json(policy.model_dump(mode="json")),
        **told_by(decision),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "unknown"


def _after(decision: Decision | NothingPasses, before: VersionRecord | None) -> int | None:
    if isinstance(decision, Decision):
        return decision.chosen.version
    return before.version if before else None


def _stage(after: dict[str, int | None], version: int | None) -> str:
    served = [name for name, live in after.items() if live is not None and live == version]
    return ",".join(served) or CANDIDATE


def _set_stages(store: Store, records: Sequence[VersionRecord], after: dict[str, int | None]) -> None:
    for record in {record.version: record for record in records}.values():
        stage = _stage(after, record.version)
        if record.stage != stage:
            store.tag_version(record, {"stage": stage})


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
        **told_by(decision),
    }
