"""What serves a scenario now: answered from the registry's alias, explained, and downloaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError
from ethos.files import new_folder, read_json, sha256_file
from ethos.registry.candidate import CARD, MANIFEST, VELA, altered
from ethos.registry.policy import find_scenario, gates
from ethos.registry.promote import told_by
from ethos.registry.records import DECISION_TAG, INT8, READY
from ethos.registry.select import NothingPasses, decide, failing

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.registry.select import Decision, Rejection
    from ethos.registry.store import Store
    from ethos.specs import Policy, Scenario

SCHEMA = 1
PROMOTE = "dvc repro promote"
REGISTER_AGAIN = "register it again: dvc repro"
DEPLOYED = (INT8, "labels.txt", "decode.json", CARD)


def live(store: Store, policy: Policy, model: str, name: str, strict: bool = False) -> dict[str, Any]:
    """Return the version that serves a scenario, as the select document.

    It is the one the scenario's alias points to. Its gates are checked again on the recorded figures; with `strict` it
    must also be of the pinned variant.

    Args:
        store: Where the versions are.
        policy: The scenarios.
        model: Name of the registered model.
        name: The scenario.
        strict: Refuse a version that fails a gate or is not the pinned variant.

    Raises:
        SpecError: There is no such scenario, or its gates cannot be read.
        StoreError: Nothing is promoted yet, or the version's INT8 file is gone or altered.
        NothingPasses: Nothing passes the gates, or `strict` refuses.
    """
    scenario = find_scenario(policy, name)
    record = live_record(store, policy, model, name)
    told = json.loads(record.tags.get(f"{DECISION_TAG}.{name}", "{}"))
    failed = failing(record, gates(name, scenario), scenario.target)
    if strict:
        _require_pinned(name, scenario, record, failed)
    reason = told.get("reason", "its alias was set by hand")
    if failed:
        now = "; ".join(f"{rejection.gate} (recorded: {rejection.value})" for rejection in failed)
        reason = f"{reason}; but it fails the gates of today's policy: {now}"
    known = {rejection["version"] for rejection in told.get("rejected", [])}
    own = [failed[0].document()] if failed and record.version not in known else []
    return {
        **document(store, name, scenario, record),
        "by": told.get("by", "hand"),
        "reason": reason,
        "disagreement": told.get("disagreement", ""),
        "rejected": [*told.get("rejected", []), *own],
    }


def explain(store: Store, policy: Policy, model: str, name: str) -> dict[str, Any]:
    """Return the select document of a fresh decision over all ready versions, whatever the alias says.

    Only versions scored under the newest version's protocol can be ranked; `not_compared` lists the others.

    Raises:
        NothingPasses: Nothing passes; `rejected` holds every version's first failing gate.
        StoreError: No version is registered.
    """
    scenario = find_scenario(policy, name)
    records = _ready(store, model)
    comparable = _latest_protocol(records)
    decision = decide(name, scenario, comparable)
    current = store.by_alias(model, name)
    return {
        **document(store, name, scenario, decision.chosen),
        **told_by(decision),
        "live": current.version if current else None,
        "candidates": [_candidate(record, scenario, decision) for record in comparable],
        "not_compared": [record.version for record in records if record not in comparable],
    }


def download(store: Store, policy: Policy, model: str, name: str, folder: Path, strict: bool = False) -> dict[str, Any]:
    """Write the files that a device needs into `folder`, each with the hash that was registered, or nothing at all.

    Returns:
        The select document, with `download`: the folder and its files.

    Raises:
        StoreError: The folder is not empty or not writable, or a file is missing or altered. Others as `live`.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StoreError(f"{folder}: is there already and not empty", "name a new folder, or remove that one")
    answer = live(store, policy, model, name, strict)
    target = find_scenario(policy, name).target
    record = store.version(model, answer["version"])
    with store.files(record) as source:
        wanted = _wanted(record, source, target)
        try:
            with new_folder(folder) as fresh:
                _copy(record, source, fresh, wanted)
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot be written: {error.strerror}", "name a folder you can write to"
            ) from None
    return {**answer, "download": {"folder": str(folder), "files": [*wanted["files"], MANIFEST]}}


