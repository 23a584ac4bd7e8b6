"""Tables of `ethos quantize`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ethos.reporting.tables import plain_table

if TYPE_CHECKING:
    from rich.table import Table

WORST_LAYERS = 10


def record_tables(record: dict[str, Any]) -> list[Table]:
    """Return what the quantize stage made: sizes beside those of V3, and how the INT8 file came about."""
    sizes = [
        [
            row["precision"],
            f"{row['mb']:.2f}",
            f"{row['bytes_per_parameter']:.2f}",
            "{} - {}".format(*row["v3_mb"]),
        ]
        for row in record["sizes"]
    ]
    calibration = record["calibration"]
    facts = [
        ["converter", record["converter"]],
        ["weights", "one scale a channel" if record["per_channel"] else "one scale a tensor"],
        ["ranges", record["ranges"]],
        ["calibration", f"{calibration['images']} images of {calibration['from']}, list {calibration['sha256'][:12]}"],
        ["biases corrected", str(record["biases_corrected"])],
        ["float operators", str(record["float_operators"])],
    ]
    title = f"{record['variant']} ({record['form']}), {record['parameters']:,} parameters, sizes measured"
    return [
        plain_table(title, ["precision", "MB", "bytes a parameter", "V3 MB (reported)"], sizes),
        plain_table("", ["what", "how"], facts),
    ]


def autopsy_tables(report: dict[str, Any]) -> list[Table]:
    """Return where the loss is: whole, by branch, by class, by size and by layer, and what to try."""
    protocol = report["protocol"]
    title = (
        f"{report['folder']}, measured on {report['images']} images of {protocol['dataset']} {protocol['split']}, "
        f"protocol {protocol['sha256'][:12]}"
    )
    whole = [
        [label, f"{report['fp32'][key]:.4f}", f"{report['int8'][key]:.4f}", f"{report['drop'][key]:+.4f}"]
        for key, label in (("map50", "mAP50"), ("map50_95", "mAP50-95"))
    ]
    branches = [[row["quantized"], f"{row['map50']:+.4f}", f"{row['map50_95']:+.4f}"] for row in report["branches"]]
    classes = [[row["name"], str(row["boxes"]), *_before_after(row)] for row in report["classes"]]
    sizes = [[_span(row), str(row["boxes"]), *_before_after(row)] for row in report["sizes"]]
    worst = sorted(report["layers"], key=lambda layer: -float(layer["lost_db"]))[:WORST_LAYERS]
    layers = [[row["name"], row["operator"], f"{row['snr_db']:.1f}", f"{row['lost_db']:.1f}"] for row in worst]
    scores = ["FP32", "INT8", "drop"]
    return [
        plain_table(title, ["figure", *scores], whole),
        plain_table("By branch", ["from the INT8 file", "mAP50 drop", "mAP50-95 drop"], branches),
        plain_table("By class, mAP50-95", ["class", "boxes", *scores], classes),
        plain_table("By size of the object, mAP50-95", ["size in pixels", "boxes", *scores], sizes),
        plain_table(
            f"Layers that lose most, of {len(report['layers'])}, on {report['layer_images']} images",
            ["layer", "operator", "signal to noise, dB", "lost here, dB"],
            layers,
        ),
        plain_table("To try", ["suggestion"], [[text] for text in report["suggestions"]]),
    ]


def _before_after(row: dict[str, Any]) -> list[str]:
    return [f"{row['fp32_map50_95']:.4f}", f"{row['int8_map50_95']:.4f}", f"{row['drop']:+.4f}"]


def _span(row: dict[str, Any]) -> str:
    return f"{row['size']}: {row['from_px']} to {row['to_px'] if row['to_px'] is not None else 'all'}"
