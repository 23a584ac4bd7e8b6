"""The summary of a run: one row a candidate, read from what the stages recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ethos.errors import DataError
from ethos.files import read_json, shown

if TYPE_CHECKING:
    from pathlib import Path

PROVENANCE = (
    "mAP: measured with the file itself through the TFLite interpreter. Size: measured. "
    "Latency and SRAM: estimates of the Vela compiler. Version: the MLflow registry's."
)


@dataclass(frozen=True)
class Row:
    """A candidate's figures; `npu` maps a target to its latency (ms), SRAM (KiB) and CPU operators."""

    variant: str
    form: str
    version: int
    parameters: int
    macs: int
    int8_kib: float
    fp32_map50: float
    int8_map50: float
    int8_map50_95: float
    npu: dict[str, dict[str, float]]
    sha256: str
    scenarios: tuple[str, ...]

    @property
    def drop_points(self) -> float:
        """What INT8 loses in mAP50 against float32, in points of a hundred."""
        return 100 * (self.fp32_map50 - self.int8_map50)


@dataclass(frozen=True)
class Summary:
    """A run: its data set, protocol, starting weights and candidates."""

    dataset: dict[str, Any]
    protocol: dict[str, Any]
    start: dict[str, Any]
    rows: tuple[Row, ...]
    targets: tuple[str, ...]


def read_summary(outputs: Path, candidates: tuple[tuple[str, str], ...], targets: tuple[str, ...]) -> Summary:
    """Return the summary of the run whose stages wrote into `outputs`.

    Raises:
        DamagedFile: A stage's output is not what the stage writes.
        DataError: A stage's output is missing, or two candidates were scored under different protocols.
    """
    chosen = _scenarios_of(_read(outputs / "promote" / "decisions.json", "scenarios"))
    rows = tuple(_row(outputs, variant, form, chosen, targets) for variant, form in candidates)
    protocols = [_read(outputs / "evaluate" / v / f / "int8.json", "protocol")["protocol"] for v, f in candidates]
    for (variant, form), protocol in zip(candidates, protocols, strict=True):
        if protocol["sha256"] != protocols[0]["sha256"]:
            field = next(key for key in protocol if protocol[key] != protocols[0].get(key))
            raise DataError(
                f"{variant} ({form}) was scored under another protocol: {field} differs",
                "score all candidates of a table alike: dvc repro evaluate",
            )
    return Summary(
        dataset=_read(outputs / "dataset" / "dataset.json", "name", "images"),
        protocol=protocols[0],
        start=_read(outputs / "start" / "start.json", "source"),
        rows=rows,
        targets=targets,
    )


def _row(outputs: Path, variant: str, form: str, chosen: dict[int, list[str]], targets: tuple[str, ...]) -> Row:
    quantized = _read(outputs / "quantize" / variant / form / "quantize.json", "files", "parameters", "macs")
    scores = _read(outputs / "evaluate" / variant / form / "metrics.json", "fp32", "int8")
    registered = _read(outputs / "register" / variant / f"{form}.json", "version")
    int8 = quantized["files"]["int8.tflite"]
    version = int(registered["version"])
    return Row(
        variant=variant,
        form=form,
        version=version,
        parameters=quantized["parameters"],
        macs=quantized["macs"],
        int8_kib=int8["bytes"] / 1024,
        fp32_map50=scores["fp32"]["map50"],
        int8_map50=scores["int8"]["map50"],
        int8_map50_95=scores["int8"]["map50_95"],
        npu=_read(outputs / "analyze" / variant / form / "metrics.json", *targets),
        sha256=int8["sha256"],
        scenarios=tuple(chosen.get(version, ())),
    )


def _signed(points: float) -> str:
    """Return a loss in points with two decimals; one that rounds to nothing has no sign."""
    text = f"{points:+.2f}"
    return text if float(text) else "0.00"


def _scenarios_of(decisions: dict[str, Any]) -> dict[int, list[str]]:
    chosen: dict[int, list[str]] = {}
    for name, decision in decisions["scenarios"].items():
        if decision.get("version") is not None:
            chosen.setdefault(int(decision["version"]), []).append(name)
    return chosen


def _read(path: Path, *keys: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = read_json(path, *keys)
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: no such output", "run the pipeline first: make repro") from None
    return document


def headings(summary: Summary) -> list[str]:
    """Return the columns of the summary table."""
    fixed = ["variant", "form", "version", "parameters", "GMAC", "INT8 KiB", "FP32 mAP50", "INT8 mAP50", "loss points"]
    return [*fixed, *(f"{target} ms" for target in summary.targets), "SRAM KiB", "CPU operators", "scenario"]


def cells(summary: Summary, row: Row) -> list[str]:
    """Return a row's cells as text; SRAM and CPU operators are the largest over the targets."""
    npu = [row.npu[target] for target in summary.targets]
    return [
        row.variant,
        row.form,
        str(row.version),
        f"{row.parameters:,}",
        f"{row.macs / 1e9:.3f}",
        f"{row.int8_kib:,.0f}",
        f"{row.fp32_map50:.3f}",
        f"{row.int8_map50:.3f}",
        _signed(row.drop_points),
        *("-" if figures["latency_ms"] is None else f"{figures['latency_ms']:.2f}" for figures in npu),
        f"{max(figures['sram_kib'] or 0 for figures in npu):,.0f}",
        f"{max(figures['operators_cpu'] for figures in npu):.0f}",
        ", ".join(row.scenarios) or "-",
    ]


def start_sentence(summary: Summary) -> str:
    """Return where the variants' weights come from."""
    start = summary.start
    if start["source"] == "warm_start":
        return (
            f"All variants begin from one warm start: {start['epochs']} epochs of recipe {start['recipe']} on the same "
            f"training images ({start['seconds']:.0f} s, mAP50 {start['map50']:.3f})."
        )
    if start["source"] == "scratch":
        return "Variants are trained from scratch."
    return f"All variants begin from {start['file']} (SHA-256 {start['sha256'][:12]})."
