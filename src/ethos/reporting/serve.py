"""`ethos ui`: MLflow's pages and the report, both on this machine alone, until it is told to stop."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from ethos.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_SECONDS = 10.0
PAUSE = 0.2
# MLflow answers only what is asked of it under these names
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files without a line on the terminal for each."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path, port: int) -> Iterator[str]:
    """Serve a folder for the block and give its address; port 0 takes any that is free.

    Raises:
        StoreError: The port is taken.
    """
    handler = functools.partial(_Quiet, directory=str(folder))
    try:
        server = ThreadingHTTPServer((HOST, port), handler)
    except OSError as error:
        raise _taken(port, error) from None
    thread = threading.Thread(target=server.serve_forever, name="report", daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def mlflow_ui(tracking_uri: str, artifacts: str | None, port: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run MLflow's own server for the block, and give its address once it answers; port 0 takes any that is free.

    Raises:
        StoreError: The port is taken, or the server ends before it answers.
    """
    port = port or _free_port()
    _require_free(port)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    command += ["--backend-store-uri", tracking_uri, "--workers", "1"]
    command += ["--default-artifact-root", artifacts] if artifacts else []
    with tempfile.TemporaryFile() as log:
        # a session of its own: its workers end with it, and Ctrl-C reaches us alone
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **SETTINGS}, start_new_session=True
        )
        try:
            address = f"http://{HOST}:{port}/"
            _wait_for(address, server, log)
            yield address, server
        finally:
            _stop(server)


def wait(server: subprocess.Popen[bytes]) -> None:
    """Wait until somebody asks us to stop (Ctrl-C, SIGTERM).

    Raises:
        StoreError: The server ended by itself.
    """
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while not asked.wait(PAUSE):
            if server.poll() is not None:
                raise StoreError(
                    f"MLflow's server ended with exit code {server.returncode}", "start it again: ethos ui"
                )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Any) -> None:
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        if server.poll() is not None:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            raise StoreError(
                f"MLflow's server ended with exit code {server.returncode}: {lines[-1] if lines else 'no output'}",
                "check the store: ethos init",
            )
        try:
            with urllib.request.urlopen(f"{address}health", timeout=2):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(PAUSE)
    raise StoreError(f"MLflow's server does not answer within {START_SECONDS:.0f} s", "see what holds the machine up")


def _stop(server: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    # workers that outlive their parent belong to its group
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _taken(port, error) from None


def _taken(port: int, error: OSError) -> StoreError:
    return StoreError(f"{HOST}:{port}: cannot be listened on: {error.strerror}", "choose another port, 0 for any")
