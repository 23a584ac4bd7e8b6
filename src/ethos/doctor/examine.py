"""All checks of the pre-flight, side by side: most of them wait for a program or a server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from ethos import catalog
from ethos.doctor import declared, installed, machine, services
from ethos.doctor.finding import Finding, Subject
from ethos.errors import EthosError
from ethos.registry.faults import hide_password

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ethos.specs import Params

    Check = Callable[[Subject], Iterator[Finding]]

MEMORY_GIB, DISK_GIB = 2.0, 2.0


def examine(root: Path, *, fast: bool, memory_gib: float = MEMORY_GIB, disk_gib: float = DISK_GIB) -> dict[str, Any]:
    """Return what every check finds; `ok` says that none is an error.

    Args:
        root: The project's folder.
        fast: Leave out what takes seconds: importing torch and MLflow, reading dvc.yaml, compiling.
        memory_gib: Memory that must be available; less than twice that is a warning.
        disk_gib: Space that must be free; less than twice that is a warning.
    """
    subject = Subject(root, _params(), fast, memory_gib, disk_gib)
    with ThreadPoolExecutor(max_workers=len(CHECKS)) as pool:
        running = [pool.submit(answer, name, subject) for name in CHECKS]
        found = [finding for each in running for finding in each.result()]
    return {
        "schema": 1,
        "ok": all(finding.status != "error" for finding in found),
        "fast": fast,
        "checks": [asdict(finding) for finding in found],
    }


def _params() -> Params | None:
    try:
        return catalog.load_params()
    except EthosError:
        # the check of the specs says why
        return None


def answer(name: str, subject: Subject) -> list[Finding]:
    """Return what one check finds; an error that it meets is a finding, and no password is shown."""
    try:
        found = list(CHECKS[name](subject))
    except EthosError as error:
        found = [Finding(name, "error", error.message, error.fix)]
    return [replace(each, detail=hide_password(each.detail), fix=hide_password(each.fix)) for each in found]


CHECKS: dict[str, Check] = {
    "python": machine.python,
    "packages": installed.packages,
    "torch": machine.torch,
    "memory": machine.memory,
    "disk": machine.disk,
    "dvc": services.dvc,
    "mlflow": services.mlflow,
    "vela": services.compiler,
    "specs": declared.specs,
    "data set": declared.dataset,
    "weights": declared.weights,
}
