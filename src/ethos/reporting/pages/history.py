"""Which version served which scenario when, and every version that was ever registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.blocks import SHORT_HASH, Block, Digest, Heading, Link, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages.common import (
    attribution,
    in_use,
    nothing_registered,
    protocol_text,
    table,
    version_link,
    version_page,
)

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts


def history_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("history.intro"))]
    if not evidence.records:
        blocks += nothing_registered(evidence, texts)
    blocks += [Heading(texts("history.now")), _now(evidence, texts)]
    blocks += [Heading(texts("history.events")), _events(evidence, texts)]
    return [*blocks, *_versions(evidence, texts), *attribution(evidence, texts)]


def _now(evidence: Evidence, texts: Texts) -> Block:
    rows: list[list[Cell]] = []
    for name in evidence.policy["scenarios"]:
        place = f"policy#scenarios/{name}"
        record = evidence.by_number.get(evidence.live.get(name, -1))
        gates = "; ".join(evidence.read(f"{place}/gates") or []) or ABSENT
        serves: Cell = (version_link(record), f" v{record.version}") if record else ABSENT
        rows.append([name, serves, evidence.fact(f"{place}/pin"), evidence.fact(f"{place}/target"), gates])
    columns = [texts(f"history.{key}") for key in ("scenario", "serves", "pin", "target", "gates")]
    return table(evidence, columns, rows, texts("history.now"))


def _events(evidence: Evidence, texts: Texts) -> Block:
    if not evidence.events:
        return Text(texts("history.no_events"), "note")
    rows: list[list[Cell]] = []
    for number, event in reversed(list(enumerate(evidence.events))):
        place = f"ledger#{number}"
        decision = f"{place}/decision" if "decision" in event else place
        rows.append(
            [
                evidence.fact(f"{place}/at"),
                evidence.fact(f"{place}/event", optional=True),
                evidence.fact(f"{place}/scenario", optional=True),
                _version(evidence, event.get("from")),
                _version(evidence, event.get("to")),
                evidence.fact(f"{place}/variant", optional=True),
                evidence.fact(f"{place}/form", optional=True),
                evidence.fact(f"{place}/who", optional=True),
                evidence.fact(f"{decision}/reason", optional=True),
            ]
        )
    keys = ("at", "event", "scenario", "from", "to", "variant", "form", "who", "reason")
    return table(evidence, [texts(f"history.{key}") for key in keys], rows, texts("history.events"))


def _version(evidence: Evidence, number: Any) -> Cell:
    if number is None:
        return ABSENT
    record = evidence.by_number.get(int(number))
    return Link(f"v{number}", version_page(record)) if record else f"v{number}"


def _versions(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return all versions, one table a protocol: scores of unlike protocols do not stand together."""
    groups: dict[str, list[VersionRecord]] = {}
    for record in reversed(evidence.records):
        groups.setdefault(record.protocol_sha256, []).append(record)
    blocks: list[Block] = []
    for protocol, records in groups.items():
        blocks.append(Heading(texts("history.versions", protocol=protocol[:SHORT_HASH] or ABSENT)))
        blocks.append(protocol_text(evidence, records[0], texts))
        columns = [texts(f"history.{key}") for key in ("version", "variant", "form", "ready", "scenario", "commit")]
        columns += [texts("figure.fp32_map50"), texts("figure.int8_map50"), texts("figure.int8_kib")]
        rows = [_version_row(evidence, texts, record) for record in records]
        blocks.append(table(evidence, columns, rows, texts("history.versions", protocol=protocol[:SHORT_HASH])))
    return blocks


def _version_row(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Cell]:
    tag = f"version/{record.version}#"
    if not record.ready:
        evidence.note(f"version/{record.version} (not ready)")
    return [
        Link(f"v{record.version}", version_page(record)),
        record.variant or ABSENT,
        record.form or ABSENT,
        texts("history.is_ready") if record.ready else texts("history.not_ready"),
        in_use(evidence, record),
        Digest(record.tags.get("git.commit", ABSENT)),
        evidence.figure(f"{tag}fp32.map50", "score"),
        evidence.figure(f"{tag}int8.map50", "score"),
        evidence.figure(f"{tag}size.int8_kib", "kib"),
    ]
