"""What a decision was made from, kept with its event, and deciding again from that alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.errors import EthosError
from ethos.registry.journal import MOVED
from ethos.registry.policy import figures_used, gates
from ethos.registry.records import VersionRecord
from ethos.registry.select import decide, failing
from ethos.specs import Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence

SAME, DIFFERENT, NOT_KEPT, NO_DECISION = "same", "different", "inputs not kept", "no decision"
PERSON = "person"


def inputs(name: str, scenario: Scenario, records: Sequence[VersionRecord]) -> dict[str, Any]:
    """Return all that a decision depends on, as a JSON document: the scenario, and the versions' figures it may use."""
    used = figures_used(scenario, gates(name, scenario))
    return {"scenario": scenario.model_dump(mode="json"), "versions": [_version(r, scenario, used) for r in records]}


def chosen_by_person(
    name: str, scenario: Scenario, record: VersionRecord, why: str, forced: str | None
) -> dict[str, Any]:
    """Return the decision document of a version that a person chose.

    Args:
        name: The scenario's name.
        scenario: The scenario.
        record: The version.
        why: How it came to be chosen.
        forced: Why it was promoted though it fails a gate; None if nobody said so.
    """
    failed = failing(record, gates(name, scenario), scenario.target)
    given = f"{why}; forced: {forced}" if forced else why
    rejected = [rejection.document() for rejection in failed[:1]]
    return {"by": PERSON, "reason": given, "disagreement": "", "tied": [], "rejected": rejected, "forced": forced}


def replay(event: dict[str, Any]) -> dict[str, Any]:
    """Return what deciding again from an event's recorded inputs gives, compared with what was decided.

    Returns:
        The event's `sha256`, `scenario`, `at` and `to`, `result` (same, different, inputs not kept, no decision), and
        `decided`: the version that comes out now.
    """
    told = {key: event.get(key) for key in ("sha256", "at", "event", "scenario", "to")}
    if event["event"] == MOVED:
        return {**told, "result": NO_DECISION, "decided": None}
    if "inputs" not in event:
        return {**told, "result": NOT_KEPT, "decided": None}
    try:
        version, decision = _decide_again(event)
    except EthosError:  # the recorded inputs allow no decision at all
        return {**told, "result": DIFFERENT, "decided": None}
    same = version == event["to"] and decision == event["decision"]
    return {**told, "result": SAME if same else DIFFERENT, "decided": version}


def _decide_again(event: dict[str, Any]) -> tuple[int | None, dict[str, Any]]:
    name, kept, was = event["scenario"], event["inputs"], event["decision"]
    scenario = Scenario.model_validate(kept["scenario"])
    records = [_record(version, event["model"]) for version in kept["versions"]]
    if was["by"] != PERSON:
        again = decide(name, scenario, records)
        return again.chosen.version, again.document()
    forced = was["forced"]
    why = was["reason"].removesuffix(f"; forced: {forced}") if forced else was["reason"]
    [record] = records
    decision = chosen_by_person(name, scenario, record, why, forced)
    refused = event["event"] == "promote" and decision["rejected"] and not forced
    return None if refused else record.version, decision


def _version(record: VersionRecord, scenario: Scenario, used: set[str]) -> dict[str, Any]:
    figures = record.figures_for(scenario.target)
    return {
        "version": record.version,
        "variant": record.variant,
        "form": record.form,
        "artifact_sha256": record.artifact_sha256,
        "protocol_sha256": record.protocol_sha256,
        "figures": {_full(name, scenario): figures[name] for name in sorted(used) if name in figures},
    }


def _full(name: str, scenario: Scenario) -> str:
    """Return a figure's name with its target, as records keep it."""
    kind, _, rest = name.partition(".")
    return f"npu.{scenario.target}.{rest}" if kind == "npu" and "." not in rest else name


def _record(kept: dict[str, Any], model: str) -> VersionRecord:
    return VersionRecord(
        model=model,
        version=kept["version"],
        variant=kept["variant"],
        level="",
        activation="",
        form=kept["form"],
        artifact_sha256=kept["artifact_sha256"],
        protocol_sha256=kept["protocol_sha256"],
        run_id="",
        ready=True,
        figures=kept["figures"],
    )
