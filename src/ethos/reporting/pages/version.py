"""The training report of one version: how it was trained, how that went, what came out, by class and on each NPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ethos.registry.candidate import PRUNED
from ethos.registry.records import PRUNE_RUN_TAG
from ethos.reporting.blocks import Block, Heading, Link, Picture, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages import charts
from ethos.reporting.pages.accuracy import row_of
from ethos.reporting.pages.common import (
    PRECISIONS,
    SCORES,
    attribution,
    candidate_name,
    document_of,
    in_use,
    protocol_text,
    reported_heading,
    table,
)
from ethos.reporting.pages.detections import detections
from ethos.reporting.pages.study import Study
from ethos.reporting.pages.training import dead_share, run_address, run_link

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

LOSSES = [f"{side}_{loss}_loss" for side in ("train", "val") for loss in charts.LOSSES]
CLASS_FIGURES = ("map50", "map50_95", "precision", "recall", "f1")


def version_blocks(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Block]:
    """Return the page of a version. One that is not current has tables and curves alone."""
    current = record in evidence.current
    blocks: list[Block] = [_identity(evidence, texts, record)]
    if not record.ready:
        evidence.note(f"version/{record.version} (not ready)")
        blocks.append(Text(texts("version.not_ready"), "warning"))
    blocks += _training(evidence, texts, record)
    if record.form == PRUNED:
        blocks += _pruning(evidence, texts, record)
    blocks += [
        Heading(texts("version.scores")),
        protocol_text(evidence, record, texts),
        _scores(evidence, texts, record),
    ]
    blocks += [Heading(texts("version.by_class")), _classes(evidence, texts, record)]
    if current:
        blocks += _pictures(evidence, texts, record)
    blocks += [Heading(texts("version.npu")), *_npu(evidence, texts, record, current)]
    blocks += [Heading(texts("version.files")), _files(evidence, texts, record)]
    return [*blocks, *_reported(evidence, texts, record), *attribution(evidence, texts)]


def _identity(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    tag = f"version/{record.version}#"
    rows: list[list[Cell]] = [
        [texts("common.variant"), record.variant],
        [texts("common.level"), record.level],
        [texts("version.activation"), record.activation],
        [texts("common.form"), record.form],
        [texts("common.scenario"), in_use(evidence, record)],
        [texts("training.run"), run_link(evidence, record)],
    ]
    if run_id := record.tags.get(PRUNE_RUN_TAG):
        rows.append([texts("version.prune_run"), Link(run_id[:12], address=run_address(evidence, run_id))])
    for key, name in HASHES:
        rows.append([texts(f"version.{key}"), evidence.fact(f"{tag}{name}")])
    return table(evidence, [texts("version.what"), texts("version.value")], rows, texts("version.identity"))


HASHES = (
    ("artifact", "artifact.sha256"),
    ("dataset", "dataset.sha256"),
    ("split", "split.sha256"),
    ("spec", "spec.sha256"),
    ("graph", "graph.fingerprint"),
    ("commit", "git.commit"),
)


# --- training --------------------------------------------------------------------------------------------------------


def _training(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Block]:
    heading = Heading(texts("version.training"))
    run = evidence.read(f"run/{record.run_id}#metrics")
    if not run:
        return [heading, Text(texts("version.no_run"), "warning")]
    blocks: list[Block] = [heading]
    if record.form == PRUNED:
        blocks.append(Text(texts("version.dense_training"), "note"))
    blocks.append(_course(evidence, texts, record))
    if "map50" in run:
        name, caption = f"run-{record.run_id[:12]}-curves", texts("picture.version_curves", name=candidate_name(record))
        blocks.append(Picture(name, caption, "version_curves", charts.history(run)))
    blocks += [Heading(texts("version.changes"), 3), _changes(evidence, texts, record)]
    return [*blocks, Heading(texts("version.settings"), 3), _settings(evidence, texts, record)]


def _course(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    run = f"run/{record.run_id}#"
    last, best = (evidence.read(f"{run}derived/{key}_epoch") for key in ("last", "best"))
    derived = [("epochs", "last_epoch", "count"), ("best_epoch", "best_epoch", "count")]
    derived += [("converged", "converged_epoch", "count"), ("memory", "peak_memory_mib", "mib")]
    rows: list[list[Cell]] = [
        [texts(f"training.{key}"), evidence.figure(f"{run}derived/{name}", style)] for key, name, style in derived
    ]
    for score in SCORES:
        label = texts(f"score.{score}")
        rows.append([texts("version.best", score=label), evidence.figure(f"{run}metrics/{score}/{best}", "score")])
        rows.append([texts("version.final", score=label), evidence.figure(f"{run}metrics/{score}/{last}", "score")])
    rows += [
        [texts("training.images_per_second"), evidence.figure(f"{run}metrics/images_per_second/{last}", "fps")],
        [texts("training.seconds"), evidence.figure(f"{run}derived/seconds", "seconds")],
        [texts("version.run_seconds"), evidence.figure(f"{run}seconds", "seconds")],
        [texts("training.dead"), dead_share(evidence, texts, record)],
        [texts("training.started"), evidence.fact(f"{run}started")],
        *_machine(evidence, record),
    ]
    return table(evidence, [texts("version.what"), texts("version.value")], rows, texts("version.course"))


def _machine(evidence: Evidence, record: VersionRecord) -> list[list[Cell]]:
    """Return hardware and versions that the run recorded, and the peaks of what it took of the machine."""
    place = f"run/{record.run_id}"
    document = evidence.document(place)
    rows: list[list[Cell]] = []
    for kind in ("tags", "params"):
        for name in sorted(document[kind]):
            if name.startswith(MACHINE):
                rows.append([name, evidence.fact(f"{place}#{kind}/{name}")])
    for name, style in SYSTEM.items():
        steps = document["metrics"].get(name)
        if steps:
            places = [f"{place}#metrics/{name}/{step}" for step in steps]
            rows.append([name, evidence.figure(places[0], style, *places[1:], operation="largest")])
    return rows


MACHINE = ("hardware.", "version.", "versions.", "environment.", "code.")
SYSTEM = {
    "gpu_memory_mib": "mib",
    "system.cpu_utilization_percentage": "percent_given",
    "system.system_memory_usage_megabytes": "mib",
    "system.gpu_0_memory_usage_megabytes": "mib",
    "system.gpu_0_utilization_percentage": "percent_given",
}


def _changes(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    """Return each loss in the first and the last epoch."""
    run = f"run/{record.run_id}#"
    first, last = (evidence.read(f"{run}derived/{key}_epoch") for key in ("first", "last"))
    rows: list[list[Cell]] = []
    for name in (*LOSSES, *SCORES):
        ends = [f"{run}metrics/{name}/{epoch}" for epoch in (first, last)]
        style = "loss" if name in LOSSES else "score"
        figures = [evidence.figure(end, style) for end in ends]
        rows.append([name, *figures, evidence.figure(ends[1], "change", ends[0], operation="change")])
    columns = [texts("version.metric"), texts("version.first"), texts("version.last"), texts("version.change")]
    return table(evidence, columns, rows, texts("version.changes"))


def _settings(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    place = f"run/{record.run_id}"
    names = evidence.document(place)["params"]
    rows: list[list[Cell]] = []
    for name in names:
        if not name.startswith(MACHINE):
            theirs = (
                evidence.fact(f"v3#recipe/{name}", optional=True) if name in evidence.reported["recipe"] else ABSENT
            )
            rows.append([name, evidence.fact(f"{place}#params/{name}", optional=True), theirs])
    columns = [texts("training.setting"), texts("version.value"), texts("v3.recipe_column")]
    return table(evidence, columns, rows, texts("version.settings"))


def _pruning(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Block]:
    """Return how a pruned form was made from the trained network."""
    study = Study(evidence, texts, record)
    heading = Heading(texts("version.pruning"))
    if not study.found:
        return [heading, study.missing]
    blocks = [heading, study.outcome(), study.table(), study.how()]
    return [*blocks, Heading(texts("study.channels"), 3), study.channels()]


# --- scores ----------------------------------------------------------------------------------------------------------


def _scores(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    rows: list[list[Cell]] = []
    for precision in PRECISIONS:
        place = f"version/{record.version}/metrics/{precision}.json"
        ends = [evidence.figure(f"{place}#intervals/map50/{end}", "score") for end in (0, 1)]
        interval: Cell = (ends[0], " … ", ends[1]) if None not in (end.value for end in ends) else ABSENT
        rows.append([precision.upper(), *(evidence.figure(f"{place}#{score}", "score") for score in SCORES), interval])
    columns = [texts("common.file"), *(texts(f"score.{score}") for score in SCORES), texts("figure.interval")]
    return table(evidence, columns, rows, texts("version.scores"))


def _classes(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    names = [row["name"] for row in evidence.read(f"version/{record.version}/metrics/int8.json#per_class") or []]
    rows: list[list[Cell]] = []
    for name in names:
        after, before = (row_of(evidence, record, precision, name) for precision in ("int8", "fp32"))
        cells: list[Cell] = [name, evidence.figure(f"{after}/boxes", "count")]
        # a class without boxes has no scores
        cells += [evidence.figure(f"{after}/{key}", "score", optional=True) for key in CLASS_FIGURES]
        lost: Cell = ABSENT
        if before:
            lost = evidence.figure(f"{before}/map50", "points", f"{after}/map50", operation="difference", optional=True)
        rows.append([*cells, lost])
    columns = [texts("common.class"), texts("common.boxes"), *(texts(f"score.{key}") for key in CLASS_FIGURES)]
    return table(evidence, [*columns, texts("figure.drop_points")], rows, texts("version.by_class"))


def _pictures(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Block]:
    blocks: list[Block] = []
    matrices = {
        precision: evidence.read(f"version/{record.version}/metrics/{precision}.json#confusion")
        for precision in PRECISIONS
    }
    if all(matrices.values()):
        caption = texts("picture.confusion", name=candidate_name(record))
        blocks += [Heading(texts("version.confusion"), 3)]
        blocks += [Picture(f"v{record.version}-confusion", caption, "confusion", {"matrices": matrices})]
    found = detections(evidence, texts, record)
    if found:
        blocks += [Heading(texts("version.detections"), 3), found]
    return blocks


# --- files and NPU ---------------------------------------------------------------------------------------------------


def _npu(evidence: Evidence, texts: Texts, record: VersionRecord, current: bool) -> list[Block]:
    columns = [texts("common.target"), texts("npu.provenance"), *(texts(f"npu.{key}") for key, _ in NPU_FIGURES)]
    rows: list[list[Cell]] = []
    for target in record.targets:
        tag = f"version/{record.version}#npu.{target}."
        # a target known by rules alone has neither time nor memory
        figures = (evidence.figure(f"{tag}{key}", style, optional=True) for key, style in NPU_FIGURES)
        rows.append([target, evidence.fact(f"{tag}provenance"), *figures])
    blocks: list[Block] = [table(evidence, columns, rows, texts("version.npu"))]
    if not current:
        return blocks
    targets = document_of(evidence, record, "npu.json").get("targets", {})
    for target, report in targets.items():
        if report.get("layers") and report.get("cycles_total"):
            kept = {key: report[key] for key in ("provenance", "cycles_total", "layers")}
            caption = texts("picture.cycles", name=candidate_name(record), target=target)
            data = {"target": target, "report": kept}
            blocks.append(Picture(f"v{record.version}-cycles-{target}", caption, "cycles", data))
    return blocks


NPU_FIGURES = (
    ("operators_npu", "count"),
    ("operators_cpu", "count"),
    ("latency_ms", "ms"),
    ("cycles_total", "count"),
    ("mac_utilisation", "percent"),
    ("sram_kib", "kib"),
    ("over_budget_kib", "kib"),
)


def _files(evidence: Evidence, texts: Texts, record: VersionRecord) -> Block:
    files = document_of(evidence, record, "manifest.json").get("files", {})
    rows: list[list[Cell]] = []
    for name in sorted(files):
        if evidence.artifact(record.version, name) is None:
            evidence.note(f"version/{record.version}/{name}")
        # names hold slashes, so the table's hashes and sizes are read from the manifest as they stand
        place = f"version/{record.version}/manifest.json#files/{name.replace('/', '~1')}"
        rows.append([name, evidence.figure(f"{place}/bytes", "kib_of_bytes"), evidence.fact(f"{place}/sha256")])
    columns = [texts("common.file"), "KiB", "SHA-256"]
    return table(evidence, columns, rows, texts("version.files"))


def _reported(evidence: Evidence, texts: Texts, record: VersionRecord) -> list[Block]:
    """Return what V3 reports of the same variant."""
    if record.form != "dense" or record.variant not in evidence.reported["accuracy"]:
        return []
    place = f"v3#accuracy/{record.variant}"
    keys = ("val_map50", "val_map50_95", "precision", "recall", "test_map50", "test_map50_95")
    rows: list[list[Cell]] = [[record.variant, *(evidence.figure(f"{place}/{key}", "score") for key in keys)]]
    columns = [texts("common.variant"), *(texts(f"v3.{key}") for key in keys)]
    note = Text((texts("v3.accuracy_note"), " ", Link(texts("accuracy.title"), "accuracy")), "note")
    return [reported_heading(texts), note, table(evidence, columns, rows, texts("v3.accuracy"), reported=True)]
