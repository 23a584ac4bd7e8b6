"""What the pipeline talks to: DVC, the MLflow store, and Arm's compiler."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ethos import catalog
from ethos.doctor.finding import Finding, Subject
from ethos.errors import EthosError, StoreError
from ethos.specs import VelaTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECONDS = 3.0
DVC_SECONDS = 60
DVC_CONFIG = ".dvc/config"
PORTS = {"http": 80, "https": 443, "ssh": 22}


def dvc(subject: Subject) -> Iterator[Finding]:
    """DVC reads its settings and dvc.yaml, and its remotes, if there are any, can be reached."""
    if not (subject.root / DVC_CONFIG).is_file():
        raise EthosError(f"{DVC_CONFIG}: no such file", "restore it from the project's source, or run: dvc init")
    stages = _run_dvc(subject.root, "stage", "list", "--name-only") if not subject.fast else []
    remotes = [line.split() for line in _run_dvc(subject.root, "remote", "list") if line.strip()]
    unreachable = [f"{name} ({url})" for name, url, *_ in remotes if not _reachable(url)]
    listed = f"{len(stages)} stages, " if stages else ""
    if unreachable:
        detail = f"remote cannot be reached: {', '.join(unreachable)}"
        yield Finding("dvc", "warn", detail, "dvc push and pull need it, a run does not")
    else:
        known = ", ".join(f"remote {name}" for name, *_ in remotes) or "no remote, the cache is on this machine alone"
        yield Finding("dvc", "ok", f"{listed}{known}")


def _run_dvc(root: Path, *arguments: str) -> list[str]:
    """Return the lines that DVC prints.

    Raises:
        EthosError: It fails; with its last words.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=DVC_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise EthosError(f"dvc {arguments[0]} did not end within {DVC_SECONDS} s", "end other DVC commands") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.split("\n")
        raise EthosError(f"dvc {' '.join(arguments)}: {said[0]}", "run: ethos init; then: dvc doctor")
    return done.stdout.splitlines()


def _reachable(url: str) -> bool:
    """Return whether a folder is there, or a server takes connections; of other storage nothing is known here."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its host or port is malformed
        return False
    if not parts.scheme:
        return Path(url).is_dir()
    if parts.hostname is None or parts.scheme not in PORTS:
        return True
    return _connects(parts.hostname, port or PORTS[parts.scheme])


def _connects(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=SECONDS):
            return True
    except OSError:
        return False


# --- MLflow ----------------------------------------------------------------------------------------------------------


def mlflow(subject: Subject) -> Iterator[Finding]:
    """The tracking store answers: the embedded one, or the one that MLFLOW_TRACKING_URI names."""
    from ethos.registry.embedded import check_writable, database
    from ethos.registry.faults import given_uri, hide_password

    given = given_uri()
    if given:
        _require_connection(given)
        where = hide_password(given)
    else:
        check_writable(subject.root)
        file = database(subject.root)
        if not file.is_file():
            yield Finding("mlflow", "ok", "no store yet, `ethos init` makes it")
            return
        _require_tables(file)
        where = f"embedded, {file.relative_to(subject.root)}"
    if subject.fast:
        yield Finding("mlflow", "ok", where)
        return
    yield Finding("mlflow", "ok", f"{where}, {_experiments(subject)} experiments")


def _require_connection(uri: str) -> None:
    from ethos.registry.faults import START_SERVER, endpoint

    found = endpoint(uri)
    if found and not _connects(*found):
        scheme, (host, port) = urlsplit(uri).scheme, found
        raise StoreError(f"{scheme}://{host}:{port} does not answer", START_SERVER)


def _require_tables(file: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as connection:
            connection.execute("SELECT count(*) FROM experiments").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{file}: is no usable store: {error}", "move it away, then: ethos init; dvc repro") from None


def _experiments(subject: Subject) -> int:
    """Return how many experiments the store holds, as MLflow itself answers.

    Raises:
        StoreError: It cannot.
    """
    from ethos.registry.runs import Tracking, locate

    uri, artifacts = locate(subject.root, create=False)
    experiment = subject.params.registry.experiment if subject.params else "ethos"
    return Tracking(uri, experiment, artifacts).count_experiments()


# --- Vela ------------------------------------------------------------------------------------------------------------


def compiler(subject: Subject) -> Iterator[Finding]:
    """Vela compiles a small network for each of the run's targets."""
    from ethos.npu import vela

    installed = vela.version()
    if subject.params is None or subject.fast:
        yield Finding("vela", "ok", f"{installed}, not tried")
        return
    targets = [catalog.load("target", name) for name in dict.fromkeys(subject.params.targets)]
    compiled = [target for target in targets if isinstance(target, VelaTarget)]
    broken = list(_failures(compiled))
    yield from broken
    if not broken:
        yield Finding("vela", "ok", f"{installed}, a small network compiles for {len(compiled)} targets")


def _failures(targets: Sequence[VelaTarget]) -> Iterator[Finding]:
    """Compile for all targets side by side; yield what fails."""
    from ethos.npu import vela
    from ethos.npu.sample import write_sample

    with tempfile.TemporaryDirectory(prefix="ethos-doctor-") as name, ExitStack() as stack:
        folder = Path(name)
        file = write_sample(folder / "sample.tflite")
        runs = [(each, vela.Run(file, each, folder / each.name)) for each in targets]
        for _, run in runs:
            stack.enter_context(run)
        for target, run in runs:
            try:
                vela.compile_network(file, target, folder / target.name, run)
            except EthosError as error:
                yield Finding("vela", "error", error.message, error.fix)
