"""How fast files run on this machine's CPU, one image at a time, and how much memory they take: measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import DataError, ModelError
from ethos.evaluation.protocol import tool_versions
from ethos.files import sha256_file, sha256_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SCHEMA = 1
WORKER = "ethos.evaluation.speed_worker"
CPU_INFO = Path("/proc/cpuinfo")
MOST_IMAGES = 16


@dataclass(frozen=True)
class Load:
    """What is measured.

    Attributes:
        threads: Threads of the runtime, and of OpenCV.
        warmup: Runs before the measured ones.
        runs: Measured runs.
        conf: Least score of a detection.
        iou: Overlap above which suppression removes a box.
        max_det: Detections kept for an image, at most.
        images: Image files that take turns; none are pictures of noise.
    """

    threads: int = 1
    warmup: int = 10
    runs: int = 50
    conf: float = 0.25
    iou: float = 0.7
    max_det: int = 300
    images: tuple[Path, ...] = ()


def bench(
    files: Sequence[Path],
    load: Load,
    contract: Path | None = None,
    progress: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Return times and peak memory of files as a JSON document; each runs in a process of its own.

    Args:
        files: TFLite or ONNX detectors (or PyTorch ones, for comparison).
        load: What is measured.
        contract: The decode contract of all of them; by default the one beside each.
        progress: Called with each file before it runs.

    Raises:
        ModelError: A file is missing, broken, or no detector.
        DataError: An image cannot be read.
    """
    found = []
    for file in files:
        if progress:
            progress(file)
        found.append(_measure(file, load, contract))
    first = found[0]
    for entry in found:
        ratios = {
            part: round(first[f"{part}_ms"]["median"] / entry[f"{part}_ms"]["median"], 3)
            for part in ("network", "end_to_end")
        }
        entry["times_as_fast_as_first"] = ratios
    return {"schema": SCHEMA, "provenance": "measured", "protocol": _protocol(load), "files": found}


def _measure(file: Path, load: Load, contract: Path | None) -> dict[str, Any]:
    order = {
        "file": str(file),
        "contract": str(contract) if contract else None,
        **asdict(load),
        "images": [str(path) for path in load.images],
    }
    done = subprocess.run(
        [sys.executable, "-m", WORKER], input=json.dumps(order), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise ModelError(
            f"{file}: its process ended with code {done.returncode}: {last}", "run it once with `ethos evaluate`"
        )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if error := answer.get("error"):
        kind = DataError if error["kind"] == DataError.__name__ else ModelError
        raise kind(error["message"], error["fix"])
    return answer


def _protocol(load: Load) -> dict[str, Any]:
    """Return how it was measured, with a hash of all but the machine's load."""
    fields: dict[str, Any] = {
        "batch": 1,
        "device": "cpu",
        **asdict(load),
        "images": {
            "count": len(load.images),
            "source": "files" if load.images else "noise, seed 0",
            "sha256": sha256_json([sha256_file(path) for path in load.images]),
        },
        "cpu": cpu_name(),
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "tools": tool_versions(),
    }
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {**fields, "sha256": sha256_json(fields), "load_average": load_average}


def cpu_name() -> str:
    """Return what the processor calls itself."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in {"model name", "Model", "Hardware"} and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def some_images(folder_or_file: Path) -> tuple[Path, ...]:
    """Return an image file, or the first images of a folder in the order of their names.

    Raises:
        DataError: There is none.
    """
    from ethos.data.manifest import IMAGE_SUFFIXES

    if folder_or_file.is_file():
        return (folder_or_file,)
    found = sorted(path for path in folder_or_file.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise DataError(f"{folder_or_file}: holds no image", "name an image or a folder of images")
    return tuple(found[:MOST_IMAGES])
