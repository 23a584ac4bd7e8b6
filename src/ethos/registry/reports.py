"""Figures in written reports, compared with what the versions carry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ethos.registry.records import VersionRecord

# keys of a row in a report, and the figure that each shows
ROW_FIGURES = {
    "fp32_map50": "fp32.map50",
    "fp32_map50_95": "fp32.map50_95",
    "int8_map50": "int8.map50",
    "int8_map50_95": "int8.map50_95",
    "int8_kib": "size.int8_kib",
    "parameters": "parameters",
    "macs": "macs",
}
SCORED = ("fp32_map50", "int8_map50")  # a row with one of these speaks of a version
TOLERANCE = 1e-6  # relative; reports may round further than that only in tables


def report_findings(folder: Path, records: Sequence[VersionRecord]) -> list[str]:
    """Return what the reports say that no version carries, one sentence each; none if there are no reports."""
    found = []
    for path in sorted(folder.rglob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            found.append(f"{path.name} is no JSON document")
            continue
        for row in _rows(document):
            found.extend(f"{path.name}: {problem}" for problem in _problems(row, records))
    return found


def _rows(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a document that names a file by its hash and gives it a score."""
    if isinstance(document, dict):
        if "sha256" in document and any(key in document for key in SCORED):
            yield document
        for value in document.values():
            yield from _rows(value)
    elif isinstance(document, list):
        for value in document:
            yield from _rows(value)


def _problems(row: dict[str, Any], records: Sequence[VersionRecord]) -> Iterator[str]:
    versions = [record for record in records if record.artifact_sha256 == row["sha256"]]
    name = f"{row.get('variant', 'a row')} ({row.get('form', 'dense')})"
    if not versions:
        yield f"{name} is about a file that no version carries: {row['sha256']}"
        return
    for figure, value in _figures(row):
        carried = [record.figures[figure] for record in versions if figure in record.figures]
        if not any(abs(value - other) <= TOLERANCE * max(abs(other), 1.0) for other in carried):
            told = ", ".join(str(other) for other in carried) or "none"
            yield f"{name}: {figure} is {value}, its versions carry {told}"


def _figures(row: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for key, figure in ROW_FIGURES.items():
        if isinstance(row.get(key), int | float):
            yield figure, row[key]
    for target, values in (row.get("npu") or {}).items():
        for name, value in values.items():
            if isinstance(value, int | float) and name in ("latency_ms", "sram_kib", "operators_cpu"):
                yield f"npu.{target}.{name}", value
