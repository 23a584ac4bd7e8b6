"""The figures of the present candidates as data: what `dvc metrics show` and `dvc plots show` read."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from ethos.files import sha256_file, write_json, write_text
from ethos.reporting.pages.common import candidate_name

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.reporting.evidence import Evidence

METRICS = "metrics.json"
CANDIDATES = "plots/candidates.csv"
CURVES = "plots/map50.csv"


def write_numbers(evidence: Evidence, folder: Path) -> dict[str, str]:
    """Write the candidates' figures, accuracy and latency for each target, and mAP50 over epochs.

    Returns:
        The files' names with their hashes.
    """
    write_json(folder / METRICS, metrics(evidence))
    write_text(folder / CANDIDATES, _table(["target", "candidate", "latency_ms", "int8_map50"], _points(evidence)))
    write_text(folder / CURVES, _curves(evidence))
    return {name: sha256_file(folder / name) for name in (METRICS, CANDIDATES, CURVES)}


def metrics(evidence: Evidence) -> dict[str, Any]:
    """Return each candidate's version and its figures as the registry has them."""
    return {
        candidate_name(record): {"version": record.version, **dict(sorted(record.figures.items()))}
        for record in evidence.current
    }


def _points(evidence: Evidence) -> list[list[Any]]:
    return [
        [target, candidate_name(record), record.figures[f"npu.{target}.latency_ms"], record.figures["int8.map50"]]
        for record in evidence.current
        for target in record.targets
        if f"npu.{target}.latency_ms" in record.figures and "int8.map50" in record.figures
    ]


def _curves(evidence: Evidence) -> str:
    """Return mAP50 over epochs, one column a variant, in which those that stopped earlier have no more values."""
    columns: dict[str, dict[str, float]] = {}
    for record in evidence.current:
        found = evidence.read(f"run/{record.run_id}#metrics/map50", optional=True)
        if found and record.form == "dense":
            columns[record.variant] = found
    epochs = sorted({int(step) for column in columns.values() for step in column})
    rows = [[epoch, *(column.get(str(epoch), "") for column in columns.values())] for epoch in epochs]
    return _table(["epoch", *columns], rows)


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    return stream.getvalue()
