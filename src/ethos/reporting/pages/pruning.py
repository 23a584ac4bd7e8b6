"""Pruned candidates beside the dense ones they came from, and the study of each pruning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.registry.candidate import DENSE, PRUNED
from ethos.reporting.blocks import Block, Heading, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages.common import (
    attribution,
    in_use,
    nothing_registered,
    protocol_text,
    reported_heading,
    table,
    targets_of,
    version_link,
)
from ethos.reporting.pages.study import Study

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts


def pruning_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("pruning.intro"))]
    pruned = [record for record in evidence.current if record.form == PRUNED]
    if not evidence.current:
        blocks += nothing_registered(evidence, texts)
    elif not pruned:
        blocks += [Text(texts("pruning.none"), "note")]
    else:
        studies = {record.version: Study(evidence, texts, record) for record in pruned}
        blocks += [protocol_text(evidence, pruned[0], texts), *_beside(evidence, texts, pruned)]
        blocks += [Heading(texts("pruning.better")), _better(evidence, texts, pruned, studies)]
        for record in pruned:
            blocks += _study(texts, record, studies[record.version])
    return [*blocks, *_reported(evidence, texts), *attribution(evidence, texts)]


def _beside(evidence: Evidence, texts: Texts, pruned: list[VersionRecord]) -> list[Block]:
    dense = {record.variant: record for record in evidence.current if record.form == DENSE}
    targets = targets_of(pruned)
    tags = [("parameters", "count"), ("macs", "gmac"), ("size.int8_kib", "kib"), ("int8.map50", "score")]
    tags += [(f"npu.{target}.latency_ms", "ms") for target in targets]
    columns = [texts("common.variant"), texts("common.form")]
    columns += [texts("figure.parameters"), texts("figure.gmac"), texts("figure.int8_kib"), texts("figure.int8_map50")]
    columns += [texts("figure.ms_on", target=target) for target in targets]
    rows: list[list[Cell]] = []
    for record in pruned:
        pair = [dense[record.variant]] if record.variant in dense else []
        for each in (*pair, record):
            cells = (
                evidence.figure(f"version/{each.version}#{tag}", style, optional=tag.startswith("npu."))
                for tag, style in tags
            )
            rows.append([version_link(each), each.form, *cells])
        if pair:
            rows.append(["", texts("pruning.change"), *_changes(evidence, pair[0], record, tags)])
    return [Heading(texts("pruning.beside")), table(evidence, columns, rows, texts("pruning.beside"))]


def _better(evidence: Evidence, texts: Texts, pruned: list[VersionRecord], studies: dict[int, Study]) -> Block:
    """Return each pruned INT8 file against the dense one, and whether it is the better one."""
    targets = targets_of(pruned)
    columns = [texts("common.candidate"), texts("pruning.lost"), texts("pruning.size_share")]
    columns += [texts("pruning.cycles_share", target=target) for target in targets]
    rows: list[list[Cell]] = []
    for record in pruned:
        tag = f"version/{record.version}#"
        cycles = (
            evidence.figure(f"{tag}npu.{target}.dense_cycles_share", "percent", optional=True) for target in targets
        )
        rows.append(
            [
                version_link(record),
                evidence.figure(f"{tag}dense.map50_drop", "points"),
                evidence.figure(f"{tag}dense.size_share", "percent"),
                *cycles,
                _verdict(texts, record, studies[record.version]),
                in_use(evidence, record),
            ]
        )
    columns += [texts("pruning.verdict"), texts("common.scenario")]
    return table(evidence, columns, rows, texts("pruning.better_caption"))


def _verdict(texts: Texts, record: VersionRecord, study: Study) -> str:
    """Return whether a pruned form is smaller, has fewer cycles on every target and is within the accuracy limit."""
    found = record.figures
    if not study.found or not {"dense.map50_drop", "dense.size_share"} <= found.keys():
        return ABSENT
    shares = {target: found.get(f"npu.{target}.dense_cycles_share", 0.0) for target in record.targets}
    worse = [texts("pruning.not_faster", target=target) for target, share in shares.items() if share >= 1]
    if found["dense.size_share"] >= 1:
        worse.append(texts("pruning.not_smaller"))
    if found["dense.map50_drop"] > study.limit:
        worse.append(texts("pruning.loses_more"))
    return texts("pruning.no", reasons=", ".join(worse)) if worse else texts("pruning.yes")


def _study(texts: Texts, record: VersionRecord, study: Study) -> list[Block]:
    """Return what the page tells of one pruning."""
    blocks: list[Block] = [Heading(texts("pruning.study", name=record.variant, version=record.version))]
    if not study.found:
        return [*blocks, study.missing]
    blocks += [study.outcome(), study.table(), study.picture(), study.how(), study.recommendations()]
    return [*blocks, Text(texts.sentence("pruning.layers", page=version_link(record)))]


def _changes(
    evidence: Evidence, dense: VersionRecord, pruned: VersionRecord, tags: list[tuple[str, str]]
) -> list[Cell]:
    cells: list[Cell] = []
    for tag, style in tags:
        after, before = (f"version/{record.version}#{tag}" for record in (pruned, dense))
        if evidence.read(before, optional=True) is None or evidence.read(after, optional=True) is None:
            cells.append(ABSENT)
        elif style == "score":
            cells.append((evidence.figure(after, "points", before, operation="difference"), " points"))
        else:
            cells.append((evidence.figure(after, "change", before, operation="change"), " %"))
    return cells


def _reported(evidence: Evidence, texts: Texts) -> list[Block]:
    keys = (("parameters", "count"), ("mb", "mb"), ("map50", "score"), ("fps", "fps"), ("efficiency", "efficiency"))
    rows: list[list[Cell]] = [
        [
            evidence.fact(f"v3#pruning/{place}/model"),
            *(evidence.figure(f"v3#pruning/{place}/{key}", style) for key, style in keys),
        ]
        for place in range(len(evidence.reported["pruning"]))
    ]
    columns = [texts("v3.model"), texts("figure.parameters"), "MB", "mAP50", "FPS", texts("v3.efficiency")]
    chosen = [[name, evidence.fact(f"v3#pruning_choice/{name}")] for name in evidence.reported["pruning_choice"]]
    return [
        reported_heading(texts),
        Text(texts("v3.pruning_note"), "note"),
        table(evidence, columns, rows, texts("v3.pruning"), reported=True),
        table(
            evidence, [texts("common.scenario"), texts("v3.model")], chosen, texts("v3.pruning_choice"), reported=True
        ),
    ]
