"""What to change in a network that an NPU runs slowly or not at all, and what the change gives.

One function per piece of advice: it looks for the shape in a network and says what was found; its docstring is the
sentence that users read. Where the change can be made on the file itself, it is made, compiled or judged again, and
shown with figures before and after; else it says from where the expectation comes.
"""

from __future__ import annotations

import inspect
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.npu import edit
from ethos.npu.graph import output_name
from ethos.npu.patterns import (
    CHANNEL_MULTIPLE,
    Wiring,
    find_attention,
    find_decode,
    find_odd_channels,
    find_per_tensor_weights,
    find_silu,
    find_slices,
)
from ethos.npu.resize import resize_input
from ethos.npu.tflite import read_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ethos.npu.graph import Graph

    Reports = dict[str, dict[str, Any]]
    Verify = Callable[[Path], Reports | None]

SMALLER_INPUT = 0.8  # 640 px to 512, 320 to 256
COMPARED = ("cycles_total", "latency_ms", "sram_kib", "dram_kib", "over_budget_kib", "operators_cpu", "regions")
# a layer's name may carry what the compiler appended to the operator's
MAX_APPENDED = 64


@dataclass(frozen=True)
class Finding:
    """Where a piece of advice applies: operators by index, what to expect, and the change on the unpacked file.

    `change` returns False if this network does not allow it; None if it cannot be made on a file.
    """

    operators: tuple[int, ...]
    expected: str
    change: Callable[[edit.Edited], bool | None] | None = None


def raw_head(wiring: Wiring) -> Finding | None:
    """End the network at the detection head's raw maps and decode them after the interpreter."""
    decode = find_decode(wiring)
    if decode is None:
        return None
    expected = "decoding costs 12 to 64 % of the cycles of such files and doubles the peak memory (Vela 5.2.0)"
    return Finding(decode.operators, expected, lambda edited: edit.cut_decode(edited, decode))


def no_attention(wiring: Wiring) -> Finding | None:
    """Replace attention by convolutions (C2PSA by C2f: `replace_block` in a level's spec)."""
    blocks = find_attention(wiring)
    if not blocks:
        return None
    expected = "attention costs 34 to 52 % of a YOLO11n's cycles on U55 and U65, for 0.6 % of its MACs (Vela 5.2.0)"
    operators = tuple(sorted(index for block in blocks for index in block.operators))
    return Finding(operators, expected, lambda edited: edit.replace_attention(edited, wiring.graph, blocks))


def relu(wiring: Wiring) -> Finding | None:
    """Train with ReLU instead of SiLU (`activation: relu` in a variant's spec)."""
    sites = find_silu(wiring)
    if not sites:
        return None
    operators = tuple(index for site in sites for index in site.operators)
    expected = "a SiLU is two operators on whole maps, a ReLU is part of its convolution"
    return Finding(operators, expected, lambda edited: edit.replace_silu(edited, wiring.graph, sites))


def two_convolutions(wiring: Wiring) -> Finding | None:
    """Write a convolution that is then sliced by channels as one convolution for each part: the same values."""
    sites = find_slices(wiring)
    if not sites:
        return None
    operators = tuple(index for site in sites for index in site.slices)
    expected = "5 to 42 % of the cycles once the head is raw, and one NPU region on Ethos-N78 (Vela 5.2.0, rules)"
    return Finding(operators, expected, lambda edited: edit.split_convolutions(edited, wiring.graph, sites))


