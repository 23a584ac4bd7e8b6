"""What became slower or faster between two analyses: of two files, or of one file under two compiler versions."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from ethos.errors import DamagedFile, ModelError
from ethos.files import read_json
from ethos.npu.analyze import analyze
from ethos.npu.blocks import PROVENANCE, Block, Heading, Table, Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.specs import Target

SCHEMA = 1
REPORT = ".json"
TOP_LAYERS = 20
MAX_NAME = 60
FIGURES = (
    *("latency_ms", "cycles_total", "mac_utilisation", "sram_kib", "dram_kib", "flash_kib", "macs"),
    *("operators_npu", "operators_cpu", "operator_coverage", "mac_coverage", "regions"),
)
# converters number the whole network in each name
NUMBERED = re.compile(r"\bmodel_\d+/")


def load_analysis(path: Path, targets: Sequence[Target]) -> dict[str, Any]:
    """Return a stored `analyze` document, or analyze a TFLite file for the targets.

    Raises:
        ModelError: The document is no analysis, or the file is nothing to analyze.
    """
    if path.suffix != REPORT:
        return analyze(path, targets)
    try:
        document = read_json(path)
        if isinstance(document, dict) and {"file", "sha256", "targets"} <= set(document):
            return document
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file", "give a stored report, or a .tflite file") from None
    except DamagedFile as error:
        raise ModelError(error.message, "give what `ethos analyze --json` printed") from None
    raise ModelError(f"{path}: is no analysis", "give what `analyze --json` printed, or an npu.json of a run")


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """Compare two analyses on the targets that both have; negative changes are gains of `b`.

    Raises:
        ModelError: They share no target.
    """
    shared = [name for name in a["targets"] if name in b["targets"]]
    if not shared:
        known = ", ".join(a["targets"]), ", ".join(b["targets"])
        raise ModelError(f"the analyses share no target: {known[0]} against {known[1]}", "analyze both for one target")
    return {
        "schema": SCHEMA,
        "a": {"file": a["file"], "sha256": a["sha256"]},
        "b": {"file": b["file"], "sha256": b["sha256"]},
        "targets": {name: _target(a["targets"][name], b["targets"][name]) for name in shared},
    }


def comparison_blocks(comparison: dict[str, Any]) -> list[Block]:
    """Return a comparison as a page."""
    sides = [[side, comparison[side]["file"], comparison[side]["sha256"]] for side in ("a", "b")]
    blocks: list[Block] = [
        Heading("NPU comparison", 1),
        Table(["", "file", "SHA-256"], sides),
        Text(PROVENANCE),
    ]
    for name, target in comparison["targets"].items():
        compilers = " against ".join(f"{each['name']} {each['version']}" for each in target["compilers"])
        rows = [[key, _shown(each["a"]), _shown(each["b"]), _change(each)] for key, each in target["figures"].items()]
        blocks += [
            Heading(f"{name} ({target['provenance']}, {compilers})"),
            Table(["figure", "a", "b", "change"], rows, numeric=True),
        ]
        if target["layers"]:
            blocks.append(_layers(target["layers"]))
        if target["moved"]:
            moved = [[each["operator"], _short(each["name"]), each["a"], each["b"]] for each in target["moved"]]
            blocks.append(Table(["operator", "name", "a", "b"], moved[:TOP_LAYERS]))
    return blocks


# --- parts -----------------------------------------------------------------------------------------------------------


def _target(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {
        "provenance": a["provenance"],
        "compilers": [a["compiler"], b["compiler"]],
        "figures": {key: {"a": a.get(key), "b": b.get(key)} for key in FIGURES},
        "layers": _changed_layers(a["layers"], b["layers"]),
        "moved": _moved(a.get("operators", []), b.get("operators", [])),
    }


@dataclass(frozen=True)
class _Layer:
    """A layer of the file with the cycles and MACs of all the steps that the compiler made of it."""

    name: str
    operator: str
    cycles: int
    macs: int


def _changed_layers(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the layers whose cycles differ, the largest difference first; 0 stands for a layer that is not there."""
    rows = [_row(one, other) for one, other in _pairs(_layers_of(a), _layers_of(b))]
    return sorted((row for row in rows if row["change"]), key=lambda row: -abs(row["change"]))


def _row(one: _Layer | None, other: _Layer | None) -> dict[str, Any]:
    before, after = (layer.cycles if layer else 0 for layer in (one, other))
    name, operator = next((layer.name, layer.operator) for layer in (one, other) if layer)
    return {"name": name, "operator": operator, "a": before, "b": after, "change": after - before}


def _layers_of(steps: list[dict[str, Any]]) -> list[_Layer]:
    cycles: Counter[tuple[str, str]] = Counter()
    macs: Counter[tuple[str, str]] = Counter()
    for step in steps:
        if step["cycles"]:
            key = NUMBERED.sub("", step["name"]), step["operator"]
            cycles[key] += step["cycles"]
            macs[key] += step["macs"]
    return [_Layer(*key, cycles[key], macs[key]) for key in cycles]


def _pairs(a: list[_Layer], b: list[_Layer]) -> list[tuple[_Layer | None, _Layer | None]]:
    """Return which layers stand for each other: those of one name, then those of one kind and size in one order."""
    named = {(layer.name, layer.operator): layer for layer in b}
    same = [(layer, named[key]) for layer in a if (key := (layer.name, layer.operator)) in named]
    # names that converters number say little unless most of them agree
    if 2 * len(same) < min(len(a), len(b)):
        same = []
    taken_a, taken_b = ({each[side] for each in same} for side in (0, 1))
    left_a = [layer for layer in a if layer not in taken_a]
    left_b = [layer for layer in b if layer not in taken_b]
    kinds_a, kinds_b = ([(layer.operator, layer.macs) for layer in left] for left in (left_a, left_b))
    blocks = SequenceMatcher(a=kinds_a, b=kinds_b, autojunk=False).get_matching_blocks()
    alike = [(left_a[i.a + k], left_b[i.b + k]) for i in blocks for k in range(i.size)]
    gone = [(layer, None) for layer in left_a if layer not in {one for one, _ in alike}]
    new = [(None, layer) for layer in left_b if layer not in {other for _, other in alike}]
    return [*same, *alike, *gone, *new]


def _moved(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the operators that run elsewhere than before."""
    before = {(each["operator"], NUMBERED.sub("", each["name"])): each["placement"] for each in a}
    after = {(each["operator"], NUMBERED.sub("", each["name"])): each["placement"] for each in b}
    return [
        {"operator": operator, "name": name, "a": place, "b": after[operator, name]}
        for (operator, name), place in before.items()
        if after.get((operator, name), place) != place
    ]


def _layers(layers: list[dict[str, Any]]) -> Table:
    rows = [
        [
            _short(each["name"]),
            each["operator"],
            f"{each['a']:,}",
            f"{each['b']:,}",
            f"{each['change']:+,}",
            _verdict(each),
        ]
        for each in layers[:TOP_LAYERS]
    ]
    return Table(["layer", "operator", "cycles a", "cycles b", "change", ""], rows, numeric=True)


def _verdict(layer: dict[str, Any]) -> str:
    if not layer["a"] or not layer["b"]:
        return "new" if layer["b"] else "gone"
    return "slower" if layer["change"] > 0 else "faster"


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def _change(pair: dict[str, float | None]) -> str:
    a, b = pair["a"], pair["b"]
    return f"{b / a - 1:+.1%}" if a and b is not None else "-"


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"...{name[3 - MAX_NAME :]}"
