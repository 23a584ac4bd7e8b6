"""Pruning driven by compiler cycles against uniform pruning, at equal mAP50; and what pruning gives over seeds.

    python benchmarks/pruning.py compare FOLDER --variant level3_relu --target ethos-u55-256 --shares 0.6 0.45 0.3
    python benchmarks/pruning.py multiples FOLDER --variant level3_relu --target ethos-u55-256 --share 0.5
    python benchmarks/pruning.py demo FOLDER --seeds FOLDER_OF_SEEDS --variants level3_relu level4_relu

`compare` and `multiples` prune outputs/models/VARIANT/dense, train again and print mAP50 beside cycles. `compare` ends
with the cycles of both methods at the mAP50 that both reach, interpolated between the points. `demo` prunes each seed's
network (as benchmarks/seeds.py leaves them) as the variant's spec says, quantizes and scores both forms. What FOLDER
already holds is not made again.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ethos import catalog
from ethos.compress.quantize import INT8_FILE, quantize
from ethos.evaluation.evaluate import assess
from ethos.evaluation.samples import load_samples
from ethos.files import new_folder, read_json, write_json
from ethos.npu import vela
from ethos.npu.graph import total_macs
from ethos.npu.tflite import read_graph
from ethos.plan import PrunePlan, prune_plan, quantize_plan
from ethos.pruning.schedule import run_schedule
from ethos.specs import Prune, PruneGoal

DATASET = Path("outputs/dataset")
SIZES = (128, 640)
TARGETS = ("ethos-u55-256", "ethos-u65-512")


def pruned(folder: Path, dense: Path, plan: PrunePlan) -> dict[str, Any]:
    """Prune and train again unless the folder holds it; return the schedule's document."""
    if not (folder / "prune.json").is_file():
        with new_folder(folder) as fresh:
            write_json(fresh / "prune.json", run_schedule(dense, plan, DATASET, fresh).document())
    found: dict[str, Any] = read_json(folder / "prune.json")
    return found


def point(folder: Path, dense: Path, base: PrunePlan, target: str, options: Prune) -> dict[str, Any]:
    """Return mAP50 and cycles of one pruning, as shares of the dense network's where that makes sense."""
    plan = base.model_copy(update={"options": options, "targets": (catalog.load("target", target),)})
    document = pruned(folder, dense, plan)
    measured = document["iterations"][-1]["measured"]
    cycles = measured["npu"][target]["cycles"]
    found = {
        "method": options.method,
        "multiple": options.channel_multiple,
        "map50": measured["map50"],
        "map50_95": measured["map50_95"],
        "map50_as_pruned": document["iterations"][-1]["pruned_map50"],
        "cycles": cycles,
        "cycles_share": round(cycles / document["dense"]["npu"][target]["cycles"], 4),
        "macs_share": round(measured["macs"] / document["dense"]["macs"], 4),
        "parameters_share": round(measured["parameters"] / document["dense"]["parameters"], 4),
    }
    print(found, flush=True)
    return found


def goal(target: str, share: float) -> tuple[PruneGoal, ...]:
    """Return the goal of at most that share of the dense cycles."""
    return (PruneGoal(quantity="cycles", target=target, share=share),)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Return mAP50 over cycles for each method, and the ratio of cycles at equal mAP50."""
    base = prune_plan(catalog.load_params(), options.variant)
    dense = Path("outputs/models") / options.variant / "dense"
    methods = ("cost", "uniform", "importance")
    points: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for share in options.shares:
        for method in methods:
            wanted = Prune(method=method, goals=goal(options.target, share), max_map50_drop=1.0, max_layer_ratio=0.9)
            folder = options.folder / f"{options.variant}-{options.target}-{method}-{share}"
            points[method].append(point(folder, dense, base, options.target, wanted))
    ratios = {method: equal_accuracy(points["cost"], points[method]) for method in methods[1:]}
    return {"variant": options.variant, "target": options.target, "points": points, "cycles_ratio_to_cost": ratios}


def equal_accuracy(ours: list[dict[str, Any]], others: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Return the other method's cycles over ours at each mAP50 of theirs that ours spans, interpolated linearly."""
    known = sorted((each["map50"], each["cycles"]) for each in ours)
    scores, cycles = zip(*known, strict=True)
    return [
        {"map50": each["map50"], "ratio": round(each["cycles"] / float(np.interp(each["map50"], scores, cycles)), 3)}
        for each in others
        if scores[0] <= each["map50"] <= scores[-1]
    ]


