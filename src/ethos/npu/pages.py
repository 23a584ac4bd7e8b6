"""The analysis as a page: Markdown with pictures beside it, or one HTML file that holds everything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.files import new_folder, write_text
from ethos.npu import pictures
from ethos.npu.blocks import PROVENANCE, Block, Heading, Picture, Table, Text
from ethos.npu.tables import ROWS, change_cell, grouped_fallbacks

if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPLATE = Path(__file__).with_name("page.html")
TOP_LAYERS = 20
MAX_NAME = 80


def write_html(blocks: Sequence[Block], path: Path) -> None:
    """Write one HTML file with its pictures inside; it loads nothing from elsewhere."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    title = next((block.text for block in blocks if isinstance(block, Heading)), "NPU analysis")
    write_text(path, template.render(title=title, blocks=blocks))


def write_markdown(blocks: Sequence[Block], path: Path) -> None:
    """Write a Markdown file, its pictures in a folder beside it that is named after it."""
    folder = path.with_name(f"{path.stem}_pictures")
    parts: list[str] = []
    drawn = 0
    with new_folder(folder) as temporary:
        for block in blocks:
            if isinstance(block, Picture):
                drawn += 1
                name = f"{drawn:02}.svg"
                (temporary / name).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{block.svg}', encoding="utf-8")
                parts.append(f"![{_escape(block.caption)}]({folder.name}/{name})")
            else:
                parts.append(_markdown(block))
    write_text(path, "\n\n".join(parts) + "\n")


def analysis_blocks(report: dict[str, Any]) -> list[Block]:
    """Return the page of an `analyze` document."""
    graph = report["graph"]
    blocks: list[Block] = [
        Heading(f"NPU analysis of {Path(report['file']).name}", 1),
        Text(f"SHA-256 {report['sha256']}; {_interfaces(graph)}; {graph['macs'] / 1e6:,.1f} M MACs."),
        Text(PROVENANCE),
        _figures(report),
        Text(graph["historical"]["note"]),
        *_advice(report),
    ]
    for name, target in report["targets"].items():
        blocks += _target(name, target, graph["live_kib"])
    return blocks


# --- the parts of an analysis ----------------------------------------------------------------------------------------


def _interfaces(graph: dict[str, Any]) -> str:
    sides = {
        side: [f"{'x'.join(map(str, tensor['shape']))} {tensor['dtype']}" for tensor in graph[side]]
        for side in ("inputs", "outputs")
    }
    return "; ".join(f"{side} {', '.join(tensors)}" for side, tensors in sides.items())


def _figures(report: dict[str, Any]) -> Table:
    targets = report["targets"]
    rows = [
        [label, *(cell(target).replace("\n", ", ") for target in targets.values())]
        for label, cell in {**SOURCES, **ROWS}.items()
    ]
    old = report["graph"]["historical"]
    historical = f"{old['offloaded']} of {old['functions']} ({old['share']:.1%})"
    rows.append(["historical: NPU functions", *(historical for _ in targets)])
    return Table(["figure", *targets], rows, numeric=True)


def _advice(report: dict[str, Any]) -> list[Block]:
    advice = report["advice"]
    if not advice["items"]:
        return [Heading("Advice"), Text("None: no shape in this network is known to cost an NPU dearly.")]
    columns = ["change", "operators", "expected", *report["targets"]]
    rows = [
        [
            f"{item['name']}: {item['change']}",
            str(item["operators"]) if item["operators"] else "-",
            item["expected"],
            *(change_cell(each) for each in item["targets"].values()),
        ]
        for item in advice["items"]
    ]
    if advice["together"]:
        rows.append(["all of them", "", "", *(change_cell(each) for each in advice["together"].values())])
    legend = (
        "With before -> after: the change was made on the file and compiled or judged again, with random weights where "
        "layers are new, so it shows time and memory, not accuracy. Without: what the operators concerned take now."
    )
    return [Heading("Advice"), Table(columns, rows), Text(legend)]


def _target(name: str, target: dict[str, Any], live_kib: Sequence[float]) -> list[Block]:
    blocks: list[Block] = [
        Heading(name),
        Picture(f"Where the operators run on {name}", pictures.draw_placement(name, target)),
    ]
    if target["layers"] and target["cycles_total"]:
        blocks += [
            Picture(f"Cycles per layer on {name}", pictures.draw_cycles(name, target)),
            Picture(f"Compute against bandwidth on {name}", pictures.draw_roofline(name, target)),
        ]
    blocks.append(Picture(f"Memory over time on {name}", pictures.draw_memory(name, target, live_kib)))
    if target["layers"] and target["cycles_total"]:
        blocks += [Heading(f"Costliest steps on {name} ({target['provenance']})", 3), _layers(target)]
    if target["fallbacks"]:
        rows = [
            [str(len(names)), operator, _short(names[0]), reason]
            for (operator, reason), names in grouped_fallbacks(target).items()
        ]
        heading = f"Operators on the CPU of {name} ({target['provenance']})"
        blocks += [Heading(heading, 3), Table(["count", "operator", "first", "reason"], rows)]
    return blocks


def _layers(target: dict[str, Any]) -> Table:
    layers = sorted(target["layers"], key=lambda layer: -layer["cycles"])[:TOP_LAYERS]
    rows = [
        [
            _short(layer["name"]),
            layer["step"],
            f"{layer['cycles']:,}",
            f"{layer['share']:.1%}",
            f"{layer['macs'] / 1e6:,.1f}",
            f"{layer['util']:.0%}",
            pictures.bound(layer).removeprefix("cycles_").replace("npu", "compute"),
        ]
        for layer in layers
        if layer["cycles"]
    ]
    return Table(["layer", "step", "cycles", "share", "M MACs", "MACs used", "held up by"], rows, numeric=True)


def _source(target: dict[str, Any]) -> str:
    return f"{target['provenance']}, {target['compiler']['name']} {target['compiler']['version']}"


def _bytes_crossing(target: dict[str, Any]) -> str:
    return f"{target['bytes_npu_cpu'] / 1e6:,.2f} / {target['bytes_cpu_npu'] / 1e6:,.2f} MB"


def _bandwidth(target: dict[str, Any]) -> str:
    used = target.get("bandwidth_gb_s") or {}
    return "; ".join(f"{memory} {v['used']:.2f} of {v['available']:.2f}" for memory, v in used.items()) or "-"


SOURCES = {"provenance": _source, "bytes to CPU / to NPU": _bytes_crossing, "bandwidth used, GB/s": _bandwidth}


# --- writing ---------------------------------------------------------------------------------------------------------


def _markdown(block: Heading | Text | Table) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_escape(block.text)}"
    if isinstance(block, Text):
        return _escape(block.text)
    rules = ["---", *("---:" if block.numeric else "---" for _ in block.columns[1:])]
    lines = [[_escape(each) for each in block.columns], rules, *([_escape(e) for e in row] for row in block.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Return text that Markdown shows as it is."""
    plain = "".join(each if each.isprintable() else " " for each in text)
    return "".join(f"\\{each}" if each in "\\`*_[]<>|#" else each for each in plain)


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"...{name[3 - MAX_NAME :]}"
