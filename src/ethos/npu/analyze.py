"""What an NPU makes of a TFLite file: one JSON document for any number of targets."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from ethos.errors import CompilerError, ModelError
from ethos.files import new_file, sha256_file
from ethos.npu import vela
from ethos.npu.advice import advise
from ethos.npu.graph import INTEGER_TYPES, Graph, census, fingerprint, macs, output_name, total_macs
from ethos.npu.history import npu_functions
from ethos.npu.memory import live_bytes, operator_bytes
from ethos.npu.n78 import chip_of
from ethos.npu.placement import Placement, is_region, place_compiled, place_ruled
from ethos.npu.rules import refusals
from ethos.npu.tflite import read_graph
from ethos.specs import RulesTarget, VelaTarget

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ethos.specs import Budget, Target

SCHEMA = 1
FLAT_FIGURES = ("latency_ms", "cycles_total", "sram_kib", "operators_cpu", "mac_utilisation")
PLACEMENT_FIGURES = (
    *("operators_npu", "operators_cpu", "operator_coverage", "mac_coverage", "byte_coverage", "macs"),
    *("regions", "regions_with_macs", "crossings_npu_cpu", "crossings_cpu_npu", "bytes_npu_cpu", "bytes_cpu_npu"),
)
# figures of a Vela target that rules cannot give
UNKNOWN_TO_RULES = ("cycles_total", "latency_ms", "fps", "mac_utilisation", "sram_kib", "dram_kib", "flash_kib")
SHARE_DIGITS = 6
# detectors have some hundreds; regions and advice take quadratic time in hostile cases
MAX_OPERATORS = 10_000


def analyze(
    file: Path, targets: Sequence[Target], compiled_into: Path | None = None, verify: bool = False
) -> dict[str, Any]:
    """Compile a full-integer TFLite file for each target, or judge it by the target's rules, and return the figures.

    Targets are compiled side by side, one process each. Cycles, latency and memory are the compiler's estimates, and
    null where only rules are known.

    Args:
        file: The TFLite file.
        targets: What to compile for.
        compiled_into: Folder that receives `<target>.tflite`; it is written when every target has succeeded. The
            report names these files relative to the folder's parent.
        verify: Make each advised change on the file and compile it too: some five times the work.

    Raises:
        ModelError: The file is missing, damaged, or nothing that can be compiled.
        CompilerError: The compiler is missing, or refuses a target or the file.
        SpecError: A target contradicts the compiler's configuration.
    """
    with vela.started(file, targets) as compilers:
        return analyze_started(file, targets, compilers, compiled_into, verify)


def analyze_started(
    file: Path,
    targets: Sequence[Target],
    compilers: vela.Started,
    compiled_into: Path | None = None,
    verify: bool = False,
) -> dict[str, Any]:
    """Do as `analyze` with compilers that have been started on the file: importing this module takes a while."""
    graph = read_graph(file)
    _check_analysable(graph)
    with ThreadPoolExecutor(max_workers=1) as beside:
        # while the compiler runs in a process of its own
        facts = beside.submit(_facts, graph)
        reports = _analyze_all(graph, targets, compilers, compiled_into)
        advice = advise(graph, reports, partial(_figures, targets=targets) if verify else None, compilers.folder)
        if compiled_into:
            _keep(compilers.folder, targets, compiled_into)
    return {
        "schema": SCHEMA,
        "file": str(file),
        **facts.result(),
        "targets": reports,
        "advice": advice,
    }


def _facts(graph: Graph) -> dict[str, Any]:
    """Return what is known of a network without any target."""
    return {
        "sha256": sha256_file(graph.file),
        "graph": {
            "fingerprint": fingerprint(graph),
            "operators": census(graph),
            "macs": total_macs(graph),
            "inputs": [_interface(graph, index) for index in graph.inputs],
            "outputs": [_interface(graph, index) for index in graph.outputs],
            "live_kib": [round(size / vela.KIB, 3) for size in live_bytes(graph)],
            "historical": npu_functions(graph),
        },
    }


def _analyze_all(
    graph: Graph, targets: Sequence[Target], compilers: vela.Started, compiled_into: Path | None
) -> dict[str, dict[str, Any]]:
    work = partial(_analyze_one, graph, compilers=compilers, compiled_into=compiled_into)
    with ThreadPoolExecutor(max_workers=min(len(targets), os.cpu_count() or 1) or 1) as pool:
        return {target.name: report for target, report in zip(targets, pool.map(work, targets), strict=True)}


def _figures(file: Path, targets: Sequence[Target]) -> dict[str, dict[str, Any]] | None:
    """Return the reports of a changed file, none if it is refused."""
    try:
        with vela.started(file, targets) as compilers:
            return _analyze_all(read_graph(file), targets, compilers, None)
    except (CompilerError, ModelError):
        return None


def flat_figures(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the few figures of each target that are compared from run to run."""
    return {name: {figure: target[figure] for figure in FLAT_FIGURES} for name, target in report["targets"].items()}


