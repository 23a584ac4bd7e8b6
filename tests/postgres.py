"""A PostgreSQL server of one's own, for as long as a test module runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = ("postgres", "nobody")  # the server refuses to run as the superuser


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running() -> Iterator[str]:
    """Give the address of an empty database; skips where PostgreSQL or its driver is missing."""
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    found = [shutil.which("initdb"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb"))]
    initdb = next((Path(path) for path in found if path), None)
    if initdb is None:
        pytest.skip("no PostgreSQL server is installed")
    user = _user()
    folder = Path(mkdtemp(prefix="ethos-pg-"))
    if user:
        shutil.chown(folder, user)
    port, data = free_port(), folder / "data"
    log = folder / "log"

    def call(*command: object) -> None:
        environment = {**os.environ, "LC_ALL": "C"}
        subprocess.run(
            [str(part) for part in command], cwd=folder, user=user, env=environment, check=True, capture_output=True
        )

    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    try:
        call(initdb, "-D", data, "-U", "ethos", "-A", "trust", "-E", "UTF8", "--no-sync")
        call(initdb.with_name("pg_ctl"), "-D", data, "-w", "-l", log, "-o", options, "start")
        yield f"postgresql+psycopg2://ethos@127.0.0.1:{port}/postgres"
        call(initdb.with_name("pg_ctl"), "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> str | None:
    """Return the account that the server runs under, None for one's own."""
    if os.geteuid() != 0:
        return None
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in USERS if name in known), None)
