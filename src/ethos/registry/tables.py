"""The select document for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ethos.files import shown
from ethos.registry.policy import parse_gate, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

NPU_ROWS = (
    ("latency_ms", "latency"),
    ("fps", "rate"),
    ("mac_utilisation", "MAC utilisation"),
    ("sram_kib", "SRAM"),
    ("over_budget_kib", "over budget"),
    ("operators_npu", "operators on the NPU"),
    ("operators_cpu", "operators on the CPU"),
)


def selection(document: dict[str, Any]) -> Group:
    """Return a select document as text and tables: the version, its scores, its NPU figures, and what was rejected."""
    parts: list[RenderableType] = [_head(document), _scores(document), _npu(document)]
    if document.get("disagreement"):
        parts.append(Text(f"note: {document['disagreement']}"))
    if document.get("candidates"):
        parts.append(_candidates(document["candidates"]))
    if document["rejected"]:
        parts.append(rejections(document["rejected"]))
    if document.get("not_compared"):
        others = ", ".join(str(version) for version in document["not_compared"])
        parts.append(Text(f"not compared, scored under another protocol: versions {others}"))
    if download := document.get("download"):
        parts.append(Text(f"written to {download['folder']}: {', '.join(download['files'])}"))
    return Group(*parts)


def selections(documents: Sequence[dict[str, Any]]) -> Table:
    """Return what serves each scenario, in a few lines each; a document without a version only says why."""
    table = Table.grid(padding=(0, 2))
    for document in documents:
        table.add_row(Text(document["scenario"], style="bold"), Text(_in_short(document)))
    return table


def rejections(rejected: Sequence[dict[str, Any]]) -> Table:
    """Return rejected versions with the first gate that each fails."""
    table = Table(title="rejected", title_justify="left")
    for heading in ("version", "variant", "form", "gate", "recorded"):
        table.add_column(heading)
    for row in rejected:
        value = show(parse_gate(row["gate"]).figure, row["value"])
        table.add_row(str(row["version"]), row["variant"], row["form"], row["gate"], value)
    return table


def _in_short(document: dict[str, Any]) -> str:
    if "version" not in document:
        return f"{document['reason']}\n"
    figures = document["npu"][document["target"]]
    latency = show("npu.latency_ms", figures.get("latency_ms"))
    lines = [
        f"version {document['version']}, {document['variant']} ({document['form']}): INT8 mAP50 "
        f"{document['int8']['map50']:.3f} (measured), {latency} on {document['target']} ({figures['provenance']})",
        document["reason"],
        shown(document["artifact"]["path"]),
        f"SHA-256 {document['artifact']['sha256']}",
    ]
    if document.get("disagreement"):
        lines.append(f"note: {document['disagreement']}")
    return "\n".join(lines) + "\n"


def _head(document: dict[str, Any]) -> Table:
    table = Table.grid(padding=(0, 2))
    rows = (
        (document["scenario"], f"{document['model']} version {document['version']}"),
        ("variant", f"{document['variant']} ({document['form']}), stage {document['stage']}"),
        ("reason", document["reason"]),
        ("file", shown(document["artifact"]["path"])),
        ("sha256", document["artifact"]["sha256"]),
    )
    for key, value in rows:
        table.add_row(Text(key, style="bold"), Text(value, overflow="fold"))
    return table


def _scores(document: dict[str, Any]) -> Table:
    table = Table(title="scores (measured)", title_justify="left")
    for heading in ("file", "mAP50", "mAP50-95", "mAP50 lost", "mAP50-95 lost"):
        table.add_column(heading)
    for name in ("fp32", "int8"):
        values = document[name]
        cells = (values.get(key) for key in ("map50", "map50_95", "map50_drop", "map50_95_drop"))
        table.add_row(name.upper(), *("" if value is None else f"{value:.4f}" for value in cells))
    return table


def _npu(document: dict[str, Any]) -> Table:
    table = Table(title="NPU (* the scenario's target)", title_justify="left")
    table.add_column("figure")
    for target, values in document["npu"].items():
        table.add_column(f"{target}{' *' if target == document['target'] else ''} ({values['provenance']})")
    for key, words in NPU_ROWS:
        cells = [values.get(key) for values in document["npu"].values()]
        table.add_row(words, *("" if value is None else show(f"npu.{key}", value) for value in cells))
    return table


def _candidates(candidates: Sequence[dict[str, Any]]) -> Table:
    table = Table(title="versions looked at", title_justify="left")
    for heading in ("version", "variant", "form", "passes", "objective"):
        table.add_column(heading)
    for row in candidates:
        value = "" if row["objective"] is None else f"{row['objective']:.5g}"
        table.add_row(str(row["version"]), row["variant"], row["form"], "yes" if row["passes"] else "no", value)
    return table
