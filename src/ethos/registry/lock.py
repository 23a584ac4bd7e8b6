"""One process at a time: what changes the ledger or registers waits for the others on this machine."""

from __future__ import annotations

import fcntl
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ethos.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUFFIX = ".lock"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time change `path` and what belongs to it; others wait.

    The system gives the lock back when a process ends, however it ends.

    Raises:
        StoreError: The folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.with_suffix(SUFFIX).open("a")
    except OSError as error:
        raise unwritable(path, error) from None
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def unwritable(path: Path, error: OSError) -> StoreError:
    """Return the error of a file that cannot be written."""
    return StoreError(f"{path}: cannot be written: {error.strerror}", "make the folder writable")
