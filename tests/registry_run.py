"""The outputs of a run, as the stages before `register` leave them, with figures that a test chooses."""

from __future__ import annotations

import atexit
import hashlib
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.evaluation.protocol import Protocol
from ethos.files import sha256_file, write_json
from ethos.model.levels import Architecture
from ethos.plan import PrunePlan, QuantizePlan, TrainPlan, write_plan
from ethos.registry.candidate import collect
from ethos.registry.promote import promote
from ethos.registry.register import register
from ethos.registry.store import open_store
from ethos.specs import Prune, PruneGoal, Quantize, Recipe, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.registry.records import VersionRecord

MODEL = "traffic-sign-detector"
NAMES = ("red", "green", "blue")
# three versions: level 2 is pinned and slower, level 4 Leaky fails realtime's gate of 20 images a second
RUN = {
    "level2_relu": {"map50": 0.90, "latency_ms": 31.1},
    "level4_relu": {"map50": 0.92, "latency_ms": 17.4},
    "level4_leaky": {"map50": 0.93, "latency_ms": 60.0},
}
TARGETS = {"ethos-u55-256": 60.0, "ethos-u65-512": 30.0}
RUN_ID, PRUNE_RUN_ID = "0" * 32, "1" * 32
PROJECT_FILES = ("registry/policy.yaml", "params.yaml", "LICENSE")
HERE = Path(__file__).resolve().parents[1]


def write_project(root: Path) -> Path:
    """Write what makes a folder a project: specs, params.yaml and the policy, as they are in the repository."""
    (root / "registry").mkdir(parents=True)
    (root / "specs").symlink_to(HERE / "specs")
    for name in PROJECT_FILES:
        (root / name).write_bytes((HERE / name).read_bytes())
    return root