def multiples(options: argparse.Namespace) -> dict[str, Any]:
    """Return what channel multiples of 8 and 16 give for the same share of cycles."""
    base = prune_plan(catalog.load_params(), options.variant)
    dense = Path("outputs/models") / options.variant / "dense"
    points = [
        point(
            options.folder / f"{options.variant}-{options.target}-multiple{multiple}-{options.share}",
            dense,
            base,
            options.target,
            Prune(
                goals=goal(options.target, options.share),
                channel_multiple=multiple,
                max_map50_drop=1.0,
                max_layer_ratio=0.9,
            ),
        )
        for multiple in (8, 16)
    ]
    return {"variant": options.variant, "target": options.target, "points": points}


def demo(options: argparse.Namespace) -> dict[str, Any]:
    """Return INT8 mAP50, MACs and cycles of dense and pruned forms for each seed, and means over the seeds."""
    rows = [
        form_row(options.folder / str(seed) / variant, options.seeds / str(seed) / variant / "dense", variant, seed)
        for variant in options.variants
        for seed in options.numbers
    ]
    means = {
        variant: {
            figure: round(statistics.mean(row[figure] for row in rows if row["variant"] == variant), 4)
            for figure in rows[0]
            if figure not in {"variant", "seed"}
        }
        for variant in options.variants
    }
    return {"rows": rows, "means": means}


def form_row(folder: Path, dense: Path, variant: str, seed: int) -> dict[str, Any]:
    """Prune one seed's network; return how its INT8 files differ from the dense ones at each size."""
    if (folder / "row.json").is_file():
        known: dict[str, Any] = read_json(folder / "row.json")
        return known
    plan = prune_plan(catalog.load_params().model_copy(update={"seed": seed}), variant)
    pruned(folder / "pruned", dense, plan)
    row: dict[str, Any] = {"variant": variant, "seed": seed}
    before = files_of(folder / "files", dense, "dense", variant)
    after = files_of(folder / "files", folder / "pruned", "pruned", variant)
    row["int8_map50_dense"], row["int8_map50_pruned"] = before["map50"], after["map50"]
    row["int8_map50_drop"] = round(before["map50"] - after["map50"], 4)
    for figure in before:
        if figure != "map50":
            row[f"{figure}_share"] = round(after[figure] / before[figure], 4)
    write_json(folder / "row.json", row)
    print(row, flush=True)
    return row


def files_of(folder: Path, model: Path, form: str, variant: str) -> dict[str, float]:
    """Return INT8 mAP50 at the run's size, and MACs and cycles of the INT8 file at every size."""
    params = catalog.load_params()
    plan = quantize_plan(params, variant)
    found: dict[str, float] = {}
    for size in SIZES:
        place = folder / f"{form}-{size}"
        if not place.is_dir():
            with new_folder(place) as fresh:
                quantize(model, DATASET, size, plan.options, fresh)
        if size == plan.imgsz:
            samples = load_samples(DATASET, "val")
            found["map50"] = assess(place / INT8_FILE, samples, params.protocol).scores.map50
        found[f"macs_{size}"] = total_macs(read_graph(place / INT8_FILE))
        for name in TARGETS:
            target: Any = catalog.load("target", name)
            with tempfile.TemporaryDirectory() as scratch:
                compiled = vela.compile_network(place / INT8_FILE, target, Path(scratch))
            found[f"cycles_{size}_{name}"] = compiled.cycles["total"]
    return found


def main() -> None:
    """Run one of the benchmarks and keep its figures in FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (compare, multiples, demo):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("folder", type=Path)
        if function is demo:
            command.add_argument("--seeds", type=Path, required=True)
            command.add_argument("--numbers", type=int, nargs="+", default=[0, 1, 2])
            command.add_argument("--variants", nargs="+", default=["level3_relu", "level4_relu"])
        else:
            command.add_argument("--variant", default="level3_relu")
            command.add_argument("--target", default="ethos-u55-256")
    commands.choices["compare"].add_argument("--shares", type=float, nargs="+", default=[0.6, 0.45, 0.3])
    commands.choices["multiples"].add_argument("--share", type=float, default=0.5)
    options = parser.parse_args()
    document = options.function(options)
    write_json(options.folder / f"{options.function.__name__}.json", document)
    print({key: value for key, value in document.items() if key not in {"points", "rows"}})


if __name__ == "__main__":
    main()
