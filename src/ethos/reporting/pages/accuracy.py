"""Accuracy of all candidates: FP32 and INT8 under one protocol, by class, and V3's figures apart from ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.reporting.blocks import Block, Heading, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages import charts
from ethos.reporting.pages.common import (
    PRECISIONS,
    SCORES,
    attribution,
    candidate_name,
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

SIZES = ("small", "medium", "large")


def accuracy_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("accuracy.intro"))]
    if not evidence.current:
        blocks += nothing_registered(evidence, texts)
    else:
        blocks += [protocol_text(evidence, evidence.current[0], texts)]
        blocks += [Heading(texts("accuracy.both")), _both(evidence, texts)]
        blocks += [Heading(texts("accuracy.by_class")), _by_class(evidence, texts), charts.class_loss(evidence, texts)]
        blocks += _sizes_of_boxes(evidence, texts)
        blocks += [Heading(texts("accuracy.pareto")), *charts.pareto(evidence, texts)]
    return [*blocks, *_reported(evidence, texts), *attribution(evidence, texts)]


def _both(evidence: Evidence, texts: Texts) -> Block:
    columns = [texts("common.candidate")]
    for precision in PRECISIONS:
        columns += [f"{precision.upper()} {texts(f'score.{score}')}" for score in SCORES]
    columns += [texts("figure.drop_points"), texts("figure.drop_95_points"), texts("figure.interval")]
    rows = [_row(evidence, record) for record in evidence.current]
    return table(evidence, columns, rows, texts("accuracy.both"))


def _row(evidence: Evidence, record: VersionRecord) -> list[Cell]:
    cells: list[Cell] = [version_link(record)]
    place = f"version/{record.version}/metrics"
    for precision in PRECISIONS:
        cells += [evidence.figure(f"{place}/{precision}.json#{score}", "score") for score in SCORES]
    for score in ("map50", "map50_95"):
        both = [f"{place}/{precision}.json#{score}" for precision in PRECISIONS]
        cells.append(evidence.figure(both[0], "points", both[1], operation="difference"))
    return [*cells, interval(evidence, record, "int8", "map50")]


def interval(evidence: Evidence, record: VersionRecord, precision: str, score: str) -> Cell:
    """Return a score's 95 % interval as a cell."""
    place = f"version/{record.version}/metrics/{precision}.json#intervals/{score}"
    low, high = (evidence.figure(f"{place}/{end}", "score") for end in (0, 1))
    return span(low, high) if low.value is not None and high.value is not None else ABSENT


def _by_class(evidence: Evidence, texts: Texts) -> Block:
    """Return INT8's mAP50 of each class, one column a candidate, with what INT8 took from it."""
    newest = f"version/{evidence.current[0].version}/metrics/int8.json#per_class"
    names = [row["name"] for row in evidence.read(newest) or []]
    rows: list[list[Cell]] = []
    for name in names:
        cells: list[Cell] = [name]
        boxes = [row_of(evidence, record, "int8", name) for record in evidence.current[:1]]
        cells.append(evidence.figure(f"{boxes[0]}/boxes", "count") if boxes[0] else ABSENT)
        cells += [_class_cell(evidence, record, name) for record in evidence.current]
        rows.append(cells)
    columns = [texts("common.class"), texts("common.boxes"), *(candidate_name(record) for record in evidence.current)]
    return table(evidence, columns, rows, texts("accuracy.class_caption"))


def _class_cell(evidence: Evidence, record: VersionRecord, name: str) -> Cell:
    places = [row_of(evidence, record, precision, name) for precision in PRECISIONS]
    if None in places:
        return ABSENT
    before, after = (f"{place}/map50" for place in places)
    # a class without boxes has no score
    score = evidence.figure(after, "score", optional=True)
    if score.value is None:
        return ABSENT
    return (score, " (", evidence.figure(before, "points", after, operation="difference"), ")")


def row_of(evidence: Evidence, record: VersionRecord, precision: str, name: str) -> str | None:
    """Return the locator of a class's row among a version's scores."""
    place = f"version/{record.version}/metrics/{precision}.json#per_class"
    for number, row in enumerate(evidence.read(place) or []):
        if row["name"] == name:
            return f"{place}/{number}"
    return None


def _sizes_of_boxes(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return INT8's mAP50 by the size of objects, in pixels and as a share of the image."""
    blocks: list[Block] = [Heading(texts("accuracy.by_size")), Text(texts("accuracy.size_how"))]
    columns = [texts("common.candidate"), *(texts(f"size.{size}") for size in SIZES)]
    for kind in ("sizes", "relative_sizes"):
        rows: list[list[Cell]] = []
        for record in evidence.current:
            place = f"version/{record.version}/metrics/int8.json#{kind}"
            if evidence.read(place) is not None:
                rows.append([version_link(record), *(_size_cell(evidence, f"{place}/{size}") for size in SIZES)])
        if rows:
            blocks.append(table(evidence, columns, rows, texts(f"accuracy.{kind}")))
    return blocks


def _size_cell(evidence: Evidence, place: str) -> Cell:
    boxes = evidence.figure(f"{place}/boxes", "count")
    if not boxes.value:
        return ABSENT
    return (evidence.figure(f"{place}/map50", "score"), " (", boxes, ")")


def _reported(evidence: Evidence, texts: Texts) -> list[Block]:
    keys = ("val_map50", "val_map50_95", "precision", "recall", "test_map50", "test_map50_95")
    rows: list[list[Cell]] = [
        [variant, *(evidence.figure(f"v3#accuracy/{variant}/{key}", "score") for key in keys)]
        for variant in evidence.reported["accuracy"]
    ]
    columns = [texts("common.variant"), *(texts(f"v3.{key}") for key in keys)]
    later: list[list[Cell]] = []
    for variant in evidence.reported["int8_afterwards"]:
        place = f"v3#int8_afterwards/{variant}"
        pair = (f"{place}/fp32", f"{place}/int8")
        scores = [evidence.figure(each, "score") for each in pair]
        later.append([variant, *scores, evidence.figure(pair[0], "points", pair[1], operation="difference")])
    heads = [texts("common.variant"), "FP32 mAP50", "INT8 mAP50", texts("figure.drop_points")]
    return [
        reported_heading(texts),
        Text(texts("v3.accuracy_note"), "note"),
        table(evidence, columns, rows, texts("v3.accuracy"), reported=True),
        Text(texts("v3.int8_note"), "note"),
        table(evidence, heads, later, texts("v3.int8"), reported=True),
    ]
