"""The analysis of a file as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.npu import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import RenderableType


KIB_PER_MIB = 1024
MAX_NAME = 60
ABSENT = "-"


def render(report: dict[str, Any]) -> RenderableType:
    """Return an `analyze` document as a rich renderable: a column per target, then what runs on the CPU and why."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    # Text, because names from the file may hold brackets, which rich would take for its markup
    table = Table(title=Text(report["file"]), caption=Text(_caption(report)), title_justify="left")
    table.caption_justify = "left"
    table.add_column("figure")
    for name in report["targets"]:
        table.add_column(name, justify="right")
    for label, cell in ROWS.items():
        table.add_row(label, *(cell(target) for target in report["targets"].values()))
    return Group(table, *(Text(line) for line in [*_fallback_lines(report), *_advice_lines(report)]))


def render_blocks(page: Sequence[blocks.Block]) -> RenderableType:
    """Return a page's texts and tables as a rich renderable, without its pictures."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for block in page:
        if isinstance(block, blocks.Table):
            table = Table()
            for place, column in enumerate(block.columns):
                table.add_column(Text(column), justify="right" if block.numeric and place else "left", overflow="fold")
            for row in block.rows:
                table.add_row(*(Text(cell) for cell in row))
            parts.append(table)
        elif not isinstance(block, blocks.Picture):
            parts.append(Text(block.text))
    return Group(*parts)


def _caption(report: dict[str, Any]) -> str:
    targets = report["targets"].values()
    sources = {f"{each['provenance']} by {each['compiler']['name']} {each['compiler']['version']}" for each in targets}
    return f"Figures: {', '.join(sorted(sources))}. SHA-256 {report['sha256'][:12]}."


def _fallback_lines(report: dict[str, Any]) -> list[str]:
    lines = [
        f"{name}: {operator} {_which(names)} on the CPU: {reason}"
        for name, target in report["targets"].items()
        for (operator, reason), names in grouped_fallbacks(target).items()
    ]
    return [*lines, "Latency leaves out what runs on the CPU."] if lines else []


def _advice_lines(report: dict[str, Any]) -> list[str]:
    """Return what to change, with what it gives or concerns on each target."""
    lines = [f"advice: {item['change']} {_effects(item['targets'])}".rstrip() for item in report["advice"]["items"]]
    if together := report["advice"]["together"]:
        lines.append(f"all of it: {_effects(together)}")
    return lines


def _effects(targets: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {change_cell(each)}" for name, each in targets.items())


def change_cell(change: dict[str, Any]) -> str:
    """Return what a change gives on a target, or what it is about, in a few words with their provenance."""
    before, after = change["before"], change["after"]
    if after is None:
        parts = [f"{change['share']:.1%} of the cycles"] if change.get("share") is not None else []
        parts += [f"{change['on_cpu']} on the CPU"] if change.get("on_cpu") else []
        return f"{', '.join(parts) or ABSENT} (expected)"
    if before["latency_ms"] is not None and after["latency_ms"] is not None:
        text = f"{before['latency_ms']:.1f} -> {after['latency_ms']:.1f} ms"
        if before["over_budget_kib"] or after["over_budget_kib"]:
            text += f", over budget {kib(before['over_budget_kib'])} -> {kib(after['over_budget_kib'])}"
    else:
        text = (
            f"CPU operators {before['operators_cpu']} -> {after['operators_cpu']}, "
            f"regions {before['regions']} -> {after['regions']}"
        )
    return f"{text} ({change['provenance']})"


def grouped_fallbacks(target: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Return the names of the operators on the CPU by their kind and the reason, the most frequent first."""
    groups: dict[tuple[str, str], list[str]] = {}
    for each in target["fallbacks"]:
        groups.setdefault((each["operator"], each["reason"]), []).append(each["name"])
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def _which(names: list[str]) -> str:
    return f"'{_short(names[0])}' runs" if len(names) == 1 else f"'{_short(names[0])}' and {len(names) - 1} more run"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 3]}..."


def _system(target: dict[str, Any]) -> str:
    if "driver" in target:
        return f"{target['variant']['name']}\ndriver {target['driver']['release']}"
    return f"{target['system_config']}\n{target['memory_mode']}"


def _operators(target: dict[str, Any]) -> str:
    return f"{target['operators_npu']} / {target['operators_cpu']}"


def _crossings(target: dict[str, Any]) -> str:
    return f"{target['regions']} / {target['crossings_npu_cpu'] + target['crossings_cpu_npu']}"


def _known(key: str, form: str) -> Callable[[dict[str, Any]], str]:
    def cell(target: dict[str, Any]) -> str:
        return ABSENT if target[key] is None else format(target[key], form)

    return cell


def _latency(target: dict[str, Any]) -> str:
    return ABSENT if target["latency_ms"] is None else f"{target['latency_ms']:.2f} ms ({target['fps']:.1f} FPS)"


def _memory(key: str) -> Callable[[dict[str, Any]], str]:
    def cell(target: dict[str, Any]) -> str:
        if target[key] is None:
            return ABSENT
        limit = target["budget"][key]
        return kib(target[key]) if limit is None else f"{kib(target[key])} of {kib(limit)}"

    return cell


def kib(size: float) -> str:
    """Return a size with a unit that suits it."""
    return f"{size / KIB_PER_MIB:.1f} MiB" if size >= KIB_PER_MIB else f"{size:.0f} KiB"


def _fits(target: dict[str, Any]) -> str:
    if target["fits"] is None:
        return ABSENT
    return "yes" if target["fits"] else f"no, {kib(target['over_budget_kib'])} over"


ROWS: dict[str, Callable[[dict[str, Any]], str]] = {
    "system, memory mode": _system,
    "operators NPU / CPU": _operators,
    "operator coverage": lambda target: f"{target['operator_coverage']:.1%}",
    "MAC coverage": lambda target: f"{target['mac_coverage']:.1%}",
    "byte coverage": lambda target: f"{target['byte_coverage']:.1%}",
    "NPU regions / crossings": _crossings,
    "MACs": lambda target: f"{target['macs'] / 1e6:,.1f} M",
    "cycles": _known("cycles_total", ","),
    "latency": _latency,
    "MAC utilisation": _known("mac_utilisation", ".1%"),
    "SRAM": _memory("sram_kib"),
    "DRAM": _memory("dram_kib"),
    "flash": _memory("flash_kib"),
    "fits": _fits,
}
