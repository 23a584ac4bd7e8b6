"""Pictures of several versions at once: what they show, read from the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.blocks import Block, Picture
from ethos.reporting.pages.common import PRECISIONS, candidate_name, in_use, targets_of

if TYPE_CHECKING:
    from ethos.registry.records import VersionRecord
    from ethos.reporting.evidence import Evidence
    from ethos.reporting.text_catalog import Texts

LOSSES = ("box", "cls", "dfl")
SIZES = (
    ("fp32", "fp32.tflite"),
    ("fp16", "fp16.tflite"),
    ("dynamic", "dynamic.tflite"),
    ("int8", "int8.tflite"),
    ("onnx", "model.onnx"),
    ("weights", "weights.safetensors"),
)


def all_curves(evidence: Evidence, texts: Texts) -> Picture:
    """Return the losses and scores of all candidates over epochs, in one picture."""
    lines = []
    for record in evidence.current:
        metrics = evidence.read(f"run/{record.run_id}#metrics") or {}
        if record.form == "dense" and "map50" in metrics:
            lines.append({"label": candidate_name(record), **history(metrics)})
    return Picture("curves", texts("picture.curves"), "all_curves", {"lines": lines})


def history(metrics: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return a run's epochs and what they gave, as lists: losses of each side and scores."""
    steps = list(metrics["map50"])
    names = [f"{side}_{loss}_loss" for side in ("train", "val") for loss in LOSSES]
    names += ["map50", "map50_95", "precision", "recall", "lr"]
    return {
        "epochs": [int(step) for step in steps],
        **{name: [metrics[name].get(step) for step in steps] for name in names if name in metrics},
    }


def pareto(evidence: Evidence, texts: Texts) -> list[Block]:
    """Return accuracy against latency on each target whose latency is known."""
    pictures: list[Block] = []
    for target in targets_of(evidence.current):
        points = [point for record in evidence.current if (point := _point(evidence, record, target))]
        if points:
            caption = texts("picture.pareto", target=target)
            word = points[0]["provenance"]
            data = {"target": target, "points": points, "provenance": word}
            pictures.append(Picture(f"pareto-{target}", caption, "pareto", data))
    return pictures


def _point(evidence: Evidence, record: VersionRecord, target: str) -> dict[str, Any] | None:
    tag = f"npu.{target}.latency_ms"
    if tag not in record.figures or "int8.map50" not in record.figures:
        return None
    interval = interval_of(evidence, record, "int8", "map50")
    return {
        "label": candidate_name(record),
        "latency_ms": record.figures[tag],
        "map50": record.figures["int8.map50"],
        "interval": interval,
        "serves": in_use(evidence, record),
        "provenance": evidence.origin(f"version/{record.version}#{tag}").provenance,
    }


def interval_of(evidence: Evidence, record: VersionRecord, precision: str, score: str) -> list[float] | None:
    """Return the 95 % interval of a score where one was recorded."""
    found = evidence.read(f"version/{record.version}/metrics/{precision}.json#intervals/{score}", optional=True)
    return [float(end) for end in found] if found else None


def sizes(evidence: Evidence, texts: Texts) -> Picture:
    """Return the sizes of each candidate's files."""
    rows = []
    for record in evidence.current:
        place = f"version/{record.version}/quantize.json#files"
        found = {kind: evidence.read(f"{place}/{name}/bytes", optional=True) for kind, name in SIZES}
        rows.append({"label": candidate_name(record), "bytes": found})
    return Picture("sizes", texts("picture.sizes"), "sizes", {"rows": rows})


def class_loss(evidence: Evidence, texts: Texts) -> Picture:
    """Return what INT8 takes from the mAP50 of each class and candidate."""
    rows = []
    for record in evidence.current:
        scores = {p: evidence.read(f"version/{record.version}/metrics/{p}.json#per_class") or [] for p in PRECISIONS}
        before = {row["name"]: row["map50"] for row in scores["fp32"]}
        after = {row["name"]: row["map50"] for row in scores["int8"]}
        known = {name: (before[name], after.get(name)) for name in before}
        rows.append({"label": candidate_name(record), "scores": known})
    return Picture("int8-loss-by-class", texts("picture.class_loss"), "class_loss", {"rows": rows})


def coverage(evidence: Evidence, texts: Texts, kind: str) -> Picture:
    """Return the share of operators or MACs that each target's NPU takes of each candidate."""
    targets = targets_of(evidence.current)
    values = [
        [evidence.read(f"version/{r.version}/npu.json#targets/{target}/{kind}_coverage") for target in targets]
        for r in evidence.current
    ]
    data = {"rows": [candidate_name(r) for r in evidence.current], "columns": targets, "values": values, "what": kind}
    return Picture(f"coverage-{kind}", texts(f"picture.coverage_{kind}"), "coverage", data)
