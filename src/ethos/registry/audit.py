"""Audit: what the registry claims, checked against the files, the data and the reports."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ethos.errors import DataError, EthosError, ModelError, SpecError, StoreError
from ethos.evaluation.protocol import Protocol
from ethos.files import read_json, sha256_file
from ethos.registry.candidate import MANIFEST, figures_of
from ethos.registry.history import verify
from ethos.registry.journal import moved_by_hand
from ethos.registry.promote import journal_of
from ethos.registry.records import (
    FIGURES,
    INT8,
    MANIFEST_TAG,
    PROTOCOL_DOCUMENT_TAG,
    SCORES,
    VersionRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ethos.evaluation.samples import SampleSet
    from ethos.registry.store import Store
    from ethos.specs import Policy

log = logging.getLogger(__name__)

SCHEMA = 1
TOLERANCE = 0.002  # of mAP, 0 to 1: what another processor's arithmetic may change
FIGURE_TOLERANCE = 1e-9  # relative: tags keep every digit


@dataclass(frozen=True)
class Finding:
    """Something that is not as the registry claims; `version` is None where it concerns no single one."""

    version: int | None
    kind: str
    detail: str


@dataclass
class Audit:
    """What an audit found, and what it could not check."""

    findings: list[Finding] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    checked: list[int] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)

    def add(self, version: int | None, kind: str, detail: str) -> None:
        """Note a finding."""
        self.findings.append(Finding(version, kind, detail))

    def skip(self, version: int, what: str, why: str) -> None:
        """Note what could not be checked."""
        self.skipped.append({"version": version, "what": what, "reason": why})

    def document(self, model: str) -> dict[str, Any]:
        """Return the audit as a JSON document."""
        return {
            "schema": SCHEMA,
            "model": model,
            "ok": not self.findings,
            "findings": [asdict(finding) for finding in self.findings],
            "skipped": self.skipped,
            "checked": self.checked,
            "scored": self.scored,
            "tolerance": TOLERANCE,
        }


def audit(
    store: Store,
    policy: Policy,
    model: str,
    root: Path,
    outputs: Path,
    version: int | None = None,
    progress: Callable[[str], None] = log.info,
    reports: Callable[[], Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Check what the registry claims; return the audit document.

    Args:
        store: The store.
        policy: The scenarios.
        model: Name of the registered model.
        root: The project's folder, for the ledger.
        outputs: Where the last run wrote: its data set is what scores are computed on.
        version: Check this version alone; reports and ledger are left out.
        progress: Called with what is checked next.
        reports: Gives what does not hold in the written reports, one sentence each. It is called last, because reading
            them may fetch what the ledger lacks.

    Raises:
        SpecError: There is no such model.
        StoreError: The store cannot be used, or holds no such version.
    """
    found = Audit()
    everything = store.ready(model)
    records = everything if version is None else [store.version(model, version)]
    samples = _Samples(outputs / "dataset")
    for record in records:
        progress(f"checking {record.label}")
        found.checked.append(record.version)
        _check_version(store, record, samples, found)
    for kind, shared in (("same_bytes", "artifact.sha256"), ("same_graph", "graph.fingerprint")):
        _check_names(everything, version, kind, shared, found)
    if version is None:
        _check_ledger(store, policy, model, root, found)
        for detail in reports() if reports else ():
            found.add(None, "report", detail)
    return found.document(model)


def _check_version(store: Store, record: VersionRecord, samples: _Samples, found: Audit) -> None:
    if not record.ready:
        found.skip(record.version, "all", "it is not ready: its registration did not end, or its files were damaged")
        return
    protocol = _protocol(record, found)
    try:
        with store.files(record) as folder:
            if _check_files(record, folder, found):
                _check_figures(record, folder, found)
                if protocol is not None:
                    _check_score(record, folder, protocol, samples, found)
    except StoreError as error:
        found.add(record.version, "artifact_missing", error.message)


def _check_files(record: VersionRecord, folder: Path, found: Audit) -> bool:
    """Compare every file with the manifest, and the manifest with the tags; return whether all are as registered."""
    before = len(found.findings)
    try:
        files: dict[str, Any] = read_json(folder / MANIFEST)["files"]
    except (OSError, ValueError, KeyError, TypeError):
        found.add(record.version, "manifest", f"{MANIFEST} is gone or unreadable")
        return False
    registered = record.tags.get(MANIFEST_TAG)
    if registered is not None and sha256_file(folder / MANIFEST) != registered:
        found.add(record.version, "manifest", f"{MANIFEST} is not the one that was registered")
    if files.get(INT8, {}).get("sha256") != record.artifact_sha256:
        found.add(record.version, "manifest", f"{MANIFEST} is about another INT8 file than the tag artifact.sha256")
    for name, entry in files.items():
        if not (folder / name).is_file():
            found.add(record.version, "artifact_missing", f"{name} is gone")
        elif (now := sha256_file(folder / name)) != entry["sha256"]:
            found.add(record.version, "artifact_altered", f"{name} has SHA-256 {now}, registered was {entry['sha256']}")
    return len(found.findings) == before


