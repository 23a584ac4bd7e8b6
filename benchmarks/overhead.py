"""What the project adds on top of the tools that it drives, as ratios taken in one run.

    python benchmarks/overhead.py startup noop pipeline [--json FILE]

startup   `ethos --help` against `python -c "import typer"`
noop      `dvc repro` with nothing to do against `dvc status` (run the pipeline first)
pipeline  `dvc repro` from nothing, with the demo data and recipe and one variant, against the sum of the bare tool
          calls in it: Ultralytics training twice (warm start, variant), conversion, Vela for each target
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
BARE = Path(__file__).parent / "bare"
BINARIES = Path(sys.executable).parent
REPEATS = {"startup": 11, "noop": 5}
COPIED = ("dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock", "params.yaml", "specs", "pipelines", "src")
VARIANT = "level3_relu"


def seconds(command: list[str], folder: Path = ROOT, **environment: str) -> float:
    """Run a command quietly and return its wall time."""
    env = {**os.environ, "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1", **environment}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed in {folder}:\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def alternating(ours: list[str], theirs: list[str], repeats: int) -> dict[str, float]:
    """Return median wall times of two commands run in turn, and their ratio."""
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats + 1)][1:]
    mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"ours_s": round(mine, 3), "bare_s": round(other, 3), "ratio": round(mine / other, 2)}


def startup() -> dict[str, float]:
    """`ethos --help` against importing typer; aim: at most 3."""
    return alternating(["ethos", "--help"], [sys.executable, "-c", "import typer"], REPEATS["startup"])


def noop() -> dict[str, float]:
    """`dvc repro` with nothing to do against `dvc status`; aim: at most 1.5."""
    return alternating(["dvc", "repro"], ["dvc", "status"], REPEATS["noop"])


def pipeline() -> dict[str, object]:
    """The pipeline against its bare tool calls; aim: at most 1.15."""
    with tempfile.TemporaryDirectory(prefix="ethos-benchmark-") as scratch:
        folder = Path(scratch) / "project"
        copy_project(folder)
        paths = {"PYTHONPATH": f"{folder / 'src'}{os.pathsep}{folder}"}
        seconds(["ethos", "init"], folder, **paths)
        ours = seconds(["dvc", "repro"], folder, **paths)
        targets = yaml.safe_load((folder / "params.yaml").read_text())["targets"]
        work = Path(scratch) / "bare"
        work.mkdir()
        bare = {
            "warm start": seconds([sys.executable, str(BARE / "training.py"), str(folder), "start"], work, **paths),
            "training": seconds([sys.executable, str(BARE / "training.py"), str(folder), VARIANT], work, **paths),
            "conversion": seconds([sys.executable, str(BARE / "conversion.py"), str(folder), VARIANT], work, **paths),
            "vela": sum(seconds(vela(folder, work, target), work) for target in targets),
        }
    total = sum(bare.values())
    return {
        "ours_s": round(ours, 1),
        "bare_s": round(total, 1),
        "ratio": round(ours / total, 3),
        "bare_parts_s": {name: round(value, 1) for name, value in bare.items()},
    }


def vela(folder: Path, work: Path, target: str) -> list[str]:
    """Return the command that compiles the INT8 file for a target by hand."""
    spec = yaml.safe_load((folder / f"specs/targets/{target}.yaml").read_text())
    file = folder / f"outputs/quantize/{VARIANT}/dense/int8.tflite"
    options = {
        "--accelerator-config": spec["accelerator"],
        "--system-config": spec["system_config"],
        "--memory-mode": spec["memory_mode"],
        "--config": "Arm/vela.ini",
        "--output-dir": str(work / target),
    }
    return [str(BINARIES / "vela"), str(file), *(part for option in options.items() for part in option)]


def copy_project(folder: Path) -> None:
    """Copy what the pipeline needs, with one variant."""
    for name in COPIED:
        source, place = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
    (folder / "registry").mkdir()
    shutil.copyfile(ROOT / "registry/policy.yaml", folder / "registry/policy.yaml")
    (folder / ".dvc").mkdir()
    shutil.copyfile(ROOT / ".dvc/config", folder / ".dvc/config")
    params = yaml.safe_load((folder / "params.yaml").read_text())
    (folder / "params.yaml").write_text(yaml.safe_dump(params | {"variants": [VARIANT], "pruned": []}))


PARTS = {"startup": startup, "noop": noop, "pipeline": pipeline}


def main() -> None:
    """Measure the parts that are named and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    found = {part: PARTS[part]() for part in arguments.parts}
    print(json.dumps(found, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
