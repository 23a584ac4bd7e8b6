"""What pruning gave, as rows: the study's table, its ranking and recommendations, and channels by layer."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.pruning.schedule import Outcome

REAL_TIME_FPS = 20.0
CPU = "cpu"


@dataclass(frozen=True)
class Row:
    """A line of the study's table.

    Attributes:
        model: What it is: `dense`, or a step as pruned or as trained again.
        parameters: As PyTorch counts them.
        macs: Multiply-accumulates.
        mb: Size of the INT8 sketch, in 10^6 bytes.
        map50: Of the float network.
        fps: Frames a second, on the CPU or a target.
        cycles: Vela's estimate by target.
        efficiency: mAP50 x FPS / MB by where the frames a second are from.
        within_limit: Whether its accuracy is within the spec's limit.
        real_time: Whether its frames a second reach the threshold.
        pareto: Whether no other has both a better mAP50 and more frames a second.
        rank: Place by efficiency, best first, among those within the limit.
    """

    model: str
    parameters: int
    macs: int
    mb: float
    map50: float
    fps: float
    cycles: dict[str, int]
    efficiency: dict[str, float]
    within_limit: bool
    real_time: bool
    pareto: bool = False
    rank: int | None = None


def study_rows(document: dict[str, Any], on: str = CPU, threshold: float = REAL_TIME_FPS) -> list[Row]:
    """Return the table of a pruned variant from its prune.json, the dense network first.

    Args:
        document: What `Outcome.document` gave.
        on: Where frames a second are taken from: `cpu`, or a target.
        threshold: Fewer frames a second are not real time.
    """
    rows = [_row("dense", document["dense"], True, on, threshold)]
    for each in document["iterations"]:
        name, measured = f"step {each['step']}", each["measured"]
        share = each["pruned_map50"] / measured["map50"] if measured["map50"] else 0.0
        as_pruned = measured | {
            "map50": each["pruned_map50"],
            "efficiency": {place: value * share for place, value in measured["efficiency"].items()},
        }
        kept_enough = document["dense"]["map50"] - each["pruned_map50"] <= document["max_map50_drop"]
        rows.append(_row(f"{name}, as pruned", as_pruned, kept_enough, on, threshold))
        rows.append(_row(f"{name}, trained again", measured, each["within_limit"], on, threshold))
    ranked = sorted((row for row in rows if row.within_limit), key=lambda row: -row.efficiency[on])
    places = {row.model: place for place, row in enumerate(ranked, start=1)}
    return [replace(row, pareto=_best_of(row, rows), rank=places.get(row.model)) for row in rows]


def recommendations(rows: Sequence[Row]) -> dict[str, str | None]:
    """Return the model that each scenario should take: the study's rule over those within the limit.

    Real time takes the fastest, none if no model is real time; accuracy the most accurate; balanced the most efficient
    that is real time, of all if none is.
    """
    allowed = [row for row in rows if row.within_limit]
    fast = [row for row in allowed if row.real_time]
    return {
        "realtime": max(fast, key=lambda row: row.fps).model if fast else None,
        "balanced": min(fast or allowed, key=lambda row: row.rank or len(rows)).model,
        "accuracy": max(allowed, key=lambda row: row.map50).model,
    }


def study(document: dict[str, Any], on: str = "", threshold: float = REAL_TIME_FPS) -> dict[str, Any]:
    """Return what follows from a prune.json, as JSON: `rows`, `recommendations` by scenario, `steps` taken.

    `on` is where frames a second are taken from; by default where the schedule took them from.
    """
    rows = study_rows(document, on or document["efficiency_on"], threshold)
    return {
        "rows": [asdict(row) for row in rows],
        "recommendations": recommendations(rows),
        "steps": len(document["iterations"]),
    }


def _row(model: str, measured: dict[str, Any], within_limit: bool, on: str, threshold: float) -> Row:
    fps = float(measured["cpu"]["fps"] if on == CPU else measured["npu"][on]["fps"])
    return Row(
        model=model,
        parameters=measured["parameters"],
        macs=measured["macs"],
        mb=measured["mb"],
        map50=measured["map50"],
        fps=fps,
        cycles={name: each["cycles"] for name, each in measured["npu"].items()},
        efficiency=measured["efficiency"],
        within_limit=within_limit,
        real_time=fps >= threshold,
    )


def _best_of(row: Row, rows: Sequence[Row]) -> bool:
    """Whether no other row is at least as good in accuracy and speed, and better in one."""
    return not any(
        other.map50 >= row.map50 and other.fps >= row.fps and (other.map50, other.fps) != (row.map50, row.fps)
        for other in rows
    )


def figures(outcome: Outcome) -> dict[str, Any]:
    """Return the few figures that DVC compares from run to run: those of what was kept, against the dense network."""
    dense, kept = outcome.dense, outcome.best.measured
    return {
        "kept_step": outcome.kept,
        "within_limit": outcome.best.within_limit,
        "map50": kept.map50,
        "map50_drop": outcome.best.map50_drop,
        "pruned_map50": outcome.best.pruned_map50,
        "parameters": kept.parameters,
        "macs": kept.macs,
        "share": {
            "parameters": kept.parameters / dense.parameters,
            "macs": kept.macs / dense.macs,
            **{name: each["cycles"] / dense.npu[name]["cycles"] for name, each in kept.npu.items()},
        },
        "better": is_better(outcome),
    }


def is_better(outcome: Outcome) -> bool:
    """Whether what was kept is smaller, has fewer cycles on every target, and is within the accuracy limit."""
    dense, kept = outcome.dense, outcome.best.measured
    faster = all(each["cycles"] < dense.npu[name]["cycles"] for name, each in kept.npu.items())
    return outcome.best.within_limit and kept.mb < dense.mb and faster


def step_metrics(iteration: dict[str, Any]) -> dict[str, float]:
    """Return what a run logs of an iteration of prune.json."""
    measured = iteration["measured"]
    plain = ("map50", "map50_95", "parameters", "macs", "mb")
    return {
        "pruned_map50": iteration["pruned_map50"],
        "map50_drop": iteration["map50_drop"],
        **{name: measured[name] for name in plain},
        "fps.cpu": measured["cpu"]["fps"],
        **{f"cycles.{name}": each["cycles"] for name, each in measured["npu"].items()},
        **{f"efficiency.{name}": value for name, value in measured["efficiency"].items()},
    }


def channel_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return input and output channels of each layer, before and after."""
    return [
        {
            "layer": each["name"],
            "in_dense": each["dense"][0],
            "in_pruned": each["pruned"][0],
            "out_dense": each["dense"][1],
            "out_pruned": each["pruned"][1],
        }
        for each in outcome.layers
    ]


def write_channels(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