def _check_figures(record: VersionRecord, folder: Path, found: Audit) -> None:
    """Compare the figures in the tags with the reports, and where those lack one with the manifest, as registered."""
    metrics, quantize, npu = (
        read_json(folder / name) for name in ("metrics/metrics.json", "quantize.json", "npu.json")
    )
    # what compares a version with another one stands in the manifest alone
    expected = read_json(folder / MANIFEST).get("figures", {}) | figures_of(metrics, quantize, npu)
    for name in sorted({*expected, *record.figures}):
        mine, theirs = record.figures.get(name), expected.get(name)
        if name not in FIGURES and not name.startswith("npu."):
            continue
        if mine is None or theirs is None or abs(mine - theirs) > FIGURE_TOLERANCE * max(abs(theirs), 1.0):
            found.add(record.version, "figure_altered", f"tag {name} is {mine}, its report has {theirs}")


def _protocol(record: VersionRecord, found: Audit) -> Protocol | None:
    """Return the protocol of a version's scores; scores without one are a finding."""
    scored = [name for name in record.figures if name.partition(".")[0] in ("fp32", "int8")]
    try:
        protocol = Protocol.from_document(json.loads(record.tags[PROTOCOL_DOCUMENT_TAG]))
    except (KeyError, ValueError, SpecError) as error:
        if scored:
            why = error.message if isinstance(error, SpecError) else "the tag protocol is missing or unreadable"
            found.add(record.version, "no_protocol", f"scores {', '.join(sorted(scored))}: {why}")
        return None
    if protocol.sha256 != record.protocol_sha256:
        found.add(record.version, "no_protocol", "the tag protocol.sha256 is not that of the tag protocol")
        return None
    return protocol


def _check_score(record: VersionRecord, folder: Path, protocol: Protocol, samples: _Samples, found: Audit) -> None:
    """Compute the INT8 score from the file and the recorded split, and compare it with the recorded one."""
    from ethos.evaluation.evaluate import assess
    from ethos.specs import ProtocolParams

    images = samples.of(protocol)
    if isinstance(images, str):
        found.skip(record.version, "score", images)
        return
    params = ProtocolParams(conf=protocol.conf, iou=protocol.iou, max_det=protocol.max_det)
    try:
        now = assess(folder / INT8, images, params).document()
    except (ModelError, DataError) as error:
        found.add(record.version, "score", f"cannot be computed: {error.message}")
        return
    found.scored.append(record.version)
    for name in SCORES:
        recorded = record.figures.get(f"int8.{name}")
        if recorded is None or abs(now[name] - recorded) > TOLERANCE:
            found.add(record.version, "score", f"int8.{name} recorded {recorded}, computed {now[name]}")


class _Samples:
    """The images that scores are computed on, read once for each side."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sides: dict[str, SampleSet | str] = {}

    def of(self, protocol: Protocol) -> SampleSet | str:
        """Return the images that a protocol names, or why they are not here."""
        from ethos.evaluation.samples import load_samples

        if protocol.split not in self._sides:
            try:
                self._sides[protocol.split] = load_samples(self._folder / "data.yaml", protocol.split)
            except EthosError as error:
                self._sides[protocol.split] = error.message
        found = self._sides[protocol.split]
        if isinstance(found, str):
            return found
        if (found.split_sha256, found.labels_sha256) != (protocol.split_sha256, protocol.labels_sha256):
            return f"{self._folder} holds another split or other labels than it was scored on ({protocol.dataset})"
        return found


def _check_names(records: Sequence[VersionRecord], version: int | None, kind: str, tag: str, found: Audit) -> None:
    """Find what is the same under different names."""
    groups: dict[str, list[VersionRecord]] = defaultdict(list)
    for record in records:
        if value := record.tags.get(tag):
            groups[value].append(record)
    for value, group in groups.items():
        names = {(record.variant, record.form) for record in group}
        versions = [record.version for record in group]
        if len(names) > 1 and (version is None or version in versions):
            told = ", ".join(record.label for record in group)
            found.add(version or versions[-1], kind, f"{told} have one {tag}: {value}")


def _check_ledger(store: Store, policy: Policy, model: str, root: Path, found: Audit) -> None:
    try:
        for problem in verify(store, policy, model, root)["problems"]:
            found.add(None, "ledger", problem)
        events = journal_of(store, policy, model, root).events()
    except StoreError as error:
        found.add(None, "ledger", error.message)
        return
    registered = store.model(model)
    for name in policy.scenarios:
        if registered and (moved := moved_by_hand(events, registered, name)):
            detail = f"'{name}' was moved by hand: the ledger has version {moved['from']}, the alias {moved['to']}"
            found.add(moved["to"], "alias", detail)
