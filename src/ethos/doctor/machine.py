"""The machine: interpreter, memory, disk, and torch with what it can compute on."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.doctor.finding import GIB, Finding, Subject, enough
from ethos.doctor.installed import project_table
from ethos.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROBE = "ethos.doctor.probe"
PROBE_SECONDS = 120
REINSTALL = "install again: make clean install"
CPU = {"", "cpu"}


def python(subject: Subject) -> Iterator[Finding]:
    """The interpreter is of a version that the project is made for."""
    from packaging.specifiers import SpecifierSet

    found = platform.python_version()
    wanted = str(project_table(subject.root)["requires-python"])
    if found in SpecifierSet(wanted):
        yield Finding("python", "ok", f"{found} in {sys.prefix}")
    else:
        yield Finding("python", "error", f"{found}, not {wanted}", "make install PYTHON=python3.11")


def memory(subject: Subject) -> Iterator[Finding]:
    """Enough memory is available."""
    import psutil

    available = psutil.virtual_memory().available / GIB
    yield enough("memory", available, subject.memory_gib, "available", "end other programs, or lower batch and imgsz")


def disk(subject: Subject) -> Iterator[Finding]:
    """Enough space is free for outputs, cache and registry, and for temporary files."""
    places = {"project": subject.root, "temporary files": Path(tempfile.gettempdir())}
    for what, place in places.items():
        free = shutil.disk_usage(place).free / GIB
        fix = "make room, or remove old outputs: dvc gc --workspace"
        yield enough("disk", free, subject.disk_gib, f"free for {what}", fix)


def torch(subject: Subject) -> Iterator[Finding]:
    """torch works, torchvision or its stand-in is there, and the recipe's device exists."""
    try:
        versions = f"torch {metadata.version('torch')}, torchvision {metadata.version('torchvision')}"
    except metadata.PackageNotFoundError as error:
        yield Finding("torch", "error", f"{error.name} is not installed", REINSTALL)
        return
    if subject.fast:
        yield Finding("torch", "ok", f"{versions}, not tried")
        return
    state = _probe()
    stand_in = "its operators do not load beside this torch, OpenCV's suppression stands in"
    yield Finding("torch", "ok", versions if state["torchvision"] == "torchvision" else f"{versions}: {stand_in}")
    yield _device(subject, state)


def _device(subject: Subject, state: dict[str, Any]) -> Finding:
    from ethos import catalog

    wanted = catalog.load("recipe", subject.params.recipe).device if subject.params else ""
    if state["devices"]:
        return Finding("cuda", "ok", ", ".join(state["devices"]))
    if wanted in CPU:
        return Finding("cuda", "ok", f"none, training runs on {state['threads']} CPU threads")
    return Finding("cuda", "error", f"none, but the recipe wants device '{wanted}'", "take 'device:' out of the recipe")


def _probe() -> dict[str, Any]:
    """Return what torch says in a process of its own: importing it takes seconds, and may crash."""
    command = [sys.executable, "-P", "-m", PROBE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ModelError(f"torch did not load within {PROBE_SECONDS} s", REINSTALL) from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise ModelError(f"torch does not load: {said[-1]}", REINSTALL)
    state: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return state