def live_record(store: Store, policy: Policy, model: str, name: str) -> VersionRecord:
    """Return the ready version that a scenario's alias points to.

    Raises:
        StoreError: There is none, or it is not ready.
        NothingPasses: There is none because nothing passes the gates.
    """
    record = store.by_alias(model, name)
    if record is None:
        decide(name, find_scenario(policy, name), _latest_protocol(_ready(store, model)))
        raise StoreError(f"no version of '{model}' is promoted to '{name}' yet", f"promote one: {PROMOTE}")
    if not record.ready:
        raise StoreError(f"{record.label} serves '{name}' but is not ready ({READY} is not true)", REGISTER_AGAIN)
    return record


def document(store: Store, name: str, scenario: Scenario, record: VersionRecord) -> dict[str, Any]:
    """Return what a version is and scores, as a JSON document; its INT8 file is checked where it is on this machine.

    Raises:
        StoreError: The file is missing or altered.
    """
    place = store.file_place(record, INT8)
    if Path(place).is_absolute():
        _check_artifact(record, Path(place))
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
        "artifact": {"path": place, "sha256": record.artifact_sha256},
    }


def _group(record: VersionRecord, prefix: str) -> dict[str, float]:
    return {
        figure.removeprefix(f"{prefix}."): value
        for figure, value in record.figures.items()
        if figure.startswith(f"{prefix}.")
    }


def _ready(store: Store, model: str) -> list[VersionRecord]:
    records = store.versions(model, {READY: "true"})
    if not records:
        raise StoreError(f"no version of '{model}' is registered", "register some: dvc repro")
    return records


def _latest_protocol(records: list[VersionRecord]) -> list[VersionRecord]:
    return [record for record in records if record.protocol_sha256 == records[-1].protocol_sha256]


def _candidate(record: VersionRecord, scenario: Scenario, decision: Decision) -> dict[str, Any]:
    rejected = {rejection.version for rejection in decision.rejected}
    objective = scenario.objective.minimise or scenario.objective.maximise or ""
    return {
        "version": record.version,
        "variant": record.variant,
        "form": record.form,
        "passes": record.version not in rejected,
        "objective": record.figures_for(scenario.target).get(objective),
    }


def _require_pinned(name: str, scenario: Scenario, record: VersionRecord, failed: list[Rejection]) -> None:
    fix = f"see ethos select --scenario {name} --explain; without --strict it is shown all the same"
    if failed:
        first = failed[0]
        raise NothingPasses(f"{record.label} serves '{name}' but fails {first.gate}: {first.value}", fix, tuple(failed))
    if record.variant != scenario.pin:
        raise NothingPasses(f"{record.label} serves '{name}' but {scenario.pin} is pinned", fix)


def _check_artifact(record: VersionRecord, path: Path) -> None:
    if not path.is_file():
        raise StoreError(f"{record.label}: its INT8 file is gone: {path}", REGISTER_AGAIN)
    if sha256_file(path) != record.artifact_sha256:
        raise StoreError(f"{record.label}: its INT8 file was altered: {path}", REGISTER_AGAIN)


def _wanted(record: VersionRecord, source: Path, target: str) -> dict[str, Any]:
    """Return the part of the version's manifest that is deployed on a target; all of its files are there.

    The manifest must be about the INT8 file that the version's own tags name.
    """
    try:
        files: dict[str, Any] = read_json(source / MANIFEST)["files"]
    except (OSError, ValueError, KeyError):
        raise StoreError(f"{record.label}: its {MANIFEST} is gone or unreadable", REGISTER_AGAIN) from None
    if files.get(INT8, {}).get("sha256") != record.artifact_sha256:
        raise StoreError(f"{record.label}: its {MANIFEST} is about another INT8 file", REGISTER_AGAIN)
    compiled = f"{VELA}/{target}.tflite"
    names = [*DEPLOYED, *([compiled] if compiled in files else [])]
    _require_none(record, [name for name in names if name not in files or not (source / name).is_file()])
    return {"files": {name: files[name] for name in names}}


def _copy(record: VersionRecord, source: Path, folder: Path, wanted: dict[str, Any]) -> None:
    for name in (*wanted["files"], MANIFEST):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    _require_none(record, altered(folder, wanted))


def _require_none(record: VersionRecord, problems: list[str]) -> None:
    if problems:
        raise StoreError(f"{record.label}: missing or altered: {', '.join(problems)}", REGISTER_AGAIN)