def _check_analysable(graph: Graph) -> None:
    """Refuse what the compiler would accept without complaint and give figures for that mean nothing."""
    if len(graph.operators) > MAX_OPERATORS:
        raise ModelError(
            f"{graph.file}: {len(graph.operators)} operators, at most {MAX_OPERATORS} are analyzed",
            "give a network for an NPU",
        )
    if any(is_region(operator) for operator in graph.operators):
        raise ModelError(f"{graph.file}: already compiled for an Ethos-U", "give the file it was compiled from")
    if opened := [graph.tensors[index].name for index in graph.inputs if graph.tensors[index].dynamic]:
        raise ModelError(f"{graph.file}: input '{opened[0]}' has no fixed shape", "export it with a fixed input size")
    results = (graph.tensors[index].dtype for operator in graph.operators for index in operator.outputs)
    if not any(dtype in INTEGER_TYPES for dtype in results):
        raise ModelError(f"{graph.file}: no operator is quantized, an NPU runs none of it", "quantize it to INT8 first")


def _analyze_one(graph: Graph, target: Target, compilers: vela.Started, compiled_into: Path | None) -> dict[str, Any]:
    if isinstance(target, RulesTarget):
        return _with_rules(graph, target)
    if isinstance(target, VelaTarget):
        return _with_vela(graph, target, compilers, compiled_into)
    raise TypeError(f"{target.name}: no analysis for {type(target).__name__}")


def _with_rules(graph: Graph, target: RulesTarget) -> dict[str, Any]:
    """Return the figures that rules give; those of time and memory, for which there is no model, are null."""
    chip = chip_of(target)
    placement = place_ruled(graph, refusals(graph, chip))
    return {
        "provenance": "rule",
        "compiler": {"name": "rules", "version": target.driver},
        "accelerator": target.accelerator,
        "variant": {"name": target.variant, **chip.variant.model_dump()},
        "driver": {"release": target.driver, "library": chip.driver.library},
        **{figure: getattr(placement, figure) for figure in PLACEMENT_FIGURES},
        **dict.fromkeys(UNKNOWN_TO_RULES),
        "budget": target.budget.model_dump(),
        "over_budget": {},
        "over_budget_kib": None,
        "fits": None,
        "fallbacks": [asdict(each) for each in placement.fallbacks],
        "operators": _operators(graph, placement),
        "layers": [],
    }


def _with_vela(graph: Graph, target: VelaTarget, compilers: vela.Started, compiled_into: Path | None) -> dict[str, Any]:
    folder = compilers.folder / target.name
    compiled = vela.compile_network(graph.file, target, folder, compilers.runs.get(target.name))
    placement = place_compiled(graph, read_graph(compiled.file), compiled.refusals)
    kept = compiled.file.replace(folder / f"{target.name}.tflite")
    return {
        "provenance": "estimate",
        "compiler": {"name": "vela", "version": compiled.version},
        "accelerator": target.accelerator,
        "system_config": target.system_config,
        "memory_mode": target.memory_mode,
        "macs_per_cycle": target.macs_per_cycle,
        "clock_mhz": compiled.clock_mhz,
        **{figure: getattr(placement, figure) for figure in PLACEMENT_FIGURES},
        **_time(compiled, placement, target),
        **_memory(compiled, target.budget),
        "traffic_bytes": dict(compiled.traffic_bytes),
        "bandwidth_gb_s": _bandwidth(compiled),
        "weight_bytes": dict(compiled.weight_bytes),
        "compiled": {
            "path": f"{compiled_into.name}/{kept.name}" if compiled_into else None,
            "sha256": sha256_file(kept),
        },
        "fallbacks": [asdict(each) for each in placement.fallbacks],
        "operators": _operators(graph, placement),
        "layers": [_layer(layer, compiled, target) for layer in compiled.layers],
    }