def full_channel_blocks(wiring: Wiring) -> Finding | None:
    """Give convolutions a multiple of 16 channels: an NPU computes and stores whole blocks of them."""
    operators = tuple(find_odd_channels(wiring))
    if not operators:
        return None
    shapes = [wiring.tensor(wiring.graph.operators[index].outputs[0]).shape for index in operators]
    idle = max(1 - shape[-1] / (-(-shape[-1] // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE) for shape in shapes)
    return Finding(operators, f"up to {idle:.0%} of such a layer's work is on empty channels (rule)")


def per_channel_weights(wiring: Wiring) -> Finding | None:
    """Quantize weights with one scale a channel: it keeps accuracy and costs an NPU nothing."""
    convolutions = find_per_tensor_weights(wiring)
    if not convolutions:
        return None
    expected = "the same cycles (Vela 5.2.0 on U65 and U85); less quantization error, which has to be measured"
    return Finding(
        tuple(convolutions),
        expected,
        lambda edited: edit.quantize_per_channel(edited, wiring.graph, convolutions),
    )


def smaller_input(wiring: Wiring) -> Finding | None:
    """Use a smaller picture, once the other changes are made: cycles and maps shrink with its area."""
    saved = 1 - SMALLER_INPUT**2
    expected = f"about {saved:.0%} fewer cycles at {SMALLER_INPUT:.0%} of the side (area); accuracy has to be measured"
    return Finding((), expected, lambda edited: resize_input(edited, wiring.graph, SMALLER_INPUT))


def advise(graph: Graph, reports: Reports, verify: Verify | None, folder: Path) -> dict[str, Any]:
    """Return advice on a network, the changes of its structure first, then by what they concern or give.

    Args:
        graph: The network.
        reports: Its figures on each target.
        verify: Returns the figures of a changed file on the same targets, none if a compiler refuses it; without it
            nothing is verified.
        folder: A place for changed files.

    Returns:
        `items`, and `together`: figures after all changes that could be verified, else null.
    """
    wiring = Wiring(graph)
    items = []
    for name, rule in ADVICE.items():
        if finding := rule(wiring):
            items.append(_item(name, rule, finding, graph, reports, verify, folder))
    together = _together(graph, reports, verify, folder) if verify and items else None
    if over := [name for name, report in reports.items() if report["over_budget"]]:
        items.append(_smaller(graph, reports, verify, folder, over))
    items.sort(key=lambda item: (item["name"] not in STRUCTURAL, item["name"] in SAVE_NO_TIME, -_weight(item)))
    return {"items": items, "together": together}


# --- parts -----------------------------------------------------------------------------------------------------------


def _item(
    name: str,
    rule: Callable[[Wiring], Finding | None],
    finding: Finding,
    graph: Graph,
    reports: Reports,
    verify: Verify | None,
    folder: Path,
) -> dict[str, Any]:
    file = folder / f"{name}.tflite"
    after = verify(file) if verify and _change(graph, finding, file) else None
    return {
        "name": name,
        "change": _sentence(rule),
        "operators": len(finding.operators),
        "first": output_name(graph, graph.operators[finding.operators[0]]) if finding.operators else None,
        "expected": finding.expected,
        "targets": {
            target: {**_concerned(graph, finding, report), **_compared(report, after and after[target])}
            for target, report in reports.items()
        },
    }


def _smaller(graph: Graph, reports: Reports, verify: Verify | None, folder: Path, over: list[str]) -> dict[str, Any]:
    """Return the advice for what does not fit: a smaller picture, on top of all changes before it."""
    base, before = graph, reports
    if verify:
        file = _change_all(graph, folder)
        if changed := verify(file):
            base, before = read_graph(file), changed
    finding = smaller_input(Wiring(base))
    if finding is None:
        raise TypeError("smaller_input always finds")
    item = _item("smaller_input", smaller_input, finding, base, before, verify, folder)
    return {**item, "first": f"over budget on {', '.join(over)}"}


def _together(graph: Graph, reports: Reports, verify: Verify | None, folder: Path) -> dict[str, Any] | None:
    if verify is None:
        return None
    after = verify(_change_all(graph, folder))
    return after and {target: _compared(report, after[target]) for target, report in reports.items()}


def _change_all(graph: Graph, folder: Path) -> Path:
    """Return a file with every change made that can be, one after the other."""
    file = folder / "together.tflite"
    shutil.copyfile(graph.file, file)
    for rule in ADVICE.values():
        changed = read_graph(file)
        if finding := rule(Wiring(changed)):
            _change(changed, finding, file)
    return file


def _change(graph: Graph, finding: Finding, file: Path) -> bool:
    """Write the network with the advised change to `file`; return whether the network allows it."""
    if finding.change is None:
        return False
    try:
        edited = edit.Edited(graph)
        if finding.change(edited) is False:
            return False
        edited.keep(file)
    except edit.IMPOSSIBLE:
        return False
    return True


def _sentence(rule: Callable[[Wiring], Finding | None]) -> str:
    return " ".join((inspect.getdoc(rule) or "").split())


def _concerned(graph: Graph, finding: Finding, report: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a target's cycles, and of its operators on the CPU, that the advice is about."""
    concerned = set(finding.operators)
    left = sum(report["operators"][i]["placement"] == "cpu" for i in concerned if i < len(report["operators"]))
    total = report["cycles_total"]
    cycles = sum(cycles for index, cycles in layer_cycles(graph, report["layers"]) if index in concerned)
    return {"share": round(cycles / total, 4) if total and concerned else None, "on_cpu": left}


def layer_cycles(graph: Graph, layers: Sequence[dict[str, Any]]) -> Iterable[tuple[int | None, int]]:
    """Yield the file's operator that each of the compiler's layers comes from, where its name tells, and cycles."""
    indices = {output_name(graph, operator): operator.index for operator in graph.operators}
    for layer in layers:
        name = layer["name"]
        lengths = range(len(name), max(len(name) - MAX_APPENDED, 0), -1)
        found = next((indices[name[:length]] for length in lengths if name[:length] in indices), None)
        yield found, layer["cycles"]


def _compared(before: dict[str, Any], after: dict[str, Any] | None) -> dict[str, Any]:
    if after is None:
        return {"provenance": "expected", "before": None, "after": None, "gain": None}
    return {
        "provenance": before["provenance"],
        "before": {key: before[key] for key in COMPARED},
        "after": {key: after[key] for key in COMPARED},
        "gain": _gain(before, after),
    }


def _gain(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """Return the share of cycles saved; where there are none, of the operators on the CPU."""
    key = "cycles_total" if before["cycles_total"] else "operators_cpu"
    if not before[key] or after[key] is None:
        return None
    return round(1 - float(after[key]) / float(before[key]), 4)


def _weight(item: dict[str, Any]) -> float:
    """Return what orders advice: the largest gain over the targets, else the largest part concerned."""
    values = [each["gain"] if each["gain"] is not None else each["share"] or 0.0 for each in item["targets"].values()]
    return float(max(values, default=0.0)) + 1e-6 * float(item["operators"])


# --- the table -------------------------------------------------------------------------------------------------------

ADVICE: dict[str, Callable[[Wiring], Finding | None]] = {
    "raw_head": raw_head,
    "no_attention": no_attention,
    "relu": relu,
    "two_convolutions": two_convolutions,
    "full_channel_blocks": full_channel_blocks,
    "per_channel_weights": per_channel_weights,
}
# they change what is trained or exported, and with it what the others can give
STRUCTURAL = frozenset({"raw_head", "no_attention"})
SAVE_NO_TIME = frozenset({"per_channel_weights"})
