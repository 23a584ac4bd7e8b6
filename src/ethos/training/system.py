"""What a training takes of the machine, and how much it may take."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MIB = 2**20
UNLIMITED = "max"
TOOL_SECONDS = 10


def sample(folder: Path) -> dict[str, float]:
    """Return the machine's load under the names that MLflow gives to system metrics; CPU since the last call.

    Args:
        folder: A folder on the disk that is written to.
    """
    import psutil

    used, limit = memory()
    disk = shutil.disk_usage(folder)
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(interval=None),
        "system_memory_usage_megabytes": used / MIB,
        "system_memory_usage_percentage": 100 * used / limit,
        "disk_usage_percentage": 100 * disk.used / disk.total,
        "disk_available_megabytes": disk.free / MIB,
        **gpu(),
    }


def gpu() -> dict[str, float]:
    """Return memory and load of the first GPU, nothing where PyTorch uses none."""
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    found = {
        "gpu_0_memory_usage_megabytes": (total - free) / MIB,
        "gpu_0_memory_usage_percentage": 100 * (total - free) / total,
    }
    load = _gpu_load()
    return found if load is None else {**found, "gpu_0_utilization_percentage": load}


def memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> tuple[int, int]:
    """Return bytes of memory in use and the limit that they are nearest to: a control group's, or the machine's.

    What a control group holds as file cache that the kernel can drop at once is not counted as used.

    Args:
        cgroups: Where control groups (version 2) are mounted.
        own: The file that names this process's group.
    """
    return max(_memories(cgroups, own), key=lambda pair: pair[0] / pair[1])


def memory_limit() -> int:
    """Return how many bytes of memory there are to use at most."""
    return min(limit for _, limit in _memories(CGROUPS, OWN_CGROUP))


def _memories(cgroups: Path, own: Path) -> list[tuple[int, int]]:
    """Return memory in use and limit of the machine and of each control group that has one."""
    import psutil

    machine = psutil.virtual_memory()
    found = [(int(machine.total - machine.available), int(machine.total))]
    for group in _groups(cgroups, own):
        limit = _text(group / "memory.max")
        if limit and limit != UNLIMITED:
            used = int(_text(group / "memory.current") or 0) - _count(group / "memory.stat", "inactive_file")
            found.append((max(used, 0), int(limit)))
    return found


def kills_for_memory(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """Return how many processes of this process's control group the kernel has killed because memory ran out."""
    groups = _groups(cgroups, own)
    return _count(groups[0] / "memory.events", "oom_kill") if groups else 0


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Return the control group of this process and those above it, innermost first."""
    named = (line.partition("::")[2] for line in (_text(own) or "").splitlines() if line.startswith("0::"))
    path = cgroups / next(named, "/").lstrip("/")
    return [group for group in (path, *path.parents) if group.is_relative_to(cgroups) and group.is_dir()]


def _count(path: Path, name: str) -> int:
    """Return the number beside a name in a file of names and numbers, 0 when it is not there."""
    rows = (line.split() for line in (_text(path) or "").splitlines())
    return next((int(row[1]) for row in rows if row[0] == name), 0)


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        # the root group has no limits, and other systems have no control groups
        return None


def _gpu_load() -> float | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    command = [tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TOOL_SECONDS).stdout.strip()
    except subprocess.TimeoutExpired:
        return None
    return float(text) if text.isdigit() else None
