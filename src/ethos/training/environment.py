"""What a training ran on and with: what its bits depend on, recorded with the run."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ethos
from ethos.training.system import MIB, memory_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ethos.specs import Spec

PACKAGES = ("torch", "ultralytics", "numpy", "opencv-python")
# the packages whose code makes a network and trains it
CODE = ("model", "training")
CPU_INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part in a training."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def hardware() -> dict[str, str]:
    """Return processor, cores this process may use, memory it may use, GPU, and PyTorch's threads."""
    import torch

    return {
        "cpu": cpu_model(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory_mib": str(memory_limit() // MIB),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch_threads": str(torch.get_num_threads()),
    }


@cache
def code_sha256(beside: tuple[str, ...] = ()) -> str:
    """Return one hash over the source files that make a network and train it, and those of the packages `beside`."""
    root = Path(ethos.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(path for name in (*CODE, *beside) for path in (root / name).rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def cpu_model() -> str:
    """Return what the processor calls itself."""
    try:
        lines = CPU_INFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def made_of(plan: Spec, dataset: Mapping[str, Any], code: tuple[str, ...] = (), **files: str | None) -> dict[str, Any]:
    """Return all that determines a training: plan, data, code, versions, and hashes of the files that it begins with.

    Args:
        plan: The plan of a stage that trains.
        dataset: The data set's record, dataset.json.
        code: Packages of the project, beside those that train, whose code decides what is trained.
        files: SHA-256 of starting weights and teacher, None where there is none.
    """
    return {
        "plan": plan.model_dump(mode="json"),
        "dataset_sha256": dataset["sha256"],
        "split_sha256": dataset["split_sha256"],
        "code_sha256": code_sha256(code),
        "versions": versions(),
        **files,
    }
