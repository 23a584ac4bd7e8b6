"""The registry's documents for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ethos.files import shown
from ethos.registry.history import sentence
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
    if document.get("gates"):
        parts.append(gate_table(document["gates"]))
    if document.get("candidates"):
        parts.append(candidate_table(document))
    if document["rejected"]:
        parts.append(rejections(document["rejected"], document.get("rejected_count", 0)))
    if download := document.get("download"):
        parts.append(Text(f"written to {download['folder']}: {', '.join(download['files'])}"))
    return Group(*parts)


def selections(documents: Sequence[dict[str, Any]]) -> Table:
    """Return what serves each scenario, in a few lines each; a document without a version only says why."""
    table = Table.grid(padding=(0, 2))
    for document in documents:
        table.add_row(Text(document["scenario"], style="bold"), Text(_in_short(document)))
    return table


def rejections(rejected: Sequence[dict[str, Any]], count: int = 0) -> Table:
    """Return rejected versions with the first gate that each fails; `count` is that of all, if more than are given."""
    more = f" (the first {len(rejected)} of {count})" if count > len(rejected) else ""
    table = _table(f"rejected{more}", "version", "variant", "form", "gate", "recorded")
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


def gate_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the gates with what the version has, the limit, and the margin to it."""
    table = _table("gates", "gate", "value", "limit", "margin", "")
    for row in rows:
        figures = [show(row["figure"], row[key]) for key in ("value", "limit", "margin")]
        table.add_row(row["gate"], *figures, "passes" if row["passes"] else "FAILS")
    return table


def candidate_table(document: dict[str, Any]) -> Group:
    """Return the versions that a decision looked at, with the Pareto front and what counted as a tie."""
    axes = document["pareto"]["axes"]
    table = _table("versions looked at", "version", "variant", "form", "gates", *axes, "Pareto front", "tie")
    tied = (document.get("interval") or {}).get("tied", [])
    for row in document["candidates"]:
        table.add_row(
            str(row["version"]),
            row["variant"],
            row["form"],
            "passes" if row["passes"] else f"fails {row['gate']}",
            *(show(axis, row[axis]) for axis in axes),
            "yes" if row["pareto"] else "",
            "yes" if row["version"] in tied else "",
        )
    parts: list[RenderableType] = [table]
    if words := _interval_words(document.get("interval")):
        parts.append(Text(words))
    if document["not_compared"]:
        others = ", ".join(str(version) for version in document["not_compared"])
        parts.append(Text(f"not compared, scored under another protocol: versions {others}"))
    return Group(*parts)


def registered(document: dict[str, Any]) -> Text:
    """Return a registered version in a sentence."""
    form, version = document["form"], document["version"]
    return Text(
        f"{document['variant']} ({form}) is version {version} of {document['model']}: {document['artifact_sha256']}"
    )


def promotion(document: dict[str, Any]) -> Text:
    """Return an event of the ledger in a sentence."""
    told = sentence(document)
    return Text(told if document.get("changed", True) else f"nothing to do, it serves already: {told}")


def ledger_table(document: dict[str, Any]) -> Group:
    """Return what serves each scenario, and the events that led to it."""
    when = f"at {document['at']}" if document["at"] else "now"
    live = _table(f"live {when}", "scenario", "version", "variant", "since", "by")
    for name, row in document["live"].items():
        version = "-" if row["version"] is None else str(row["version"])
        by = row.get("who", "")
        if row["by"] == "hand":
            by = f"moved by hand; the ledger has version {row['ledger']}"
        live.add_row(name, version, row.get("variant") or "", row.get("at") or "", by or "")
    events = _table("events", "at", "event")
    for event in document["events"]:
        events.add_row(event["at"], sentence(event))
    return Group(live, events)


def replayed(document: dict[str, Any]) -> Group:
    """Return each event with what deciding again gave."""
    table = _table("decided again from recorded inputs", "at", "scenario", "event", "then", "now", "")
    for row in document["events"]:
        now = "-" if row["decided"] is None else str(row["decided"])
        table.add_row(row["at"], row["scenario"], row["event"], str(row["to"]), now, row["result"])
    return Group(table, Text(f"{document['same']} the same, {document['different']} different"))


def policy_table(document: dict[str, Any]) -> Group:
    """Return for each scenario the pinned choice beside the measured one."""
    parts: list[RenderableType] = []
    for name, found in document["scenarios"].items():
        table = _table(f"{name}: {found['objective']}", "figure", "pinned (declared)", "by measurement")
        chosen = [found["pinned"], found["measured"]]
        label = [
            "none passes" if c is None else f"version {c['version']} ({c['variant']}, {c['form']})" for c in chosen
        ]
        table.add_row("version", *label)
        for figure in found["measured"]["figures"] if found["measured"] else ():
            table.add_row(figure, *("" if c is None else show(figure, c["figures"][figure]) for c in chosen))
        told = found["disagreement"] or found["reason"]
        parts += [table, Text("".join(f"{line}\n" for line in (told, found["cycles"]) if line))]
        parts += [Text(f"problem: {problem}\n") for problem in found["problems"]]
    if document["not_compared"]:
        others = ", ".join(str(version) for version in document["not_compared"])
        parts.append(Text(f"not compared, scored under another protocol: versions {others}"))
    return Group(*parts)


def audited(document: dict[str, Any]) -> Group:
    """Return the findings of an audit, what was checked, and what could not be."""
    parts: list[RenderableType] = []
    if document["findings"]:
        table = _table("findings", "version", "kind", "detail")
        for row in document["findings"]:
            table.add_row("" if row["version"] is None else str(row["version"]), row["kind"], row["detail"])
        parts.append(table)
    for row in document["skipped"]:
        parts.append(Text(f"version {row['version']}: {row['what']} not checked: {row['reason']}"))
    checked, scored = len(document["checked"]), len(document["scored"])
    words = f"{len(document['findings'])} findings" if document["findings"] else "no findings"
    parts.append(Text(f"{words}; {checked} versions checked, the INT8 score of {scored} computed anew"))
    return Group(*parts)


def _interval_words(interval: dict[str, Any] | None) -> str:
    if interval is None:
        return ""
    if interval["low"] is None:
        return (
            f"no tie was looked for: {interval['figure']} of version {interval['version']} has no confidence interval"
        )
    bounds = f"{interval['low']:.4f} to {interval['high']:.4f}"
    return (
        f"{interval['figure']} of version {interval['version']} is {bounds} with 95 % confidence; "
        "a score inside counts as equal, and the cheapest wins"
    )


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
