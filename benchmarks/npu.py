"""What `ethos analyze` takes, against Vela run by hand and against its limits.

    python benchmarks/npu.py FILE.tflite [--json FILE]

vela      one Vela target, against Vela's own time; aim: at most 0.3 s more
rules     one Ethos-N78 target, in process; aim: at most 0.5 s
parse     reading a file of 30 MB; aim: at most 2 s
imports   whether TensorFlow was imported; aim: never
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ethos import catalog
from ethos.npu.analyze import analyze
from ethos.npu.edit import Edited
from ethos.npu.tflite import read_graph
from ethos.npu.vela import ARM_CONFIG_FILE
from ethos.specs import VelaTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from ethos.specs import Target

REPEATS = 7
VELA_TARGET, RULES_TARGET = "ethos-u65-512", "ethos-n78-4tops"
LARGE_BYTES = 30_000_000
BINARIES = Path(sys.executable).parent


def seconds(work: Callable[[], object]) -> float:
    """Return the median time of a call, after one that warms it up."""
    taken = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def vela(file: Path, target: Target) -> dict[str, float]:
    """Our analysis as a command and in process, and Vela as a command, for one target."""
    assert isinstance(target, VelaTarget)
    ours = [str(BINARIES / "ethos"), "analyze", str(file), "--target", target.name, "--json"]
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "--accelerator-config": target.accelerator,
            "--system-config": target.system_config,
            "--memory-mode": target.memory_mode,
            "--config": ARM_CONFIG_FILE,
            "--output-dir": folder,
        }
        bare = [str(BINARIES / "vela"), str(file), *(part for option in options.items() for part in option)]
        taken = {
            "command_s": seconds(lambda: subprocess.run(ours, capture_output=True, check=False)),
            "in_process_s": seconds(lambda: analyze(file, [target])),
            "vela_alone_s": seconds(lambda: subprocess.run(bare, capture_output=True, check=True)),
        }
    return {**taken, "command_over_vela_s": taken["command_s"] - taken["vela_alone_s"]}


def large_file(file: Path, folder: Path) -> Path:
    """Return a copy of the network that holds 30 MB: the same graph with a large constant more."""
    edited = Edited(read_graph(file))
    edited.add_constant("ballast", np.ones(LARGE_BYTES - file.stat().st_size, np.int8), None)
    return edited.keep(folder / "large.tflite")


def tensorflow_imported(file: Path) -> bool:
    """Whether analyzing a file imports TensorFlow."""
    code = f"import sys; sys.argv = ['ethos', 'analyze', {str(file)!r}, '--target', {RULES_TARGET!r}]\n"
    code += "from ethos.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print('tensorflow' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.strip() == "True"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a full-integer INT8 TFLite file")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    targets = {name: catalog.load("target", name) for name in (VELA_TARGET, RULES_TARGET)}
    with tempfile.TemporaryDirectory() as name:
        large = large_file(arguments.file, Path(name))
        found: dict[str, Any] = {
            "vela": vela(arguments.file, targets[VELA_TARGET]),
            "rules_s": seconds(lambda: analyze(arguments.file, [targets[RULES_TARGET]])),
            "parse_s": seconds(lambda: read_graph(large)),
            "parsed_bytes": large.stat().st_size,
            "tensorflow_imported": tensorflow_imported(arguments.file),
        }
    print(json.dumps(found, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
