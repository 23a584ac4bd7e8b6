"""What several pages need: tables that refuse unlike protocols, names of candidates, sentences about protocols."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ethos.errors import SpecError
from ethos.evaluation.protocol import Protocol, require_same
from ethos.registry.records import PROTOCOL_DOCUMENT_TAG
from ethos.reporting.blocks import SHORT_HASH, Block, Heading, Link, Table, Text, figures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell, Part
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.figure import Figure
    from ethos.reporting.text_catalog import Texts

    Builder = Callable[[Evidence, Texts], list[Block]]

PRECISIONS = ("fp32", "int8")
SCORES = ("map50", "map50_95", "precision", "recall")


def table(
    evidence: Evidence,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    caption: str = "",
    reported: bool = False,
) -> Table:
    """Return a table.

    Raises:
        SpecError: Its figures were taken under unlike protocols; the text names the first field that differs.
    """
    made = Table(columns, rows, caption, reported)
    require_one_protocol(evidence, list(figures_of(made)), caption or ", ".join(columns))
    return made


def require_one_protocol(evidence: Evidence, figures: Sequence[Figure], where: str) -> None:
    """Raise SpecError unless all scores among the figures were taken under one protocol."""
    found = {figure.origin.protocol: figure.origin.version for figure in figures if figure.origin.protocol}
    if len(found) < 2:
        return
    (first, one), (second, other) = list(found.items())[:2]
    try:
        require_same(_protocol(evidence, one), _protocol(evidence, other))
    except SpecError as error:
        raise SpecError(f"report, table '{where}': versions {one} and {other}: {error.message}", error.fix) from None
    raise SpecError(
        f"report, table '{where}': versions {one} and {other} name the protocols {first[:SHORT_HASH]} and "
        f"{second[:SHORT_HASH]}, which read alike",
        "register them again: dvc repro",
    )


def _protocol(evidence: Evidence, version: int | None) -> Protocol:
    record = evidence.by_number[version] if version is not None else None
    return Protocol.from_document(json.loads(record.tags.get(PROTOCOL_DOCUMENT_TAG, "{}") if record else "{}"))


def candidate_name(record: VersionRecord) -> str:
    """Return how a candidate is called: its variant, with its form where that is not the ordinary one."""
    return record.variant if record.form == "dense" else f"{record.variant} ({record.form})"


def version_page(record: VersionRecord) -> str:
    """Return the name of a version's page."""
    return f"versions/v{record.version}"


def version_link(record: VersionRecord) -> Link:
    """Return a link to a version's page."""
    return Link(candidate_name(record), version_page(record))


def in_use(evidence: Evidence, record: VersionRecord) -> str:
    """Return the scenarios that a version serves, a dash if none."""
    return ", ".join(name for name, version in evidence.live.items() if version == record.version) or "-"


def targets_of(records: Sequence[VersionRecord]) -> list[str]:
    """Return all targets that some version was analyzed for, in a fixed order."""
    return sorted({target for record in records for target in record.targets})


def protocol_text(evidence: Evidence, record: VersionRecord, texts: Texts) -> Block:
    """Return the protocol of a version's scores as a sentence."""
    document = json.loads(record.tags.get(PROTOCOL_DOCUMENT_TAG, "{}"))
    if not document:
        evidence.note(f"version/{record.version}#{PROTOCOL_DOCUMENT_TAG}")
        return Text(texts("common.no_protocol"), "warning")
    height, width = document["imgsz"]
    return Text(
        texts(
            "common.protocol",
            sha256=record.protocol_sha256[:SHORT_HASH],
            split=document["split"],
            dataset=document["dataset"],
            width=width,
            height=height,
            conf=document["conf"],
            iou=document["iou"],
            max_det=document["max_det"],
            ap=document["ap"],
        )
    )


def attribution(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the line that the data set's licence asks for, wherever its figures or pictures are shown."""
    line = evidence.read("outputs/dataset/dataset.json#attribution", optional=True)
    return [Text(texts("common.attribution", line=line))] if line else []


def nothing_registered(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return what a page says when the registry holds no ready version."""
    evidence.note("registry")
    return [Text(texts("common.empty_registry"), "warning")]


def reported_heading(texts: Texts) -> Heading:
    """Return the heading over figures of V3."""
    return Heading(texts("v3.heading"))


def span(least: Part, most: Part) -> tuple[Part, ...]:
    """Return a cell that shows a range."""
    return (least, " … ", most)


def document_of(evidence: Evidence, record: VersionRecord, name: str) -> dict[str, Any]:
    """Return a JSON file of a version; empty, and noted as absent, if it is not there."""
    document: dict[str, Any] | None = evidence.document(f"version/{record.version}/{name}")
    if document is None:
        evidence.note(f"version/{record.version}/{name}")
    return document or {}
