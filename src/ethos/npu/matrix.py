"""Candidates x targets x memory modes: one table of what each pair gives, and a heat map."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ethos.errors import CompilerError
from ethos.files import sha256_file
from ethos.npu.analyze import analyze
from ethos.npu.blocks import PROVENANCE, Block, Heading, Picture, Table, Text
from ethos.npu.pictures import draw_heat_map
from ethos.npu.tables import kib
from ethos.specs import VelaTarget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.specs import Target

SCHEMA = 1
FIGURES = (
    *("provenance", "latency_ms", "cycles_total", "mac_utilisation", "sram_kib", "dram_kib", "flash_kib"),
    *("over_budget_kib", "fits", "operators_npu", "operators_cpu", "operator_coverage", "mac_coverage", "regions"),
)
INT8 = "int8.tflite"


def candidates_of_run(folder: Path) -> dict[str, Path]:
    """Return the INT8 files of a run by `variant/form`, from what the quantize stage wrote below `folder`."""
    found = sorted(folder.glob(f"*/*/{INT8}"))
    return {path.parent.relative_to(folder).as_posix(): path for path in found}


def build_matrix(candidates: dict[str, Path], targets: Sequence[Target], modes: Sequence[str]) -> dict[str, Any]:
    """Analyze every candidate for every target in every memory mode.

    Args:
        candidates: Files by the name to show.
        targets: The targets; one that has no memory modes is taken once.
        modes: Memory modes as Vela names them; empty for each target's own.

    Returns:
        `columns` with target and mode; `rows`, one a candidate, with `cells` in the columns' order. A cell of a mode
        that the target's system cannot have holds Vela's reason as `error`.

    Raises:
        ModelError: A file cannot be read, or is nothing to analyze.
    """
    columns = [column for target in targets for column in _modes(target, modes)]
    work = [(file, column) for file in candidates.values() for column in columns]
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        cells = list(pool.map(_cell, work))
    return {
        "schema": SCHEMA,
        "columns": [_column(column) for column in columns],
        "rows": [
            {
                "candidate": name,
                "file": str(file),
                "sha256": sha256_file(file),
                "cells": cells[place * len(columns) : (place + 1) * len(columns)],
            }
            for place, (name, file) in enumerate(candidates.items())
        ],
    }


def matrix_blocks(matrix: dict[str, Any]) -> list[Block]:
    """Return the matrix as a page: the table, and heat maps of latency and coverage."""
    labels = [column_label(column) for column in matrix["columns"]]
    names = [row["candidate"] for row in matrix["rows"]]
    # a line for each target and mode, of which there are usually more than candidates
    lines = list(zip(*(row["cells"] for row in matrix["rows"]), strict=True))
    blocks: list[Block] = [
        Heading("NPU matrix", 1),
        Text(PROVENANCE),
        Table(
            ["target, memory mode", *names],
            [[label, *map(cell_text, line)] for label, line in zip(labels, lines, strict=True)],
            numeric=True,
        ),
    ]
    for key, title, factor in HEAT_MAPS:
        values = [[_scaled(cell.get(key), factor) for cell in line] for line in lines]
        if any(value is not None for row in values for value in row):
            blocks.append(Picture(title, draw_heat_map(title, labels, names, values)))
    files = [[row["candidate"], row["file"], row["sha256"]] for row in matrix["rows"]]
    reasons = {
        (label, cell["error"])
        for row in matrix["rows"]
        for label, cell in zip(labels, row["cells"], strict=True)
        if "error" in cell
    }
    if reasons:
        blocks.append(Table(["target, memory mode", "why not"], sorted(list(each) for each in reasons)))
    return [*blocks, Heading("Files"), Table(["candidate", "file", "SHA-256"], files)]


def column_label(column: dict[str, Any]) -> str:
    """Return a column's heading."""
    return f"{column['target']} {column['memory_mode']}" if column["memory_mode"] else str(column["target"])


def cell_text(cell: dict[str, Any]) -> str:
    """Return a cell in a few words: time and fit, or coverage and regions where there is no time."""
    if "error" in cell:
        return "no"
    if cell["latency_ms"] is None:
        parts = [f"{cell['operator_coverage']:.1%} of operators", f"{cell['regions']} regions"]
    else:
        parts = [f"{cell['latency_ms']:.1f} ms"]
        if cell["operators_cpu"]:
            parts.append(f"{cell['operators_cpu']} on CPU")
    if cell["fits"] is False:
        parts.append(f"{kib(cell['over_budget_kib'])} over")
    return ", ".join(parts)


def _modes(target: Target, modes: Sequence[str]) -> list[Target]:
    if not isinstance(target, VelaTarget) or not modes:
        return [target]
    return [target.model_copy(update={"memory_mode": mode}) for mode in modes]


def _column(target: Target) -> dict[str, Any]:
    mode = target.memory_mode if isinstance(target, VelaTarget) else None
    return {"target": target.name, "memory_mode": mode}


def _cell(work: tuple[Path, Target]) -> dict[str, Any]:
    file, target = work
    try:
        report = analyze(file, [target])["targets"][target.name]
    except CompilerError as error:
        return {"error": error.message}
    return {**{figure: report[figure] for figure in FIGURES}, "compiler": report["compiler"]}


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


HEAT_MAPS = (
    ("latency_ms", "latency, ms (estimate)", 1.0),
    ("operator_coverage", "operators on the NPU, % (estimate, rule)", 100.0),
)