def _operators(graph: Graph, placement: Placement) -> list[dict[str, Any]]:
    """Return where each operator of the file runs, in running order; `region` is null where it is not known."""
    return [
        {
            "operator": operator.kind,
            "name": output_name(graph, operator),
            "placement": "npu" if operator.index in placement.on_npu else "cpu",
            "region": placement.region_of.get(operator.index),
            "macs": macs(graph, operator),
            "bytes": operator_bytes(graph, operator),
        }
        for operator in graph.operators
    ]


def _bandwidth(compiled: vela.Compiled) -> dict[str, dict[str, float]]:
    """Return what each memory in use can move and, averaged over an inference, has to move, in GB/s."""
    seconds = compiled.latency_ms / 1000
    return {
        memory: {"available": compiled.bandwidth_gb_s[memory], "used": moved / seconds / 1e9 if seconds else 0.0}
        for memory, moved in compiled.traffic_bytes.items()
        if moved
    }


def _time(compiled: vela.Compiled, placement: Placement, target: VelaTarget) -> dict[str, Any]:
    """Return the time figures: they cover what runs on the NPU alone, and are null if nothing does."""
    total = compiled.cycles["total"]
    runs = total > 0
    return {
        "cycles_total": total,
        "cycles": dict(compiled.cycles),
        "latency_ms": compiled.latency_ms if runs else None,
        "fps": 1000 / compiled.latency_ms if runs else None,
        "mac_utilisation": placement.macs_npu / (total * target.macs_per_cycle) if runs else 0.0,
    }


def _memory(compiled: vela.Compiled, budget: Budget) -> dict[str, Any]:
    used = compiled.memory_kib
    peaks = {
        "sram_kib": used["sram"],
        "dram_kib": used["dram"],
        "flash_kib": used["on_chip_flash"] + used["off_chip_flash"],
    }
    limits = budget.model_dump()
    excess = {name: peaks[name] - limit for name, limit in limits.items() if limit is not None and peaks[name] > limit}
    return {
        **peaks,
        "budget": limits,
        "over_budget": excess,
        "over_budget_kib": sum(excess.values(), 0.0),
        "fits": not excess,
    }


def _layer(layer: vela.Layer, compiled: vela.Compiled, target: VelaTarget) -> dict[str, Any]:
    """Return one row of the layer table; `share` is of all cycles, `util` of the MACs that its cycles could do."""
    possible = layer.cycles * target.macs_per_cycle
    return {
        "name": layer.name,
        "operator": layer.operator,
        "step": layer.step,
        "placement": "npu" if layer.on_npu else "cpu",
        "cycles": layer.cycles,
        "share": round(layer.cycles / compiled.cycles["total"], SHARE_DIGITS) if layer.cycles else 0.0,
        "macs": layer.macs,
        "util": round(layer.macs / possible, SHARE_DIGITS) if possible else 0.0,
        "cycles_npu": layer.npu_cycles,
        "cycles_sram": layer.sram_cycles,
        "cycles_dram": layer.dram_cycles,
        "cycles_flash": layer.flash_cycles,
        "staging_kib": round(layer.staging_bytes / vela.KIB, 3),
    }


def _interface(graph: Graph, index: int) -> dict[str, Any]:
    tensor = graph.tensors[index]
    return {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype}


def _keep(folder: Path, targets: Sequence[Target], compiled_into: Path) -> None:
    for target in targets:
        if not isinstance(target, VelaTarget):
            continue
        name = f"{target.name}.tflite"
        with new_file(compiled_into / name) as temporary:
            shutil.copyfile(folder / target.name / name, temporary)
