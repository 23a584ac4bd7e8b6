"""The data set: what is in it, how it was divided, what the guard found, and images that are related."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.errors import DataError
from ethos.reporting.blocks import Block, Heading, Picture, Text
from ethos.reporting.figure import ABSENT
from ethos.reporting.pages.common import attribution, table

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.reporting.blocks import Cell
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

RECORD = "outputs/dataset/dataset.json"
GUARD = "outputs/check/report.json"
LEAKS = ("leak_bytes", "leak_name", "leak_track", "leak_near")
PAIRS = 4  # shown of each relation
GROUPS, GROUP_IMAGES = 3, 6


def data_page(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the page."""
    blocks: list[Block] = [Text(texts("data.intro"))]
    if evidence.document(RECORD) is None:
        evidence.note(RECORD)
        return [*blocks, Text(texts("data.no_record"), "warning")]
    blocks += [Heading(texts("data.sides")), _identity(evidence, texts), _sides(evidence, texts)]
    blocks += [Heading(texts("data.guard")), *_guard(evidence, texts)]
    blocks += [Heading(texts("data.related")), *_related(evidence, texts)]
    return [*blocks, *attribution(evidence, texts)]


def _identity(evidence: Evidence, texts: Texts) -> Block:
    rows: list[list[Cell]] = [
        [texts("data.name"), evidence.fact(f"{RECORD}#name")],
        [texts("data.sha256"), evidence.fact(f"{RECORD}#sha256")],
        [texts("data.split_sha256"), evidence.fact(f"{RECORD}#split_sha256")],
        [texts("data.classes"), ", ".join(evidence.read(f"{RECORD}#classes") or []) or ABSENT],
    ]
    return table(evidence, [texts("version.what"), texts("version.value")], rows, texts("data.identity"))


def _sides(evidence: Evidence, texts: Texts) -> Block:
    rows: list[list[Cell]] = [
        [
            texts.either(f"data.{side}", side),
            *(evidence.figure(f"{RECORD}#{kind}/{side}", "count") for kind in ("images", "boxes")),
        ]
        for side in evidence.read(f"{RECORD}#images") or {}
    ]
    columns = [texts("data.side"), texts("data.images"), texts("common.boxes")]
    return table(evidence, columns, rows, texts("data.sides"))


def _guard(evidence: Evidence, texts: Texts) -> list[Block]:
    checks = evidence.read(f"{GUARD}#checks")
    if not checks:
        return [Text(texts("data.no_guard"), "warning")]
    verdicts = {True: texts("data.passes"), False: texts("data.fails")}
    rows: list[list[Cell]] = []
    for number, check in enumerate(checks):
        word = verdicts[check["ok"]] if check["ok"] or check["severity"] == "error" else texts("data.warns")
        rows.append([check["name"], word, evidence.figure(f"{GUARD}#checks/{number}/count", "count"), check["message"]])
    columns = [texts("data.check"), texts("data.verdict"), texts("data.count"), texts("data.message")]
    return [table(evidence, columns, rows, texts("data.guard"))]


def _related(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return the leaks, with thumbnails of some, and images that were kept together."""
    checks = evidence.read(f"{GUARD}#checks", optional=True) or []
    places = {check["name"]: f"{GUARD}#checks/{number}/count" for number, check in enumerate(checks)}
    rows: list[list[Cell]] = [
        [texts(f"data.{name}"), evidence.figure(places[name], "count")] for name in LEAKS if name in places
    ]
    columns = [texts("data.relation"), texts("data.leaked")]
    blocks: list[Block] = [Text(texts("data.leak_how"))]
    if rows:
        blocks.append(table(evidence, columns, rows, texts("data.related")))
    folder = evidence.root / "outputs" / "dataset"
    try:
        found = _thumbnails(folder, str(evidence.read(f"{RECORD}#name")), str(evidence.read(f"{RECORD}#sha256")))
    except DataError as error:
        evidence.note(f"outputs/dataset ({error.message})")
        found = {}
    for kind in ("leaks", "groups"):
        if found and found[kind]:
            data = {"kind": kind, "rows": found[kind]}
            blocks.append(Picture(f"data-{kind}", texts(f"picture.{kind}"), "thumbnails", data))
    return blocks


@cache
def _thumbnails(folder: Path, name: str, sha256: str) -> dict[str, list[dict[str, Any]]]:  # noqa: ARG001 - part of the key
    """Return pairs of related images on both sides, and the largest groups that were kept on one side."""
    from ethos.data.manifest import MANIFEST_FILE, read_manifest
    from ethos.data.split import RELATIONS, Item, counterparts

    if not (folder / MANIFEST_FILE).is_file() or name not in catalog.names("dataset"):
        return {}
    rows = read_manifest(folder)
    split = catalog.load("dataset", name).split
    items = [Item(row.path.name, row.sha256, (), row.look) for row in rows]
    leaks = []
    for relation in RELATIONS:
        others = counterparts(items, [row.split for row in rows], relation, split)
        pairs = [(place, other) for place, other in enumerate(others) if other is not None]
        leaks += [{"title": relation, "images": [_shown(rows[each]) for each in pair]} for pair in pairs[:PAIRS]]
    members: dict[str, list[Any]] = {}
    for row in rows:
        members.setdefault(row.group, []).append(row)
    largest = sorted(members.values(), key=lambda group: (-len(group), group[0].group))[:GROUPS]
    groups = [
        {"title": f"{len(group)} images", "images": [_shown(row) for row in group[:GROUP_IMAGES]]}
        for group in largest
        if len(group) > 1
    ]
    return {"leaks": leaks, "groups": groups}


def _shown(row: Any) -> dict[str, str]:
    return {"path": str(row.path), "sha256": row.sha256, "side": row.split, "name": row.path.name}
