"""Installed packages against the lock and against the ranges that the project states."""

from __future__ import annotations

import tomllib
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ethos.doctor.finding import Finding, Subject
from ethos.errors import SpecError, some_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from packaging.requirements import Requirement

LOCK, PROJECT = "requirements.lock", "pyproject.toml"
INSTALL = "make clean install, or: pip install -r requirements.lock"


def packages(subject: Subject) -> Iterator[Finding]:
    """Each package is there, in a version that the project takes, or better the one that the lock names.

    A version outside of the range in pyproject.toml, or a missing package that it names, is an error. One that only the
    lock names may be a tool for development, so that is a warning. A build's local part (+cpu, +cu130) does not count.
    """
    from packaging.version import Version

    ranges = _ranges(subject.root)
    locked = _locked(subject.root)
    errors: list[str] = []
    warnings: list[str] = []
    for name in sorted({*locked, *ranges}):
        found = _version(name)
        wanted = locked.get(name)
        if found is None:
            (errors if name in ranges else warnings).append(f"{name} is missing")
        elif name in ranges and Version(found).public not in ranges[name].specifier:
            errors.append(f"{name} {found}, not {ranges[name].specifier}")
        elif wanted is not None and Version(found).public != Version(wanted).public:
            warnings.append(f"{name} {found}, locked {wanted}")
    if errors:
        yield Finding("packages", "error", some_of(errors), INSTALL)
    if warnings:
        yield Finding("packages", "warn", some_of(warnings), INSTALL)
    if not errors and not warnings:
        yield Finding("packages", "ok", f"{len(locked)} as in {LOCK}")


def project_table(root: Path) -> dict[str, Any]:
    """Return the section `project` of pyproject.toml.

    Raises:
        SpecError: The file is missing or malformed.
    """
    try:
        table: dict[str, Any] = tomllib.loads((root / PROJECT).read_text(encoding="utf-8"))["project"]
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"{PROJECT}: cannot be read: {error}", "restore it from the project's source") from None
    return table


def _ranges(root: Path) -> dict[str, Requirement]:
    """Return what the project needs to run, by canonical name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    needed = map(Requirement, project_table(root)["dependencies"])
    return {canonicalize_name(each.name): each for each in needed if not each.marker or each.marker.evaluate()}


def _locked(root: Path) -> dict[str, str]:
    """Return the locked version of each package, by canonical name.

    Raises:
        SpecError: The lock is missing or a line is none of `make lock`.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    path = root / LOCK
    if not path.is_file():
        raise SpecError(f"{LOCK}: no such file", "restore it from the project's source")
    locked: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            requirement = Requirement(text)
            (pin,) = requirement.specifier
        except (InvalidRequirement, ValueError):
            problem = f"{LOCK}:{number}: expected NAME==VERSION, got '{text}'"
            raise SpecError(problem, "write it again: make lock") from None
        locked[canonicalize_name(requirement.name)] = pin.version
    return locked


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
