"""Files on disk: hashes, JSON, and writes that are either complete or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ethos.errors import DamagedFile

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 20
MAKE_AGAIN = "remove it and let the stage that writes it run again: dvc repro"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form (sorted keys, no white space)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shown(path: Path | str) -> str:
    """Return a path as one would type it from the working directory; anything else, such as a URI, as it is."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def read_json(path: Path, *keys: str) -> Any:
    """Return the JSON document in `path`; with `keys`, it must be an object that has them.

    Raises:
        DamagedFile: It is no JSON document, or another than was asked for.
        OSError: There is no such file, or it cannot be read.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFile(f"{shown(path)}: not a readable JSON document: {error}", MAKE_AGAIN) from None
    if keys and not isinstance(document, dict):
        raise DamagedFile(f"{shown(path)}: a JSON object was expected, got {type(document).__name__}", MAKE_AGAIN)
    if missing := [key for key in keys if key not in document]:
        raise DamagedFile(f"{shown(path)}: has no key '{missing[0]}'", MAKE_AGAIN)
    return document


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document, indented, complete or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it replaces `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        # mkdtemp makes private folders; outputs should be as readable as any other file
        temporary.chmod(0o755)
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