def write_run(
    outputs: Path,
    variant: str,
    *,
    map50: float = 0.9,
    latency_ms: float = 30.0,
    network: Path | None = None,
    form: str = "dense",
    conf: float = 0.001,
    **npu: float,
) -> None:
    """Write the outputs of all stages before `register` for one variant.

    `network` is a folder with int8.tflite and decode.json; without it the files hold the variant's name. `npu` are
    figures of every target beside its latency.
    """
    level, _, activation = variant.partition("_")
    quantized = outputs / "quantize" / variant / form
    _write_plans(outputs / "plan" / variant, variant, level, {"leaky": "leaky_relu"}.get(activation, activation))
    for name in ("int8.tflite", "model.onnx", "decode.json", "decode.h", "golden.npz"):
        source = network / name if network else None
        _write(quantized / name, source.read_bytes() if source and source.is_file() else f"{variant} {name}".encode())
    _write(quantized / "labels.txt", "\n".join(NAMES).encode())
    models = outputs / "models" / variant / form
    _write(models / "weights.safetensors", f"{variant} weights".encode())
    write_json(models / "architecture.json", {"level": level})
    _write_quantize(quantized, models, variant, form)
    if form == "pruned":
        _write_pruning(outputs, variant, models)
    _write_scores(outputs / "evaluate" / variant / form, quantized, map50, conf)
    _write_npu(outputs / "analyze" / variant / form, quantized, latency_ms, npu)
    _write(outputs / "train" / variant / "epochs.csv", b"epoch,box_loss,map50\n1,2.5,0.4\n2,1.5,0.8\n")
    write_json(outputs / "train" / variant / "run.json", {"schema": 1, "run_id": RUN_ID})
    write_json(outputs / "dataset" / "dataset.json", _dataset())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_plans(folder: Path, variant: str, level: str, activation: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(name="smoke", weights=Weights(source="scratch"), epochs=2, imgsz=64, batch=4, lr0=0.01, lrf=0.1)
    network = Architecture(base="yolo11n.yaml", steps=(), activation=activation, names=NAMES)
    train = TrainPlan(variant=variant, level=level, architecture=network, recipe=recipe, from_start=False, seed=0)
    write_plan(folder / "train.yaml", train)
    write_plan(folder / "quantize.yaml", QuantizePlan(variant=variant, imgsz=64, options=Quantize()))


def _write_pruning(outputs: Path, variant: str, models: Path) -> None:
    recovery = Recipe(name="again", weights=Weights(source="pruned"), epochs=1, imgsz=64, batch=4, lr0=0.01, lrf=0.1)
    options = Prune(goals=(PruneGoal(quantity="macs", share=0.6),), steps=2, max_map50_drop=0.02)
    plan = PrunePlan(variant=variant, imgsz=64, options=options, recovery=recovery, targets=(), seed=0)
    write_plan(outputs / "plan" / variant / "prune.yaml", plan)
    folder = outputs / "prune" / variant
    write_json(folder / "prune.json", {"variant": variant, **study(sha256_file(models / "weights.safetensors"))})
    _write(folder / "channels.csv", b"layer,in_dense,in_pruned,out_dense,out_pruned\nmodel.0.conv,3,3,32,16\n")
    write_json(folder / "run.json", {"schema": 1, "run_id": PRUNE_RUN_ID})


def study(kept_sha256: str) -> dict[str, Any]:
    """Return what a pruning of two steps leaves: the first is kept, the second loses too much."""
    dense = _measured("0" * 64, 0.90, 2_500_000, 18.0)
    steps = [(0.70, _measured(kept_sha256, 0.89, 1_500_000, 30.0)), (0.40, _measured("2" * 64, 0.80, 900_000, 40.0))]
    return {
        "schema": 1,
        "dense": dense,
        "max_map50_drop": 0.02,
        "efficiency_on": "cpu",
        "scored": {"by": "ultralytics 8.4.190", "split": "val", "split_sha256": "5" * 64, "imgsz": 64},
        "iterations": [
            {
                "step": step,
                "pruned_map50": before,
                "measured": measured,
                "map50_drop": 0.90 - measured["map50"],
                "within_limit": 0.90 - measured["map50"] <= 0.02,
            }
            for step, (before, measured) in enumerate(steps, start=1)
        ],
        "kept": 1,
        "stopped": "mAP50 has fallen by 0.100, more than 0.02",
        "layers": [
            {"name": "model.0.conv", "dense": [3, 32], "pruned": [3, 16]},
            {"name": "model.1.conv", "dense": [32, 64], "pruned": [16, 48]},
        ],
    }


def _measured(sha256: str, map50: float, parameters: int, fps: float) -> dict[str, Any]:
    mb = parameters / 1e6
    speed = {
        "runtime": "ai-edge-litert 2.3.0",
        "device": "cpu",
        "cpu": "Test CPU",
        "threads": 1,
        "batch": 1,
        "dtype": "int8",
        "warm_up": 5,
        "runs": 30,
        "statistic": "median",
    }
    npu = {
        target: {
            "provenance": "estimate",
            "compiler": "vela 5.2.0",
            "cycles": parameters * 4,
            "latency_ms": parameters / 1e5,
            "fps": 1e8 / parameters,
        }
        for target in TARGETS
    }
    rates = {"cpu": fps, **{target: each["fps"] for target, each in npu.items()}}
    return {
        "sha256": sha256,
        "map50": map50,
        "map50_95": map50 / 2,
        "parameters": parameters,
        "macs": parameters * 80,
        "mb": mb,
        "cpu": {"provenance": "measured", "fps": fps, "protocol": speed},
        "npu": npu,
        "efficiency": {place: map50 * rate / mb for place, rate in rates.items()},
    }


def _write_quantize(folder: Path, models: Path, variant: str, form: str) -> None:
    files = [*(path for path in folder.iterdir() if path.name != "quantize.json"), models / "weights.safetensors"]
    document = {
        "schema": 1,
        "variant": variant,
        "form": form,
        "imgsz": 64,
        "parameters": 2_500_000,
        "macs": 200_000_000,
        "float_operators": 0,
        "files": {path.name: {"sha256": sha256_file(path), "bytes": path.stat().st_size} for path in files},
        "calibration": {"images": 16, "sha256": "c" * 64, "list": []},
    }
    write_json(folder / "quantize.json", document)


def _write_scores(folder: Path, quantized: Path, map50: float, conf: float) -> None:
    protocol = Protocol(
        dataset="squares",
        split="val",
        split_sha256="5" * 64,
        labels_sha256="6" * 64,
        imgsz=(64, 64),
        conf=conf,
        iou=0.7,
        max_det=300,
        ap="ultralytics 8.4.190",
        batch=1,
        device="cpu",
        tools={"numpy": "2.4.6"},
    )
    scores = {"fp32": map50 + 0.004, "int8": map50}
    for name, value in scores.items():
        classes = [{"name": label, "map50": value, "map50_95": value / 2, "boxes": 7} for label in NAMES]
        document = {
            "schema": 1,
            "provenance": "measured",
            "file": f"{name}.tflite",
            "sha256": sha256_file(quantized / "int8.tflite") if name == "int8" else hashlib.sha256(b"fp32").hexdigest(),
            "protocol": protocol.document(),
            "map50": value,
            "map50_95": value / 2,
            "precision": 0.9,
            "recall": 0.8,
            "per_class": classes,
            "images": 20,
        }
        write_json(folder / f"{name}.json", document)
    fires = {"schema": 1, "provenance": "measured", "sha256": "a" * 64, "channels": 200, "dead": 3, "dead_share": 0.015}
    write_json(folder / "activations.json", fires)
    drop = {"map50_drop": 0.004, "map50_95_drop": 0.002, "worst_class_drop": 0.01, "worst_class_drop_95": 0.02}
    metrics = {name: {"map50": value, "map50_95": value / 2} for name, value in scores.items()}
    write_json(folder / "metrics.json", {**metrics, "int8": {**metrics["int8"], **drop}})


def _write_npu(folder: Path, quantized: Path, latency_ms: float, figures: dict[str, float]) -> None:
    targets = {}
    for target, share in TARGETS.items():
        compiled = folder / "vela" / f"{target}.tflite"
        _write(compiled, f"compiled for {target}: {sha256_file(quantized / 'int8.tflite')}".encode())
        latency = latency_ms * share / TARGETS["ethos-u65-512"]
        targets[target] = {
            "provenance": "estimate",
            "compiler": {"name": "vela", "version": "5.2.0"},
            "latency_ms": latency,
            "fps": 1000 / latency,
            "cycles_total": int(latency * 1e6),
            "mac_utilisation": 0.4,
            "operators_npu": 100,
            "operators_cpu": 0,
            "sram_kib": 800.0,
            "over_budget_kib": 0,
            "compiled": {"path": f"vela/{target}.tflite", "sha256": sha256_file(compiled)},
            **figures,
        }
    document = {
        "schema": 1,
        "file": "int8.tflite",
        "sha256": sha256_file(quantized / "int8.tflite"),
        "graph": {"fingerprint": hashlib.sha256(str(quantized).encode()).hexdigest()},
        "targets": targets,
    }
    write_json(folder / "npu.json", document)


def _dataset() -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "squares",
        "sha256": "d" * 64,
        "split_sha256": "5" * 64,
        "classes": list(NAMES),
        "images": {"train": 80, "val": 20},
        "boxes": {"train": 90, "val": 22},
        "attribution": "drawn by hand",
    }


