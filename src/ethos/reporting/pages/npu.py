"""What NPUs make of the candidates: placement, cycles, memory, and the operators that stay on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.reporting.blocks import Block, Heading, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages import charts
from ethos.reporting.pages.common import (
    attribution,
    nothing_registered,
    reported_heading,
    table,
    targets_of,
    version_link,
)

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

# key of a target's report, its text, its format, and whether every kind of target has it
FIGURES = (
    ("operators_npu", "count", True),
    ("operators_cpu", "count", True),
    ("operator_coverage", "percent", True),
    ("mac_coverage", "percent", True),
    ("byte_coverage", "percent", False),
    ("regions", "count", True),
    ("crossings_npu_cpu", "count", True),
    ("crossings_cpu_npu", "count", True),
    ("latency_ms", "ms", False),
    ("mac_utilisation", "percent", False),
    ("sram_kib", "kib", False),
    ("dram_kib", "kib", False),
    ("flash_kib", "kib", False),
    ("over_budget_kib", "kib", False),
)


def npu_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("npu.intro")), Text(texts("npu.words"), "note")]
    if not evidence.current:
        blocks += nothing_registered(evidence, texts)
    else:
        blocks += [Heading(texts("npu.coverage"))]
        blocks += [charts.coverage(evidence, texts, kind) for kind in ("operator", "mac")]
        for target in targets_of(evidence.current):
            blocks += [Heading(target), *_target(evidence, texts, target)]
        blocks += _on_cpu(evidence, texts)
    return [*blocks, *_reported(evidence, texts), *attribution(evidence, texts)]


def _target(evidence: Evidence, texts: Texts, target: str) -> list[Block]:
    records = [record for record in evidence.current if target in record.targets]
    place = f"version/{records[0].version}/npu.json#targets/{target}"
    parts: list[Cell] = [texts("npu.made_by"), ": "]
    named = ("provenance", "compiler/name", "compiler/version", "system_config", "memory_mode")
    for key in named:
        if evidence.read(f"{place}/{key}", optional=True):
            parts += [evidence.fact(f"{place}/{key}"), " "]
    columns = [texts("common.candidate"), *(texts(f"npu.{key}") for key, _, _ in FIGURES)]
    rows = [_row(evidence, record, target) for record in records]
    return [Text(tuple(parts)), table(evidence, columns, rows, texts("npu.table", target=target))]  # type: ignore[arg-type]


def _row(evidence: Evidence, record: VersionRecord, target: str) -> list[Cell]:
    place = f"version/{record.version}/npu.json#targets/{target}"
    figures = (evidence.figure(f"{place}/{key}", style, optional=not needed) for key, style, needed in FIGURES)
    return [version_link(record), *figures]


def _on_cpu(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the operators that some target leaves to the CPU, with the reason for each kind."""
    rows: list[list[Cell]] = []
    for record in evidence.current:
        for target in record.targets:
            place = f"version/{record.version}/npu.json#targets/{target}/fallbacks"
            kinds: dict[tuple[str, str], int] = {}
            for number, each in enumerate(evidence.read(place) or []):
                kinds.setdefault((each["operator"], each["reason"]), number)
            for number in kinds.values():
                operator, reason = (evidence.fact(f"{place}/{number}/{key}") for key in ("operator", "reason"))
                rows.append([version_link(record), target, operator, reason])
    heading: list[Block] = [Heading(texts("npu.on_cpu"))]
    if not rows:
        return [*heading, Text(texts("npu.none_on_cpu"))]
    columns = [texts("common.candidate"), texts("common.target"), texts("npu.operator"), texts("npu.reason")]
    return [*heading, table(evidence, columns, rows, texts("npu.on_cpu"))]


def _reported(evidence: Evidence, texts: Texts) -> list[Block]:
    rows: list[list[Cell]] = []
    for variant, entry in evidence.reported["accuracy"].items():
        share: Cell = texts("v3.npu_failed")
        if entry["npu"] is not None:
            share = evidence.figure(f"v3#accuracy/{variant}/npu", "percent_given")
        rows.append([variant, share])
    latencies = evidence.reported["latency_afterwards"]
    targets = list(next(iter(latencies.values())))
    later: list[list[Cell]] = [
        [variant, *(evidence.figure(f"v3#latency_afterwards/{variant}/{target}", "ms") for target in targets)]
        for variant in latencies
    ]
    ours = {record.variant: record for record in evidence.current if record.form == "dense"}
    for row in rows:
        record = ours.get(str(row[0]))
        row += [_now(evidence, record, kind) for kind in ("operator", "mac")]
    columns = [texts("common.variant"), texts("v3.npu_share"), texts("v3.operators_now"), texts("v3.macs_now")]
    return [
        reported_heading(texts),
        Text(texts("v3.npu_note"), "note"),
        table(evidence, columns, rows, texts("v3.npu"), reported=True),
        Text(texts("v3.latency_note"), "note"),
        table(evidence, [texts("common.variant"), *targets], later, texts("v3.latency"), reported=True),
    ]


def _now(evidence: Evidence, record: VersionRecord | None, kind: str) -> Cell:
    """Return the least coverage of our version over the targets it was analyzed for."""
    if record is None or not record.targets:
        return ABSENT
    places = [f"version/{record.version}/npu.json#targets/{target}/{kind}_coverage" for target in record.targets]
    return evidence.figure(places[0], "percent", *places[1:], operation="least")
