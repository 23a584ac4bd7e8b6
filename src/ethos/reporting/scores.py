"""Tables of scores and speed, printed by the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.tables import plain_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Group

FIGURES = {"map50": "mAP50", "map50_95": "mAP50-95"}
SHOWN_CONFUSIONS = 8


def score_tables(report: dict[str, Any]) -> Group:
    """Return what `ethos evaluate` prints: the scores, by class, by size, the confusions, and what was asked for."""
    from rich.console import Group

    tables = [_classes(report), _sizes(report), _confusions(report["confusion"])]
    if "leaks" in report:
        tables.append(_leaks(report))
    if "against" in report:
        tables.append(_against(report))
    return Group(*tables)


def _classes(report: dict[str, Any]) -> Group:
    columns = ["class", "boxes", "mAP50", "95 % interval", "mAP50-95", "precision", "recall", "F1"]
    total = sum(row["boxes"] for row in report["per_class"])
    precision, recall = report["precision"], report["recall"]
    mean_f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    whole = {**report, "f1": mean_f1, "boxes": total, "name": "all", "map50_interval": report["intervals"]["map50"]}
    rows = [
        [
            row["name"],
            str(row["boxes"]),
            _figure(row["map50"]),
            _interval(row["map50_interval"]),
            *(_figure(row[key]) for key in ("map50_95", "precision", "recall", "f1")),
        ]
        for row in (whole, *report["per_class"])
    ]
    protocol = report["protocol"]
    height, width = protocol["imgsz"]
    left_out = "" if protocol["excluded"] == "none" else f" (without {protocol['excluded']})"
    title = (
        f"{report['file']} ({report['file_precision']}, {report['runtime']}, SHA-256 {report['sha256'][:12]}), "
        f"measured on {report['images']} images of {protocol['dataset']} {protocol['split']}{left_out}: "
        f"{width}x{height} px, conf {protocol['conf']}, iou {protocol['iou']}, protocol {protocol['sha256'][:12]}"
    )
    return _titled(title, columns, rows)


def _sizes(report: dict[str, Any]) -> Group:
    kinds = {"sizes": "COCO, pixels of the source", "relative_sizes": "share of the image"}
    rows = [
        [size, words, str(entry["boxes"]), *(_figure(entry[key]) for key in FIGURES)]
        for kind, words in kinds.items()
        for size, entry in report[kind].items()
        if entry["boxes"]
    ]
    return _titled("by size of the object", ["size", "by", "boxes", *FIGURES.values()], rows)


def _confusions(confusion: dict[str, Any]) -> Group:
    labels = confusion["labels"]
    wrong = [
        (count, labels[true], labels[predicted])
        for predicted, row in enumerate(confusion["matrix"])
        for true, count in enumerate(row)
        if count and predicted != true
    ]
    wrong.sort(key=lambda entry: -entry[0])
    title = f"most frequent mistakes at conf {confusion['conf']}, IoU {confusion['iou']}"
    rows = [[true, predicted, str(count)] for count, true, predicted in wrong[:SHOWN_CONFUSIONS]]
    return _titled(title, ["is", "taken for", "times"], rows)


def _leaks(report: dict[str, Any]) -> Group:
    def row(name: str, related: str, entry: dict[str, Any]) -> list[str]:
        intervals = entry.get("intervals", {})
        cells = [text for key in FIGURES for text in (_figure(entry[key]), _interval(intervals.get(key)))]
        return [name, related, str(entry["images"]), str(entry["classes"]), *cells]

    held = sum(row["boxes"] > 0 for row in report["per_class"])
    rows = [row("none", "0", {**report, "classes": held})]
    rows += [row(name, str(entry["related"]), entry) for name, entry in report["leaks"].items()]
    columns = ["left out by", "related", "images", "classes", "mAP50", "95 % interval", "mAP50-95", "95 % interval"]
    return _titled("without images that are related to a training image", columns, rows)


def _against(report: dict[str, Any]) -> Group:
    other = report["against"]
    rows = [
        [
            label,
            _figure(report[key]),
            _figure(other[key]),
            f"{entry['value']:+.4f}",
            _interval(entry["interval"], "+.4f"),
            f"{entry['probability']:.3f}",
        ]
        for key, label in FIGURES.items()
        for entry in (other["difference"][key],)
    ]
    title = f"against {other['file']} (SHA-256 {other['sha256'][:12]}), {other['resamples']} paired resamples"
    columns = ["", "this file", "other", "difference", "95 % interval", "probability that this one is better"]
    return _titled(title, columns, rows)


def _titled(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """Return a table under its title; nothing without rows. A title of the table itself would fold at its width."""
    from rich.console import Group
    from rich.text import Text

    return Group(Text(title), plain_table("", columns, rows)) if rows else Group()


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: list[float] | None, form: str = ".3f") -> str:
    return "-" if bounds is None else f"{bounds[0]:{form}} to {bounds[1]:{form}}"


def speed_table(report: dict[str, Any]) -> Group:
    """Return what `ethos bench` prints: a row a file, medians with the 5th and 95th percentile."""
    columns = [
        "file",
        "runs on",
        "precision",
        "px",
        "network ms",
        "before + after ms",
        "end to end ms",
        "FPS",
        "times as fast",
        "RAM MiB",
        "SHA-256",
    ]
    rows = [
        [
            entry["file"],
            entry["runtime"],
            entry["file_precision"],
            "x".join(str(side) for side in reversed(entry["imgsz"])),
            _times(entry["network_ms"]),
            f"{entry['preprocess_ms']['median']:.2f} + {entry['postprocess_ms']['median']:.2f}",
            _times(entry["end_to_end_ms"]),
            f"{entry['fps']['end_to_end']:.1f}",
            f"{entry['times_as_fast_as_first']['end_to_end']:.2f}",
            f"{entry['ram_peak_mib']:.0f}",
            entry["sha256"][:12],
        ]
        for entry in report["files"]
    ]
    protocol = report["protocol"]
    busy = protocol["load_average"]
    title = (
        f"measured on {protocol['cpu']}, {protocol['threads']} thread(s) of {protocol['processors']}, batch 1: "
        f"medians of {protocol['runs']} runs after {protocol['warmup']}, with 5th and 95th percentile"
        + ("" if busy is None else f"; the machine's load was {busy:.1f}")
    )
    return _titled(title, columns, rows)


def _times(entry: dict[str, float]) -> str:
    return f"{entry['median']:.2f} ({entry['p5']:.2f} to {entry['p95']:.2f})"


def detection_table(report: dict[str, Any]) -> Group:
    """Return what `ethos detect` prints: a row a picture."""
    rows = []
    for entry in report["images"]:
        counts: dict[str, int] = {}
        for found in entry["detections"]:
            counts[found["class"]] = counts.get(found["class"], 0) + 1
        told = ", ".join(f"{name} x {count}" if count > 1 else name for name, count in counts.items())
        rows.append([entry["picture"], str(len(entry["detections"])), told or "-"])
    model = report["model"]
    named = f"version {model['version']} ({model['variant']}, {model['form']})" if "version" in model else model["file"]
    title = f"{named}, SHA-256 {model['sha256'][:12]}, conf {report['conf']}; pictures in {report['folder']}"
    return _titled(title, ["picture", "boxes", "found"], rows)
