"""A project with registered and promoted versions, as the report reads it; written once and copied by each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_run import MODEL, TARGETS, new_project, write_run

from ethos import catalog
from ethos.files import read_json, write_json
from ethos.registry.candidate import collect
from ethos.registry.promote import promote
from ethos.registry.register import register
from ethos.registry.store import open_store
from ethos.reporting.evidence import Evidence

if TYPE_CHECKING:
    from pathlib import Path

    from ethos.registry.records import VersionRecord

# mAP50 and latency of each; the second is the faster one
VARIANTS: dict[str, dict[str, Any]] = {
    "level2_relu": {"map50": 0.90, "latency_ms": 30.0},
    "level4_leaky": {"map50": 0.95, "latency_ms": 20.0},
}
# the third version: a pruned form of the second, which loses little and is faster, and serves nothing
PRUNED: dict[str, Any] = {"map50": 0.94, "latency_ms": 15.0, "form": "pruned"}
VERSIONS = len(VARIANTS) + 1
LOSSES = tuple(f"{side}_{loss}_loss" for side in ("train", "val") for loss in ("box", "cls", "dfl"))
HEADER = (
    "epoch",
    *LOSSES,
    "precision",
    "recall",
    "map50",
    "map50_95",
    "lr",
    "images_per_second",
    "seconds",
    "memory_mib",
)
SCORES = (0.10, 0.60, 0.895, 0.90)
LAYER = {
    "name": "conv",
    "step": "Conv2D",
    "cycles": 600,
    "share": 0.6,
    "macs": 1000,
    "util": 0.5,
    "cycles_npu": 600,
    "cycles_sram": 100,
    "cycles_dram": 0,
    "cycles_flash": 0,
    "staging_kib": 10.0,
}


def make_project(folder: Path) -> Path:
    """Return a project below `folder` in which two versions are promoted, and a pruned one is registered."""
    root = new_project(folder)
    policy = "scenarios:\n"
    for name, pin in (("realtime", "level2_relu"), ("accuracy", "level4_leaky")):
        policy += (
            f"  {name}:\n    pin: {pin}\n    target: ethos-u65-512\n    gates: [npu.operators_cpu == 0]\n"
            "    objective: {minimise: npu.latency_ms}\n"
        )
    (root / "registry" / "policy.yaml").write_text(policy, encoding="utf-8")
    records = [add_version(root, variant, **values) for variant, values in VARIANTS.items()]
    give_aliases(root, records)
    add_version(root, "level4_leaky", run="pruned", **PRUNED)
    check = {"name": "leak_track", "ok": True, "severity": "error", "count": 0, "limit": 0, "message": "No leak."}
    write_json(
        root / "outputs" / "check" / "report.json", {"schema": 1, "dataset": "squares", "ok": True, "checks": [check]}
    )
    return root


def add_version(root: Path, variant: str, run: str = "", epochs: int = len(SCORES), **values: Any) -> VersionRecord:
    """Register one more version, with the arguments of `write_run`; `run` sets its files and training apart."""
    outputs = root / "outputs"
    if run:
        other = root / "other"
        other.mkdir(exist_ok=True)
        (other / "int8.tflite").write_bytes(f"{variant} {run}".encode())
        values["network"] = other
    write_run(outputs, variant, **values)
    form = values.get("form", "dense")
    write_epochs(outputs / "train" / variant / "epochs.csv", epochs)
    write_json(outputs / "train" / variant / "run.json", {"schema": 1, "run_id": f"{variant}{run}".encode().hex()[:32]})
    _complete(outputs, variant, form)
    store = open_store(root)
    return register(store, collect(outputs, variant, form), MODEL, root)


def give_aliases(root: Path, records: list[VersionRecord]) -> None:
    """Promote among these versions by the project's policy."""
    promote(open_store(root), policy_of(root), records, root)


def policy_of(root: Path) -> Any:
    """Return the project's policy."""
    return catalog.read_spec(root / "registry" / "policy.yaml", catalog.Policy)


def write_epochs(path: Path, epochs: int = len(SCORES)) -> None:
    """Write epochs whose losses halve and whose mAP50 is SCORES, the last of which stays."""
    lines = [",".join(HEADER)]
    for epoch in range(1, epochs + 1):
        score = SCORES[min(epoch, len(SCORES)) - 1]
        losses = [4.0 / 2 ** (epoch - 1)] * len(LOSSES)
        rest = (score, score, score, score / 2, 0.01, 40.0, 2.5, 800.0 + epoch)
        lines.append(",".join(map(str, (epoch, *losses, *rest))))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def evidence_of(root: Path) -> Evidence:
    """Return the project's evidence."""
    return Evidence(root, open_store(root), MODEL)


def _complete(outputs: Path, variant: str, form: str) -> None:
    """Add what the pages show beyond what registration needs: coverage, layers, confusions."""
    npu = outputs / "analyze" / variant / form / "npu.json"
    document = read_json(npu)
    cycles = {"dense": 1000, "pruned": 700}[form]
    for report in document["targets"].values():
        report |= {"operator_coverage": 1.0, "mac_coverage": 1.0, "regions": 1, "fallbacks": [], "cycles_total": cycles}
        report |= {"crossings_npu_cpu": 0, "crossings_cpu_npu": 0, "layers": [LAYER], "system_config": "Test_Config"}
    write_json(npu, document)
    assert set(document["targets"]) == set(TARGETS)
    for precision in ("fp32", "int8"):
        path = outputs / "evaluate" / variant / form / f"{precision}.json"
        scores = read_json(path)
        names = [row["name"] for row in scores["per_class"]]
        matrix = [[5 if row == column else 0 for column in range(len(names) + 1)] for row in range(len(names) + 1)]
        scores["confusion"] = {"conf": 0.25, "iou": 0.45, "labels": [*names, "background"], "matrix": matrix}
        scores["intervals"] = {"map50": [scores["map50"] - 0.02, min(scores["map50"] + 0.02, 1.0)]}
        for row in scores["per_class"]:
            row |= {"precision": 0.9, "recall": 0.8, "f1": 0.85}
        sizes = {"boxes": 7, "map50": scores["map50"], "map50_95": 0.4}
        scores["relative_sizes"] = {
            "small": {"boxes": 0, "map50": None, "map50_95": None},
            "medium": sizes,
            "large": sizes,
        }
        scores["sizes"] = scores["relative_sizes"]
        if precision == "int8":
            scores["loss"] = {"map50": {"value": 0.004, "interval": [-0.01, 0.02], "probability": 0.8}}
        write_json(path, scores)
