"""Unpack a zip or tar file into a folder, and nowhere else.

Only regular files and folders are unpacked; what would lead out of the folder is refused, and so is what is larger than
the limits while it is being unpacked, whatever the archive says of itself.
"""

from __future__ import annotations

import lzma
import stat
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO, TYPE_CHECKING

from ethos.errors import DataError
from ethos.files import CHUNK_BYTES, sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ethos.specs import ArchiveLimits

GIB = 1 << 30
FREE_BYTES = 64 << 20  # a small archive of repetitive text may unpack to much more than itself
BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    RuntimeError,
)


def unpack(path: Path, into: Path, limits: ArchiveLimits, sha256: str | None = None) -> None:
    """Unpack an archive into an existing folder.

    Raises:
        DataError: The file is missing, broken, encrypted or no archive; it has another hash; it exceeds the limits; or
            one of its members is a link or a device, has a name twice, or leads out of the folder.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", "name a zip or tar file")
    verify(path, sha256)
    room = _Room(path, limits)
    try:
        with _open(path) as members:
            for name, is_folder, stream in members:
                target = _place(name, into, path)
                if is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                elif stream is not None:
                    _write(stream, target, room, name)
    except BROKEN as error:
        raise DataError(f"{path}: cannot be unpacked: {error or type(error).__name__}", "get it anew") from None


def verify(path: Path, sha256: str | None) -> None:
    """Refuse a file that has not the hash that the spec gives.

    Raises:
        DataError: The hashes differ.
    """
    if sha256 is not None and (got := sha256_file(path)) != sha256:
        fix = "get the file anew, or correct 'sha256' in the spec"
        raise DataError(f"{path}: SHA-256 is {got}, the spec has {sha256}", fix)


class _Room:
    """What may still be unpacked."""

    def __init__(self, path: Path, limits: ArchiveLimits) -> None:
        self.path = path
        self.limits = limits
        self.packed = max(path.stat().st_size, 1)
        self.unpacked = 0
        self.files = 0

    def take_file(self) -> None:
        self.files += 1
        if self.files > self.limits.files:
            self._refuse(f"more than {self.limits.files} files", "files")

    def take_bytes(self, count: int) -> None:
        self.unpacked += count
        if self.unpacked > self.limits.gib * GIB:
            self._refuse(f"more than {self.limits.gib:g} GiB", "gib")
        if self.unpacked > max(FREE_BYTES, self.limits.ratio * self.packed):
            self._refuse(f"more than {self.limits.ratio:g} times its own size", "ratio")

    def _refuse(self, what: str, key: str) -> None:
        fix = f"if that is right, raise '{key}' under 'limits:' of the source"
        raise DataError(f"{self.path}: unpacks to {what}", fix)


def _place(name: str, into: Path, path: Path) -> Path:
    """Return where a member goes."""
    plain = PurePosixPath(name.replace("\\", "/"))
    if plain.is_absolute() or ".." in plain.parts or PureWindowsPath(name).drive or "\0" in name:
        raise DataError(f"{path}: member '{name}' leads out of the folder", "do not trust this archive")
    return into / plain


def _write(stream: IO[bytes], target: Path, room: _Room, name: str) -> None:
    room.take_file()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        out = target.open("xb")
    except FileExistsError:
        raise DataError(f"{room.path}: member '{name}' is there twice", "pack it anew") from None
    with stream, out:
        while chunk := stream.read(CHUNK_BYTES):
            room.take_bytes(len(chunk))
            out.write(chunk)


@contextmanager
def _open(path: Path) -> Iterator[Iterator[tuple[str, bool, IO[bytes] | None]]]:
    """Yield the members of an archive: name, whether it is a folder, and a stream of its content."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            yield _zip_members(packed, path)
    elif tarfile.is_tarfile(path):
        # one pass without going back, so that a member is not read twice
        with tarfile.open(path, "r|*") as packed_tar:
            yield _tar_members(packed_tar, path)
    else:
        raise DataError(f"{path}: neither a zip nor a tar file", "name an archive that holds the data set")


def _zip_members(packed: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    for member in packed.infolist():
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse_kind(path, member.filename)
        yield member.filename, member.is_dir(), None if member.is_dir() else packed.open(member)


def _tar_members(packed: tarfile.TarFile, path: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    for member in packed:
        if not (member.isfile() or member.isdir()):
            _refuse_kind(path, member.name)
        yield member.name, member.isdir(), packed.extractfile(member)


def _refuse_kind(path: Path, name: str) -> None:
    raise DataError(f"{path}: member '{name}' is a link or a device", "pack the files themselves")
