"""The embedded tracking store: an SQLite file and a folder of artifacts under registry/."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from ethos.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

DATABASE = "registry/mlflow.db"
ARTIFACTS = "registry/artifacts"
WRITABLE = "make it writable for you, or set MLFLOW_TRACKING_URI to a store you can write to"
# MLflow writes absolute places into these columns
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)


def database(root: Path) -> Path:
    """Return the store's SQLite file."""
    return root / DATABASE


def uri(root: Path) -> str:
    """Return the tracking URI of the project's embedded store."""
    return f"sqlite:///{database(root).as_posix()}"


def artifacts_uri(root: Path) -> str:
    """Return where its artifacts lie, as a file URI."""
    return (root / ARTIFACTS).as_uri()


def check_writable(root: Path) -> None:
    """Raise StoreError unless the store's file can be written or created."""
    folder, file = database(root).parent, database(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}", WRITABLE) from None
    if file.exists() and not file.is_file():
        # MLflow would try to open it for minutes
        raise StoreError(f"{file}: is not a file", "move it away; the store's database belongs there")
    for path in (folder, file):
        if path.exists() and not os.access(path, os.W_OK):
            raise StoreError(f"{path}: is not writable", WRITABLE)


def relocate(root: Path) -> bool:
    """Point the store's absolute places at this project folder; return whether they pointed elsewhere.

    A project that was moved or copied would else look for its artifacts, and write new ones, in the old folder.

    Raises:
        StoreError: The file is no SQLite database.
    """
    if not database(root).is_file():
        return False
    new = artifacts_uri(root)
    try:
        with closing(sqlite3.connect(database(root), timeout=30)) as connection, connection:
            query = "SELECT DISTINCT artifact_location FROM experiments WHERE artifact_location LIKE ?"
            found = [place for (place,) in connection.execute(query, (f"%/{ARTIFACTS}",))]
            moved = [old for old in found if old != new]
            for old in moved:
                _replace(connection, old, new)
    except sqlite3.OperationalError:
        return False  # no tables yet: another process is creating the store
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{database(root)}: is no usable store: {error}", "move it away, then: dvc repro") from None
    return bool(moved)


def _replace(connection: sqlite3.Connection, old: str, new: str) -> None:
    for table, column in PLACES:
        connection.execute(
            # table and column are constants above
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} = ? OR {column} LIKE ?",  # noqa: S608
            (new, len(old) + 1, old, f"{old}/%"),
        )
