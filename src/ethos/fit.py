"""Fit first: compile networks with random weights, to know before any training what an NPU makes of them.

Cycles, memory and placement follow from a network's layers, hardly from its weights: only how well these compress
differs, by which the compiler's estimate moves by about a hundredth.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.compress.convert import SELF_CHECK_IMAGES, export_onnx, onnx_to_saved_model, to_tflite
from ethos.compress.integer import to_int8
from ethos.compress.ranges import observe
from ethos.errors import ModelError
from ethos.model.head import output_names, to_export_form
from ethos.model.levels import Architecture, build
from ethos.npu.analyze import analyze
from ethos.npu.tflite import read_graph
from ethos.specs import Quantize, Spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import RenderableType

    from ethos.plan import TrainPlan
    from ethos.specs import Target

SCHEMA = 1
SEED = 0
# ranges of random maps need few images, and mean nothing for accuracy
CALIBRATION_IMAGES = 2
BUDGETS = {"sram_kib": "SRAM", "dram_kib": "DRAM", "flash_kib": "flash"}


class Candidate(Spec):
    """A network and the side of its square input, which is all that its figures depend on."""

    architecture: Architecture
    imgsz: int


def candidate_of(plan: TrainPlan, classes: int | None = None, imgsz: int | None = None) -> Candidate:
    """Return what a variant's plan trains, or the same for other classes or another input side."""
    architecture = plan.architecture
    if classes is not None:
        names = tuple(f"class{index}" for index in range(classes))
        architecture = architecture.model_copy(update={"names": names})
    return Candidate(architecture=architecture, imgsz=imgsz or plan.recipe.imgsz)


def fit(candidates: Mapping[str, Candidate], targets: Sequence[Target]) -> dict[str, Any]:
    """Build each candidate with random weights, quantize it, and compile it for each target.

    Candidates of the same graph are compiled once.

    Returns:
        By name its exported parameters, its MACs, and a report for each target as `ethos.npu.analyze.analyze` gives it.

    Raises:
        ModelError: A network cannot be built or converted.
        CompilerError: The compiler is missing or refuses a target.
        SpecError: A level's step or a target is mistaken.
    """
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    variants: dict[str, dict[str, Any]] = {}
    for name, candidate in candidates.items():
        graph = _graph_of(candidate)
        if graph not in known:
            known[graph] = _figures(candidate, targets)
        variants[name] = {
            "imgsz": candidate.imgsz,
            "classes": len(candidate.architecture.names),
            **known[graph],
        }
    return {"schema": SCHEMA, "weights": "random", "variants": variants}


def _graph_of(candidate: Candidate) -> tuple[Any, ...]:
    architecture = candidate.architecture
    steps = tuple(repr(step) for step in architecture.steps)
    return architecture.base, steps, architecture.activation, len(architecture.names), candidate.imgsz


def _figures(candidate: Candidate, targets: Sequence[Target]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="ethos-fit-") as scratch:
        file = Path(scratch) / "random.tflite"
        parameters = write_random(candidate, file)
        report = analyze(file, targets)
    return {"parameters": parameters, "macs": report["graph"]["macs"], "targets": report["targets"]}


def write_random(candidate: Candidate, file: Path) -> int:
    """Write a candidate with random weights as full-integer TFLite, calibrated on noise; return its parameters."""
    import numpy as np

    model = build(candidate.architecture, SEED)
    names = output_names([int(stride) for stride in model.stride])
    network = to_export_form(model)
    side = (candidate.imgsz, candidate.imgsz)
    noise = np.random.default_rng(SEED).random((CALIBRATION_IMAGES, *side, 3), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="ethos-fit-") as scratch:
        onnx_file, saved_model = Path(scratch) / "random.onnx", Path(scratch) / "model"
        export_onnx(network, side, names, onnx_file)
        onnx_to_saved_model(onnx_file, np.resize(noise, (SELF_CHECK_IMAGES, *side, 3)), names, saved_model)
        content = to_tflite(saved_model)
        file.write_bytes(content)
        options = Quantize()
        activations = observe(content, read_graph(file), noise, options)
        file.write_bytes(to_int8(content, activations, (), options.per_channel))
    return sum(parameter.numel() for parameter in network.parameters())


def misfits(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each variant and target that it does not fit: which memory, by how much."""
    return [
        f"{name} at {variant['imgsz']} px does not fit {target}: {_excess(report)}"
        for name, variant in document["variants"].items()
        for target, report in variant["targets"].items()
        if report["fits"] is False
    ]


def refuse_misfits(document: Mapping[str, Any]) -> None:
    """Stop where a variant does not fit a target.

    Raises:
        ModelError: With every misfit.
    """
    if found := misfits(document):
        raise ModelError(
            "; ".join(found), "lower imgsz in the recipe, or take the variant or the target out of params.yaml"
        )


def _excess(report: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{BUDGETS[memory]} {report[memory]:,.0f} KiB, {excess:,.0f} KiB over its budget of "
        f"{report['budget'][memory]:,.0f} KiB"
        for memory, excess in report["over_budget"].items()
    )


def fit_table(document: Mapping[str, Any]) -> RenderableType:
    """Return a table for people: a row for each variant and target, with its budgets."""
    from rich.console import Group
    from rich.text import Text

    from ethos.npu.tables import ROWS
    from ethos.reporting.tables import plain_table

    shown = ("operators NPU / CPU", "latency", "SRAM", "DRAM", "flash", "fits")
    rows: Iterable[list[str]] = [
        [name, str(variant["imgsz"]), f"{variant['parameters']:,}", f"{variant['macs'] / 1e6:,.1f}", target]
        + [ROWS[label](report) for label in shown]
        for name, variant in document["variants"].items()
        for target, report in variant["targets"].items()
    ]
    columns = ["variant", "px", "parameters", "M MACs", "target", *shown]
    title = "Random weights; latency and memory are the compiler's estimates"
    return Group(plain_table(title, columns, rows), *(Text(line) for line in misfits(document)))
