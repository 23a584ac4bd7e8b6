"""The first page: what serves each scenario, and how all candidates compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.blocks import Block, Card, Cards, Heading, Link, Listing, Text
from ethos.reporting.pages import charts
from ethos.reporting.pages.common import (
    attribution,
    candidate_name,
    in_use,
    nothing_registered,
    protocol_text,
    reported_heading,
    table,
    targets_of,
    version_link,
    version_page,
)
from ethos.reporting.pages.detections import detections

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

OTHER_PAGES = ("accuracy", "npu", "quantization", "pruning", "training", "data", "history")


def index_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the first page."""
    blocks: list[Block] = [Text(texts("index.intro"))]
    if not evidence.current:
        return [*blocks, *nothing_registered(evidence, texts), *_recommended(evidence, texts)]
    newest = evidence.current[0]
    blocks += [_data(evidence, texts), protocol_text(evidence, newest, texts), *_open_runs(evidence, texts)]
    blocks += [Heading(texts("index.scenarios")), _cards(evidence, texts)]
    blocks += [Heading(texts("index.candidates")), _candidates(evidence, texts), Text(texts("common.provenance"))]
    blocks += [Heading(texts("index.pareto")), Text(texts("index.pareto_how"))]
    blocks += charts.pareto(evidence, texts)
    blocks += [Heading(texts("index.curves")), charts.all_curves(evidence, texts)]
    blocks += [*_recommended(evidence, texts), Heading(texts("index.more")), _links(texts)]
    return blocks + attribution(evidence, texts)


def _data(evidence: Evidence, texts: Texts) -> Text:
    place = "outputs/dataset/dataset.json"
    return Text(
        (
            f"{texts('index.data')}: ",
            evidence.fact(f"{place}#name"),
            f" ({texts('data.train')} ",
            evidence.figure(f"{place}#images/train", "count"),
            f", {texts('data.val')} ",
            evidence.figure(f"{place}#images/val", "count"),
            ")",
        )
    )


def _open_runs(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return a warning for every run that is open now, or was cut off."""
    found = [run for run in evidence.unfinished if run["status"] in ("RUNNING", "SCHEDULED")]
    for run in found:
        evidence.note(f"run/{run['run_id']} ({run['name']}: {run['status'].lower()})")
    return [Text(texts("index.open_run", name=run["name"], started=run["started"]), "warning") for run in found]


def _cards(evidence: Evidence, texts: Texts) -> Cards:
    return Cards([_card(evidence, texts, name, evidence.live.get(name)) for name in evidence.policy["scenarios"]])


def _card(evidence: Evidence, texts: Texts, name: str, version: int | None) -> Card:
    scenario = evidence.policy["scenarios"][name]
    use = texts.either(f"scenario.{name}", scenario["description"])
    if version is None:
        evidence.note(f"registry: alias {name}")
        return Card(name, [use, texts("index.nothing_serves")])
    record = evidence.by_number[version]
    told = None if evidence.moved_by_hand(name) else evidence.document(f"decision/{version}/{name}")
    decision = f"decision/{version}/{name}#"
    lines: list[Cell] = [
        use,
        (version_link(record), f", {texts('common.version')} {record.version}"),
        (f"{texts('index.why')}: ", evidence.fact(f"{decision}reason") if told else texts("index.by_hand")),
    ]
    if told and told.get("disagreement"):
        lines.append((f"{texts('index.disagreement')}: ", evidence.fact(f"{decision}disagreement")))
    return Card(
        name, lines, _card_figures(evidence, texts, record, scenario["target"]), detections(evidence, texts, record)
    )


def _card_figures(evidence: Evidence, texts: Texts, record: VersionRecord, target: str) -> list[tuple[str, Any]]:
    tag = f"version/{record.version}#"
    return [
        (texts("figure.int8_map50"), evidence.figure(f"{tag}int8.map50", "score")),
        (texts("figure.drop"), evidence.figure(f"{tag}int8.map50_drop", "points")),
        (texts("figure.latency_on", target=target), evidence.figure(f"{tag}npu.{target}.latency_ms", "ms")),
        (texts("figure.fps_on", target=target), evidence.figure(f"{tag}npu.{target}.fps", "fps")),
        (texts("figure.sram_on", target=target), evidence.figure(f"{tag}npu.{target}.sram_kib", "kib")),
        (texts("figure.int8_size"), evidence.figure(f"{tag}size.int8_kib", "kib")),
    ]


def _candidates(evidence: Evidence, texts: Texts) -> Block:
    records = evidence.current
    targets = targets_of(records)
    columns = [
        texts("common.candidate"),
        texts("common.version"),
        texts("figure.parameters"),
        texts("figure.gmac"),
        texts("figure.int8_kib"),
        texts("figure.fp32_map50"),
        texts("figure.int8_map50"),
        texts("figure.drop_points"),
        *(texts("figure.ms_on", target=target) for target in targets),
        texts("figure.cpu_operators"),
        texts("common.scenario"),
    ]
    return table(evidence, columns, [_row(evidence, record, targets) for record in records], texts("index.candidates"))


def _row(evidence: Evidence, record: VersionRecord, targets: list[str]) -> list[Cell]:
    tag = f"version/{record.version}#"
    on_cpu = [f"{tag}npu.{target}.operators_cpu" for target in record.targets]
    return [
        version_link(record),
        f"v{record.version}",
        evidence.figure(f"{tag}parameters", "count"),
        evidence.figure(f"{tag}macs", "gmac"),
        evidence.figure(f"{tag}size.int8_kib", "kib"),
        evidence.figure(f"version/{record.version}/metrics/fp32.json#map50", "score"),
        evidence.figure(f"{tag}int8.map50", "score"),
        evidence.figure(f"{tag}int8.map50_drop", "points"),
        # what a rule-based target says has no latency
        *(evidence.figure(f"{tag}npu.{target}.latency_ms", "ms", optional=True) for target in targets),
        evidence.figure(on_cpu[0], "count", *on_cpu[1:], operation="largest") if on_cpu else "-",
        in_use(evidence, record),
    ]


def _recommended(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return what V3 recommended beside what serves now."""
    rows: list[list[Cell]] = []
    for name in evidence.reported["scenarios"]:
        version = evidence.live.get(name)
        record = evidence.by_number[version] if version is not None else None
        rows.append(
            [
                name,
                evidence.fact(f"v3#scenarios/{name}/variant"),
                evidence.fact(f"v3#scenarios/{name}/reason"),
                Link(candidate_name(record), version_page(record)) if record else "-",
            ]
        )
    columns = [texts("common.scenario"), texts("v3.recommended"), texts("v3.reason"), texts("v3.serves_now")]
    return [reported_heading(texts), table(evidence, columns, rows, texts("v3.scenarios"), reported=True)]


def _links(texts: Texts) -> Listing:
    return Listing([(Link(texts(f"{name}.title"), name), f": {texts(f'{name}.about')}") for name in OTHER_PAGES])
