"""Sizes of the files, and what INT8 takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.reporting.blocks import Block, Digest, Heading, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages import charts
from ethos.reporting.pages.common import (
    attribution,
    nothing_registered,
    protocol_text,
    reported_heading,
    span,
    table,
    version_link,
)

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts


def quantization_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("quantization.intro"))]
    if not evidence.current:
        blocks += nothing_registered(evidence, texts)
    else:
        blocks += [Heading(texts("quantization.sizes")), _sizes(evidence, texts), charts.sizes(evidence, texts)]
        blocks += [Heading(texts("quantization.loss")), protocol_text(evidence, evidence.current[0], texts)]
        blocks += [_loss(evidence, texts), charts.class_loss(evidence, texts)]
        blocks += [Heading(texts("quantization.how")), _how(evidence, texts)]
    return [*blocks, *_reported(evidence, texts), *attribution(evidence, texts)]


def _sizes(evidence: Evidence, texts: Texts) -> Block:
    columns = [texts("common.candidate"), *(texts(f"file.{kind}") for kind, _ in charts.SIZES), texts("file.smaller")]
    rows: list[list[Cell]] = []
    for record in evidence.current:
        place = f"version/{record.version}/quantize.json#files"
        sizes = [f"{place}/{name}/bytes" for _, name in charts.SIZES]
        whole, int8 = f"{place}/fp32.tflite/bytes", f"{place}/int8.tflite/bytes"
        rows.append(
            [
                version_link(record),
                *(evidence.figure(size, "kib_of_bytes") for size in sizes),
                evidence.figure(int8, "change", whole, operation="change"),
            ]
        )
    return table(evidence, columns, rows, texts("quantization.sizes"))


def _loss(evidence: Evidence, texts: Texts) -> Block:
    columns = [
        texts("common.candidate"),
        texts("figure.fp32_map50"),
        texts("figure.int8_map50"),
        texts("figure.drop_points"),
        texts("figure.drop_interval"),
        texts("figure.drop_95_points"),
        texts("figure.worst_class"),
    ]
    return table(
        evidence, columns, [_loss_row(evidence, record) for record in evidence.current], texts("quantization.loss")
    )


def _loss_row(evidence: Evidence, record: VersionRecord) -> list[Cell]:
    place = f"version/{record.version}/metrics"
    before, after = (f"{place}/{precision}.json" for precision in ("fp32", "int8"))
    ends = [evidence.figure(f"{after}#loss/map50/interval/{end}", "points") for end in (0, 1)]
    return [
        version_link(record),
        evidence.figure(f"{before}#map50", "score"),
        evidence.figure(f"{after}#map50", "score"),
        evidence.figure(f"{before}#map50", "points", f"{after}#map50", operation="difference"),
        span(*ends) if None not in (end.value for end in ends) else ABSENT,
        evidence.figure(f"{before}#map50_95", "points", f"{after}#map50_95", operation="difference"),
        evidence.figure(f"version/{record.version}#int8.worst_class_drop", "points"),
    ]


def _how(evidence: Evidence, texts: Texts) -> Block:
    columns = [
        texts("common.candidate"),
        texts("quantization.images"),
        texts("quantization.list"),
        texts("common.tools"),
    ]
    rows: list[list[Cell]] = []
    for record in evidence.current:
        place = f"version/{record.version}/quantize.json"
        digest = evidence.read(f"{place}#calibration/sha256")
        tools = evidence.read(f"{place}#tools", optional=True) or {}
        rows.append(
            [
                version_link(record),
                evidence.figure(f"{place}#calibration/images", "count"),
                Digest(str(digest or ABSENT)),
                ", ".join(f"{name} {version}" for name, version in tools.items()) or ABSENT,
            ]
        )
    return table(evidence, columns, rows, texts("quantization.how"))


def _reported(evidence: Evidence, texts: Texts) -> list[Block]:
    rows: list[list[Cell]] = []
    for kind in ("weights", "fp32", "fp16", "dynamic", "int8"):
        ends = [evidence.figure(f"v3#sizes/{kind}/{end}", "mb") for end in ("least", "most")]
        rows.append([texts(f"v3.file_{kind}"), span(*ends)])
    columns = [texts("common.file"), "MB"]
    odd = evidence.figure("v3#sizes/odd_mb", "mb")
    return [
        reported_heading(texts),
        table(evidence, columns, rows, texts("v3.sizes"), reported=True),
        Text((texts("v3.odd_size"), " ", odd, " MB."), "note"),
    ]