@cache
def _empty_registry() -> Path:
    """Return a project whose embedded store is new; made once, because MLflow takes seconds to set a database up."""
    root = write_project(Path(mkdtemp(prefix="ethos-registry-")) / "project")
    open_store(root).identity()
    atexit.register(shutil.rmtree, root.parent, ignore_errors=True)
    return root


def new_project(folder: Path) -> Path:
    """Return a project of its own with an empty embedded store, below `folder`."""
    root = folder / "project"
    folder.mkdir(exist_ok=True)
    shutil.copytree(_empty_registry(), root, symlinks=True)
    return root


def copy_project(project: Path, folder: Path) -> Path:
    """Return a copy of a project, in `folder`."""
    from mlflow.tracking._tracking_service import utils

    # MLflow remembers where a run's files lie; the copy has runs of the same ids elsewhere
    utils._artifact_repos_cache.clear()
    shutil.copytree(project, folder, symlinks=True)
    return folder


def register_run(root: Path, variants: Mapping[str, Mapping[str, Any]]) -> list[VersionRecord]:
    """Write and register the outputs of several variants, each with the arguments of `write_run`."""
    store = open_store(root)
    records = []
    for variant, values in variants.items():
        write_run(root / "outputs", variant, **values)
        candidate = collect(root / "outputs", variant, values.get("form", "dense"))
        records.append(register(store, candidate, MODEL, root))
    return records


def promote_run(root: Path) -> None:
    """Register RUN in a project, and promote it by the policy; the project is the working directory."""
    promote(open_store(root), catalog.load_policy(), register_run(root, RUN), root)
