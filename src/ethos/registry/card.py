"""The model card: what a version is, what it scores, and where each figure comes from; in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SHOWN_HASH = 12  # hex digits, enough to tell files apart at a glance
NPU_COLUMNS = (
    ("latency_ms", "latency, ms"),
    ("mac_utilisation", "MAC utilisation"),
    ("operators_npu", "NPU operators"),
    ("operators_cpu", "CPU operators"),
    ("sram_kib", "SRAM, KiB"),
    ("over_budget_kib", "over budget, KiB"),
)


def model_card(
    title: str,
    made_of: str,
    scores: Mapping[str, Mapping[str, Any]],
    npu: Mapping[str, Mapping[str, Any]],
    dataset: Mapping[str, Any],
    quantize: Mapping[str, Any],
    runs: Mapping[str, str],
) -> str:
    """Return the card.

    Args:
        title: Variant and form.
        made_of: Level, activation and recipe, in words.
        scores: The documents of `evaluate`, under `fp32` and `int8`.
        npu: Report of each target, from `analyze`.
        dataset: The document dataset.json.
        quantize: The document quantize.json.
        runs: Ids of the runs that made it, by what they are.
    """
    counts = dataset["images"]
    sections = [
        f"# {title}",
        f"Detector of {len(dataset['classes'])} classes at {_size(quantize['imgsz'])} pixels: {made_of}. "
        f"{quantize['parameters']:,} parameters, {quantize['macs'] / 1e9:.3f} GMAC an image.",
        "## Scores (measured)",
        _scores(scores),
        _protocol(scores["int8"]["protocol"]),
        "## On the NPU",
        _npu(npu),
        "Figures marked estimate are the compiler's, not measured on hardware.",
        "## By class, INT8 (measured)",
        _classes(scores["int8"]["per_class"]),
        "## Made from",
        _list(
            (
                ("data set", f"{dataset['name']}, {counts['train']} training and {counts['val']} validation images"),
                ("data set sha256", dataset["sha256"]),
                ("split sha256", dataset["split_sha256"]),
                ("calibration", f"{quantize['calibration']['images']} training images"),
                ("INT8 file sha256", quantize["files"]["int8.tflite"]["sha256"]),
                *runs.items(),
            )
        ),
    ]
    if dataset.get("attribution"):
        sections.append(f"Images: {dataset['attribution']}")
    return "\n\n".join(sections) + "\n"


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> str:
    keys = ("map50", "map50_95", "precision", "recall")
    rows = [
        [name.upper(), *(f"{document[key]:.4f}" for key in keys), f"`{document['sha256'][:SHOWN_HASH]}`"]
        for name, document in scores.items()
    ]
    return _table(["file", "mAP50", "mAP50-95", "precision", "recall", "sha256"], rows)


def _protocol(protocol: Mapping[str, Any]) -> str:
    return (
        f"Protocol `{protocol['sha256'][:SHOWN_HASH]}`: {protocol['split']} side of {protocol['dataset']}, "
        f"{_size(protocol['imgsz'])} pixels, conf {protocol['conf']}, iou {protocol['iou']}, "
        f"at most {protocol['max_det']} detections, AP by {protocol['ap']}."
    )


def _npu(npu: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [target, _provenance(report), *(_number(report.get(key)) for key, _ in NPU_COLUMNS)]
        for target, report in npu.items()
    ]
    return _table(["target", "provenance", *(heading for _, heading in NPU_COLUMNS)], rows)


def _provenance(report: Mapping[str, Any]) -> str:
    compiler = report.get("compiler")
    return f"{report['provenance']} ({compiler['name']} {compiler['version']})" if compiler else report["provenance"]


def _classes(classes: Iterable[Mapping[str, Any]]) -> str:
    rows = [[row["name"], str(row["boxes"]), f"{row['map50']:.4f}", f"{row['map50_95']:.4f}"] for row in classes]
    return _table(["class", "boxes", "mAP50", "mAP50-95"], rows)


def _size(imgsz: int | list[int]) -> str:
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else imgsz
    return " x ".join(str(side) for side in sides)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _list(rows: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(f"- {key}: {value}" for key, value in rows)


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
